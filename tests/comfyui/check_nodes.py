"""Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else)."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFY, BASE = Path(os.environ["GPEN_TEST_COMFY"]), Path(os.environ["GPEN_TEST_BASE"])
MODEL = "GPEN-BFR-256-lite"
LINKED = ("model", "mask", "upscale_model", "detected_faces")
PACKS_MODULE = str(ROOT).replace(".", "_x_")


@pytest.fixture(scope="session")
def comfy():
    """ComfyUI's own modules, the pack loaded by ComfyUI's own loader. Its seconds are measured."""
    (BASE / "elsewhere").mkdir()
    sys.argv = ["main.py", "--cpu", "--base-directory", str(BASE), "--disable-api-nodes"]
    sys.path.insert(0, str(COMFY))
    import comfy.options

    comfy.options.enable_args_parsing()
    import folder_paths

    import nodes

    # As a user's extra_model_paths.yaml does, before packs are loaded.
    folder_paths.add_model_folder_path("GPEN", str(BASE / "elsewhere"), is_default=True)
    before = {name: (list(paths), set(known)) for name, (paths, known) in folder_paths.folder_names_and_paths.items()}
    modules = set(sys.modules)
    started = time.process_time()  # seconds of the processor: the machine may have other work
    assert asyncio.run(nodes.load_custom_node(str(ROOT)))
    nodes.seconds_of_the_pack = time.process_time() - started
    nodes.modules_of_the_pack = set(sys.modules) - modules
    nodes.folders_before = before
    return nodes


@pytest.fixture(scope="session")
def torch(comfy):
    import torch

    return torch


def node(comfy, name):
    """The node, its answer as the bare outputs: those that came before the report, which `report_of` gives."""
    return Bare(comfy.NODE_CLASS_MAPPINGS[name]())


class Bare:
    def __init__(self, made):
        self._made = made

    def __getattr__(self, name):
        def call(*arguments, **named):
            answer = getattr(self._made, name)(*arguments, **named)
            if not isinstance(answer, dict) or name == "draw":
                return answer
            results = answer["result"]
            return results[:-1] if self._made.RETURN_NAMES[-1] == "report" else results

        return call


def report_of(comfy, name, method, *arguments, **named):
    """What the node says of a run; the same on the page and in its last output."""
    answer = getattr(comfy.NODE_CLASS_MAPPINGS[name](), method)(*arguments, **named)
    if comfy.NODE_CLASS_MAPPINGS[name].RETURN_NAMES[-1] == "report":
        assert answer["result"][-1] == answer["ui"]["text"][0]
    return answer["ui"]["text"][0]


def settings(comfy, name, **changed):
    """The defaults of a node's own inputs, as the page fills them in."""
    inputs = comfy.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()["required"]
    plain = {key: spec[1]["default"] for key, spec in inputs.items() if len(spec) > 1 and "default" in spec[1]}
    return {**plain, **changed}


@pytest.fixture(scope="session")
def portrait(torch):
    from PIL import Image

    picture = np.asarray(Image.open(ROOT / "examples" / "portrait.png").convert("RGB"), np.float32) / 255
    return torch.from_numpy(picture)[None]


@pytest.fixture(scope="session")
def model(comfy):
    return node(comfy, "GPENLoadModel").load(MODEL, "fp32")[0]


def restore(comfy, image, **changed):
    linked = {key: changed.pop(key) for key in LINKED if key in changed}
    return node(comfy, "GPENRestoreFaces").restore(image, **linked, **settings(comfy, "GPENRestoreFaces", **changed))


def test_the_pack_loads_fast_and_disturbs_nothing(comfy):
    import folder_paths

    assert comfy.seconds_of_the_pack < 1
    assert not any(name.split(".")[0] in ("cv2", "facexlib", "basicsr", "onnxruntime") for name in comfy.modules_of_the_pack)
    after = folder_paths.folder_names_and_paths
    assert all((list(after[name][0]), set(after[name][1])) == was for name, was in comfy.folders_before.items() if name != "GPEN")
    assert after["GPEN"][0] == [str(BASE / "elsewhere"), str(BASE / "models" / "GPEN")]
    assert not {path for path in map(str, sys.path) if path == str(ROOT)}


def test_lists_show_new_files_and_no_unfinished_ones(comfy):
    (BASE / "models" / "GPEN").mkdir(parents=True, exist_ok=True)
    for name in ("own one.safetensors", "half.pth.part", "notes.txt"):
        (BASE / "elsewhere" / name).write_bytes(b"")
    offered = comfy.NODE_CLASS_MAPPINGS["GPENLoadModel"].INPUT_TYPES()["required"]["model"][0]
    assert offered[0] == "auto" and {"GPEN-BFR-2048", MODEL, "own one.safetensors"} <= set(offered)
    assert "half.pth.part" not in offered and "notes.txt" not in offered


def test_a_face_is_restored_and_nothing_else(comfy, torch, portrait, model):
    image, mask, before, after, faces = restore(comfy, portrait, model=model)
    assert image.shape == portrait.shape and image.dtype == torch.float32 and mask.shape == (1, 320, 320)
    assert len(faces) == 1 and before.shape == after.shape == (1, 256, 256, 3)
    changed = (image != portrait).any(-1)
    assert changed.any() and not (changed & (mask == 0)).any()
    assert float((after - before).abs().mean()) > 0.005


def test_the_result_is_that_of_the_core(comfy, portrait, model):
    sys.path.insert(0, str(ROOT))
    from gpen_core import FaceRestorer, RestoreOptions

    expected = FaceRestorer(RestoreOptions(model=MODEL, precision="fp32"))(portrait[0].numpy()).image
    assert np.abs(restore(comfy, portrait, model=model)[0][0].numpy() - expected).max() < 1e-6


def test_batch_alone_and_without_a_face(comfy, torch, portrait, model):
    blank = torch.rand(1, 320, 320, 3, generator=torch.Generator().manual_seed(1)) * 0.1 + 0.4
    blank[0, 0, 0] = 1.7  # beyond 0..1, as some nodes leave it
    batch = torch.cat([portrait, blank, portrait.flip(2)])
    image, mask, before, _, faces = restore(comfy, batch, model=model)
    assert [len(frame) for frame in faces.frames] == [1, 0, 1] and before.shape[0] == 2
    assert torch.equal(image[1], blank[0]) and not mask[1].any()
    for number in (0, 2):
        assert torch.equal(image[number], restore(comfy, batch[number : number + 1], model=model)[0][0])


def test_no_face_at_all_comes_back_as_it_was(comfy, torch, model):
    from comfy_execution.graph_utils import ExecutionBlocker

    blank = torch.full((2, 64, 96, 3), 0.25)
    image, mask, before, after, faces = restore(comfy, blank, model=model)
    assert torch.equal(image, blank) and not mask.any() and len(faces) == 0
    assert isinstance(before, ExecutionBlocker) and isinstance(after, ExecutionBlocker)


def test_alpha_is_carried(comfy, torch, portrait, model):
    alpha = torch.rand(1, 320, 320, 1, generator=torch.Generator().manual_seed(2))
    image = restore(comfy, torch.cat([portrait, alpha], -1), model=model)[0]
    assert torch.equal(image[..., 3:], alpha)
    assert torch.equal(image[..., :3], restore(comfy, portrait, model=model)[0])


def test_the_mask_says_where_to_look(comfy, torch, portrait, model):
    mask = torch.zeros(1, 320, 320)
    mask[:, 200:] = 1  # below the face
    assert torch.equal(restore(comfy, portrait, model=model, mask=mask)[0], portrait)
    assert not torch.equal(restore(comfy, portrait, model=model, mask=1 - mask)[0], portrait)
    # LoadImage's black 64 x 64 for "no alpha" is no mask.
    assert not torch.equal(restore(comfy, portrait, model=model, mask=torch.zeros(1, 64, 64))[0], portrait)


def test_strength_zero_is_the_identity(comfy, torch, portrait, model):
    assert torch.equal(restore(comfy, portrait, model=model, strength=0.0)[0], portrait)


def test_output_sizes(comfy, torch, portrait, model):
    image, mask, _, _, faces = restore(comfy, portrait, model=model, output_size="factor", factor=2.0)
    assert image.shape == (1, 640, 640, 3) and mask.shape == (1, 640, 640) and (faces.height, faces.width) == (640, 640)
    x0, y0, x1, y1 = faces.frames[0][0].box
    assert 210 < x0 < x1 < 360 and 60 < y0 < y1 < 240  # the face of the enlarged picture
    native = restore(comfy, torch.cat([portrait, portrait * 0 + 0.5]), model=model, output_size="native")[0]
    assert native.shape[0] == 2 and native.shape[1] > 640  # this small face enlarged to the network's 256 pixels


def test_the_background_can_be_an_upscale_model(comfy, torch, portrait, model):
    class Upscaler:
        """As spandrel's descriptor: doubles, and darkens so that it shows."""

        scale = 2
        model = torch.nn.Identity()
        moved = ()

        def to(self, device):
            self.moved += (str(device),)

        def __call__(self, x):
            return torch.nn.functional.interpolate(x, scale_factor=2) * 0.5

    upscaler = Upscaler()
    image, mask, *_ = restore(comfy, portrait, model=model, output_size="factor", factor=2.0, upscale_model=upscaler)
    outside = mask[0] == 0
    assert torch.allclose(image[0][outside].mean(), portrait.mean() * 0.5, atol=0.02) and upscaler.moved[-1] == "cpu"


def test_pieces_give_what_the_whole_gives(comfy, torch, portrait, model):
    whole = restore(comfy, portrait, model=model)[0]
    faces, count = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    assert count == 1
    crops, cropped = node(comfy, "GPENCropFaces").crop(portrait, faces, size=0, model=model)
    aligned = node(comfy, "GPENRestoreAlignedFaces").restore(crops, model=model, **settings(comfy, "GPENRestoreAlignedFaces"))[0]
    image, mask = node(comfy, "GPENPasteFaces").paste(portrait, cropped, aligned, **settings(comfy, "GPENPasteFaces"))
    assert float((image - whole).abs().max()) < 1e-5
    assert not ((image != portrait).any(-1) & (mask == 0)).any()
    # Crops that were enlarged meanwhile go back to the same place.
    larger = torch.nn.functional.interpolate(aligned.movedim(-1, 1), scale_factor=2, mode="bicubic").movedim(1, -1).clamp(0, 1)
    again = node(comfy, "GPENPasteFaces").paste(portrait, cropped, larger, **settings(comfy, "GPENPasteFaces"))[0]
    assert float((again - whole).abs().mean()) < 0.002


def test_pieces_without_a_face_lose_no_picture(comfy, torch, model):
    blank = torch.full((1, 64, 96, 4), 0.25)
    faces, count = node(comfy, "GPENDetectFaces").detect(blank, **settings(comfy, "GPENDetectFaces"))
    crops, cropped = node(comfy, "GPENCropFaces").crop(blank, faces, size=0, model=model)
    image, mask = node(comfy, "GPENPasteFaces").paste(blank, cropped, crops, **settings(comfy, "GPENPasteFaces"))
    assert count == 0 and torch.equal(image, blank) and not mask.any()


def test_faces_that_do_not_fit_are_refused(comfy, torch, portrait, model):
    faces, _ = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    with pytest.raises(Exception, match="320x320"):
        node(comfy, "GPENCropFaces").crop(portrait[:, :300], faces, size=0)
    crops, cropped = node(comfy, "GPENCropFaces").crop(portrait, faces, size=256)
    paste = node(comfy, "GPENPasteFaces")
    with pytest.raises(Exception, match="2 crops for 1 faces"):
        paste.paste(portrait, cropped, torch.cat([crops, crops]), **settings(comfy, "GPENPasteFaces"))
    with pytest.raises(Exception, match="Crop Faces"):
        paste.paste(portrait, faces, crops, **settings(comfy, "GPENPasteFaces"))
    with pytest.raises(Exception, match="square"):
        paste.paste(portrait, cropped, crops[:, :100], **settings(comfy, "GPENPasteFaces"))
    with pytest.raises(Exception, match="another node pack"):
        paste.paste(portrait, [1, 2], crops, **settings(comfy, "GPENPasteFaces"))


def test_preview_draws_the_faces(comfy, torch, portrait):
    faces, _ = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    shown = node(comfy, "GPENPreviewFaces").draw(portrait, faces)
    assert shown["ui"]["images"] and shown["result"][0].shape == portrait.shape
    assert not torch.equal(shown["result"][0], portrait)


def test_boxes_and_masks_of_other_packs(comfy, torch, portrait):
    faces, _ = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    to_boxes, from_boxes = node(comfy, "GPENFacesToBBox"), node(comfy, "GPENFacesFromBBox")
    for form in ("x, y, width, height", "left, top, right, bottom"):
        boxes, count = to_boxes.convert(faces, form)
        assert count == 1
        for given in (boxes, [boxes], boxes[0], torch.tensor(boxes)):
            back, found = from_boxes.convert(portrait, given, form, detector="retinaface-mobile", threshold=0.9)
            assert found == 1
            assert np.abs(back.frames[0][0].landmarks - faces.frames[0][0].landmarks).max() < 2
    assert from_boxes.convert(portrait, [(0, 250, 40, 40)], form, detector="retinaface-mobile", threshold=0.9)[1] == 0
    with pytest.raises(Exception, match="four numbers"):
        from_boxes.convert(portrait, "boxes", form, detector="retinaface-mobile", threshold=0.9)
    to_mask = node(comfy, "GPENFacesToMask")
    box = to_mask.convert(faces, "box", 0.5, 0.0)[0]
    x0, y0, x1, y1 = faces.frames[0][0].box
    assert box.shape == (1, 320, 320) and abs(float(box.sum()) - (x1 - x0) * (y1 - y0)) < 300
    face = to_mask.convert(faces, "face", 0.5, 0.0)[0]
    assert float(face.sum()) > 0 and float(face[0, :20].sum()) == 0


def test_the_model_is_the_hosts_to_move(comfy, portrait, model):
    from comfy import model_management as host

    restore(comfy, portrait, model=model)
    assert any(loaded.model is model.patcher for loaded in host.current_loaded_models)
    host.unload_all_models()
    assert not any(loaded.model is model.patcher for loaded in host.current_loaded_models)
    assert restore(comfy, portrait, model=model)[0].isfinite().all()


def test_an_interrupt_passes_through_and_leaves_nothing_loaded(comfy, portrait, model, torch):
    from comfy import model_management as host
    from comfy.utils import set_progress_bar_global_hook

    host.unload_all_models()
    calls = []

    def hook(value, total, preview, node_id=None):
        calls.append(value)
        if len(calls) == 4:  # three frames were looked at, one face is done
            host.interrupt_current_processing()

    set_progress_bar_global_hook(hook)
    try:
        with pytest.raises(host.InterruptProcessingException):
            restore(comfy, torch.cat([portrait] * 3), model=model)
    finally:
        host.interrupt_current_processing(False)
        set_progress_bar_global_hook(None)
    assert len(calls) == 4
    assert not any(loaded.model is model.patcher for loaded in host.current_loaded_models)


def test_progress_and_previews(comfy, portrait, model, torch):
    from comfy.utils import set_progress_bar_global_hook

    seen = []
    set_progress_bar_global_hook(lambda value, total, preview, node_id=None: seen.append((value, total, preview)))
    try:
        restore(comfy, torch.cat([portrait] * 2), model=model)
    finally:
        set_progress_bar_global_hook(None)
    assert [value for value, _, _ in seen] == [1, 2, 3, 4, 4] and {total for _, total, _ in seen} == {4}
    previews = [preview for _, _, preview in seen if preview is not None]
    assert len(previews) == 2 and all(kind == "JPEG" and picture.size == (256, 256) for kind, picture, _ in previews)


def test_too_little_memory_falls_back_to_the_cpu(comfy, portrait, model, monkeypatch, caplog):
    from comfy import model_management as host

    expected = restore(comfy, portrait, model=model)[0]
    monkeypatch.setattr(host, "is_device_cpu", lambda device: False)
    tried = []

    def too_little(models, **settings):
        tried.append(models)
        raise host.OOM_EXCEPTION("no memory")

    monkeypatch.setattr(host, "load_models_gpu", too_little)
    import torch

    with caplog.at_level(logging.WARNING):
        image = restore(comfy, torch.cat([portrait, portrait]), model=model)[0]
    assert torch.equal(image[0], expected[0]) and torch.equal(image[1], expected[0])
    assert len(tried) == 1 and "goes on on the CPU" in caplog.text


def test_weights_of_another_task_are_refused_by_name(comfy, portrait, model):
    with pytest.raises(Exception, match=r"Restore Faces \(GPEN\)"):
        node(comfy, "GPENColorizeFace").run(portrait, model=model)


@pytest.mark.parametrize("name", ["GPENColorizeFace", "GPENInpaintFace", "GPENSegmentationToFace"])
def test_other_tasks_run(comfy, torch, portrait, model, name):
    """With small weights of our own in the place of the official ones, which are not to be had here."""
    from dataclasses import replace

    cls = comfy.NODE_CLASS_MAPPINGS[name]
    fitting = replace(model, task=cls.TASK)
    (image,) = cls().run(portrait, model=fitting)
    assert image.shape == (1, 256, 256, 3) if name == "GPENSegmentationToFace" else image.shape == portrait.shape
    assert image.isfinite().all() and not torch.equal(image, portrait)


def test_inpainting_changes_only_the_hole(comfy, torch, portrait, model):
    from dataclasses import replace

    hole = torch.zeros(1, 320, 320)
    hole[:, 100:140, 100:140] = 1
    (image,) = node(comfy, "GPENInpaintFace").run(portrait, mask=hole, model=replace(model, task="inpaint"))
    assert torch.equal(image[hole == 0], portrait[hole == 0]) and not torch.equal(image, portrait)


def test_missing_weights_are_explained(comfy, portrait):
    with pytest.raises(Exception) as caught:
        node(comfy, "GPENLoadModel").load("GPEN-BFR-512", "auto")
    message = str(caught.value)
    assert "GPEN-BFR-512.pth" in message and str(BASE / "elsewhere") in message and "https://" in message
    with pytest.raises(Exception, match="Colorization-1024"):
        node(comfy, "GPENColorizeFace").run(portrait)


def test_files_of_the_wrong_kind_are_explained(comfy):
    (BASE / "elsewhere" / "gpen page.pth").write_text("<!DOCTYPE html><html>404</html>", encoding="utf-8")
    with pytest.raises(Exception, match=r"gpen page\.pth"):
        node(comfy, "GPENLoadModel").load("gpen page.pth", "auto")


def test_auto_says_what_it_is(comfy):
    loaded = node(comfy, "GPENLoadModel").load("auto", "auto")[0]
    assert loaded.name == MODEL and loaded.note == "auto: GPEN-BFR-2048 could not be fetched"


def test_a_changed_file_is_noticed(comfy):
    cls = comfy.NODE_CLASS_MAPPINGS["GPENLoadModel"]
    path = BASE / "elsewhere" / "gpen mine.safetensors"
    path.write_bytes((ROOT / "gpen_core" / "weights" / "embedded" / f"{MODEL}.safetensors").read_bytes())
    names = ("gpen mine.safetensors", "auto", "GPEN-BFR-512")
    first = [cls.IS_CHANGED(name, "auto") for name in names]
    assert first == [cls.IS_CHANGED(name, "auto") for name in names]
    os.utime(path, ns=(1, 1))
    assert all(now != before for now, before in zip([cls.IS_CHANGED(name, "auto") for name in names], first, strict=True))
    assert node(comfy, "GPENLoadModel").load("gpen mine.safetensors", "auto")[0].size == 256


def test_without_opencv_a_sentence_says_so(comfy, portrait, model, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "cv2", None)  # as if it were not installed
    with pytest.raises(Exception, match=r"need OpenCV, which does not work.*install\.py"):
        node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    with pytest.raises(Exception, match=r"need OpenCV.*install\.py"):
        restore(comfy, portrait, model=model)
