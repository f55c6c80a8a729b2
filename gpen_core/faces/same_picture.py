"""Telling whether faces belong to a picture: a small print of the picture travels with them."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from ..pixels import Pixels

_SIDE = 64
_COARSE = 2.0  # sigma of what is taken away: prints hold edges, which all portraits with a face in the middle do not share
# Measured on 180 portraits, aligned ones among them: two people at most 0.60; blurred, noisy, tinted, brighter without much clipping at
# least 0.75. Strong clipping, which takes edges away, 0.64 at worst: such a picture may be told for another one.
_ALIKE = 0.7
_BLANK = 1e-4  # what rounding leaves of an even ground


def picture_print(pixels: Pixels) -> Pixels:
    """What the picture looks like from far off, (64, 64) float32, the same for it edited: brighter, sharper, restored.

    pixels: float32 (H, W, 3).
    """
    grey = cast(Pixels, cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)).mean(axis=2, dtype=np.float32)
    return grey - cast(Pixels, cv2.GaussianBlur(grey, (0, 0), _COARSE))


def same_picture(one: Pixels, other: Pixels) -> bool:
    """Whether two prints are those of one picture, however it was edited. A blank picture is the same as another blank one only."""
    a, b = (value.astype(np.float64) for value in (one, other))
    lengths = [float(np.sqrt((value * value).sum())) for value in (a, b)]
    if min(lengths) < _BLANK:
        return max(lengths) < _BLANK
    return float((a * b).sum()) >= _ALIKE * lengths[0] * lengths[1]
