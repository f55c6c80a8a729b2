"""The switch `official`: what GPEN's own programs return for weights made from seeds, written out from docs/gpen.md."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import cv2
import numpy as np
import official_like
import pytest
import torch
from test_restorer import face_at

from gpen_core.network.build import build_fused
from gpen_core.pictures import Picture, from_array
from gpen_core.restore.tasks import TaskRestorer
from gpen_core.restore.whole_picture import colorize, inpaint, segmentation_to_face
from gpen_core.steps.align import template_points
from gpen_core.steps.mask import landmark_mask
from gpen_core.task_options import TaskOptions

S = 64


class Official:
    """The official network and what its programs do before and after it. Pictures: (H, W, 3) float32 BGR, 0..1."""

    def __init__(self, recipe: ModuleType) -> None:
        self.network, self.state = official_like.make(recipe, S)

    def run(self, bgr: np.ndarray, normalised: bool = True) -> np.ndarray:
        x = cv2.resize(bgr, (S, S))
        x = (x - 0.5) / 0.5 if normalised else x
        x = np.ascontiguousarray(x[:, :, ::-1].transpose(2, 0, 1)[None], np.float32)
        with torch.no_grad():
            y = self.network(torch.from_numpy(x))[0].numpy()
        y = y * 0.5 + 0.5 if normalised else y
        return np.ascontiguousarray(np.clip(y.transpose(1, 2, 0)[:, :, ::-1], 0, 1))

    def colorized(self, bgr: np.ndarray) -> np.ndarray:
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        made = self.run(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
        if grey.shape == (S, S):
            return made
        made = cv2.cvtColor(cv2.resize(made, grey.shape[::-1]), cv2.COLOR_BGR2YUV)
        given = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV)
        made[:, :, 0] = given[:, :, 0]
        return np.clip(cv2.cvtColor(made, cv2.COLOR_YUV2BGR), 0, 1)


@pytest.fixture(scope="module")
def official(recipe: ModuleType) -> Official:
    return Official(recipe)


@pytest.fixture(scope="module")
def ours(official: Official) -> Any:
    return build_fused(official.state)


def drawn(recipe: ModuleType, height: int, width: int) -> np.ndarray:
    """The recipe's picture, (height, width, 3) float32 BGR."""
    return (recipe.make_image(256)[:height, :width] / np.float32(255)).astype(np.float32)


def picture(bgr: np.ndarray) -> Picture:
    return from_array(np.ascontiguousarray(bgr[:, :, ::-1]))


def bgr_of(result: Picture) -> np.ndarray:
    return result.pixels[:, :, ::-1]


SIZES = pytest.mark.parametrize("size", [(S, S), (96, 80), (40, 56), (200, 64)])


@SIZES
def test_colours(official: Official, ours: Any, recipe: ModuleType, size: tuple[int, int]) -> None:
    bgr = drawn(recipe, *size)
    assert np.abs(bgr_of(colorize(picture(bgr), ours, official=True)) - official.colorized(bgr)).max() <= 1e-5


@SIZES
@pytest.mark.parametrize("given", [True, False])
def test_holes(official: Official, ours: Any, recipe: ModuleType, size: tuple[int, int], given: bool) -> None:
    bgr, hole = drawn(recipe, *size), np.zeros(size, np.float32)
    hole[8:20, 10:30] = 1
    broken = np.where(hole[..., None] > 0, np.float32(1), bgr)
    wanted = cv2.resize(official.run(broken), size[::-1])
    result = inpaint(picture(bgr), ours, hole, official=True) if given else inpaint(picture(broken), ours, official=True)
    assert np.abs(bgr_of(result) - wanted).max() <= 1e-5


def test_a_segmentation(official: Official, ours: Any, recipe: ModuleType) -> None:
    bgr = drawn(recipe, S, S)
    assert np.abs(bgr_of(segmentation_to_face(picture(bgr), ours)) - official.run(bgr, normalised=False)).max() <= 1e-5


@pytest.mark.parametrize("task", ["colorize", "inpaint"])
def test_a_face_in_a_photograph(official: Official, ours: Any, recipe: ModuleType, task: Any) -> None:
    """The face's square is the network's picture, and all of it is pasted with the face's mask."""
    bgr, hole = drawn(recipe, 150, 170), np.zeros((150, 170), np.float32)
    hole[60:75, 50:90] = 1
    top, left = 30, 40
    inside = np.s_[top : top + S, left : left + S]
    if task == "colorize":
        made = official.colorized(bgr[inside])
    else:
        made = official.run(np.where(hole[..., None] > 0, np.float32(1), bgr)[inside])
    mask = landmark_mask(template_points("gpen", S), S)[..., None]
    wanted = bgr.copy()
    wanted[inside] = bgr[inside] * (1 - mask) + made * mask
    restorer = TaskRestorer(TaskOptions(task, official=True), network=ours)
    result = restorer(picture(bgr), hole=hole, faces=[face_at(left, top, S)])
    assert np.abs(bgr_of(result.image) - wanted).max() <= 1e-5


def test_the_switch_makes_a_difference(ours: Any, recipe: ModuleType) -> None:
    """At the network's own size the official code replaces all; otherwise luma stays, and what is in no hole."""
    same = picture(drawn(recipe, S, S))
    hole = np.zeros((S, S), np.float32)
    hole[8:20, 10:30] = 1
    weights = np.array([0.299, 0.587, 0.114])
    better, theirs = (np.abs((colorize(same, ours, official=official).pixels - same.pixels) @ weights).max() for official in (False, True))
    assert better < 1e-5 < 0.1 < theirs
    better, theirs = (
        np.abs(inpaint(same, ours, hole, official=official).pixels - same.pixels)[hole == 0].max() for official in (False, True)
    )
    assert better == 0 and theirs > 0.1
