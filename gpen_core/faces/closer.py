"""Looking at one face from near by: is it one, which way is up, and where exactly are its landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels
from .face import Detector, Face, overlap, turned_back

_SIDE = 128  # of the face as it is shown to the detector, in pixels: of 32 to 256 the size of the smallest landmark error
_FRAME = 192  # of the square around it
_WEAK = 0.05  # a find this weak still says where the landmarks are; the threshold is for their mean score
_AGREES = 0.3  # least overlap with the box that the face should have
_TOGETHER = 16  # faces whose views are held in memory, a megabyte for each, four where it is in doubt
_MEAN_COLOUR = np.array([123, 117, 104], np.float64) / 255  # RetinaFace's mean colour, RGB: shown beyond the picture's border
_MIRRORED = [1, 0, 2, 4, 3]  # the landmarks' order in a mirrored face
# How far the landmarks of the face and of its mirror image lie apart, as a share of the face, tells whether it stands upright in its view:
# the detector takes a head on its side or upside down for an upright one with a score near 1, but hardly ever twice for the same one.
# Measured with RetinaFace mobile0.25; a detector whose landmarks lie further apart says so itself by its `unsteady`.
_DOUBTFUL = 0.025  # of upright faces 1 in 20 is above, of those with wrong landmarks all of 135 were
_LOST = 0.1  # of faces as small as 9 pixels none was above


@dataclass(frozen=True, eq=False)
class _Look:
    """What was seen of a face in its view and in the view mirrored. landmarks: (5, 2), in pixels of the picture."""

    landmarks: NDArray[np.float64] | None
    score: float
    apart: float  # how far the two lie apart, as a share of the face; infinite unless both are there


def look_at(
    picture: Pixels, faces: Sequence[Face], detector: Detector, threshold: float, go_on: Callable[[], bool] = lambda: True
) -> list[Face]:
    """The faces with the landmarks of two looks at each alone, and their score where it is lower; without those they do not confirm.

    picture: float32 RGB (H, W, 3), 0..1, in which the faces were found. A face is set upright by its eyes and mouth and brought to one
    size, and looked at as it is and mirrored: the means of the two are free of any leaning to the left or right. Where the two disagree
    it is looked at from every side, for heads that lie or hang. Its box stays. go_on: asked before some faces each time; once it says no,
    the faces that are left are given back as they are.
    """
    unsteady = float(getattr(detector, "unsteady", 1.0))
    confirmed: list[Face] = []
    for start in range(0, len(faces), _TOGETHER):
        if not go_on():
            return [*confirmed, *faces[start:]]
        group = faces[start : start + _TOGETHER]
        looks = _look(picture, group, detector)
        doubtful = [index for index, look in enumerate(looks) if look.score >= threshold and look.apart > unsteady * _DOUBTFUL]
        if doubtful and not go_on():
            return [*confirmed, *faces[start:]]
        judged = _from_every_side(picture, [group[i] for i in doubtful], [looks[i] for i in doubtful], detector, threshold)
        for index, look in zip(doubtful, judged, strict=True):
            looks[index] = look
        for face, look in zip(group, looks, strict=True):
            # Never surer than the find itself: so a higher threshold gives exactly those faces of a lower one that reach it.
            score = min(face.score, look.score)
            if look.landmarks is not None and score >= threshold and not unsteady * _LOST < look.apart < np.inf:
                confirmed.append(replace(face, landmarks=look.landmarks.astype(np.float32), score=float(score)))
    return confirmed


def _look(picture: Pixels, faces: Sequence[Face], detector: Detector, turns: Sequence[int] = (0,)) -> list[_Look]:
    """Looks at every face set upright by its landmarks and then turned by so many quarters, in the order of the faces, then the turns."""
    views = [_upright_view(picture, face) for face in faces]
    turned = [(np.ascontiguousarray(np.rot90(view, turn)), matrix, turn) for view, matrix in views for turn in turns]
    both_ways = [way for view, _, _ in turned for way in (view, np.ascontiguousarray(view[:, ::-1]))]
    detect_many: Callable[[list[Pixels], float], list[list[Face]]] | None = getattr(detector, "detect_many", None)
    found = detect_many(both_ways, _WEAK) if detect_many else [detector.detect(view, _WEAK) for view in both_ways]
    looks: list[_Look] = []
    for (_, matrix, turn), plain, mirrored in zip(turned, found[::2], found[1::2], strict=True):
        seen = [look for look in (_best(plain), _mirror(_best(mirrored))) if look is not None]
        if not seen:
            looks.append(_Look(None, 0.0, np.inf))
            continue
        points = np.array([look.landmarks for look in seen], np.float64)
        apart = float(np.linalg.norm(points[0] - points[1], axis=1).mean()) / _SIDE if len(seen) == 2 else np.inf
        back = cv2.invertAffineTransform(matrix)
        upright = turned_back(points.mean(axis=0), 90 * turn, _FRAME, _FRAME)
        looks.append(_Look(upright @ back[:, :2].T + back[:, 2], sum(look.score for look in seen) / 2, apart))
    return looks


def _from_every_side(picture: Pixels, faces: Sequence[Face], firsts: Sequence[_Look], detector: Detector, threshold: float) -> list[_Look]:
    """For each face the look in which it and its mirror image agree the best: the first one at it, or one with the face set upright by
    what is seen of it turned by a quarter, a half and three quarters. Faces go through the detector together, which is faster."""
    turned = _look(picture, faces, detector, (1, 2, 3))
    best, guesses = list(firsts), list[list[_Look]]()
    for index, first in enumerate(firsts):
        seen = [look for look in turned[3 * index : 3 * index + 3] if look.score >= threshold]
        guesses.append(sorted([first, *seen], key=lambda look: look.apart))
    for place in range(4):
        again: list[tuple[int, Face]] = []
        for index, looks in enumerate(guesses):
            points = looks[place].landmarks if place < len(looks) else None
            if points is not None and best[index].apart > _DOUBTFUL:
                again.append((index, replace(faces[index], landmarks=points.astype(np.float32))))
        for (index, _), look in zip(again, _look(picture, [face for _, face in again], detector), strict=True):
            if look.score >= threshold and look.apart < best[index].apart:
                best[index] = look
    return best


def for_opencv(view: Pixels) -> Pixels:
    """The view of a picture itself where OpenCV can read it, which needs whole pixels and rows downwards; else (turned) a copy of it."""
    return view if view.strides[0] > 0 and view[:1].flags.c_contiguous else np.ascontiguousarray(view)


def _upright_view(picture: Pixels, face: Face) -> tuple[Pixels, NDArray[np.float64]]:
    """The face upright in the middle of a square of _FRAME pixels, and the (2, 3) matrix from the picture's pixels to the square's."""
    direction = face.across
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
