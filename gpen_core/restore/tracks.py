"""Faces followed over frames: which face of a frame is which of the one before, and where it is without the detector's tremor.

A track ends at a cut, or where its face is not found for more than a few frames; shorter gaps are filled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..faces.face import Face, overlap
from ..pixels import Pixels
from ..steps.align import Matrix, invert, transform
from .looks import Look, Scene, alike, is_cut, look_of, scene_of, step_between

REACH = 8  # frames on either side that landmarks are steadied by
GAP = 4  # frames without the face that are filled

_LEAST_OVERLAP = 0.3  # of the boxes, intersection over union
_FARTHEST = 0.3  # mean distance of the landmarks, as a share of the box's side
_LEAST_ALIKE = 0.8
_WIDTHS = (8, 4, 2)  # of the window, in frames: the widest in which the landmarks agree counts
_MISFIT = 0.03  # how far they may be apart as a whole, in box sides

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Followed:
    """A face and the number of its track."""

    face: Face
    track: int


@dataclass(eq=False)
class _Track:
    number: int
    look: Look | None
    seen: dict[int, Face] = field(default_factory=lambda: {})  # by the frame's number
    steps: dict[int, Matrix] = field(default_factory=lambda: {})  # how it moved to that frame, from the one before that has it
    ended: bool = False

    @property
    def last(self) -> int:
        return max(self.seen)

    def expected(self, frame: int) -> Face:
        """Where the face would be if it kept moving as it did."""
        last = self.last
        face, before = self.seen[last], self.seen.get(last - 1)
        if before is None:
            return face
        dx, dy = (face.landmarks - before.landmarks).mean(axis=0) * (frame - last)
        return face.moved(float(dx), float(dy))

    def around(self, frame: int, reach: int) -> tuple[Points, Points]:
        """The landmarks of the frames around one, moved to where the face is in it: times (N,) from it on, and points (N, 5, 2)."""
        frames = sorted(n for n in self.seen if abs(n - frame) <= reach)
        here = frames.index(frame)
        points: dict[int, Points] = {}
        for side in (frames[here:], frames[here::-1]):
            moved = np.eye(2, 3)  # from the frame at the end to this one
            points[frame] = self.seen[frame].landmarks.astype(np.float64)
            for near, far in pairwise(side):
                step = invert(self.steps[far]) if far > near else self.steps[near]
                moved = np.column_stack([moved[:, :2] @ step[:, :2], moved[:, :2] @ step[:, 2] + moved[:, 2]])
                points[far] = transform(self.seen[far].landmarks, moved)
        return np.array(frames, np.float64) - frame, np.stack([points[n] for n in frames])


class Tracker:
    """Follows faces. Frames come in their order to see(), and their faces again, steadied by `strength` (0..1), from faces()."""

    def __init__(self, strength: float, reach: int = REACH) -> None:
        """reach: how many frames after one are seen before faces() is asked for it (fewer only at the end)."""
        self._strength, self._reach = strength, reach
        self._tracks: list[_Track] = []
        self._numbers: dict[int, list[int]] = {}  # of the tracks of each frame's faces
        self._scene: Scene | None = None
        self._next = 0

    def see(self, frame: int, faces: Sequence[Face], pixels: Pixels, known: Sequence[int] | None = None) -> Sequence[int]:
        """Takes the next frame's faces. pixels: (H, W, 3) float32 RGB 0..1. Returns the numbers of their tracks; known: these are they."""
        scene = scene_of(pixels)
        cut = self._scene is not None and is_cut(self._scene, scene)
        self._scene = scene
        for track in self._tracks:
            track.ended = track.ended or cut or frame - track.last > GAP + 1
        looks = [look_of(face, pixels) for face in faces]
        mine = self._matched(frame, faces, looks) if known is None else self._known(known)
        for index, face in enumerate(faces):
            track, look = mine.get(index), looks[index]
            if track is None:
                track = _Track(self._next if known is None else known[index], look)
                self._tracks.append(track)
                self._next = max(self._next, track.number) + 1
            elif track.look is not None and look is not None:
                track.steps[frame] = step_between(track.look, look)
            track.seen[frame], track.look = face, look
            self._numbers.setdefault(frame, []).append(track.number)
        self._tracks.sort(key=lambda track: track.number)  # they may be known in another order
        return tuple(self._numbers.get(frame, ()))

    def _known(self, numbers: Sequence[int]) -> dict[int, _Track]:
        tracks = {track.number: track for track in self._tracks}
        return {index: tracks[number] for index, number in enumerate(numbers) if number in tracks}

    def _matched(self, frame: int, faces: Sequence[Face], looks: Sequence[Look | None]) -> dict[int, _Track]:
        """The tracks that faces belong to, by the faces' positions: the nearest first."""
        going_on = [track for track in self._tracks if not track.ended]
        pairs = sorted(
            (apart, index, position)
            for index, face in enumerate(faces)
            for position, track in enumerate(going_on)
            if (apart := _apart(track.expected(frame), face)) <= _FARTHEST and alike(track.look, looks[index]) >= _LEAST_ALIKE
        )
        found: dict[int, _Track] = {}
        for _, index, position in pairs:
            if index not in found and going_on[position] not in found.values():
                found[index] = going_on[position]
        return found

    def faces(self, frame: int, seen: Sequence[Face], pixels: Callable[[], Pixels], most: float = float("inf")) -> list[Followed]:
        """The frame's faces, steadied, and at the end those that the detector missed. seen, pixels: as given to see().

        most: no more faces than this. Frames before it are forgotten; ask in order.
        """
        tracks = {track.number: track for track in self._tracks}
        numbers = self._numbers.pop(frame, [])
        there = [Followed(self._steady(tracks[number], frame, face), number) for number, face in zip(numbers, seen, strict=True)]
        for track in self._tracks:
            if frame not in track.seen and len(there) < most:
                missed = self._missed(track, frame)
                if missed is not None and _is_new(missed, there) and alike(look_of(missed, pixels()), track.look) >= _LEAST_ALIKE:
                    there.append(Followed(missed, track.number))
        self._forget(frame)
        return there

    def _steady(self, track: _Track, frame: int, face: Face) -> Face:
        side = float(np.sqrt(max(face.area, 1.0)))
        move = self._strength * (steadied(*track.around(frame, self._reach), side) - face.landmarks)
        dx, dy = (float(value) for value in move.mean(axis=0))
        x0, y0, x1, y1 = face.box
        return replace(face, box=(x0 + dx, y0 + dy, x1 + dx, y1 + dy), landmarks=(face.landmarks + move).astype(np.float32))

    def _missed(self, track: _Track, frame: int) -> Face | None:
        """The face in a frame in which it was not found, between those in which it was."""
        earlier = max((n for n in track.seen if n < frame), default=None)
        later = min((n for n in track.seen if n > frame), default=None)
        if earlier is None or later is None or later - earlier > GAP + 1:
            return None
        one, other = (self._steady(track, n, track.seen[n]) for n in (earlier, later))
        share = (frame - earlier) / (later - earlier)
        x0, y0, x1, y1 = (a + share * (b - a) for a, b in zip(one.box, other.box, strict=True))
        points = (one.landmarks + share * (other.landmarks - one.landmarks)).astype(np.float32)
        return replace(one, box=(x0, y0, x1, y1), landmarks=points, score=min(one.score, other.score))

    def _forget(self, frame: int) -> None:
        oldest = frame - max(self._reach, GAP + 1)
        for track in self._tracks:
            track.seen = {n: face for n, face in track.seen.items() if n >= oldest or n == track.last}
            track.steps = {n: step for n, step in track.steps.items() if n in track.seen}
        self._tracks = [track for track in self._tracks if track.last >= oldest]


def steadied(times: Points, points: Points, side: float) -> Points:
    """Landmarks at time 0 by those around it, which were moved to where the face is at time 0 and differ by their tremor alone.

    times: (N,) in frames, one of them 0. points: (N, 5, 2) pixels. side: of the face's box. A weighted mean (tricube, Cleveland 1979) of
    frames before and after alike; of a narrower window if the face turned so far that they do not agree.
    """
    for width in _WIDTHS:
        weights = np.clip(1.0 - (np.abs(times) / (width + 1.0)) ** 3, 0.0, None) ** 3
        weights /= weights.sum()
        mean = np.tensordot(weights, points, 1)
        apart = np.linalg.norm((points - mean).mean(axis=1), axis=1)  # what all landmarks share
        if float(np.sqrt((weights * np.square(apart)).sum())) <= _MISFIT * side:
            return mean
    return points[int(np.argmin(np.abs(times)))]


def _apart(one: Face, other: Face) -> float:
    """Mean distance of the landmarks in box sides; infinite for boxes that do not overlap."""
    side = float(np.sqrt(max(one.area, other.area, 1.0)))
    if float(overlap(one, np.array([other.box], np.float64))[0]) < _LEAST_OVERLAP:
        return float("inf")
    return float(np.linalg.norm(one.landmarks.astype(np.float64) - other.landmarks, axis=1).mean()) / side


def _is_new(face: Face, there: Sequence[Followed]) -> bool:
    boxes = np.array([one.face.box for one in there], np.float64).reshape(-1, 4)
    return not len(boxes) or float(overlap(face, boxes).max()) < _LEAST_OVERLAP
