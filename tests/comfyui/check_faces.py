"""FACES between the nodes, and the nodes' reports.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import numpy as np
from in_process import MODEL, node, refused, report_of, restore, settings, side_by_side


def test_faces_that_do_not_fit_are_refused(comfy, torch, portrait, model):
    faces, _ = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    with refused("SettingsError", "320x320"):
        node(comfy, "GPENCropFaces").crop(portrait[:, :300], faces, size=0)
    crops, cropped = node(comfy, "GPENCropFaces").crop(portrait, faces, size=256)
    paste = node(comfy, "GPENPasteFaces")
    with refused("SettingsError", "2 crops for 1 faces"):
        paste.paste(portrait, cropped, torch.cat([crops, crops]), **settings(comfy, "GPENPasteFaces"))
    with refused("SettingsError", "Crop Faces"):
        paste.paste(portrait, faces, crops, **settings(comfy, "GPENPasteFaces"))
    with refused("SettingsError", "square"):
        paste.paste(portrait, cropped, crops[:, :100], **settings(comfy, "GPENPasteFaces"))
    with refused("SettingsError", "another node pack"):
        paste.paste(portrait, [1, 2], crops, **settings(comfy, "GPENPasteFaces"))


def test_preview_draws_the_faces(comfy, torch, portrait):
    faces, _ = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    shown = node(comfy, "GPENPreviewFaces").draw(portrait, faces)
    assert shown["ui"]["images"] and shown["result"][0].shape == portrait.shape
    assert not torch.equal(shown["result"][0], portrait)


def test_faces_keep_the_numbers_they_were_chosen_by(comfy, portrait):
    """Preview Faces shows the numbers that "Which faces" takes, whichever faces were chosen."""
    pair = side_by_side(portrait)
    detect = node(comfy, "GPENDetectFaces")
    everyone, count = detect.detect(pair, **settings(comfy, "GPENDetectFaces", order="left"))
    assert count == 2 and everyone.numbers == ((0, 1),)
    chosen, _ = detect.detect(pair, **settings(comfy, "GPENDetectFaces", order="left", faces="1,"))
    assert chosen.numbers == ((1,),) and chosen.frames[0][0].box == everyone.frames[0][1].box
    shown = node(comfy, "GPENPreviewFaces").draw(pair, chosen)["result"][0]
    place = slice(0, int(chosen.frames[0][0].box[1])), slice(portrait.shape[2], None)  # above that face
    both = node(comfy, "GPENPreviewFaces").draw(pair, everyone)["result"][0]
    assert bool((shown[0][place] == both[0][place]).all()) and not bool((shown[0][place] == pair[0][place]).all())
    crops, cropped = node(comfy, "GPENCropFaces").crop(pair, chosen, size=64)
    assert cropped.numbers == ((1,),) and crops.shape[0] == 1
    assert restore(comfy, pair, model=None, faces="1", order="left")[4].numbers == ((1,),)


def test_faces_of_another_picture_are_refused(comfy, torch, portrait, model):
    """Another picture of the same size is rejected; an edited version of the same picture is accepted."""
    faces, _ = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    crops, cropped = node(comfy, "GPENCropFaces").crop(portrait, faces, size=64)
    paste, given = node(comfy, "GPENPasteFaces"), settings(comfy, "GPENPasteFaces")
    noise = torch.rand(portrait.shape, generator=torch.Generator().manual_seed(4))
    for other in (portrait.flip(2), portrait.flip(1), noise, torch.full_like(portrait, 0.5)):
        with refused("SettingsError", "not the picture in which"):
            paste.paste(other, cropped, crops, **given)
        with refused("SettingsError", "not the picture in which"):
            node(comfy, "GPENCropFaces").crop(other, faces, size=64)
        with refused("SettingsError", "not the picture in which"):
            restore(comfy, other, model=model, detected_faces=faces)
    for edited in (portrait**1.4, portrait * 0.7, restore(comfy, portrait, model=model)[0]):
        assert paste.paste(edited, cropped, crops, **given)[1].any()
    with refused("SettingsError", "Picture 2 is not the picture"):
        both, _ = node(comfy, "GPENDetectFaces").detect(torch.cat([portrait, portrait]), **settings(comfy, "GPENDetectFaces"))
        node(comfy, "GPENCropFaces").crop(torch.cat([portrait, portrait.flip(2)]), both, size=64)


def test_detected_faces_are_what_is_restored(comfy, torch, portrait, model, monkeypatch):
    pair = side_by_side(portrait)
    faces, _ = node(comfy, "GPENDetectFaces").detect(pair, **settings(comfy, "GPENDetectFaces", order="left", faces="1"))
    expected = restore(comfy, pair, model=model, order="left", faces="1")
    import sys as system

    detect = system.modules[type(model).__module__.replace("nodes.model", "gpen_core.restore.restorer")].FaceRestorer.detect
    monkeypatch.setattr(detect.__globals__["FaceRestorer"], "detect", None)  # nothing is looked for any more
    # Settings for finding faces do not count: this detector could not even be had.
    image, _, _, _, out = restore(comfy, pair, model=model, detected_faces=faces, detector="yunet", threshold=1.0, faces="7")
    assert torch.equal(image, expected[0]) and out.numbers == faces.numbers == expected[4].numbers


def test_one_channel_is_a_picture(comfy, torch, portrait, model):
    """Some nodes output grey pictures with one channel. They come back in colour, as other nodes expect."""
    grey = portrait.mean(-1, keepdim=True)
    colour = grey.repeat(1, 1, 1, 3)
    image = restore(comfy, grey, model=model)[0]
    assert torch.equal(image, restore(comfy, colour, model=model)[0]) and not torch.equal(image, colour)
    faces, count = node(comfy, "GPENDetectFaces").detect(grey, **settings(comfy, "GPENDetectFaces"))
    crops, cropped = node(comfy, "GPENCropFaces").crop(grey, faces, size=64)
    pasted = node(comfy, "GPENPasteFaces").paste(grey, cropped, crops.mean(-1, keepdim=True), **settings(comfy, "GPENPasteFaces"))[0]
    boxes = node(comfy, "GPENFacesToBBox").convert(faces, "x, y, width, height")[0]
    finding = {"form": "x, y, width, height", "detector": "retinaface-mobile", "threshold": 0.9}
    assert count == 1 and crops.shape[-1] == pasted.shape[-1] == 3
    assert node(comfy, "GPENFacesFromBBox").convert(grey, boxes, **finding)[1] == 1
    assert node(comfy, "GPENPreviewFaces").draw(grey, faces)["result"][0].shape[-1] == 3
    aligned = node(comfy, "GPENRestoreAlignedFaces").restore(
        crops.mean(-1, keepdim=True), model=model, **settings(comfy, "GPENRestoreAlignedFaces")
    )[0]
    assert aligned.shape == crops.shape


def test_boxes_of_a_batch_come_back_as_the_same_faces(comfy, torch, portrait):
    """Each picture has its list of boxes: a plain list would apply to all pictures, and two faces would become four."""
    batch = torch.cat([portrait, torch.full_like(portrait, 0.5), portrait.roll(40, 2)])
    faces, count = node(comfy, "GPENDetectFaces").detect(batch, **settings(comfy, "GPENDetectFaces"))
    assert [len(frame) for frame in faces.frames] == [1, 0, 1]
    for form in ("x, y, width, height", "left, top, right, bottom"):
        boxes, said, _ = node(comfy, "GPENFacesToBBox").convert(faces, form)
        assert said == count == 2 and [len(one) for one in boxes] == [1, 0, 1]
        back, found = node(comfy, "GPENFacesFromBBox").convert(batch, boxes, form, detector="retinaface-mobile", threshold=0.9)
        assert found == 2 and [len(frame) for frame in back.frames] == [1, 0, 1]
        for number in (0, 2):
            assert np.abs(back.frames[number][0].landmarks - faces.frames[number][0].landmarks).max() < 2


def test_the_nodes_say_what_happened(comfy, torch, portrait, model):
    finding, restoring = settings(comfy, "GPENDetectFaces"), settings(comfy, "GPENRestoreFaces", order="left")
    pair, blank = side_by_side(portrait), torch.full((1, 64, 64, 3), 0.4)
    said = {
        "all": report_of(comfy, "GPENRestoreFaces", "restore", pair, model=model, **restoring),
        "one": report_of(comfy, "GPENRestoreFaces", "restore", pair, model=model, **{**restoring, "max_faces": 1}),
        "none": report_of(comfy, "GPENRestoreFaces", "restore", blank, model=model, **restoring),
        "some": report_of(
            comfy, "GPENRestoreFaces", "restore", torch.cat([portrait, portrait * 0 + 0.5]), model=model, **{**restoring, "threshold": 0.8}
        ),
        "chosen": report_of(comfy, "GPENDetectFaces", "detect", pair, **{**finding, "faces": "1"}),
        "found": report_of(comfy, "GPENDetectFaces", "detect", pair, **finding),
        "nothing": report_of(comfy, "GPENDetectFaces", "detect", blank, **finding),
    }
    assert said == {
        "all": f"2 faces restored with {MODEL}",
        "one": f"1 of 2 faces restored with {MODEL}",
        "none": "no face found (threshold 0.9)",
        "some": f"1 face restored with {MODEL}\nno face found in 1 of 2 pictures (threshold 0.8)",
        "chosen": "1 of 2 faces chosen",
        "found": "2 faces found",
        "nothing": "no face found (threshold 0.9)",
    }
    auto = node(comfy, "GPENLoadModel").load("auto", "auto")[0]
    for name, given in (("GPENRestoreFaces", restoring), ("GPENRestoreAlignedFaces", settings(comfy, "GPENRestoreAlignedFaces"))):
        said = report_of(comfy, name, "restore", portrait, model=auto, **given)
        assert said.splitlines()[0] == "auto: GPEN-BFR-2048 could not be downloaded"
    assert "auto: GPEN-BFR-2048 could not be downloaded" in report_of(comfy, "GPENLoadModel", "load", "auto", "auto")


def test_a_face_that_fails_is_said(comfy, torch, portrait, model, monkeypatch):
    import sys as system

    core = system.modules[type(model).__module__.replace("nodes.model", "gpen_core.restore.restorer")]
    errors = system.modules[type(model).__module__.replace("nodes.model", "gpen_core.errors")]

    def fails(network, crops, progress, **_):
        return (errors.GpenError("its landmarks fit no face") for _ in crops)

    monkeypatch.setattr(core, "restored_faces", fails)
    said = report_of(comfy, "GPENRestoreFaces", "restore", portrait, model=model, **settings(comfy, "GPENRestoreFaces"))
    assert said == f"0 of 1 faces restored with {MODEL}\n1 face not restored: its landmarks fit no face"


def test_each_face_can_have_its_own_strength(comfy, torch, portrait, model):
    pair = side_by_side(portrait)
    wide = portrait.shape[2]
    faces, _ = node(comfy, "GPENDetectFaces").detect(pair, **settings(comfy, "GPENDetectFaces", order="left"))
    give = node(comfy, "GPENStrengthPerFace").give
    whole = restore(comfy, pair, model=model, detected_faces=faces)[0]
    image = restore(comfy, pair, model=model, detected_faces=give(faces, "0.5, 0")[0])[0]
    assert torch.equal(image[:, :, wide:], pair[:, :, wide:])
    assert (image - (pair + whole) / 2)[:, :, :wide].abs().max() < 1e-5 < (whole - pair)[:, :, :wide].abs().max()
    # Multiplied by the setting, the last one for all that follow, and through the pieces.
    half = restore(comfy, pair, model=model, detected_faces=faces, strength=0.5)[0]
    assert (restore(comfy, pair, model=model, detected_faces=give(faces, "1 0.5")[0], strength=0.5)[0] - half)[
        :, :, :wide
    ].abs().max() < 1e-5
    assert (restore(comfy, pair, model=model, detected_faces=give(faces, "0.5")[0])[0] - half).abs().max() < 1e-5
    crops, cropped = node(comfy, "GPENCropFaces").crop(pair, give(faces, "1, 0")[0], size=0, model=model)
    pasted = node(comfy, "GPENPasteFaces").paste(pair, cropped, 1 - crops, **settings(comfy, "GPENPasteFaces"))[0]
    assert torch.equal(pasted[:, :, wide:], pair[:, :, wide:]) and not torch.equal(pasted[:, :, :wide], pair[:, :, :wide])
    for wrong in ("", "one", "1, 2", "-1", "nan"):
        with refused("SettingsError", "numbers from 0 to 1"):
            give(faces, wrong)


def test_segs_of_the_impact_pack(comfy, torch, portrait):
    """In the form of its SEGS: what its detailers read of ours, and what ours reads of its detectors'."""
    from collections import namedtuple

    pair = side_by_side(portrait)
    faces, _ = node(comfy, "GPENDetectFaces").detect(pair, **settings(comfy, "GPENDetectFaces", order="left"))
    to_segs, from_segs = node(comfy, "GPENFacesToSEGS"), node(comfy, "GPENFacesFromSEGS")
    given = settings(comfy, "GPENFacesToSEGS")
    (size, segs), count = to_segs.convert(faces, **given)
    assert count == len(segs) == 2 and size == (320, 640)
    whole = node(comfy, "GPENFacesToMask").convert(faces, "face", 0.5, 0.0)[0][0].numpy()
    put = np.zeros(size, np.float32)
    for seg, face in zip(segs, faces.frames[0], strict=True):
        x0, y0, x1, y1 = seg.crop_region
        assert 0 <= x0 < seg.bbox[0] < seg.bbox[2] < x1 <= 640 and 0 <= y0 < seg.bbox[1] < seg.bbox[3] < y1 <= 320
        assert seg.cropped_mask.shape == (y1 - y0, x1 - x0) and seg.confidence == face.score and seg.label == "face"
        assert seg._replace(label="other").label == "other"  # as Impact's nodes do
        np.maximum(put[y0:y1, x0:x1], seg.cropped_mask, out=put[y0:y1, x0:x1])
    assert np.abs(put - whole).max() < 0.02
    boxes, _ = to_segs.convert(faces, **{**given, "shape": "box", "crop_factor": 1.0})
    assert all(seg.cropped_mask.mean() > 0.97 for seg in boxes[1])
    theirs = namedtuple("SEG", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper", defaults=[None])
    found = (size, [theirs(None, seg.cropped_mask, np.array([0.5]), tuple(seg.crop_region), np.float32(seg.bbox), "f") for seg in segs])
    for one in ((size, segs), found):
        back, number = from_segs.convert(pair, one, **settings(comfy, "GPENFacesFromSEGS"))
        assert number == 2
        for mine, face in zip(back.frames[0], faces.frames[0], strict=True):
            assert np.abs(mine.landmarks - face.landmarks).max() < 2
    assert (
        to_segs.convert(node(comfy, "GPENDetectFaces").detect(portrait * 0, **settings(comfy, "GPENDetectFaces"))[0], **given)[0][1] == []
    )
    with refused("SettingsError", "one picture"):
        both, _ = node(comfy, "GPENDetectFaces").detect(torch.cat([portrait, portrait]), **settings(comfy, "GPENDetectFaces"))
        to_segs.convert(both, **given)
    with refused("SettingsError", "640x320"):
        from_segs.convert(portrait, (size, segs), **settings(comfy, "GPENFacesFromSEGS"))
    # Of a picture without a face, and the Impact Pack's Empty SEGS, which is of no picture.
    for none in ((size, []), ((0, 0), [])):
        assert from_segs.convert(pair, none, **settings(comfy, "GPENFacesFromSEGS"))[1] == 0
    for wrong in ("boxes", (size, [(1, 2)]), None):
        with refused("SettingsError", "must be SEGS"):
            from_segs.convert(pair, wrong, **settings(comfy, "GPENFacesFromSEGS"))


def test_boxes_and_masks_of_other_packs(comfy, torch, portrait):
    faces, _ = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    to_boxes, from_boxes = node(comfy, "GPENFacesToBBox"), node(comfy, "GPENFacesFromBBox")
    for form in ("x, y, width, height", "left, top, right, bottom"):
        boxes, count, _ = to_boxes.convert(faces, form)
        assert count == 1
        for given in (boxes, [boxes], boxes[0], torch.tensor(boxes)):
            back, found = from_boxes.convert(portrait, given, form, detector="retinaface-mobile", threshold=0.9)
            assert found == 1
            assert np.abs(back.frames[0][0].landmarks - faces.frames[0][0].landmarks).max() < 2
    assert from_boxes.convert(portrait, [(0, 250, 40, 40)], form, detector="retinaface-mobile", threshold=0.9)[1] == 0
    with refused("SettingsError", "four numbers"):
        from_boxes.convert(portrait, "boxes", form, detector="retinaface-mobile", threshold=0.9)
    to_mask = node(comfy, "GPENFacesToMask")
    box = to_mask.convert(faces, "box", 0.5, 0.0)[0]
    x0, y0, x1, y1 = faces.frames[0][0].box
    assert box.shape == (1, 320, 320) and abs(float(box.sum()) - (x1 - x0) * (y1 - y0)) < 300
    face = to_mask.convert(faces, "face", 0.5, 0.0)[0]
    assert float(face.sum()) > 0 and float(face[0, :20].sum()) == 0
