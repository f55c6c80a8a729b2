"""Guards: leave alone the faces that need no restoration, and those that restoration would turn into something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GpenError
from ..pixels import Pixels
from .align import AlignmentError, crop_face, invert, scale_of, similarity, template_points, warp
from .detail import step_between_blocks
from .mask import Mask, landmark_mask
from .paste import reach
from .recognise import Recogniser, features, likeness

# (H, W, 3) float32 RGB 0..1 -> the landmarks (5, 2) of the largest face, in pixels, or None.
FindLandmarks = Callable[[Pixels], NDArray[np.float64] | None]
# Each pair: up to the first value not at all, from the second on entirely. Chosen on portraits kept out of training, where the ratio of the
# two finest bands was 0.60 to 1.03 in sharp ones and at most 0.46 after a blur of 2 pixels; benchmarks/quality.py shows what comes of them.
_BLURRED, _SHARP = 0.50, 0.60
# Noise: the quietest tenth of a face over its median, in lightness, and that tenth in grey levels, in lightness and in colour. A good
# camera's grain stays below: 1.8 and 0.9 in scikit-image's astronaut; noise of sigma 6 is at 2.6 and 1.6.
_EVEN = (0.64, 0.70)
_GRAINY = (1.5, 2.5)
_SPECKLED = (1.0, 1.5)
# JPEG: steps between blocks in grey levels; up to 1.5 at quality 70, from 2.2 at 35. Small faces have too few blocks to be sure.
_BLOCKS = (1.6, 2.2)
_SURE_OF_BLOCKS = 200  # pixels a side
_SECOND_DERIVATIVE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6  # sees noise, not edges (Immerkaer, 1996)
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
_BLUE = np.array([[-0.168736, -0.331264, 0.5]], np.float32)
_SHRUNK = 0.75  # from this scale of the crop on, the picture itself is judged
_MUCH_SHRUNK, _LOWER = 0.4, 0.09
_SMALLEST = 24  # pixels a side of the area that is pasted: a smaller face has too little detail to judge

# Far above what restoring spoilt portraits does, which benchmarks/quality.py prints.
MOST_MOVED = 0.3
MOST_CHANGED = 12.0
_COARSE = 64  # side at which coarse structure is compared, in pixels
_COARSE_SIGMA = 3.0
_FINDING = 256  # side at which landmarks are looked for


class KeptError(GpenError):
    """A guard keeps the original face; the message says why."""


@dataclass(frozen=True)
class Guards:
    """The guards that the settings ask for, and what they need; without arguments there are none.

    spare: `auto_strength`. find: for `guard`. recogniser, least: for `min_likeness`.
    """

    spare: str = "off"
    find: FindLandmarks | None = None
    recogniser: Recogniser | None = None
    least: float = 0.0

    def share(self, picture: Pixels, landmarks: ArrayLike, template: str, size: int) -> float:
        """How much of the strength a face gets: 1, or less the sharper it is. Arguments as for sharpness()."""
        spares = self.spare == "all" or (self.spare == "large" and _is_large(landmarks, template, size))
        return 1.0 - sharpness(picture, landmarks, template, size) if spares else 1.0

    def check(self, crop: Pixels, made: Pixels, mask: Mask, landmarks: ArrayLike) -> None:
        """Raises KeptError if the restored face is no longer the one in the picture. Arguments as for drift()."""
        reason = drift(crop, made, mask, landmarks, self.find) if self.find is not None else ""
        if reason:
            raise KeptError(reason)
        if self.recogniser is not None:
            alike = likeness(*(features(one, landmarks, self.recogniser) for one in (crop, made)))
            if alike < self.least:
                raise KeptError(f"the restored face is less like the original ({alike:.2f}) than Minimum likeness asks ({self.least:g})")


def sharpness(picture: Pixels, landmarks: ArrayLike, template: str, size: int) -> float:
    """How sharp and clean a face is already, at the scale at which a network would restore it: 0 (spoilt) to 1 (nothing to restore).

    picture: (H, W, 3) float32 RGB 0..1. landmarks: (5, 2), of the face. template: its alignment template; size: the network's, in pixels.
    A blurred face lacks the finest of its own frequency bands; noise is the same all over a face; JPEG shows its blocks.
    """
    try:
        matrix = similarity(landmarks, template_points(template, size))
    except AlignmentError:
        return 0.0
    scale = scale_of(matrix)
    mask = landmark_mask(template_points(template, size), size)
    box = reach(mask, matrix, picture.shape)
    part = picture[box.top : box.bottom, box.left : box.right]
    if min(part.shape[:2]) < _SMALLEST:
        return 0.0
    # Noise in the picture's own pixels, because any resampling makes it uneven.
    to_box = invert(matrix)
    to_box[:, 2] -= (box.left, box.top)
    own_mask = warp(mask, to_box, part.shape[:2], border="constant")
    luma, blue = (cast(Pixels, cv2.transform(part, axis)) for axis in (_LUMA, _BLUE))
    noise, specks = (_local_noise(channel)[own_mask > 0.5] for channel in (luma, blue))
    quiet, middle = (float(value) for value in np.percentile(noise, (10, 50)))
    noisy = _between(quiet, *_GRAINY) * _between(quiet / max(1e-6, middle), *_EVEN)
    blocks = 0.0
    if scale >= _SHRUNK:  # a network that sees a smaller copy does not see them
        blocks = step_between_blocks(luma) * 255 / max(1.0, _SURE_OF_BLOCKS / min(part.shape[:2])) ** 0.5
    else:
        luma, own_mask = cast(Pixels, cv2.transform(crop_face(picture, matrix, size), _LUMA)), mask
    smaller = cast(Pixels, cv2.pyrDown(luma))
    fine = _energy(luma, smaller, own_mask > 0.5)
    coarse = _energy(smaller, cast(Pixels, cv2.pyrDown(smaller)), cv2.pyrDown(own_mask) > 0.5)
    clean = (1 - noisy) * (1 - _between(float(np.percentile(specks, 10)), *_SPECKLED)) * (1 - _between(blocks, *_BLOCKS))
    # The more detail than the network can draw a face has, the less a soft one gains.
    lower = _LOWER * (1 - _between(scale, _MUCH_SHRUNK, _SHRUNK))
    return clean * _between((fine / max(coarse, 1e-12)) ** 0.5, _BLURRED - lower, _SHARP - lower)


def why_spared(landmarks: ArrayLike, template: str, size: int) -> str:
    """Why a sharp face is kept without being restored. Arguments as for sharpness()."""
    if _is_large(landmarks, template, size):
        return f"it is as sharp already as a model of {size} pixels can draw it; a larger model may improve it"
    return "it is sharp already"


def _is_large(landmarks: ArrayLike, template: str, size: int) -> bool:
    """True if the face is larger than a network of `size` pixels draws it."""
    try:
        return scale_of(similarity(landmarks, template_points(template, size))) < 1
    except AlignmentError:
        return False


def drift(crop: Pixels, made: Pixels, mask: Mask, landmarks: ArrayLike, find: FindLandmarks) -> str:
    """Why a restored face is no longer the one in the picture; empty if it is.

    crop, made: (S, S, 3) float32 RGB 0..1, before and after. mask: (S, S). landmarks: (5, 2), of the face in the crop.
    find: finds the landmarks of the restored face.
    """
    level = changed_by(crop, made, mask)
    if level > MOST_CHANGED:
        return f"the restored face has another shape (it differs by {level:.0f} grey levels)"
    moved = moved_by(made, landmarks, find)
    if moved is None:
        return "the restored face is no longer found as a face"
    return f"the landmarks moved by {moved:.0%} of the distance between the eyes" if moved > MOST_MOVED else ""


def changed_by(crop: Pixels, made: Pixels, mask: Mask) -> float:
    """How far the coarse structure of two crops is apart inside the mask, but for their mean colours: root mean square, grey levels."""
    small, weight = (cast(Pixels, cv2.resize(x, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA)) for x in (made - crop, mask))
    weight = weight / max(float(weight.sum()), 1e-6)
    change = cv2.GaussianBlur(small, (0, 0), _COARSE_SIGMA)
    change = change - (change * weight[..., None]).sum(axis=(0, 1))  # another tone alone is not another face
    return float((np.square(change).mean(axis=2) * weight).sum()) ** 0.5 * 255


def moved_by(made: Pixels, landmarks: ArrayLike, find: FindLandmarks) -> float | None:
    """Mean distance of a face's landmarks from where they were, in distances between the eyes; None if no face is found."""
    side, points = made.shape[0], np.asarray(landmarks, np.float64)
    found = _landmarks(made, find)
    if found is None:
        return None
    eyes = max(float(np.linalg.norm(points[1] - points[0])), 0.05 * side)  # which coincide in profile
    return float(np.linalg.norm(found * side - points, axis=1).mean()) / eyes


def _landmarks(crop: Pixels, find: FindLandmarks) -> NDArray[np.float64] | None:
    """The landmarks of a face crop as shares of its side. Extends the crop's border, because detectors need a margin."""
    side = crop.shape[0]
    if side > _FINDING:
        crop = cast(Pixels, cv2.resize(crop, (_FINDING, _FINDING), interpolation=cv2.INTER_AREA))
        side = _FINDING
    room = side // 4
    found = find(np.pad(crop, ((room, room), (room, room), (0, 0)), mode="edge"))
    return None if found is None else (found - room) / side


def _energy(channel: Pixels, smaller: Pixels, inside: NDArray[np.bool_]) -> float:
    """Mean square of a band: what `channel` shows and its half-size copy does not."""
    return float(np.square(channel - cv2.pyrUp(smaller, dstsize=(channel.shape[1], channel.shape[0])))[inside].mean())


def _local_noise(channel: Pixels) -> Pixels:
    """Root mean square of the second derivative around every pixel, in grey levels."""
    curve = cv2.filter2D(channel, -1, _SECOND_DERIVATIVE)
    return cast(Pixels, np.sqrt(cv2.GaussianBlur(curve * curve, (0, 0), 2.0)) * 255)


def _between(value: float, low: float, high: float) -> float:
    """0 up to `low`, 1 from `high` on, linear in between."""
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))
