"""Every setting keeps its promise through the page's controls and through its API."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from option_promises import NAMES, PROMISES, Promise
from option_world import Scene, World, own_model, with_files
from PIL import Image

from gpen_core.options import RestoreOptions
from gpen_core.pictures import read_picture
from gpen_page import api, work
from gpen_page.controls import control, names, options_of, shown
from gpen_page.engine import Engine, Job

TABLE = {option.name: option for option in RestoreOptions.table()}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    own_model(tmp_path)
    return World(monkeypatch, doors=("gpen_page.engine",))


@pytest.mark.parametrize("promise", PROMISES, ids=NAMES)
def test_the_controls_keep_the_promise(promise: Promise, world: World, tmp_path: Path) -> None:
    source = tmp_path / "in.png"
    calls = iter(range(100))

    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        Image.fromarray(scene.pixels).save(source)
        given = with_files(settings, tmp_path)
        values = [shown(TABLE[name], given[name]) if name in given else _untouched(name) for name in names()]
        engine, options = Engine(tmp_path), options_of(values)
        found = work.find(engine, source, options, Job())
        on = {source: found.on} if found.on and "faces" not in given else {}  # as they are switched at first
        (done,) = work.restore(engine, [source], options, on, tmp_path / f"out{next(calls)}", Job())
        assert done.file is not None, done.line
        return read_picture(done.file).pixels

    promise.check(world, through)


def _untouched(name: str) -> Any:
    return TABLE[name].default if name == "model" else control(TABLE[name]).value


@pytest.mark.parametrize("promise", PROMISES, ids=NAMES)
def test_the_api_keeps_the_promise(promise: Promise, world: World, tmp_path: Path) -> None:
    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        sent = {**settings, "image": _png(scene)}
        if sent.get("person"):
            sent["person"] = _png(sent["person"])
        answer = api.restored(Engine(tmp_path), sent)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["image"]))), np.float32) / 255

    promise.check(world, through)


def _png(scene: Scene) -> str:
    buffer = io.BytesIO()
    Image.fromarray(scene.pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
