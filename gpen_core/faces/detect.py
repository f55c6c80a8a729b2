"""Making a detector, and finding every face in a picture with it: small, large or rotated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import SettingsError
from ..pixels import Pixels
from ..progress import Progress
from .closer import for_opencv, look_at
from .face import NMS, Detector, Face, by_confidence, suppress

__all__ = ["DETECTORS", "THRESHOLD", "Detector", "Face", "find_faces", "make_detector"]

DETECTORS = ("retinaface-mobile", "retinaface-r50", "yunet")
THRESHOLD = 0.9  # chosen by the figures in docs/faces.md

# At this long side the detector finds the largest faces, which exceed its anchors at a larger scale.
_COARSE_SIDE = 640
_NATIVE_SIDE = 1500  # the official code's limit for searching a picture at its own size
_TRUSTED_NATIVE = 400.0  # faces with a longer side above this (pixels as seen) are left to the coarser scale, which judges them better
_TRUSTED_CLOSER = 192.0
_CLOSER_SCALE = 2.0
_CLOSE_ENOUGH = 4.0  # up to this ratio of the enlarged scale to the coarse one, no face is missed between them
_CLOSER_PIXELS = 16_000_000  # maximum pixels of the enlarged copy: 8K pictures are searched slightly reduced
_LITTLE_SMALLER = 0.6
_TILE = 1280
_TILE_OVERLAP = 224  # larger than a trusted face, so that each is whole in some tile
_EDGE = 2.0  # a box this close to a tile's inner edge counts as cut


def make_detector(name: str = "retinaface-mobile", *, device: Any = "cpu", weights_folders: Sequence[Path] = ()) -> Detector:
    """Makes the detector of the given name.

    name: "retinaface-mobile" (ships with the project), "yunet" (needs its ONNX file), "retinaface-r50" (needs facexlib and its weights).
    weights_folders: folders searched for those files. device: torch's, for both RetinaFaces; "yunet" runs on the CPU.
    Raises SettingsError for an unknown name, FeatureMissingError for a missing package, WeightsMissingError or WeightsError for weights.
    """
    if name == "retinaface-mobile":
        from .retinaface import RetinaFaceMobile

        return RetinaFaceMobile(device)
    if name == "yunet":
        from .yunet import make_yunet

        return make_yunet(weights_folders)
    if name == "retinaface-r50":
        from .facexlib_detector import make_retinaface_r50

        return make_retinaface_r50(weights_folders, device)
    raise SettingsError(f"There is no face detector named {name!r}. Choose one of {', '.join(DETECTORS)}.")


def find_faces(
    picture: Pixels,
    detector: Detector,
    *,
    threshold: float = THRESHOLD,
    look_closer: bool = True,
    rotations: bool | Sequence[int] = False,
    mask: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> list[Face]:
    """Finds every face in the picture, highest score first (ties from top to bottom, left to right).

    picture: float32 RGB (H, W, 3), 0..1, of any size; the work is bounded. threshold: minimum score, 0..1.
    look_closer: also search a copy enlarged twice (in tiles), then examine each face alone, upright and scaled to one size.
    This finds smaller faces, drops false ones, and makes landmarks several times as accurate.
    rotations: True also searches the picture rotated by 90, 180 and 270 degrees, a sequence those angles; for heads on their side.
    mask: (H, W), keeps faces where it is above 0.5 at the box's centre. progress: reports every pass and is asked before it; if it says
    stop, the faces found so far are returned.
    Raises SettingsError for a setting out of range.
    """
    angles = _angles(rotations)
    if not 0.0 < threshold <= 1.0:
        raise SettingsError(f"The detection threshold is {threshold}; it must be above 0 and at most 1.")
    height, width = picture.shape[:2]
    if mask is not None and mask.shape[:2] != (height, width):
        raise SettingsError(f"The mask is {mask.shape[1]}x{mask.shape[0]} pixels, the picture {width}x{height}; they must match.")
    if not height * width:
        return []
    turned = [np.rot90(picture, angle // 90) for angle in angles]
    looks = [list(_looks(view.shape, look_closer)) for view in turned]
    steps = _Steps(progress or Progress(), sum(map(len, looks)) + len(looks))
    found: list[Face] = []
    for angle, view, views_looks in zip(angles, turned, looks, strict=True):
        faces = [face for look in views_looks if steps.go_on() for face in _found(view, detector, threshold, look)]
        faces = suppress(faces, NMS)
        if look_closer and faces:
            faces = look_at(view, faces, detector, threshold, steps.go_on)
        found += [face.turned_back(angle, height, width) for face in faces]
    if mask is not None:
        found = [face for face in found if _inside(face, mask)]
    return by_confidence(suppress(found, NMS))


class _Steps:
    """Counts and reports the passes over one picture. A stop is final."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done, self._stopped = 0, False

    def go_on(self) -> bool:
        """Whether to make the next pass."""
        self._stopped = self._stopped or self._progress.stop()
        if not self._stopped:
            self._progress.report(min(self._done, self._total), self._total, "looking for faces")
            self._done += 1
        return not self._stopped


def _angles(rotations: bool | Sequence[int]) -> list[int]:
    if isinstance(rotations, bool):
        return [0, 90, 180, 270] if rotations else [0]
    wrong = [angle for angle in rotations if angle not in (0, 90, 180, 270)]
    if wrong:
        raise SettingsError(f"The rotation must be 0, 90, 180 or 270 degrees, not {wrong[0]}.")
    return sorted({0, *rotations})


def _inside(face: Face, mask: NDArray[Any]) -> bool:
    x, y = (int(np.clip(round(value), 0, side - 1)) for value, side in zip(face.centre, (mask.shape[1], mask.shape[0]), strict=True))
    return bool(np.max(mask[y, x]) > 0.5)


class _Look(NamedTuple):
    """One detector pass over a part (left, top, right, bottom) of the picture resized to `size` (width, height).

    trusted: keep faces up to this longer side, in pixels.
    """

    size: tuple[int, int]
    part: tuple[int, int, int, int]
    trusted: float


def _looks(shape: Sequence[int], look_closer: bool) -> Iterator[_Look]:
    """All passes over a picture of shape (height, width, ...), at each scale; tile by tile if it is large."""
    height, width = shape[:2]
    longest = max(height, width)
    coarse = min(1.0, _COARSE_SIDE / longest)
    native = min(1.0, _NATIVE_SIDE / longest)
    scales = [(coarse, np.inf)]
    closer = min(_CLOSER_SCALE, (_CLOSER_PIXELS / (height * width)) ** 0.5) if look_closer else 0.0
    if native > coarse and not native < closer <= _CLOSE_ENOUGH * coarse:
        scales.append((native, _TRUSTED_NATIVE))
    if closer > native:
        scales.append((closer, _TRUSTED_CLOSER))
    for scale, trusted in scales:
        tall, wide = max(1, round(height * scale)), max(1, round(width * scale))
        for top, bottom in tile_spans(tall):
            for left, right in tile_spans(wide):
                yield _Look((wide, tall), (left, top, right, bottom), trusted)


def _found(picture: Pixels, detector: Detector, threshold: float, look: _Look) -> Iterator[Face]:
    """Faces of one pass, in the picture's pixels, that are within its trusted size and not cut by its edges."""
    height, width = picture.shape[:2]
    wide, tall = look.size
    part, x0, y0 = _resized_part(picture, look.part, look.size)
    for face in detector.detect(part, threshold):
        if face.is_finite and max(face.width, face.height) <= look.trusted and not _cut(face, look.part, look.size):
            yield face.moved(x0, y0).scaled(width / wide, height / tall)


def tile_spans(length: int) -> list[tuple[int, int]]:
    """(start, end) of tiles of equal length, at most _TILE, that cover 0..length; neighbours share at least _TILE_OVERLAP."""
    if length <= _TILE:
        return [(0, length)]
    count = -(-(length - _TILE_OVERLAP) // (_TILE - _TILE_OVERLAP))
    tile = -(-(length + (count - 1) * _TILE_OVERLAP) // count)
    return [(start, start + tile) for start in (i * (length - tile) // (count - 1) for i in range(count))]


def _resized_part(picture: Pixels, part: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[Pixels, float, float]:
    """Part (left, top, right, bottom) of the picture resized to `size` (width, height), and where it starts there.

    Resizes only the part, so that no enlarged copy of a large picture is made. Moves its border outwards to whole pixels.
    """
    height, width = picture.shape[:2]
    (left, top, right, bottom), (wide, tall) = part, size
    if (left, top, right, bottom) == (0, 0, wide, tall):
        return _resized(picture, wide, tall), 0.0, 0.0
    x0, x1 = int(left * width / wide), min(width, -(-right * width // wide))
    y0, y1 = int(top * height / tall), min(height, -(-bottom * height // tall))
    resized = _resized(picture[y0:y1, x0:x1], max(1, round((x1 - x0) * wide / width)), max(1, round((y1 - y0) * tall / height)))
    return resized, x0 * wide / width, y0 * tall / height


def _resized(picture: Pixels, wide: int, tall: int) -> Pixels:
    if picture.shape[:2] == (tall, wide):
        return picture
    scale = (wide * tall / (picture.shape[0] * picture.shape[1])) ** 0.5
    # Shrinking slightly needs no averaging, which takes three times as long.
    how = cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_LINEAR if scale >= _LITTLE_SMALLER else cv2.INTER_AREA
    return np.asarray(cv2.resize(for_opencv(picture), (wide, tall), interpolation=how), np.float32)


def _cut(face: Face, part: tuple[int, int, int, int], size: tuple[int, int]) -> bool:
    """Whether an inner edge of the tile cuts the face; the neighbouring tile then shows it whole."""
    (left, top, right, bottom), (wide, tall) = part, size
    x0, y0, x1, y1 = face.box
    return (
        (left > 0 and x0 < _EDGE)
        or (top > 0 and y0 < _EDGE)
        or (right < wide and x1 > right - left - 1 - _EDGE)
        or (bottom < tall and y1 > bottom - top - 1 - _EDGE)
    )
