"""Every setting keeps its promise through the command line: `restore`, and what `detect` says of the faces.

The other doors have this test where their hosts are: tests/a1111/test_a1111_options.py, tests/comfyui/check_options.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_help import run
from option_promises import NAMES, PROMISES, Promise
from option_world import RED, Scene, World, own_model, with_files
from PIL import Image

from gpen_core.options import RestoreOptions


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    own_model(tmp_path)
    return World(monkeypatch)


def flags(settings: Mapping[str, Any]) -> list[str]:
    given: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        given += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return given


@pytest.mark.parametrize("promise", PROMISES, ids=NAMES)
def test_restore_keeps_the_promise(promise: Promise, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        Image.fromarray(scene.pixels).save(tmp_path / "in.png")
        outside = ("restore", tmp_path / "in.png", "-o", tmp_path / "out.png", "--overwrite", "--models-dir", tmp_path)
        code, _, err = run(capsys, *outside, *flags(with_files(settings, tmp_path)))
        assert code == 0, err
        with Image.open(tmp_path / "out.png") as picture:
            return np.asarray(picture, np.float32) / 255

    promise.check(world, through)


FOUND = [option.name for option in RestoreOptions.of("finding", "choosing")]


@pytest.mark.parametrize("promise", [promise for promise in PROMISES if promise.name in FOUND], ids=FOUND)
def test_detect_keeps_the_promise(promise: Promise, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it says of the faces, painted."""

    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        Image.fromarray(scene.pixels).save(tmp_path / "in.png")
        given = flags({name: value for name, value in with_files(settings, tmp_path).items() if name in FOUND})
        code, out, err = run(capsys, "detect", tmp_path / "in.png", "--json", *given)
        assert code == 0, err
        image = scene.pixels.astype(np.float32) / 255
        for face in json.loads(out)["inputs"][0]["faces"]:
            left, top, right, bottom = map(round, face["box"])
            image[top:bottom, left:right] = RED
        return image

    promise.check(world, through)
