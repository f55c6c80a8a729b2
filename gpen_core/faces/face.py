"""One face and its detector; moving a face between resized or rotated pictures, and removing duplicates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels

NMS = 0.4  # intersection over union above which two boxes are the same face, as in the official code
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Face:
    """One face in a picture. Pixel centres are at whole numbers, as in OpenCV.

    box: (x0, y0, x1, y1) in pixels; may extend beyond the picture. landmarks: (5, 2) float32, x and y in pixels: the eye on the left of
    the picture, the other eye, nose, left and right corner of the mouth (for an upright face). score: the detector's confidence, 0..1.
    angle: anticlockwise rotation of the picture in degrees (0, 90, 180, 270) when the face was found. strength: how much of the option
    `strength` this face gets, 0..1.
    """

    box: Box
    landmarks: Pixels
    score: float
    angle: int = 0
    strength: float = 1.0

    @property
    def width(self) -> float:
        return max(0.0, self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        return max(0.0, self.box[3] - self.box[1])

    @property
    def shorter_side(self) -> float:
        return min(self.width, self.height)

    @property
    def area(self) -> float:
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the box's centre."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def across(self) -> NDArray[np.float64]:
        """(2,): direction from the face's left to its right, as seen upright, by eyes and mouth; 0 if they coincide."""
        left_eye, right_eye, _, left_mouth, right_mouth = self.landmarks.astype(np.float64)
        # Down the face, turned by a right angle, is across it; the sum of both is steadier than the eyes alone.
        across = (right_eye - left_eye) + (right_mouth - left_mouth)
        down = (left_mouth + right_mouth) - (left_eye + right_eye)
        return across + np.array([down[1], -down[0]])

    @property
    def uprightness(self) -> float:
        """1 for a face upright in the rotated picture it was found in, 0 for one on its side, -1 for one upside down."""
        x, y = self.across
        length = float(np.hypot(x, y))
        if length < 1e-6:
            return 0.0
        # The detector saw this direction turned anticlockwise by the angle.
        turn = np.deg2rad(self.angle)
        return float(x * np.cos(turn) + y * np.sin(turn)) / length

    def has_the_way_up_of(self, other: Face) -> bool:
        """Whether both faces point up within 60 degrees of each other; also True if one has no direction."""
        mine, its = self.across, other.across
        return bool(mine @ its >= 0.5 * np.linalg.norm(mine) * np.linalg.norm(its))

    @property
    def is_finite(self) -> bool:
        """Whether all values are finite. On some blank pictures YuNet's are not."""
        return bool(np.isfinite([*self.box, self.score]).all() and np.isfinite(self.landmarks).all())

    def to_json(self) -> dict[str, Any]:
        """Box, landmarks, score and angle as plain numbers (pixels to two decimals)."""
        return {
            "box": [round(float(value), 2) for value in self.box],
            "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in self.landmarks],
            "score": round(float(self.score), 4),
            "angle": self.angle,
        }

    def moved(self, dx: float, dy: float) -> Face:
        """The face in a picture whose origin is at (-dx, -dy) of this one."""
        x0, y0, x1, y1 = self.box
        points = (self.landmarks + np.array([dx, dy])).astype(np.float32)
        return replace(self, box=(x0 + dx, y0 + dy, x1 + dx, y1 + dy), landmarks=points)

    def scaled(self, factor: float, factor_y: float | None = None) -> Face:
        """The face in the picture resized by `factor` (its height by `factor_y`, if given): x -> (x + 1/2) * factor - 1/2."""
        scale = np.array([factor, factor if factor_y is None else factor_y], np.float64)
        corners = (np.array(self.box, np.float64).reshape(2, 2) + 0.5) * scale - 0.5
        points = (self.landmarks.astype(np.float64) + 0.5) * scale - 0.5
        return replace(self, box=_box(corners), landmarks=points.astype(np.float32))

    def turned_back(self, angle: int, height: int, width: int) -> Face:
        """Maps a face found in a picture turned anticlockwise by `angle` back to the original, (height, width).

        np.rot90(picture, angle // 90) is the turned picture. The landmarks keep their order, so aligning by them sets the face upright.
        """
        corners = turned_back(np.array(self.box, np.float64).reshape(2, 2), angle, height, width)
        points = turned_back(self.landmarks.astype(np.float64), angle, height, width)
        return replace(self, box=_box(corners), landmarks=points.astype(np.float32), angle=angle)


def _box(corners: NDArray[np.float64]) -> Box:
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def turned_back(points: NDArray[np.float64], angle: int, height: int, width: int) -> NDArray[np.float64]:
    """Maps points (N, 2) in a picture turned anticlockwise by `angle` (0, 90, 180, 270) back to the original, (height, width)."""
    x, y = points[:, 0], points[:, 1]
    if angle == 90:
        x, y = width - 1 - y, x
    elif angle == 180:
        x, y = width - 1 - x, height - 1 - y
    elif angle == 270:
        x, y = y, height - 1 - x
    return np.stack([x, y], axis=1)


def by_confidence(faces: Iterable[Face]) -> list[Face]:
    """Sorts by score, highest first; ties by angle, then top to bottom and left to right, whatever the input order."""
    return sorted(faces, key=lambda face: (-face.score, face.angle, face.box[1], face.box[0], face.box[3], face.box[2]))


def overlap(face: Face, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of the face's box with each of the (N, 4) boxes: (N,), 0..1."""
    box = np.array(face.box, np.float64)
    sides = np.maximum(0.0, np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]))
    shared = sides[:, 0] * sides[:, 1]
    areas = np.prod(np.maximum(0.0, boxes[:, 2:] - boxes[:, :2]), axis=1)
    return shared / np.maximum(face.area + areas - shared, 1e-9)


def suppress(faces: Iterable[Face], limit: float) -> list[Face]:
    """Non-maximum suppression: of faces whose boxes overlap by more than `limit` (intersection over union), keeps the highest score.

    Among detections at different rotations with equal scores (to two decimals) and the same way up, keeps the one seen
    most upright, whose landmarks are the most accurate. Returns the kept faces, highest score first.
    """
    rest = by_confidence(faces)
    boxes = np.array([face.box for face in rest], np.float64).reshape(-1, 4)
    alive = np.ones(len(rest), bool)
    kept: list[Face] = []
    for index, face in enumerate(rest):
        if not alive[index]:
            continue
        others = [rest[i] for i in np.flatnonzero(alive & (overlap(face, boxes) > limit)) if rest[i].angle != face.angle]
        equals = [other for other in others if round(other.score, 2) == round(face.score, 2) and other.has_the_way_up_of(face)]
        best = max([face, *equals], key=lambda each: (round(each.uprightness, 1), -each.angle))
        kept.append(best)
        alive &= overlap(best, boxes) <= limit
    return by_confidence(kept)


class Detector(Protocol):
    """Finds faces in one pass over a picture."""

    name: str

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """Faces in float32 RGB (H, W, 3), 0..1, with a score of at least `threshold` (0..1), highest first, without duplicates."""
        ...
