"""Pasting restored faces into the picture, each within its rectangle.

The rule is the official one (GPEN `FaceEnhancement.process`, described in docs/gpen.md): where a face's mask exceeds the mask so
far, its pixels and mask win; ties keep the earlier face; the picture is base * (1 - mask) + faces * mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GpenError, SettingsError
from ..pixels import Pixels
from .align import invert, scale_of, transform, warp
from .mask import Mask

_INVALID = "The restored face contains invalid values (NaN); it was not pasted."
_ROWS = 64  # pasted at once: intermediate values then stay in the CPU's cache


class Rectangle(NamedTuple):
    """A rectangle of the picture in pixels: left and top included, right and bottom not. Empty when right <= left."""

    left: int
    top: int
    right: int
    bottom: int


class Compositor:
    """A picture into which faces are pasted one after the other.

    picture: (H, W, 3) float32 RGB, 0..1; never changed. Holds one copy of it and one (H, W) mask; the work per face grows
    with the face's area in the picture, not with the picture.
    """

    def __init__(self, picture: Pixels) -> None:
        self._base = picture
        self._picture = picture.copy()
        self._mask = np.zeros(picture.shape[:2], np.float32)
        self._areas: list[tuple[slice, slice]] = []

    def add(
        self,
        restored: Pixels,
        mask: Mask,
        matrix: ArrayLike,
        *,
        strength: float = 1.0,
        detail: Pixels | None = None,
    ) -> Rectangle:
        """Pastes one face. Returns the rectangle that may have changed (empty for a face outside the picture or an empty mask).

        restored: (S, S, 3) float32 RGB, 0..1. mask: (S, S) float32, 0..1. matrix: (2, 3), picture to crop, as used for cropping.
        strength: 0 leaves the picture bit-identical, 1 is the restored face; it fades the face and not its mask, so it does not decide
        which of two overlapping faces wins. detail: (h, w, 3) float32, added to the face, for exactly the rectangle that
        reach() returns (gpen_core/steps/detail.py).
        Raises SettingsError for a strength out of range, GpenError if the face contains invalid values (NaN).
        """
        if not 0.0 <= strength <= 1.0:
            raise SettingsError(f"Strength must be between 0 and 1, not {strength}.")
        if restored.shape[:2] != mask.shape:
            raise ValueError(f"Face {restored.shape} and mask {mask.shape} differ in size.")
        if not (np.isfinite(restored).all() and np.isfinite(mask).all()):
            raise GpenError(_INVALID)
        back = invert(matrix)
        box = reach(mask, matrix, self._base.shape)
        if box.right <= box.left or box.bottom <= box.top:
            return Rectangle(0, 0, 0, 0)
        # Crop to rectangle: the inverse transform, counted from the rectangle's corner.
        to_box = back.copy()
        to_box[:, 2] -= (box.left, box.top)
        shape = (box.bottom - box.top, box.right - box.left)
        # The face continues beyond its crop (replicate), the mask ends there: no dark rim can bleed in.
        face = warp(restored, to_box, shape, border="replicate")
        weight = warp(mask, to_box, shape, border="constant")
        if detail is not None:
            face = np.clip(face + detail, 0.0, 1.0)
        # The last moment: a sum over all is quicker than a look at each, and also not finite if one of them is not.
        if not (np.isfinite(face.sum()) and np.isfinite(weight.sum())):
            raise GpenError(_INVALID)

        for start in range(0, shape[0], _ROWS):
            rows = np.s_[box.top + start : min(box.top + start + _ROWS, box.bottom), box.left : box.right]
            self._blend(rows, face[start : start + _ROWS], weight[start : start + _ROWS], np.float32(strength))
        self._areas.append(np.s_[box.top : box.bottom, box.left : box.right])
        return box

    def _blend(self, area: tuple[slice, slice], face: Pixels, weight: Mask, strength: np.float32) -> None:
        """Blends rows of a face, (h, w, 3), and of its mask, (h, w), into an area of the picture."""
        wins = weight > self._mask[area]
        np.copyto(self._mask[area], weight, where=wins)
        # Where this face wins, it replaces an earlier face: the blend starts from the base again, because the official code
        # keeps faces and base apart until the end. Elsewhere nothing is written, so those pixels stay bit-identical.
        base = self._base[area]
        blend = np.subtract(face, base)
        blend *= _three(weight * strength)
        blend += base
        np.copyto(self._picture[area], blend, where=_three(wins.view(np.uint8)).view(np.bool_))

    def result(self) -> tuple[Pixels, Mask]:
        """The picture with all faces so far, (H, W, 3), and their mask, (H, W), both float32, 0..1. Later add() calls change it."""
        # The prefilter rounds to a little above 1. Clipping earlier would change which of two faces wins.
        mask = np.zeros_like(self._mask)
        for area in self._areas:  # touching the memory of a whole large picture would take longer than all faces
            np.minimum(self._mask[area], np.float32(1), out=mask[area])
        return self._picture, mask


def reach(mask: Mask, matrix: ArrayLike, shape: Sequence[int]) -> Rectangle:
    """The part of a picture of shape (height, width, ...) that the mask can reach. matrix: (2, 3), picture to crop."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return Rectangle(0, 0, 0, 0)
    left, right, top, bottom = columns[0] - 1, columns[-1] + 1, rows[0] - 1, rows[-1] + 1
    corners = transform([[left, top], [right, top], [left, bottom], [right, bottom]], invert(matrix))
    # A shrinking warp's prefilter reaches about two picture pixels further.
    margin = 1.0 if scale_of(matrix) <= 1.0 else 3.0
    height, width = shape[:2]
    low = np.clip(np.floor(corners.min(axis=0) - margin), 0, (width, height))
    high = np.clip(np.ceil(corners.max(axis=0) + margin) + 1, 0, (width, height))
    return Rectangle(int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _three(plane: NDArray[Any]) -> NDArray[Any]:
    """(h, w) -> (h, w, 3): NumPy is several times faster on whole arrays than on one broadcast over the channels."""
    return cv2.merge([plane, plane, plane])
