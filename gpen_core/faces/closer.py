"""Looking at one face from near by: is it one, and where exactly are its landmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from .face import Face, overlap

if TYPE_CHECKING:
    from .detect import Detector

Pixels = NDArray[np.float32]

_SIDE = 128  # of the face as it is shown to the detector, in pixels: of 32 to 256 the size of the smallest landmark error
_FRAME = 192  # of the square around it
_WEAK = 0.05  # a find this weak still says where the landmarks are; the threshold is for their mean score
_AGREES = 0.3  # least overlap with the box that the face should have
_TOGETHER = 16  # faces whose views are held in memory, a megabyte for each
_MEAN_COLOUR = np.array([123, 117, 104], np.float64) / 255  # RetinaFace's mean colour, RGB: shown beyond the picture's border
_MIRRORED = [1, 0, 2, 4, 3]  # the landmarks' order in a mirrored face


def look_at(picture: Pixels, faces: Sequence[Face], detector: Detector, threshold: float) -> list[Face]:
    """The faces with the landmarks of two looks at each alone, and their score where it is lower; without those they do not confirm.

    picture: float32 RGB (H, W, 3), 0..1, in which the faces were found. A face is set upright by its eyes and mouth and brought to one
    size, and looked at as it is and mirrored: the means of the two are free of any leaning to the left or right. Its box stays.
    """
    groups = (faces[start : start + _TOGETHER] for start in range(0, len(faces), _TOGETHER))
    return [face for group in groups for face in _look_at_some(picture, group, detector, threshold)]


def _look_at_some(picture: Pixels, faces: Sequence[Face], detector: Detector, threshold: float) -> Iterator[Face]:
    views = [_upright_view(picture, face) for face in faces]
    both_ways = [way for view, _ in views for way in (view, np.ascontiguousarray(view[:, ::-1]))]
    detect_many: Callable[[list[Pixels], float], list[list[Face]]] | None = getattr(detector, "detect_many", None)
    found = detect_many(both_ways, _WEAK) if detect_many else [detector.detect(view, _WEAK) for view in both_ways]
    for face, (_, matrix), plain, mirrored in zip(faces, views, found[::2], found[1::2], strict=True):
        seen = [look for look in (_best(plain), _mirror(_best(mirrored))) if look is not None]
        # Never surer than the find itself: so a higher threshold gives exactly those faces of a lower one that reach it.
        score = min(face.score, sum(look.score for look in seen) / 2)
        if seen and score >= threshold:
            points = np.mean([look.landmarks for look in seen], axis=0, dtype=np.float64)
            back = cv2.invertAffineTransform(matrix)
            yield replace(face, landmarks=(points @ back[:, :2].T + back[:, 2]).astype(np.float32), score=float(score))


def for_opencv(view: Pixels) -> Pixels:
    """The view of a picture itself where OpenCV can read it, which needs whole pixels and rows downwards; else (turned) a copy of it."""
    return view if view.strides[0] > 0 and view[:1].flags.c_contiguous else np.ascontiguousarray(view)


def _upright_view(picture: Pixels, face: Face) -> tuple[Pixels, NDArray[np.float64]]:
    """The face upright in the middle of a square of _FRAME pixels, and the (2, 3) matrix from the picture's pixels to the square's."""
    left_eye, right_eye, _, left_mouth, right_mouth = face.landmarks.astype(np.float64)
    # Across the face and down it: turned by a right angle the one is the other, and their sum is steadier than the eyes alone.
    across = (right_eye - left_eye) + (right_mouth - left_mouth)
    down = (left_mouth + right_mouth) - (left_eye + right_eye)
    direction = across + np.array([down[1], -down[0]])
    length = float(np.hypot(*direction))
    cos, sin = direction / length if length > 1e-6 else (1.0, 0.0)
    scale = _SIDE / max(1.0, face.area**0.5)
    centre = np.array(face.centre)

    # Only the face's surroundings are read, first shrunk by whole-pixel areas where they are large: no aliasing, no full-frame work.
    reach = _FRAME / scale * 0.75
    height, width = picture.shape[:2]
    x0, x1 = (int(np.clip(v, 0, width)) for v in (centre[0] - reach, centre[0] + reach + 2))
    y0, y1 = (int(np.clip(v, 0, height)) for v in (centre[1] - reach, centre[1] + reach + 2))
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    part = for_opencv(picture[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])
    shrink = min(1.0, scale * 2)
    wide, tall = max(1, round(part.shape[1] * shrink)), max(1, round(part.shape[0] * shrink))
    sx, sy = wide / part.shape[1], tall / part.shape[0]
    if shrink < 1.0:
        part = cv2.resize(part, (wide, tall), interpolation=cv2.INTER_AREA)

    turn = scale * np.array([[cos, sin], [-sin, cos]])
    matrix = np.column_stack([turn, (_FRAME - 1) / 2 - turn @ centre])
    # From the shrunk part's pixels to the picture's: x = (x' + 1/2) / s - 1/2 + x0.
    to_picture = np.array([[1 / sx, 0, 0.5 / sx - 0.5 + x0], [0, 1 / sy, 0.5 / sy - 0.5 + y0], [0, 0, 1]])
    view = cv2.warpAffine(
        part,
        matrix @ to_picture,
        (_FRAME, _FRAME),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_MEAN_COLOUR.tolist(),
    )
    return np.asarray(view, np.float32), matrix


def _best(found: list[Face]) -> Face | None:
    """The face in the middle of the view in which these were found, where there is one."""
    middle, half = (_FRAME - 1) / 2, _SIDE / 2
    expected = Face((middle - half, middle - half, middle + half, middle + half), np.zeros((5, 2), np.float32), 1.0)
    faces = [face for face in found if face.is_finite]
    near = overlap(expected, np.array([face.box for face in faces], np.float64).reshape(-1, 4))
    fitting = [face for face, shared in zip(faces, near, strict=True) if shared >= _AGREES]
    return fitting[0] if fitting else None


def _mirror(face: Face | None) -> Face | None:
    """The face found in the mirrored view, in the view itself. Its box is not used and stays."""
    if face is None:
        return None
    points = face.landmarks[_MIRRORED]
    return replace(face, landmarks=np.stack([_FRAME - 1 - points[:, 0], points[:, 1]], axis=1))
