"""A picture that is one aligned face: how it is brought to the network's size and back, and what the result says of it."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
import torch

from gpen_core import FaceRestorer, RestoreOptions, RestoreResult
from gpen_core.steps.align import template_points

SIDE = 64
OPTIONS = {"device": "cpu", "aligned": True, "detail": 0, "colour_match": False}


class Mirror(torch.nn.Module):
    """Returns its input, in a shade of its own, and keeps it."""

    size = SIDE

    def __init__(self, shade: float = 1.0) -> None:
        super().__init__()
        self.shade = torch.nn.Parameter(torch.tensor(shade))
        self.seen: list[np.ndarray] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += list((x * 0.5 + 0.5).permute(0, 2, 3, 1).numpy())
        return x * self.shade


def restore(picture: np.ndarray, network: Mirror | None = None, **options: object) -> tuple[RestoreResult, Mirror]:
    network = network or Mirror()
    return FaceRestorer(RestoreOptions(**{**OPTIONS, **options}), network=network)(picture), network


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def test_a_larger_face_is_averaged_not_sampled():
    fine = np.zeros((4 * SIDE, 4 * SIDE, 3), np.float32)
    fine[::2, ::2] = fine[1::2, 1::2] = 1
    result, network = restore(fine)
    np.testing.assert_allclose(network.seen[0], 0.5, atol=1e-3)
    np.testing.assert_allclose(result.image, 0.5, atol=1e-3)


def test_a_smaller_face_is_enlarged_as_the_official_code_does():
    face = noise(24, 24)
    _, network = restore(face)
    np.testing.assert_allclose(network.seen[0], cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(40, 32), (32, 40), (80, 100), (100, 80)])
def test_native_enlarges_until_the_longer_side_is_the_networks(height: int, width: int):
    result, _ = restore(noise(height, width), output_size="native")
    scale = max(1.0, SIDE / max(height, width))
    assert result.scale == scale
    assert result.image.shape[:2] == (round(height * scale), round(width * scale)) == result.mask.shape


def test_what_the_result_says():
    begun = time.perf_counter()
    result, network = restore(noise(80, 100), Mirror(0.5))
    passed = time.perf_counter() - begun
    assert 0 <= result.seconds <= passed
    (face,) = result.faces
    assert (face.index, face.status, face.face.box, face.face.score) == (0, "restored", (0, 0, 100, 80), 1)
    np.testing.assert_allclose(face.face.landmarks / (100, 80), template_points("gpen", 512) / 512, atol=1e-6)
    np.testing.assert_allclose(result.crops[0], network.seen[0], atol=1e-6)
    np.testing.assert_allclose(result.restored[0], result.crops[0] * 0.5 + 0.25, atol=1e-6)
    assert result.mask.min() == 1 and not result.stopped


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_strength_mixes_with_the_picture(strength: float):
    face = noise(SIDE, SIDE)
    result, _ = restore(face, Mirror(0.5), strength=strength)
    np.testing.assert_allclose(result.image, face + (face * 0.5 + 0.25 - face) * strength, atol=1e-6)
