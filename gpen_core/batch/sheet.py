"""The before/after sheet: two pictures side by side."""

from __future__ import annotations

import cv2
import numpy as np

from ..pictures import Picture, from_array
from ..pixels import Pixels

GAP = 8  # white pixels between the two pictures
MAX_SIDE = 8000  # pixels of one half, so that every format and viewer can handle the sheet


def before_after(before: Picture, after: Picture) -> Picture:
    """Puts `before` on the left, resized to the size of `after`, and `after` on the right. 8 bits, without alpha."""
    shrink = min(1.0, MAX_SIDE / max(after.width, after.height))
    size = (max(1, round(after.width * shrink)), max(1, round(after.height * shrink)))
    white = np.ones((size[1], GAP, 3), np.float32)
    sheet: Pixels = np.concatenate([_fitted(before.pixels, size), white, _fitted(after.pixels, size)], axis=1)
    return eight_bits(sheet)


def eight_bits(pixels: Pixels) -> Picture:
    """Makes an 8-bit Picture from float (H, W, 3) pixels in 0..1."""
    limited: Pixels = np.minimum(np.maximum(pixels, 0), 1)
    return from_array(np.rint(limited * 255).astype(np.uint8))


def _fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resizes pixels to (width, height)."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    way = cv2.INTER_AREA if size[0] < pixels.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=way), np.float32)
