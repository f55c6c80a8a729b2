"""Keeping the original face's colour and coarse tone when its detail is replaced.

All pictures are float32 RGB (S, S, 3), 0..1, in the frame of the crop; inputs are not changed.
"""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from ..pixels import Pixels
from .mask import Mask

MAX_GAIN = 1.25  # match_colour never stretches or squeezes contrast by more than this
MAX_SHIFT = 0.25  # nor does it move a mean by more than this (of 0..1, along each opponent axis)
_LOW_PASS = 1.0 / 32.0  # keep_low_frequencies: the Gaussian's sigma as a share of the side (16 pixels at 512)

_MEASURED_AT = 64  # coarse, because restored detail must not count as contrast
_SMOOTHED_AT = 256

# Lightness, red-green, yellow-blue: orthonormal axes, so the inverse is the transpose and, unlike in Lab, no value is clipped
# (Reinhard et al., Color Transfer between Images, 2001, choose such axes for the same reason).
_OPPONENT = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[3.0], [2.0], [6.0]])


def match_colour(restored: Pixels, original: Pixels, mask: Mask) -> Pixels:
    """Gives the restored face the original face's mean and spread of lightness and colour.

    restored, original: (S, S, 3). mask: (S, S), 0..1: where to measure (exclude what lies beyond the picture with
    mask.clip_to_picture). Both are measured at 64x64, so that neither noise nor restored detail counts; the gain per axis stays
    within 1/MAX_GAIN..MAX_GAIN and the shift within MAX_SHIFT. Returns (S, S, 3), 0..1. An empty mask changes nothing.
    """
    size = (_MEASURED_AT, _MEASURED_AT)
    ours, kept, weight = (cast(Any, cv2.resize(each, size, interpolation=cv2.INTER_AREA)) for each in (restored, original, mask))
    if float(weight.sum()) < 1e-3:
        return restored.copy()
    return _limited(cv2.transform(restored, colour_map(ours, kept, weight)))


def colour_map(ours: Pixels, kept: Pixels, weight: Mask) -> NDArray[np.float32]:
    """The affine map of RGB (3, 4) that gives `ours` (H, W, 3) the mean and spread of `kept`; weight: (H, W), not all 0."""
    shares = weight.astype(np.float64).ravel() / float(weight.sum(dtype=np.float64))
    ours_mean, ours_std = _statistics(ours, shares)
    kept_mean, kept_std = _statistics(kept, shares)
    # The small constant (half an 8-bit level) keeps the gain of a flat face, whose spread is noise, at 1.
    gain = np.clip((kept_std + 0.002) / (ours_std + 0.002), 1.0 / MAX_GAIN, MAX_GAIN)
    shift = np.clip(kept_mean - ours_mean, -MAX_SHIFT, MAX_SHIFT)
    # out = mean + shift + gain * (x - mean) along each axis is one affine map of RGB.
    linear = _OPPONENT.T @ (gain[:, None] * _OPPONENT)
    offset = _OPPONENT.T @ (ours_mean + shift - gain * ours_mean)
    return np.column_stack([linear, offset]).astype(np.float32)


def keep_low_frequencies(restored: Pixels, original: Pixels, amount: float) -> Pixels:
    """ "Fidelity": puts the restored face's detail on the original face's coarse structure and tone.

    out = restored + amount * (lowpass(original) - lowpass(restored)), clipped to 0..1. restored, original: (S, S, 3). amount: 0 (the
    restored face, exactly) to 1. Raises SettingsError for an amount out of range.
    """
    if not 0.0 <= amount <= 1.0:
        raise SettingsError(f"Fidelity must be between 0 and 1, not {amount}.")
    if amount == 0.0:
        return restored.copy()
    height, width = restored.shape[:2]
    # The low-pass filter is linear, so one blur of the difference is enough. Shrinking first makes so wide a blur cheap.
    difference = original - restored
    step = max(1, round(max(height, width) / _SMOOTHED_AT))
    small = (max(1, width // step), max(1, height // step))
    if step > 1:
        difference = cast(Pixels, cv2.resize(difference, small, interpolation=cv2.INTER_AREA))
    difference = cast(Pixels, cv2.GaussianBlur(difference, (0, 0), _LOW_PASS * max(small)))
    if step > 1:
        difference = cast(Pixels, cv2.resize(difference, (width, height), interpolation=cv2.INTER_LINEAR))
    return _limited(restored + np.float32(amount) * difference)


def _limited(picture: NDArray[Any]) -> Pixels:
    return np.clip(picture, 0.0, 1.0).astype(np.float32, copy=False)


def _statistics(picture: Pixels, weight: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted mean and standard deviation (3,) along the opponent axes; weights (n,) sum to 1."""
    values = picture.reshape(-1, 3).astype(np.float64) @ _OPPONENT.T
    mean = weight @ values
    return mean, np.sqrt(weight @ (values - mean) ** 2)
