"""Examining each face up close: whether it is a face, which way is up, and where exactly its landmarks are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels
from .face import Detector, Face, overlap, turned_back

_SIDE = 128  # side of the face as the detector sees it, in pixels: of 32 to 256 the one with the smallest landmark error
_FRAME = 192  # side of the square view around it
_WEAK = 0.05  # a detection this weak still locates the landmarks; the threshold applies to their mean score
_AGREES = 0.3  # minimum overlap with the expected box
_TOGETHER = 16  # faces whose views are in memory at once: a megabyte each, four if doubtful
_MEAN_COLOUR = np.array([123, 117, 104], np.float64) / 255  # RetinaFace's mean colour, RGB: shown beyond the picture's border
_MIRRORED = [1, 0, 2, 4, 3]  # the landmarks' order in a mirrored face
# The distance between the landmarks of a face and of its mirror image, as a share of the face, tells whether it is upright in its view:
# the detector may take a head on its side or upside down for an upright one with a score near 1, but rarely places it alike twice.
# Measured with RetinaFace mobile0.25. A detector with larger distances sets `unsteady`. One whose scores tell it better than distances do
# sets `sure`: the score that only upright faces reach.
_DOUBTFUL = 0.025  # exceeded by 1 in 20 upright faces, and by all 135 faces with wrong landmarks
_LOST = 0.1  # not exceeded by any face, even at 9 pixels


@dataclass(frozen=True, eq=False)
class _Look:
    """What the detector found in a face's view and in the mirrored view. landmarks: (5, 2), in pixels of the picture."""

    landmarks: NDArray[np.float64] | None
    score: float
    apart: float  # mean distance between the two sets of landmarks, as a share of the face; infinite unless both exist


def look_at(
    picture: Pixels, faces: Sequence[Face], detector: Detector, threshold: float, go_on: Callable[[], bool] = lambda: True
) -> list[Face]:
    """Re-detects each face up close: refines its landmarks, lowers its score if needed, and drops it if it is not confirmed.

    picture: float32 RGB (H, W, 3), 0..1, in which the faces were found. Each face is set upright by its eyes and mouth, scaled to one
    size, and detected both plain and mirrored: averaging the two removes any bias to the left or right. If they disagree,
    the face is also tried in quarter turns, for sideways or upside-down heads. Its box stays. go_on: asked before each group of faces;
    once it says no, the remaining faces are returned unchanged.
    """
    unsteady, sure = float(getattr(detector, "unsteady", 1.0)), getattr(detector, "sure", None)
    confirmed: list[Face] = []
    for start in range(0, len(faces), _TOGETHER):
        if not go_on():
            return [*confirmed, *faces[start:]]
        group = faces[start : start + _TOGETHER]
        looks = _look(picture, group, detector)
        doubtful = [index for index, look in enumerate(looks) if look.score >= threshold and _in_doubt(look, sure)]
        if doubtful and not go_on():
            return [*confirmed, *faces[start:]]
        judged = _from_every_side(picture, [group[i] for i in doubtful], [looks[i] for i in doubtful], detector, threshold, sure)
        for index, look in zip(doubtful, judged, strict=True):
            looks[index] = look
        for face, look in zip(group, looks, strict=True):
            # Never above the first score, so that a higher threshold keeps exactly the faces that reach it at a lower one.
            score = min(face.score, look.score)
            if look.landmarks is not None and score >= threshold and not unsteady * _LOST < look.apart < np.inf:
                confirmed.append(replace(face, landmarks=look.landmarks.astype(np.float32), score=float(score)))
    return confirmed


def _look(picture: Pixels, faces: Sequence[Face], detector: Detector, turns: Sequence[int] = (0,)) -> list[_Look]:
    """Detects each face in its upright view, turned by each number of quarter turns; ordered by face, then by turn."""
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


def _from_every_side(
    picture: Pixels, faces: Sequence[Face], firsts: Sequence[_Look], detector: Detector, threshold: float, sure: float | None
) -> list[_Look]:
    """For each face, the most upright look: the first one, or one set upright by the landmarks found after a quarter, half or
    three-quarter turn. Runs faces through the detector together, which is faster."""
    turned = _look(picture, faces, detector, (1, 2, 3))
    best, guesses = list(firsts), list[list[_Look]]()
    for index, first in enumerate(firsts):
        seen = [look for look in turned[3 * index : 3 * index + 3] if look.score >= threshold]
        guesses.append(sorted([first, *seen], key=lambda look: _askew(look, sure)))
    for place in range(4):
        again: list[tuple[int, Face]] = []
        for index, looks in enumerate(guesses):
            points = looks[place].landmarks if place < len(looks) else None
            if points is not None and _in_doubt(best[index], sure):
                again.append((index, replace(faces[index], landmarks=points.astype(np.float32))))
        for (index, _), look in zip(again, _look(picture, [face for _, face in again], detector), strict=True):
            if look.score >= threshold and _askew(look, sure) < _askew(best[index], sure):
                best[index] = look
    return best


def _askew(look: _Look, sure: float | None) -> float:
    """The smaller, the more upright the face was in this look."""
    return look.apart if sure is None else -look.score


def _in_doubt(look: _Look, sure: float | None) -> bool:
    """Whether the face may not have been upright."""
    return look.apart > _DOUBTFUL if sure is None else look.score < sure


def for_opencv(view: Pixels) -> Pixels:
    """The view itself if OpenCV can read it (contiguous pixels, rows from top to bottom); else, as for turned views, a copy."""
    return view if view.strides[0] > 0 and view[:1].flags.c_contiguous else np.ascontiguousarray(view)


def _upright_view(picture: Pixels, face: Face) -> tuple[Pixels, NDArray[np.float64]]:
    """The upright face in the middle of a square of _FRAME pixels, and the (2, 3) matrix from picture to square."""
    direction = face.across
    length = float(np.hypot(*direction))
    cos, sin = direction / length if length > 1e-6 else (1.0, 0.0)
    scale = _SIDE / max(1.0, face.area**0.5)
    centre = np.array(face.centre)

    # Read only the face's surroundings, and shrink them by area first if they are large: no aliasing, no full-frame work.
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
    # From the shrunk part to the picture: x = (x' + 1/2) / s - 1/2 + x0.
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
    """The face in the middle of the view, if any of those found is there."""
    middle, half = (_FRAME - 1) / 2, _SIDE / 2
    expected = Face((middle - half, middle - half, middle + half, middle + half), np.zeros((5, 2), np.float32), 1.0)
    faces = [face for face in found if face.is_finite]
    near = overlap(expected, np.array([face.box for face in faces], np.float64).reshape(-1, 4))
    fitting = [face for face, shared in zip(faces, near, strict=True) if shared >= _AGREES]
    return fitting[0] if fitting else None


def _mirror(face: Face | None) -> Face | None:
    """Maps a face from the mirrored view to the plain one. The box, which is not used, stays."""
    if face is None:
        return None
    points = face.landmarks[_MIRRORED]
    return replace(face, landmarks=np.stack([_FRAME - 1 - points[:, 0], points[:, 1]], axis=1))
