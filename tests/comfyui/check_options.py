"""Every setting keeps its promise through the nodes: Restore Faces alone, and the pieces Detect, Crop, Restore Aligned, Paste.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from in_process import BASE, PACKS_MODULE, node, settings
from option_promises import NAMES, PROMISES, painted
from option_world import LITE, World, own_model

# Said by other means in a graph: an upscale model, the node for aligned faces, the start option --cpu and its like.
BY_OTHER_MEANS = {"background", "aligned", "device", "person"}
OF_LOADING = ("model", "precision")


def promises(*leave_out):
    kept = [promise for promise in PROMISES if promise.name not in leave_out]
    return pytest.mark.parametrize("promise", kept, ids=[promise.name for promise in kept])


@pytest.fixture
def inputs(comfy):
    """The pack's module that defines the nodes' inputs."""
    return import_module(f"{PACKS_MODULE}.nodes.inputs")


@pytest.fixture
def world(comfy, monkeypatch):
    own_model(BASE / "models")
    made = import_module(f"{PACKS_MODULE}.nodes.detectors")._make
    made.cache_clear()
    yield World(monkeypatch, f"{PACKS_MODULE}.gpen_core")
    made.cache_clear()


def tensor(torch, scene):
    return torch.from_numpy(scene.pixels.astype(np.float32) / 255)[None]


def load(comfy, given):
    return node(comfy, "GPENLoadModel").load(given.get("model", LITE), given.get("precision", "auto"))[0]


def taken(comfy, inputs, name, given):
    """A node's inputs: its defaults, replaced by those given settings that it has."""
    spec = comfy.classes[name].INPUT_TYPES()
    own = {**spec["required"], **spec["optional"]}
    changed = {inputs.NAMES.get(key, key): value for key, value in given.items()}
    if "person" in changed:
        changed["person"] = tensor(import_module("torch"), changed["person"]) if changed["person"] else None
    return settings(comfy, name, **{key: value for key, value in changed.items() if key in own and key not in OF_LOADING})


class Upscaler:
    """An UPSCALE_MODEL that makes everything black, twice as large."""

    scale = 2

    def __init__(self, torch):
        self.model = torch.nn.Conv2d(1, 1, 1)

    def to(self, device):
        return self

    def __call__(self, tile):
        return tile.new_zeros((*tile.shape[:2], 2 * tile.shape[2], 2 * tile.shape[3]))


def test_what_the_nodes_leave_out_is_left_out_on_purpose(comfy, inputs):
    assert set(inputs.ELSEWHERE) == BY_OTHER_MEANS | set(OF_LOADING)
    own = {key for part in ("required", "optional") for key in comfy.classes["GPENRestoreFaces"].INPUT_TYPES()[part]}
    own = {back for back in NAMES if inputs.NAMES.get(back, back) in own}
    assert own == set(NAMES) - set(inputs.ELSEWHERE) | {"model", "person"}
    assert {"model", "precision"} <= set(comfy.classes["GPENLoadModel"].INPUT_TYPES()["required"])


@promises("aligned", "device")
def test_restore_faces_keeps_the_promise(comfy, torch, inputs, world, promise):
    def through(scene, given):
        upscale = Upscaler(torch) if given.get("background") == "realesrgan" else None
        named = taken(comfy, inputs, "GPENRestoreFaces", given)
        image = node(comfy, "GPENRestoreFaces").restore(tensor(torch, scene), model=load(comfy, given), upscale_model=upscale, **named)[0]
        return image[0].numpy()

    promise.check(world, through)


@promises("aligned", "device")
def test_the_pieces_keep_the_promise(comfy, torch, inputs, world, promise):
    """Paste Faces has strength, detail and the pasting settings; Restore Aligned Faces has the network and colour."""
    at_paste = {"strength", "detail", "mask_regions", "occlusion", *inputs.PASTING}

    def through(scene, given):
        image, model = tensor(torch, scene), load(comfy, given)
        upscale = Upscaler(torch) if given.get("background") == "realesrgan" else None
        faces, count = node(comfy, "GPENDetectFaces").detect(image, **taken(comfy, inputs, "GPENDetectFaces", given))
        if not count:
            return image[0].numpy()
        crops, cropped = node(comfy, "GPENCropFaces").crop(image, faces, size=0, model=model)
        tone = {key: value for key, value in given.items() if key not in at_paste}
        restored = node(comfy, "GPENRestoreAlignedFaces").restore(
            crops, model=model, **taken(comfy, inputs, "GPENRestoreAlignedFaces", tone)
        )
        pasting = {key: value for key, value in given.items() if key in at_paste}
        named = taken(comfy, inputs, "GPENPasteFaces", pasting)
        return node(comfy, "GPENPasteFaces").paste(image, cropped, restored[0], upscale_model=upscale, **named)[0][0].numpy()

    if promise.name == "auto_strength":  # crops have the model's size, so none is larger than the model can draw
        assert promise.values == ("off", "large", "all")
        promise = replace(promise, kept=painted({"large", "small", "soft"}, {"large", "small", "soft"}, {"soft"}))
    promise.check(world, through)


def test_an_aligned_face_has_a_node_of_its_own(comfy, torch, inputs, world):
    (promise,) = (promise for promise in PROMISES if promise.name == "aligned")

    def through(scene, given):
        name = "GPENRestoreAlignedFaces" if given["aligned"] else "GPENRestoreFaces"
        return node(comfy, name).restore(tensor(torch, scene), model=load(comfy, given), **taken(comfy, inputs, name, given))[0][0].numpy()

    promise.check(world, through)


def test_the_device_is_comfyuis(comfy, torch, inputs, world, monkeypatch):
    (promise,) = (promise for promise in PROMISES if promise.name == "device")
    asked = []

    def through(scene, given):
        from comfy import model_management

        monkeypatch.setattr(model_management, "get_torch_device", lambda: asked.append(given["device"]) or torch.device(given["device"]))
        model = load(comfy, given)
        model.network.to(model.patcher.load_device)
        return (
            node(comfy, "GPENRestoreFaces")
            .restore(tensor(torch, scene), model=model, **taken(comfy, inputs, "GPENRestoreFaces", given))[0][0]
            .numpy()
        )

    promise.check(world, through)
    assert asked
