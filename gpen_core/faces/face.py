"""One face and what finds it; moving it between pictures of other sizes and turns, and telling double finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels

NMS = 0.4  # intersection over union of two boxes above which they are finds of one face: the official code's
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a picture. Pixel centres are at whole numbers, as everywhere in OpenCV.

    box: (x0, y0, x1, y1) in pixels; parts of it may lie outside of the picture. landmarks: (5, 2) float32, x and y in pixels: the eye,
    that is on the left in the picture, the other eye, nose, left and right corner of the mouth (for an upright face). score: the
    detector's confidence, 0..1. angle: by how many degrees (0, 90, 180, 270) the picture was turned anticlockwise when it was found.
    """

    box: Box
    landmarks: Pixels
    score: float
    angle: int = 0

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
        """(x, y) of the box's middle."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def across(self) -> NDArray[np.float64]:
        """(2,): from its left in the picture, when it stands upright, to its right, by eyes and mouth; 0 where they are in one point."""
        left_eye, right_eye, _, left_mouth, right_mouth = self.landmarks.astype(np.float64)
        # Across the face and down it: turned by a right angle the one is the other, and their sum is steadier than the eyes alone.
        across = (right_eye - left_eye) + (right_mouth - left_mouth)
        down = (left_mouth + right_mouth) - (left_eye + right_eye)
        return across + np.array([down[1], -down[0]])

    @property
    def uprightness(self) -> float:
        """1 for a face that stood upright in the turned picture it was found in, 0 for one on its side, -1 for one on its head."""
        x, y = self.across
        length = float(np.hypot(x, y))
        if length < 1e-6:
            return 0.0
        # Turned anticlockwise by the angle, this direction is what was seen.
        turn = np.deg2rad(self.angle)
        return float(x * np.cos(turn) + y * np.sin(turn)) / length

    def has_the_way_up_of(self, other: Face) -> bool:
        """Whether both say that the face stands within 60 degrees of the same way; also where one does not say."""
        mine, its = self.across, other.across
        return bool(mine @ its >= 0.5 * np.linalg.norm(mine) * np.linalg.norm(its))

    @property
    def is_finite(self) -> bool:
        """Whether all its numbers are finite. On some blank pictures YuNet's are not."""
        return bool(np.isfinite([*self.box, self.score]).all() and np.isfinite(self.landmarks).all())

    def to_json(self) -> dict[str, Any]:
        """Box, landmarks, score and angle as plain numbers (pixels to two places)."""
        return {
            "box": [round(float(value), 2) for value in self.box],
            "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in self.landmarks],
            "score": round(float(self.score), 4),
            "angle": self.angle,
        }

    def moved(self, dx: float, dy: float) -> Face:
        """The face in a picture whose origin lies at (-dx, -dy) of this one's."""
        x0, y0, x1, y1 = self.box
        points = (self.landmarks + np.array([dx, dy])).astype(np.float32)
        return replace(self, box=(x0 + dx, y0 + dy, x1 + dx, y1 + dy), landmarks=points)

    def scaled(self, factor: float, factor_y: float | None = None) -> Face:
        """The face in the picture resized by `factor` (its height by `factor_y`, where that differs): x -> (x + 1/2) * factor - 1/2."""
        scale = np.array([factor, factor if factor_y is None else factor_y], np.float64)
        corners = (np.array(self.box, np.float64).reshape(2, 2) + 0.5) * scale - 0.5
        points = (self.landmarks.astype(np.float64) + 0.5) * scale - 0.5
        return replace(self, box=_box(corners), landmarks=points.astype(np.float32))

    def turned_back(self, angle: int, height: int, width: int) -> Face:
        """The face in the picture as it was, (height, width), where this one was found in it turned by `angle` anticlockwise.

        np.rot90(picture, angle // 90) is the turned picture. The landmarks keep their order, so aligning by them sets the face upright.
        """
        corners = turned_back(np.array(self.box, np.float64).reshape(2, 2), angle, height, width)
        points = turned_back(self.landmarks.astype(np.float64), angle, height, width)
        return replace(self, box=_box(corners), landmarks=points.astype(np.float32), angle=angle)


def _box(corners: NDArray[np.float64]) -> Box:
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def turned_back(points: NDArray[np.float64], angle: int, height: int, width: int) -> NDArray[np.float64]:
    """Points (N, 2) of the picture turned by `angle` (0, 90, 180, 270) anticlockwise, in the picture as it was, (height, width)."""
    x, y = points[:, 0], points[:, 1]
    if angle == 90:
        x, y = width - 1 - y, x
    elif angle == 180:
        x, y = width - 1 - x, height - 1 - y
    elif angle == 270:
        x, y = y, height - 1 - x
    return np.stack([x, y], axis=1)


def by_confidence(faces: Iterable[Face]) -> list[Face]:
    """By falling score; of equals the one found upright first, then from top to bottom and left to right. The same for the same faces."""
    return sorted(faces, key=lambda face: (-face.score, face.angle, face.box[1], face.box[0], face.box[3], face.box[2]))


def overlap(face: Face, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,): intersection over union of the face's box with each of the (N, 4) boxes, 0..1."""
    box = np.array(face.box, np.float64)
    sides = np.maximum(0.0, np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]))
    shared = sides[:, 0] * sides[:, 1]
    areas = np.prod(np.maximum(0.0, boxes[:, 2:] - boxes[:, :2]), axis=1)
    return shared / np.maximum(face.area + areas - shared, 1e-9)


def suppress(faces: Iterable[Face], limit: float) -> list[Face]:
    """Non-maximum suppression: of faces whose boxes overlap by more than `limit` (intersection over union) only the surest is kept.

    Of finds in differently turned pictures that are equally sure (to two places) and agree on the way up, it is the one that was seen
    most upright, whose landmarks are the most exact. Returns the kept ones by falling score.
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
    """What finds faces in one look at a picture."""

    name: str

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """Faces of float32 RGB (H, W, 3), 0..1, whose score is at least `threshold` (0..1), by falling score, overlapping finds removed."""
        ...
