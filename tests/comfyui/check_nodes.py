"""The nodes, one by one.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import BASE, MODEL, PACKS_MODULE, ROOT, node, refused, restore, settings


def test_the_pack_loads_nothing_of_others_and_disturbs_nothing(comfy):
    import folder_paths

    # What takes its time to import waits until a node runs. (pydantic and what it needs are imported by ComfyUI's own loader.)
    own = [name.removeprefix(f"{PACKS_MODULE}.") for name in comfy.modules_of_the_pack if name.startswith(PACKS_MODULE)]
    later = tuple(f"gpen_core.{folder}" for folder in ("network", "pictures", "restore", "steps", "video"))
    assert own and not any(name.startswith(later) for name in own)
    assert not any(name.split(".")[0] in ("cv2", "facexlib", "basicsr", "onnxruntime", "scipy") for name in comfy.modules_of_the_pack)
    after = folder_paths.folder_names_and_paths
    assert all((list(after[name][0]), set(after[name][1])) == was for name, was in comfy.folders_before.items() if name != "GPEN")
    assert after["GPEN"][0] == [str(BASE / "elsewhere"), str(BASE / "models" / "GPEN")]
    assert not {path for path in map(str, sys.path) if path == str(ROOT)}


def test_lists_show_new_files_and_no_unfinished_ones(comfy):
    (BASE / "models" / "GPEN").mkdir(parents=True, exist_ok=True)
    for name in ("own one.safetensors", "half.pth.part", "notes.txt"):
        (BASE / "elsewhere" / name).write_bytes(b"")
    offered = comfy.classes["GPENLoadModel"].INPUT_TYPES()["required"]["model"][0]
    assert offered[0] == "auto" and {"GPEN-BFR-2048", MODEL, "own one.safetensors"} <= set(offered)
    assert "half.pth.part" not in offered and "notes.txt" not in offered


@pytest.mark.parametrize("installed", [True, False], ids=["ReActor is installed", "it is not"])
def test_files_that_reactor_keeps_are_listed_and_found(comfy, monkeypatch, tmp_path, installed):
    """ReActor registers its folder with suffixes that leave its own .onnx files out of ComfyUI's list."""
    import folder_paths

    there = tmp_path / "facerestore_models"
    (there / "more").mkdir(parents=True)
    for name in ("GPEN-BFR-512.onnx", "GFPGANv1.4.onnx", "gpen notes.txt", "more/gpen_bfr_1024.ONNX"):
        (there / name).write_bytes(b"")
    monkeypatch.delitem(folder_paths.folder_names_and_paths, there.name, raising=False)
    if installed:
        monkeypatch.setitem(folder_paths.folder_names_and_paths, there.name, ([str(there)], {".pth", ".safetensors"}))
    else:
        monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    offered = comfy.classes["GPENLoadModel"].INPUT_TYPES()["required"]["model"][0]
    inner = str(Path("more", "gpen_bfr_1024.ONNX"))
    assert offered[-2:] == ["GPEN-BFR-512.onnx", inner]
    folders = sys.modules[f"{PACKS_MODULE}.nodes.folders"]
    assert [folders.model_path(name) for name in offered[-2:]] == [there / "GPEN-BFR-512.onnx", there / inner]
    assert folders.model_path("GFPGANv1.4.onnx") is None and there / "more" in folders.search_folders()


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


def test_weights_of_another_task_are_refused_by_name(comfy, portrait, model):
    with refused("SettingsError", r"Restore Faces \(GPEN\)"):
        node(comfy, "GPENColorizeFace").run(portrait, model=model)


@pytest.mark.parametrize("name", ["GPENColorizeFace", "GPENInpaintFace", "GPENSegmentationToFace"])
def test_other_tasks_run(comfy, torch, portrait, model, name):
    """Uses small weights made here instead of the official ones, which are not available."""
    from dataclasses import replace

    cls = comfy.classes[name]
    fitting = replace(model, task=cls.TASK)
    given = portrait.clone()
    given[:, 100:140, 100:140] = 1  # for inpainting
    (image,) = cls().run(given, model=fitting)
    assert image.shape == (1, 256, 256, 3) if name == "GPENSegmentationToFace" else image.shape == portrait.shape
    assert image.isfinite().all() and not torch.equal(image, given)


def test_inpainting_changes_only_the_hole(comfy, torch, portrait, model):
    from dataclasses import replace

    hole = torch.zeros(1, 320, 320)
    hole[:, 100:140, 100:140] = 1
    (image,) = node(comfy, "GPENInpaintFace").run(portrait, mask=hole, model=replace(model, task="inpaint"))
    assert torch.equal(image[hole == 0], portrait[hole == 0]) and not torch.equal(image, portrait)


def test_an_aligned_face_is_processed_better_or_officially(comfy, torch, portrait, model):
    """At the network's own size the official code replaces everything."""
    from dataclasses import replace

    face = torch.nn.functional.interpolate(portrait.movedim(-1, 1), 256, mode="area").movedim(1, -1)
    luma = torch.tensor([0.299, 0.587, 0.114])
    colours = replace(model, task="colorize")
    ours, official = (node(comfy, "GPENColorizeFace").run(face, model=colours, official=official)[0] for official in (False, True))
    assert float(((ours - face) @ luma).abs().max()) < 1e-5 < 0.01 < float(((official - face) @ luma).abs().max())
    hole = torch.zeros(1, 256, 256)
    hole[:, 100:140, 100:140] = 1
    holes = replace(model, task="inpaint")
    images = [
        node(comfy, "GPENInpaintFace").run(face, mask=hole, model=holes, **given)[0] for given in ({}, {"feather": 0.0}, {"official": True})
    ]
    assert [torch.equal(image[hole == 0], face[hole == 0]) for image in images] == [True, True, False]
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("kind", ["colorize", "inpaint"])
def test_tasks_in_photographs(comfy, torch, portrait, model, kind):
    from dataclasses import replace

    name = {"colorize": "GPENColorizeFacesInPhoto", "inpaint": "GPENInpaintFacesInPhoto"}[kind]
    blank = torch.full_like(portrait, 0.5)
    given = torch.cat([torch.cat([portrait, blank]), torch.rand(2, 320, 320, 1)], -1)  # a batch with alpha; nobody in the second
    hole = torch.zeros(1, 320, 320)
    hole[:, 60:80, 130:155] = 1
    more = {"mask": hole} if kind == "inpaint" else {}
    fitting = replace(model, task=kind)
    shown = comfy.classes[name]().run(given, model=fitting, **more, **settings(comfy, name))
    image, mask, report = shown["result"]
    assert image.shape == given.shape and mask.shape == (2, 320, 320)
    assert torch.equal(image[mask == 0], given[mask == 0]) and torch.equal(image[1], given[1]) and torch.equal(image[..., 3], given[..., 3])
    assert mask[0].any() and not torch.equal(image[0], given[0]) and "1 face co" in report and MODEL in report
    if kind == "inpaint":
        assert torch.equal(mask[0], hole[0])
    faces, _ = node(comfy, "GPENDetectFaces").detect(given, **settings(comfy, "GPENDetectFaces"))
    same = comfy.classes[name]().run(given, model=fitting, detected_faces=faces, **more, **settings(comfy, name, threshold=1.0))
    assert float((same["result"][0] - image).abs().max()) < (1e-6 if kind == "colorize" else 1)
    changed = {"faces": "1"}, {"official": True}, {"feather": 0.0}, {"rest": "grey"} if kind == "colorize" else {"min_size": 900}
    for one in changed:
        other = comfy.classes[name]().run(given, model=fitting, **more, **settings(comfy, name, **one))["result"][0]
        assert not torch.equal(other, image), one
    with refused("SettingsError", r"Restore Faces \(GPEN\)"):
        comfy.classes[name]().run(given, model=model, **settings(comfy, name))


def test_missing_weights_are_explained(comfy, portrait):
    with refused("WeightsMissingError") as caught:
        node(comfy, "GPENLoadModel").load("GPEN-BFR-512", "auto")
    message = str(caught.value)
    assert "GPEN-BFR-512.pth" in message and str(BASE / "elsewhere") in message and "https://" in message
    assert "extra_model_paths.yaml" in message and "--" not in message and len(message.splitlines()) <= 5
    with refused("WeightsMissingError", "Colorization-1024"):
        node(comfy, "GPENColorizeFace").run(portrait)


def test_files_of_the_wrong_kind_are_explained(comfy):
    (BASE / "elsewhere" / "gpen page.pth").write_text("<!DOCTYPE html><html>404</html>", encoding="utf-8")
    with refused("WeightsError", r"gpen page\.pth"):
        node(comfy, "GPENLoadModel").load("gpen page.pth", "auto")


def test_auto_says_what_it_is(comfy):
    loaded = node(comfy, "GPENLoadModel").load("auto", "auto")[0]
    assert loaded.name == MODEL and loaded.note == "auto: GPEN-BFR-2048 could not be downloaded"


def test_a_changed_file_is_noticed(comfy):
    cls = comfy.classes["GPENLoadModel"]
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
    with refused("FeatureMissingError", r"need OpenCV, which is missing or broken.*install\.py"):
        node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))
    with refused("FeatureMissingError", r"need OpenCV.*install\.py"):
        restore(comfy, portrait, model=model)
