"""How much noise a band of a face's detail has, from the picture alone.

Noise has about the same energy all over a face; skin, hair and lashes do not. So if the quietest places have almost the energy of
ordinary ones, that is noise. Colours tell it too: faces have little fine detail in colour, and noise as much of it as in lightness (but
not film grain, and JPEG takes it away).

Where a pixel of the picture is about as large as the network's, noise is not even in what the network's input lacks: interpolation loses
most of it halfway between two pixels and nothing on a pixel. That pattern comes from the two grids alone, so made noise shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels
from .mask import Mask

Energies = NDArray[np.float32]  # (3,), of luma and the two colour differences

WINDOW = 2.0  # sigma of the window in which energies are measured, in pixels of the band
_SAMPLES = 40_000  # pixels of a face that are enough for its percentiles

# Energy of a face's quietest tenth relative to its median: 0.28 to 0.52 in the residuals of 29 sharp portraits, 0.7 in white noise.
# Anything above this share counts as noise.
_QUIET_SHARE = 0.52
_NOISE_GAIN = 1.5  # from the quietest tenth to the mean energy of noise in such a window

_UNEVEN_BELOW = 1.3  # pixels of the picture per pixel of the network; from there on the pattern is finer than the windows
# There, noise is looked for in two windows; the wider one sees what JPEG has thinned out. For each: the energy at the quietest 2 % of
# places over that at 35 %, the most in 40 clean portraits and the same in white noise; and in white noise the energy at 35 % over the mean.
# Anything above a clean portrait's share counts as noise (python -m benchmarks.grain).
_LOOKS = ((WINDOW, 0.46, 0.65, 0.875), (4.0, 0.55, 0.82, 0.95))
_QUIET, _ORDINARY = 2, 35  # percent
_FAINT = 0.2 / 255**2  # noise that nobody sees, which 8 bits and good cameras have
_SHARE = 0.57  # of that energy: more would cost detail, less would leave noise (detail._SURE times as much is taken away)
_CHANNELS = 2  # of the noise that shows the pattern, and the sigma in pixels by which its energy is smoothed
_SMOOTHED = 3.0
_TELLING = 0.3  # of the pattern's mean: where less is lost, what is seen is detail
_DARK, _BRIGHT = 0.06, 0.94  # beyond them noise is cut off


def lost_noise(shape: tuple[int, int], size: float, seen: Callable[[Pixels], Pixels]) -> Pixels | None:
    """(h, w, C): what the network's input lacks of noise of sigma 1 in a picture of (height, width); None if that is even.

    size: pixels of the picture per pixel of the network. seen: brings a picture into the network's size and back.
    """
    if size >= _UNEVEN_BELOW:
        return None
    signs = np.random.default_rng(0).integers(0, 2, (*shape, _CHANNELS), np.int8)  # the same at every call
    noise = 2.0 * signs.astype(np.float32) - np.float32(1)
    return noise - seen(noise)


def pattern_of(lost: Pixels) -> Mask:
    """(h, w): the energy of a band of lost_noise() around each place."""
    return cast(Mask, cv2.GaussianBlur(np.square(lost).mean(axis=2), (0, 0), _SMOOTHED))


def measurable(luma: Pixels, mask: Mask) -> Mask:
    """The part of a mask in which noise can be measured: white and black have none, however noisy the picture."""
    level = cv2.GaussianBlur(luma, (0, 0), WINDOW)
    return cast(Mask, np.where((level > _DARK) & (level < _BRIGHT), mask, np.float32(0)))


def even_noise(energy: Pixels, mask: Mask) -> Energies:
    """The energy (3,) of noise spread over the whole face. energy: (h, w, 3), in windows of sigma WINDOW. mask: (h, w)."""
    thin = max(1, int((mask.size / _SAMPLES) ** 0.5))
    inside = energy[::thin, ::thin][mask[::thin, ::thin] > 0.5]
    if not len(inside):
        return np.zeros(3, np.float32)
    quiet, middle = np.percentile(inside, (10, 50), axis=0)
    noise = np.maximum(0.0, quiet - _QUIET_SHARE * middle) / (1.0 - _QUIET_SHARE)
    return (_NOISE_GAIN * noise).astype(np.float32)


def uneven_noise(energy: Pixels, mask: Mask, pattern: Mask) -> Pixels:
    """The energy (h, w, 3) of noise that has this pattern (see pattern_of()). energy, mask: as for even_noise(); luma and two colours."""
    thin = max(1, int((mask.size / _SAMPLES) ** 0.5))
    some = np.s_[::thin, ::thin]
    inside = mask[some] > 0.5
    inside &= pattern[some] > _TELLING * pattern[some][inside].mean() if inside.any() else False
    if not inside.any():
        return np.zeros_like(energy)
    found = np.zeros(3)
    for sigma, clean, noisy, mean in _LOOKS:
        seen = _widened(energy, sigma)[some][inside] / _widened(pattern, sigma)[some][inside][:, None]
        quiet, ordinary = np.percentile(seen, (_QUIET, _ORDINARY), axis=0)
        found = np.maximum(found, (quiet - clean * ordinary) / ((noisy - clean) * mean))
    found = np.maximum(0.0, found - _FAINT)
    found[0] = max(found[0], min(found[1], found[2]))
    return cast(Pixels, pattern[..., None] * (_SHARE * found).astype(np.float32))


def _widened(energy: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Energies in windows of WINDOW as they are in windows of sigma."""
    return cv2.GaussianBlur(energy, (0, 0), (sigma**2 - WINDOW**2) ** 0.5) if sigma > WINDOW else energy
