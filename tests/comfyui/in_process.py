"""Fixtures (as a pytest plugin) and helpers for the checks inside a real ComfyUI's process."""

from __future__ import annotations

import asyncio
import os
import sys
from importlib import import_module
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
    """ComfyUI's own modules, the pack loaded by ComfyUI's own loader. What it imports is noted."""
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
    assert asyncio.run(nodes.load_custom_node(str(ROOT)))
    nodes.modules_of_the_pack = set(sys.modules) - modules
    nodes.folders_before = before
    nodes.classes = sys.modules[f"{PACKS_MODULE}.nodes"].NODE_CLASS_MAPPINGS  # which both forms of the nodes run
    return nodes


@pytest.fixture(scope="session")
def torch(comfy):
    import torch

    return torch


def node(comfy, name):
    """A function that runs the node and returns its outputs without the report, which `report_of` returns."""
    return Bare(comfy.classes[name]())


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
    """The node's report on a run, after checking that the page and the last output have the same text."""
    answer = getattr(comfy.classes[name](), method)(*arguments, **named)
    if comfy.classes[name].RETURN_NAMES[-1] == "report":
        assert answer["result"][-1] == answer["ui"]["text"][0]
    return answer["ui"]["text"][0]


def settings(comfy, name, **changed):
    """The defaults of a node's own inputs, as the page fills them in."""
    inputs = comfy.classes[name].INPUT_TYPES()["required"]
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


def refused(kind, match=None):
    """pytest.raises() for an error of the pack's own core, by its class's name."""
    return pytest.raises(getattr(import_module(f"{PACKS_MODULE}.gpen_core.errors"), kind), match=match)


def restore(comfy, image, **changed):
    linked = {key: changed.pop(key) for key in LINKED if key in changed}
    return node(comfy, "GPENRestoreFaces").restore(image, **linked, **settings(comfy, "GPENRestoreFaces", **changed))


def side_by_side(picture):
    return picture.repeat(1, 1, 2, 1)
