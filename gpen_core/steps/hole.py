"""Holes in faces: finding white ones, filling them without a seam, and covering them so that a detector sees a face."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels
from .mask import Mask

WHITE = 0.98  # of every channel; JPEG does not keep white exactly
_WIDEST = 1 / 8  # of the face's side: how far a border reaches into a hole at feather 1
_DETECTED_AT = 1024  # long side of the copy in which holes are covered
_HIDDEN = 1e-3  # a pixel of a resized hole counts as hidden above this


def white_areas(pixels: Pixels) -> NDArray[np.bool_]:
    """Where a picture is white: (H, W)."""
    return pixels.min(axis=2) >= WHITE


def strokes(white: NDArray[np.bool_], side: float) -> NDArray[np.bool_]:
    """What of the white areas is painted: (H, W). side: of the face's crop, in pixels.

    Leaves out specks such as the light in an eye, and takes in the soft edge that a brush or JPEG leaves.
    """
    opened = cv2.morphologyEx(white.astype(np.uint8), cv2.MORPH_OPEN, _disc(max(3, round(side / 64))))
    grown = cv2.dilate(opened, _disc(2 * max(2, round(side / 256)) + 1))
    return cast("NDArray[Any]", grown) > 0


def away_from_the_border(areas: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The connected areas that do not touch the picture's border, as a white wall or sky does."""
    _, labels = cv2.connectedComponents(areas.astype(np.uint8))
    numbers = cast("NDArray[Any]", labels)
    at_border = np.unique(np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]]))
    return areas & ~np.isin(numbers, at_border)


def joined(made: Pixels, known: Pixels, hole: Mask, feather: float) -> Pixels:
    """A made face that continues what is around the hole, without a step at its border: (S, S, 3), 0..1.

    made, known: (S, S, 3); known is not looked at inside the hole. hole: (S, S), 0..1. feather: how far the border reaches into the
    hole, 0..1; 0: not at all. What is hidden never shows through, as it would if the two were blended.
    """
    width = feather * _WIDEST * made.shape[0]
    hidden = hole > _HIDDEN
    if width < 1 or not hidden.any() or hidden.all():
        return made
    seen = (~hidden).astype(np.float32)
    # The difference just outside the hole, continued into it (normalised convolution), and faded out.
    side = 2 * round(width) + 1
    weight = cast(Pixels, cv2.GaussianBlur(seen, (side, side), width / 3))
    difference = cast(Pixels, cv2.GaussianBlur((known - made) * seen[..., None], (side, side), width / 3))
    distance = cast(Pixels, cv2.distanceTransform(hidden.astype(np.uint8), cv2.DIST_L2, 5)) / np.float32(width)
    t = np.clip(1 - distance, 0, 1)
    amount = t * t * (3 - 2 * t) / np.maximum(weight, 1e-4)
    return np.clip(made + difference * amount[..., None], 0, 1).astype(np.float32)


def covered(pixels: Pixels, hole: NDArray[Any]) -> Pixels:
    """The picture with its surroundings drawn over the holes, coarsely, so that a detector finds a face under them: (H, W, 3).

    hole: (H, W), above 0 where to draw.
    """
    height, width = pixels.shape[:2]
    shrink = min(1.0, _DETECTED_AT / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    hidden = (hole > 0).astype(np.float32)
    small = cast(Pixels, cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)) if shrink < 1 else pixels
    small_hole = cast(Pixels, cv2.resize(hidden, size, interpolation=cv2.INTER_AREA)) if shrink < 1 else hidden
    eight_bits = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    drawn = cv2.inpaint(eight_bits, (small_hole > _HIDDEN).astype(np.uint8), 5, cv2.INPAINT_TELEA)
    drawn = cast(Pixels, cv2.resize(drawn, (width, height), interpolation=cv2.INTER_LINEAR)).astype(np.float32) / 255
    return np.where(hidden[..., None] > 0, drawn, pixels)


def _disc(side: int) -> NDArray[Any]:
    return cast("NDArray[Any]", cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
