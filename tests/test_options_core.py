"""Every setting keeps its promise, through the core."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from option_promises import ALIGNED, NAMES, PROMISES, Promise, Run
from option_world import Scene, World, own_model

from gpen_core import FaceRestorer, RestoreOptions


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    own_model(tmp_path)
    return World(monkeypatch)


def test_every_setting_promises_something() -> None:
    assert tuple(option.name for option in RestoreOptions.table()) == NAMES
    for promise, option in zip(PROMISES, RestoreOptions.table(), strict=True):
        assert len(set(promise.values)) == len(promise.values) > 1
        if option.kind == "choice":
            assert set(promise.values) == set(option.choices), f"a choice of {option.name} is not tried"


def through_the_core(models: Path, **beside: Any) -> Run:
    def run(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        restorer = FaceRestorer(RestoreOptions.from_mapping({**settings, **beside}), models_dir=models)
        return np.asarray(restorer(scene.pixels).image, np.float32) / 255

    return run


@pytest.mark.parametrize("promise", PROMISES, ids=NAMES)
def test_a_setting_keeps_its_promise(promise: Promise, world: World, tmp_path: Path) -> None:
    promise.check(world, through_the_core(tmp_path))


@pytest.mark.parametrize("promise", ALIGNED, ids=[promise.name for promise in ALIGNED])
def test_a_setting_keeps_its_promise_for_an_aligned_face(promise: Promise, world: World, tmp_path: Path) -> None:
    promise.check(world, through_the_core(tmp_path, aligned=True))
