"""Cancel stops every node within one step of its work.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from in_process import node, settings, side_by_side


@pytest.fixture
def cancel(comfy):
    """Presses ComfyUI's Cancel, and releases it after the test."""
    from comfy import model_management as host

    host.interrupt_current_processing(False)
    yield host.interrupt_current_processing
    host.interrupt_current_processing(False)


@pytest.fixture
def stopped(comfy):
    """The exception that ComfyUI raises in a cancelled node."""
    from comfy import model_management as host

    return pytest.raises(host.InterruptProcessingException)


def cancelled_at_first(monkeypatch, place, name, cancel):
    """Presses Cancel in the function's first call. Returns a list of all calls."""
    calls = []
    work = getattr(place, name)

    def pressed(*arguments, **named):
        calls.append(1)
        cancel()
        return work(*arguments, **named)

    monkeypatch.setattr(place, name, pressed)
    return calls


@pytest.fixture
def looks(comfy, model, monkeypatch, cancel):
    """Presses Cancel when the detector first runs. Returns a list of its runs."""
    finder = sys.modules[type(model).__module__.replace(".model", ".detectors")].detector("retinaface-mobile")
    return cancelled_at_first(monkeypatch, type(finder), "detect", cancel)


@pytest.fixture(params=[1, 4], ids=["picture", "turned"])
def rotations(request):
    return request.param == 4


def test_restore_faces_while_it_looks(comfy, portrait, model, looks, stopped, rotations):
    with stopped:
        node(comfy, "GPENRestoreFaces").restore(portrait, model=model, **settings(comfy, "GPENRestoreFaces", rotations=rotations))
    assert len(looks) == 1


def test_detect_faces(comfy, portrait, looks, stopped, rotations):
    with stopped:
        node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces", rotations=rotations))
    assert len(looks) == 1


def test_faces_from_boxes(comfy, portrait, looks, stopped):
    boxes = [(0, 0, 320, 320), (100, 30, 90, 90), (90, 20, 110, 110)]
    finding = settings(comfy, "GPENFacesFromBBox")
    with stopped:
        node(comfy, "GPENFacesFromBBox").convert(portrait, boxes, **finding)
    assert len(looks) == 1


@pytest.mark.parametrize("name", ["GPENRestoreFaces", "GPENPasteFaces"])
@pytest.mark.parametrize("upscale", [False, True], ids=["lanczos", "upscale model"])
def test_while_the_picture_is_enlarged(comfy, torch, portrait, model, cancel, stopped, monkeypatch, name, upscale):
    import cv2

    large = torch.nn.functional.interpolate(portrait.movedim(-1, 1), scale_factor=3, mode="bilinear").movedim(1, -1).contiguous()
    faces, _ = node(comfy, "GPENDetectFaces").detect(large, **settings(comfy, "GPENDetectFaces"))
    crops, cropped = node(comfy, "GPENCropFaces").crop(large, faces, size=64)
    given = settings(comfy, name, output_size="factor", factor=2.0)
    background = sys.modules[type(model).__module__.replace("nodes.model", "gpen_core.steps.background")]

    class Upscaler:
        scale = 2
        model = torch.nn.Identity()

        def to(self, device):
            return self

        def __call__(self, x):
            return torch.nn.functional.interpolate(x, scale_factor=2)

    if upscale:
        tiles = cancelled_at_first(monkeypatch, Upscaler, "__call__", cancel)
    else:
        own = SimpleNamespace(**vars(cv2))  # what else resizes pictures is left alone
        tiles = cancelled_at_first(monkeypatch, own, "resize", cancel)
        monkeypatch.setattr(background, "cv2", own)
    linked = {"upscale_model": Upscaler()} if upscale else {}
    with stopped:
        if name == "GPENPasteFaces":
            node(comfy, name).paste(large, cropped, crops, **linked, **given)
        else:
            node(comfy, name).restore(large, model=model, detected_faces=faces, **linked, **given)
    assert 1 <= len(tiles) <= (1 if upscale else 8)  # of 30 strips


def test_restore_faces_between_two_faces(comfy, portrait, model, cancel, stopped, monkeypatch):
    faces = cancelled_at_first(monkeypatch, type(model.network), "forward", cancel)
    with stopped:
        node(comfy, "GPENRestoreFaces").restore(side_by_side(portrait), model=model, **settings(comfy, "GPENRestoreFaces"))
    assert len(faces) == 1


def test_restore_aligned_faces(comfy, portrait, model, cancel, stopped, monkeypatch):
    faces = cancelled_at_first(monkeypatch, type(model.network), "forward", cancel)
    given = settings(comfy, "GPENRestoreAlignedFaces")
    with stopped:
        node(comfy, "GPENRestoreAlignedFaces").restore(portrait.repeat(3, 1, 1, 1), model=model, **given)
    assert len(faces) == 1


@pytest.mark.parametrize("name", ["GPENColorizeFace", "GPENInpaintFace", "GPENSegmentationToFace"])
def test_other_tasks(comfy, portrait, model, cancel, stopped, monkeypatch, name):
    faces = cancelled_at_first(monkeypatch, type(model.network), "forward", cancel)
    fitting = replace(model, task=comfy.classes[name].TASK)
    with stopped:
        white = {"official": True} if name == "GPENInpaintFace" else {}  # otherwise a picture without white is not computed
        node(comfy, name).run(portrait.repeat(3, 1, 1, 1), model=fitting, **white)
    assert len(faces) == 1


def test_paste_faces_between_two_faces(comfy, portrait, model, cancel, stopped, monkeypatch):
    pair = side_by_side(portrait)
    faces, _ = node(comfy, "GPENDetectFaces").detect(pair, **settings(comfy, "GPENDetectFaces"))
    crops, cropped = node(comfy, "GPENCropFaces").crop(pair, faces, size=64)
    compositor = sys.modules[type(model).__module__.replace("nodes.model", "gpen_core.restore.pieces")].Compositor
    pasted = cancelled_at_first(monkeypatch, compositor, "add", cancel)
    with stopped:
        node(comfy, "GPENPasteFaces").paste(pair, cropped, crops, **settings(comfy, "GPENPasteFaces"))
    assert len(pasted) == 1
