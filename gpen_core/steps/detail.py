"""Adding the picture's own fine detail, which the network cannot draw, to the restored face.

A network of S pixels restores a face at S pixels. If the face is larger in the picture, the restored face is enlarged and pasted
over finer detail than it contains. That detail therefore comes from the picture: the residual, which is what the picture shows beyond the
network's input, minus damage. For a sharp face that the network leaves unchanged, the result is the picture itself.

Three properties reveal damage in the residual. Noise has about the same energy all over a face (`noise`). JPEG leaves a grid of 8 pixels.
And where the network changed more than the residual holds (it removed noise or moved an edge), the residual belongs to what it removed.
Each frequency band is then weighted locally by the share of its energy that exceeds the damage (a Wiener filter).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from ..pixels import Pixels
from .align import Matrix, crop_face, invert, rescale_matrix, scale_of, warp
from .mask import Mask
from .noise import WINDOW, Energies, even_noise, lost_noise, measurable, pattern_of, uneven_noise
from .paste import reach

# Luma and two colour differences (JPEG's axes, ITU-R BT.601), because noise and JPEG affect colour and lightness differently.
AXES = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_RGB = np.linalg.inv(AXES).astype(np.float32)

_SURE = 3.0  # energies up to this many times the noise energy count as noise

# Clean pictures have steps between blocks of up to _NO_STEP (of 0..1). Above it, JPEG's noise is as large as the step, and 0.7 times as
# large in every coarser band (measured on JPEG files of quality 92 to 15).
_GRID = 8
_NO_STEP = 0.38 / 255
_STEP_FALLS = 0.7
_CHANGED = 0.8  # weight of the network's change against the residual's energy

# Picture pixels per network pixel: below the first value the face is all new, from the second on all detail is kept.
_ALL_NEW, _ALL_KEPT = 0.4, 0.65


def detail_of_face(
    picture: Pixels,
    crop: Pixels,
    restored: Pixels,
    mask: Mask,
    matrix: Matrix,
    amount: float,
    shape: Sequence[int] | None = None,
    noise: Sequence[Energies] = (),
) -> Pixels | None:
    """The detail that a restored face lacks, for Compositor.add(); None if there is none to keep.

    picture: the original, (H, W, 3) float32 RGB 0..1. crop: the network's input, restored: its output, (S, S, 3).
    mask: (S, S), where the face is pasted. matrix: (2, 3), picture to crop. amount: 0..1, the setting `detail`. shape: (height, width, ...)
    of the enlarged picture into which the face is pasted, if it differs from the picture. noise: see kept_detail(). Returns (h, w, 3)
    float32, around 0, for the rectangle that the mask reaches there. Raises SettingsError for an amount out of range.
    """
    _check(amount)
    box = reach(mask, matrix, picture.shape)
    if amount == 0.0 or box.right - box.left < 2 or box.bottom - box.top < 2:
        return None
    to_box = invert(matrix)
    to_box[:, 2] -= (box.left, box.top)
    size = (box.bottom - box.top, box.right - box.left)
    # Warp back exactly as the face will be: the residual then includes what that loses.
    seen, face = (warp(square, to_box, size, border="replicate") for square in (crop, restored))
    where = warp(mask, to_box, size, border="constant")
    part = picture[box.top : box.bottom, box.left : box.right]
    scale, to_crop = scale_of(to_box), invert(to_box)
    lost = lost_noise(size, scale, lambda x: warp(crop_face(x, to_crop, crop.shape[0]), to_box, size, border="replicate"))
    kept = kept_detail(part, seen, face, where, scale, amount, noise, lost)
    if kept is None or shape is None or tuple(shape[:2]) == picture.shape[:2]:
        return kept
    # Measure damage before enlarging, which changes noise. Pixel edges keep their place, as in a resized picture.
    large = reach(mask, rescale_matrix(matrix, picture.shape, shape), shape)
    sx, sy = shape[1] / picture.shape[1], shape[0] / picture.shape[0]
    dx, dy = (box.left + 0.5) * sx - 0.5 - large.left, (box.top + 0.5) * sy - 0.5 - large.top
    enlarge = np.array([[sx, 0.0, dx], [0.0, sy, dy]])
    room = (large.right - large.left, large.bottom - large.top)
    return cast(Pixels, cv2.warpAffine(kept, enlarge, room, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT))


def kept_detail(
    picture: Pixels,
    seen: Pixels,
    restored: Pixels,
    mask: Mask,
    size: float,
    amount: float,
    noise: Sequence[Energies] = (),
    lost: Pixels | None = None,
) -> Pixels | None:
    """Detail to add to a restored face, (h, w, 3) float32 around 0; None if there is none to keep.

    picture, seen, restored: (h, w, 3) float32 RGB 0..1, in one frame: the picture, the network's input and its output.
    mask: (h, w), the face, where damage is measured. size: pixels of the picture per pixel of the network.
    amount: 0..1. noise: the least energy of noise in each band (finest first; a frame of a video knows it from those beside it).
    lost: see lost_noise().
    Raises SettingsError for an amount out of range.
    """
    _check(amount)
    amount *= float(np.clip((size - _ALL_NEW) / (_ALL_KEPT - _ALL_NEW), 0.0, 1.0))
    if amount == 0.0:
        return None
    size = max(1.0, size)
    residual = cast(Pixels, cv2.transform(picture - seen, AXES))
    luma = cast(Pixels, cv2.transform(picture, AXES[:1]))
    step = max(0.0, step_between_blocks(luma) - _NO_STEP)
    bands, masks = bands_of(residual, mask if lost is None else measurable(luma, mask), count_of(size))
    patterns = [] if lost is None else [pattern_of(band) for band in bands_of(lost, mask, count_of(size))[0]]
    kept: Pixels | None = None
    for level in reversed(range(len(bands))):
        band = bands[level]
        energy = local_energy(band)
        known = noise[level] if level < len(noise) else np.float32(0)
        found = uneven_noise(energy, masks[level], patterns[level]) if patterns else even_noise(energy, masks[level])
        damage = np.maximum(found, known) + np.float32((step * _STEP_FALLS**level) ** 2)
        band *= np.clip(1.0 - _SURE * damage / (energy + np.float32(1e-12)), 0.0, 1.0)
        kept = band if kept is None else band + _enlarged(kept, band.shape)
    weight = amount * _unchanged(residual[..., 0], cv2.transform(seen - restored, AXES[:1]), 2.0 * size)
    return cast(Pixels, cv2.transform(cast(Pixels, kept) * weight[..., None], _RGB))


def _check(amount: float) -> None:
    if not 0.0 <= amount <= 1.0:
        raise SettingsError(f"Detail must be between 0 and 1, not {amount}.")


def has_detail(size: float) -> bool:
    """Whether a face of so many pixels of the picture per pixel of the network keeps any of its own detail."""
    return size > _ALL_NEW


def count_of(size: float) -> int:
    """How many bands hold detail that the network cannot draw. size: as in kept_detail()."""
    return max(1, int(np.ceil(np.log2(max(1.0, size)) - 0.01)))


def local_energy(band: Pixels) -> Pixels:
    """(h, w, 3): the energy of a band around each place."""
    return cast(Pixels, cv2.GaussianBlur(band * band, (0, 0), WINDOW))


def bands_of(residual: Pixels, mask: Mask, count: int) -> tuple[list[Pixels], list[Mask]]:
    """A Laplacian pyramid (Burt and Adelson 1983) of `count` bands and the remainder, finest first, and the mask at each size."""
    bands: list[Pixels] = []
    masks = [mask]
    for _ in range(count):
        if min(residual.shape[:2]) < 4:
            break
        smaller = cast(Pixels, cv2.pyrDown(residual))
        bands.append(residual - _enlarged(smaller, residual.shape))
        residual = smaller
        masks.append(cast(Mask, cv2.pyrDown(masks[-1])))
    return [*bands, residual], masks


def _enlarged(band: Pixels, shape: tuple[int, ...]) -> Pixels:
    return cast(Pixels, cv2.pyrUp(band, dstsize=(shape[1], shape[0])))


def step_between_blocks(luma: Pixels) -> float:
    """How much larger the step between JPEG blocks is than between other neighbours, in levels of 0..1; about 0 without JPEG.

    The blocks may begin anywhere. Both directions must show the step, because stripes show it in one.
    """
    if min(luma.shape) < 4 * _GRID:
        return 0.0
    return min(_step_between_columns(luma), _step_between_columns(luma.T))


def _step_between_columns(luma: Pixels) -> float:
    change = np.abs(luma[:, 1:] - luma[:, :-1])
    column = (change[:, 1:-1] - np.float32(0.5) * (change[:, :-2] + change[:, 2:])).mean(axis=0)
    phases = sorted(float(column[start::_GRID].mean()) for start in range(_GRID))
    return phases[-1] - float(np.median(phases[:-1]))


def _unchanged(residual: NDArray[Any], change: NDArray[Any], sigma: float) -> Mask:
    """(h, w), 0..1: near 1 where the network changed little next to the residual's energy, near 0 where it changed far more."""
    change = change - cv2.GaussianBlur(change, (0, 0), sigma)
    changed, held = (cv2.GaussianBlur(x * x, (0, 0), sigma) for x in (change, residual))
    return cast(Mask, held / (held + np.float32(_CHANGED) * changed + np.float32(1e-12)))
