"""How pictures in a row look: whether they are of different scenes, whether two faces are one, and how one moved into the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..faces.face import Face
from ..pixels import Pixels
from ..steps.align import AlignmentError, Matrix, crop_face, invert, joined, similarity, template_points, transform
from ..steps.mask import landmark_mask

SIDE = 96  # of a look, pixels
_SIGMA = 1.0  # less noise; what an eye or a mouth shows stays
_EVERY = 6  # pixels between the points that are followed
_FEWEST = 12  # of them that say something
_LARGEST_STEP = 12.0  # pixels of the look: landmarks do not tremble more
# Pictures are compared as 16 x 16 means: a mean difference above the first is a cut, above the second with other colours too.
_COARSE = 16
_OTHER_PICTURE, _OTHER_PLACE = 0.16, 0.07
_OTHER_COLOURS = 0.3  # share of pixels whose colour the other picture does not have


@dataclass(frozen=True, eq=False)
class Scene:
    """What of a picture is_cut() compares: (16, 16, 3) means, and how often each of 64 colours occurs."""

    means: Pixels
    colours: NDArray[np.float64]


def scene_of(pixels: Pixels) -> Scene:
    """pixels: (H, W, 3) float32 RGB 0..1."""
    step = max(1, min(pixels.shape[:2]) // 128)  # a sample is enough
    small = np.clip(cast(Pixels, cv2.resize(pixels[::step, ::step], (64, 64), interpolation=cv2.INTER_AREA)), 0.0, 1.0)
    levels = np.minimum(3, (small * 4).astype(np.int64)) @ np.array([16, 4, 1])
    means = cast(Pixels, cv2.resize(small, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA))
    return Scene(means, np.bincount(levels.ravel(), minlength=64) / levels.size)


def is_cut(one: Scene, other: Scene) -> bool:
    """Whether two pictures in a row are of different scenes."""
    apart = float(np.abs(one.means - other.means).mean())
    colours = 0.5 * float(np.abs(one.colours - other.colours).sum())
    return apart > _OTHER_PICTURE or (apart > _OTHER_PLACE and colours > _OTHER_COLOURS)


@dataclass(frozen=True, eq=False)
class Look:
    """An aligned face. pixels: (96, 96) uint8 lightness. matrix: (2, 3), picture to look."""

    pixels: NDArray[np.uint8]
    matrix: Matrix


def look_of(face: Face, pixels: Pixels) -> Look | None:
    """The face's look in a picture; None for landmarks that no head has."""
    try:
        matrix = similarity(face.landmarks, template_points("gpen", SIDE))
    except AlignmentError:
        return None
    soft = cast(Pixels, cv2.GaussianBlur(crop_face(pixels, matrix, SIDE), (0, 0), _SIGMA))
    return Look(np.rint(np.clip(soft.mean(axis=2), 0.0, 1.0) * 255).astype(np.uint8), matrix)


def alike(one: Look | None, other: Look | None) -> float:
    """Correlation of the lightness of two faces, -1..1."""
    if one is None or other is None:
        return 0.0
    a, b = ((look.pixels - float((look.pixels * _FACE).sum() / _FACE.sum())) * _FACE for look in (one, other))
    size = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def step_between(one: Look, other: Look) -> Matrix:
    """How the face moved from one picture into the other: (2, 3), from picture to picture.

    Points all over the face are followed (Lucas and Kanade, 1981) from look to look, which differ only by how landmarks tremble; the
    similarity is what most of them agree on. Where they do not agree, the landmarks say how it moved.
    """
    back = invert(other.matrix)
    step = small_step(one.pixels, other.pixels, _POINTS, _LARGEST_STEP)
    return joined(back, one.matrix if step is None else joined(step[0], one.matrix))


def small_step(
    one: NDArray[np.uint8], other: NDArray[np.uint8], points: NDArray[np.float32], largest: float
) -> tuple[Matrix, float] | None:
    """The similarity that most of the points (N, 1, 2) of one picture agree on to lead to the other, and how far they are from it (median);
    None if too few do."""
    found, status, _ = cv2.calcOpticalFlowPyrLK(one, other, points, cast(Any, None), winSize=(15, 15), maxLevel=2)
    good = (status.ravel() == 1) & (np.abs(found - points).max(axis=(1, 2)) < largest)
    every = [x[good, 0].astype(np.float64) for x in (points, found)]
    a, b = every
    for _ in range(3):
        if len(a) < _FEWEST:
            return None
        away = _away(_fitted(a, b), a, b)
        near = away <= max(0.1, 2.0 * float(np.median(away)))
        if near.all():
            break
        a, b = a[near], b[near]
    matrix = _fitted(a, b)
    return matrix, float(np.median(_away(matrix, *every)))


def _away(matrix: Matrix, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(transform(a, matrix) - b, axis=1)


def _fitted(a: NDArray[np.float64], b: NDArray[np.float64]) -> Matrix:
    """The similarity from a to b by least squares."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a, b = a - mean_a, b - mean_b
    power = max(float(np.square(a).sum()), 1e-9)
    c, s = float((a * b).sum()) / power, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / power
    linear = np.array([[c, -s], [s, c]])
    return np.column_stack([linear, mean_b - linear @ mean_a])


def _grid(inside: Sequence[Sequence[bool]]) -> NDArray[np.float32]:
    places = [(x, y) for y in range(_EVERY, SIDE, _EVERY) for x in range(_EVERY, SIDE, _EVERY) if inside[y][x]]
    return np.array(places, np.float32).reshape(-1, 1, 2)


_FACE = landmark_mask(template_points("gpen", SIDE), SIDE)
_POINTS = _grid((_FACE > 0.3).tolist())
