"""Every setting keeps its promise, through the core."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from option_promises import ALIGNED, NAMES, PROMISES, TOGETHER, Promise, Run
from option_world import LITE, Scene, Standin, World, own_model, tinted, with_files
from test_restorer import face_at

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
        given = with_files({**settings, **beside}, models)
        restorer = FaceRestorer(RestoreOptions.from_mapping(given), models_dir=models)
        return np.asarray(restorer(scene.pixels).image, np.float32) / 255

    return run


@pytest.mark.parametrize("promise", PROMISES, ids=NAMES)
def test_a_setting_keeps_its_promise(promise: Promise, world: World, tmp_path: Path) -> None:
    promise.check(world, through_the_core(tmp_path))


@pytest.mark.parametrize("promise", ALIGNED, ids=[promise.name for promise in ALIGNED])
def test_a_setting_keeps_its_promise_for_an_aligned_face(promise: Promise, world: World, tmp_path: Path) -> None:
    promise.check(world, through_the_core(tmp_path, aligned=True))


@pytest.mark.parametrize("promise", TOGETHER, ids=[promise.name for promise in TOGETHER])
def test_a_setting_keeps_its_promise_with_another(promise: Promise, world: World, tmp_path: Path) -> None:
    promise.check(world, through_the_core(tmp_path))


def test_of_a_face_cut_by_the_border_only_what_is_there_is_matched() -> None:
    """What the network makes of the part beyond the picture is no matter of its colours."""

    def dark_beyond(x: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
        made = tinted(x, colour)
        made[..., : x.shape[3] // 2 - 3] = 0
        return made

    picture = np.full((128, 100, 3), (0.5, 0.4, 0.6), np.float32)
    as_made, matched = (
        FaceRestorer(RestoreOptions(device="cpu", colour_match=match), network=Standin(64, dark_beyond, LITE, "cpu"))(  # type: ignore[arg-type]
            picture, faces=[face_at(-64, 0, 128)]
        ).image[60:90, 2:16]
        for match in (False, True)
    )
    assert np.abs(as_made - picture[0, 0]).max() > 0.08 and np.abs(matched - picture[0, 0]).max() < 0.02
