"""Steadying a restored face by the same face in the frames before and after it, in its own aligned square.

A bilateral filter over time (Tomasi and Manduchi, ICCV 1998): the mean of the restored faces, in which a pixel of another frame counts the
less the more the face itself (the network's input, seen coarsely) changed there. A mouth that opens keeps its own frame; skin that stays
the same loses what the network made anew in every frame. Frames of both directions count alike, so nothing trails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels

REACH = 4  # frames on either side
_SPREAD = 2.5  # sigma of the weights over time, in frames

# Inputs are compared in this size and blurred: noise of 12 grey levels is then below 1, and an eye that closes is above 15.
_COARSE = 96
_SIGMA = 1.5
_ALIKE = 4.0 / 255.0  # a change of this size weighs exp(-1/2)
# Of small or very noisy faces more of the noise is left: what the quietest part of the face changes by is that. But not more than this.
_QUIET, _ABOVE_QUIET = 30, 2.5  # percent of the face, and what all of it has more
_NOISIEST = 10.0 / 255.0


@dataclass(frozen=True, eq=False)
class Neighbour:
    """The same face in another frame. away: how many frames; made, guide: as in steadied()."""

    away: int
    made: Pixels
    guide: Pixels


def guide_of(crop: Pixels) -> Pixels:
    """What tells whether a face changed: the network's input (S, S, 3), small and soft."""
    side = min(_COARSE, crop.shape[0])
    small = crop if side == crop.shape[0] else cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return cast(Pixels, cv2.GaussianBlur(small, (0, 0), _SIGMA * side / _COARSE))


def steadied(made: Pixels, guide: Pixels, neighbours: Sequence[Neighbour], strength: float) -> Pixels:
    """The face with what its neighbours agree on.

    made: (S, S, 3) float32, the restored face; not changed. guide: guide_of() its input. strength: 0 (`made` itself) to 1.
    """
    near = [one for one in neighbours if one.made.shape == made.shape]
    if not near or strength == 0:
        return made
    total = np.zeros_like(made)
    weights = np.ones(made.shape[:2], np.float32)
    for one in near:
        weight = _likeness(guide, one.guide, made.shape[0]) * np.float32(np.exp(-0.5 * (one.away / _SPREAD) ** 2))
        total += weight[..., None] * (one.made - made)
        weights += weight
    total *= (np.float32(strength) / weights)[..., None]
    total += made
    return total


def _likeness(guide: Pixels, other: Pixels, size: int) -> NDArray[np.float32]:
    """(size, size), 0..1: where two inputs show the same."""
    change = np.square(guide - other).mean(axis=2)
    side = change.shape[0] // 4
    noise = _ABOVE_QUIET * float(np.percentile(change[side:-side, side:-side] if side else change, _QUIET))
    alike = np.exp(change * np.float32(-0.5 / min(max(noise, _ALIKE**2), _NOISIEST**2)))
    return cast("NDArray[np.float32]", cv2.resize(alike, (size, size), interpolation=cv2.INTER_LINEAR))
