"""The noise of a face in a video: what a sharp look at it changes by from one frame to the next, once its own motion is taken out.

In a single picture, noise on strongly textured skin looks like detail (`steps/detail`). Texture is there again in the next frame; noise
is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels
from ..steps.align import Matrix, invert, joined, scale_of, transform, warp
from ..steps.detail import AXES, Energies, bands_of, count_of, has_detail, local_energy
from ..steps.mask import Mask
from .looks import small_step

SIDE = 160  # pixels of the picture that are looked at, in the middle of the face
_EDGE = 8  # of them that another frame may not show
_SIGMA = 1.2  # less noise for following points
_EVERY = 10  # pixels between them
_MISFIT = 0.4  # pixels: a face whose points are farther from moving as a whole tells nothing
_FARTHEST = 12.0  # pixels: landmarks do not tremble more
# What the quietest tenth of the face changes by: the rest may have moved on its own, as a mouth does. Of that, half is this frame's noise.
# Texture that moved by part of a pixel is not quite itself: it changes by up to this share of its energy.
_QUIET = 10  # percent
_SHARE = 0.5
_RESAMPLED = 0.25
_FEWEST = 400  # pixels of a band that say something


@dataclass(frozen=True, eq=False)
class Sample:
    """A part of the picture in the middle of a face. pixels: (h, w, 3). matrix: (2, 3), from these to the network's input."""

    pixels: Pixels
    matrix: Matrix


def sample_of(picture: Pixels, matrix: Matrix, size: int) -> Sample | None:
    """The sample of a face; None if it is too small for detail. matrix: (2, 3), picture to the network's input of `size` pixels."""
    if not has_detail(1.0 / scale_of(matrix)):
        return None
    x, y = transform([[size / 2, size / 2]], invert(matrix))[0]
    left, top = (
        int(np.clip(round(middle - SIDE / 2), 0, max(0, most - SIDE))) for middle, most in ((x, picture.shape[1]), (y, picture.shape[0]))
    )
    part = picture[top : top + SIDE, left : left + SIDE].copy()
    if min(part.shape[:2]) < SIDE // 2:
        return None
    return Sample(part, np.column_stack([matrix[:, :2], matrix[:, :2] @ (left, top) + matrix[:, 2]]))


def noise_between(one: Sample, other: Sample) -> list[Energies] | None:
    """The energy of noise in each band of detail (finest first), from the same face in two frames; None if it cannot be told."""
    step = _step(one, other)
    if step is None:
        return None
    height, width = one.pixels.shape[:2]
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(other.pixels, step, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
    there = _shown(step, other.pixels.shape, (height, width))
    shown, changed = (_quiet(_lacked(pixels, one.matrix), there, one.matrix) for pixels in (one.pixels, cast(Pixels, one.pixels - moved)))
    share, less = np.float32(_SHARE), np.float32(_RESAMPLED)
    return [share * np.maximum(np.float32(0), b - less * a) for a, b in zip(shown, changed, strict=True)] or None


def least(one: Sequence[Energies] | None, other: Sequence[Energies] | None) -> Sequence[Energies] | None:
    """The smaller of two noises: what moved in one direction of time alone is no noise."""
    if one is None or other is None:
        return one or other
    return [np.minimum(a, b) for a, b in zip(one, other, strict=False)]


def _lacked(pixels: Pixels, matrix: Matrix) -> Pixels:
    """What the network's input lacks of a part of the picture, as in detail_of_face()."""
    height, width = pixels.shape[:2]
    corners = transform([[0, 0], [width, 0], [0, height], [width, height]], matrix)
    low = np.floor(corners.min(axis=0))  # the network's own pixels
    across, down = (int(side) + 2 for side in np.ceil(corners.max(axis=0) - low))
    matrix = np.column_stack([matrix[:, :2], matrix[:, 2] - low])
    seen = warp(pixels, matrix, (down, across), border="reflect")
    return cast(Pixels, cv2.transform(pixels - warp(seen, invert(matrix), (height, width), border="replicate"), AXES))


def _quiet(residual: Pixels, there: Mask, matrix: Matrix) -> list[Energies]:
    """The energy of the quietest tenth in each band that has enough pixels."""
    bands, masks = bands_of(residual, there, count_of(1.0 / scale_of(matrix)))
    inside = [local_energy(band)[mask > 0.99] for band, mask in zip(bands, masks, strict=True)]
    return [np.percentile(energy, _QUIET, axis=0).astype(np.float32) for energy in inside if len(energy) >= _FEWEST]


def _step(one: Sample, other: Sample) -> Matrix | None:
    """How the face moved, from sample to sample."""
    expected = joined(invert(other.matrix), one.matrix)
    height, width = one.pixels.shape[:2]
    near = cv2.warpAffine(
        other.pixels, expected, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    y, x = np.mgrid[2 * _EDGE : height - 2 * _EDGE : _EVERY, 2 * _EDGE : width - 2 * _EDGE : _EVERY]
    points = np.stack([x, y], axis=-1).reshape(-1, 1, 2).astype(np.float32)
    step = small_step(_soft(one.pixels), _soft(cast(Pixels, near)), points, _FARTHEST)
    return None if step is None or step[1] > _MISFIT else joined(expected, step[0])


def _soft(pixels: Pixels) -> NDArray[np.uint8]:
    soft = cast(Pixels, cv2.GaussianBlur(pixels, (0, 0), _SIGMA))
    return np.rint(np.clip(soft.mean(axis=2), 0.0, 1.0) * 255).astype(np.uint8)


def _shown(step: Matrix, shape: Sequence[int], size: tuple[int, int]) -> Mask:
    """(h, w), 1 where the other sample has pixels well inside."""
    inside = np.zeros(shape[:2], np.float32)
    inside[_EDGE:-_EDGE, _EDGE:-_EDGE] = 1.0
    there = cv2.warpAffine(inside, step, size[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    there[:_EDGE], there[-_EDGE:], there[:, :_EDGE], there[:, -_EDGE:] = 0.0, 0.0, 0.0, 0.0
    return cast(Mask, there)
