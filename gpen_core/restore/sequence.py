"""Frames of a video or animation, whose faces are followed and steadied. It looks ahead by a few frames, and holds no more than those.

Three waits in a row: faces are followed (`tracks`) up to 8 frames ahead; the network makes them (`together`); and the new faces are
steadied (`steps/steady`) by those of up to 4 frames before and after.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from ..errors import PICTURE_ERRORS, GpenError
from ..faces.face import Face
from ..pictures import Picture, from_array
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..steps import steady
from ..steps.detail import Energies
from . import tracks
from .compose import Composition
from .grain import Sample, least, noise_between
from .results import RestoreResult
from .together import compose_each
from .trail import Trail

# Frames that wait are held as they were given (of a video: 3 or 6 bytes a pixel), together no more than this; new faces as float32.
MOST_PIXELS = 64_000_000
MOST_FACE_PIXELS = 64_000_000


@dataclass(frozen=True)
class Steps:
    """What the restorer does for a sequence. choose: the faces of a picture; begin: the picture and its faces on their way; make: see
    compose_each(); finish: the result that belongs to the picture that was given."""

    choose: Callable[[Pixels], Sequence[Face]]
    begin: Callable[[Picture, Sequence[Face]], Composition]
    make: Callable[[Iterator[Pixels]], Iterator[Pixels | GpenError]]
    at_once: Callable[[], int]
    finish: Callable[[RestoreResult, Any], RestoreResult]


def restore_sequence(
    frames: Iterable[Any],
    faces: Iterable[Sequence[Face]] | None,
    steps: Steps,
    strength: float,
    progress: Progress,
    *,
    most_faces: float = float("inf"),
    stop: Callable[[], bool] = lambda: False,
    trail: Trail | None = None,
) -> Iterator[RestoreResult | Exception]:
    """Yields the result of every frame, or its error, in their order. faces: of each frame; then none is looked for, and none filled in.

    most_faces: no gap is filled in frames that have as many. stop: once it is true, no other frame is begun, and the results end early.
    If `frames` raises one of PICTURE_ERRORS, that is raised after the frames before it.
    trail: receives which faces are one, and may know it of the first frames.
    """
    following = _Following(frames, faces, steps.choose, strength, 0 if faces is not None else most_faces, trail)
    making = compose_each(map(_begun(steps, progress), _until(stop, following.each())), steps.make, steps.at_once, progress)
    yield from _Steadying(making, following, strength, steps.finish).each()


def _until(stop: Callable[[], bool], frames: Iterator[_Seen | Exception]) -> Iterator[_Seen | Exception]:
    while not stop():
        try:
            one = next(frames)
        except StopIteration:
            return
        yield one
        del one  # it holds a frame


def picture_of(given: Any) -> Picture:
    return given if isinstance(given, Picture) else from_array(given)


@dataclass(eq=False)
class _Seen:
    """A frame whose faces are known."""

    number: int
    given: Any
    faces: Sequence[Face]
    tracks: Sequence[int] = ()


class _Following:
    """The first wait: for the frames that say where the faces of one before them are."""

    def __init__(
        self,
        frames: Iterable[Any],
        faces: Iterable[Sequence[Face]] | None,
        choose: Callable[[Pixels], Sequence[Face]],
        strength: float,
        most_faces: float,
        trail: Trail | None,
    ) -> None:
        self._trail = trail or Trail()
        self._frames, self._faces = iter(frames), None if faces is None else iter(faces)
        self._choose, self._strength, self._most_faces = choose, strength, most_faces
        self._tracker: tracks.Tracker | None = None
        self.ahead, self.steadied = tracks.REACH, steady.REACH  # frames that are held before and after the network

    def each(self) -> Iterator[_Seen | Exception]:
        waiting: deque[_Seen | Exception] = deque()
        broken: Exception | None = None
        for number in count():
            try:
                given = next(self._frames, None)
            except PICTURE_ERRORS as error:
                broken = error
                break
            if given is None:
                break
            waiting.append(self._seen(number, given))
            del given
            if len(waiting) > self.ahead:
                yield self._settled(waiting.popleft())
        while waiting:
            yield self._settled(waiting.popleft())
        if broken is not None:
            raise broken

    def _seen(self, number: int, given: Any) -> _Seen | Exception:
        known, numbers = self._trail.expected(), None
        chosen = None if self._faces is None else next(self._faces)
        try:
            pixels = picture_of(given).pixels
            if self._tracker is None:
                held = MOST_PIXELS // (pixels.shape[0] * pixels.shape[1])
                self.steadied = max(0, min(steady.REACH, held // 3))
                self.ahead = max(0, min(tracks.REACH, held - 1 - self.steadied))
                self._tracker = tracks.Tracker(self._strength, self.ahead)
            faces = self._choose(pixels) if chosen is None else chosen
            numbers = self._tracker.see(number, faces, pixels, known if known is not None and len(known) == len(faces) else None)
        except PICTURE_ERRORS as error:
            return error
        finally:
            self._trail.note(numbers)
        return _Seen(number, given, faces)

    def _settled(self, one: _Seen | Exception) -> _Seen | Exception:
        if isinstance(one, Exception) or self._tracker is None:
            return one
        try:
            there = self._tracker.faces(one.number, one.faces, lambda: picture_of(one.given).pixels, self._most_faces)
        except PICTURE_ERRORS as error:
            return error
        one.faces, one.tracks = [each.face for each in there], [each.track for each in there]
        return one


def _begun(steps: Steps, progress: Progress) -> Callable[[_Seen | Exception], _Made | Exception]:
    def begin(one: _Seen | Exception) -> _Made | Exception:
        if isinstance(one, Exception):
            return one
        try:
            return _Made(one, steps.begin(picture_of(one.given), one.faces), progress)
        except PICTURE_ERRORS as error:
            return error

    return begin


_NOTHING = picture_of(np.zeros((1, 1, 3), np.float32))


@dataclass(eq=False)
class _Made:
    """A frame whose new faces are made (`Begun` before that). It holds them, and the frame only as it was given."""

    seen: _Seen
    composition: Composition
    progress: Progress
    made: dict[int, Pixels | GpenError] = field(default_factory=lambda: {})
    guides: dict[int, Pixels] = field(default_factory=lambda: {})
    samples: dict[int, Sample] = field(default_factory=lambda: {})  # by track
    noise: dict[int, Sequence[Energies] | None] = field(default_factory=lambda: {})  # by track, from the frame before to this one
    stopped: bool = False  # by the user, before all faces were made

    @property
    def source(self) -> Picture:
        return self.composition.source

    @property
    def left(self) -> int:
        return self.composition.left

    @property
    def cropped(self) -> deque[Pixels]:
        return self.composition.cropped

    def crops(self) -> Generator[tuple[int, Pixels], None, None]:
        return self.composition.crops()

    def put_back(self) -> None:
        self.composition.put_back()

    def composed(self, made_faces: Iterator[Pixels | GpenError]) -> _Made:
        """Takes the new faces."""
        for index in self.composition.fitting:
            try:
                if not self.cropped and self.progress.stop():
                    raise Stopped
                made = next(made_faces)
            except Stopped:
                self.stopped = True
                break
            crop = self.cropped.popleft()
            if not isinstance(made, GpenError):
                made = self.composition.checked(index, crop, made)
            self.made[index] = made
            if not isinstance(made, GpenError):
                self.guides[index] = steady.guide_of(crop)
                sample = self.composition.sample(index)
                if sample is not None:
                    self.samples[self.seen.tracks[index]] = sample
        self.composition.source = _NOTHING
        self.cropped.clear()
        return self

    @property
    def face_pixels(self) -> int:
        return sum(made.shape[0] * made.shape[1] for made in self.made.values() if not isinstance(made, GpenError))

    def face_of(self, track: int) -> tuple[Pixels, Pixels] | None:
        """(new face, guide) of the track, if there is one."""
        for index, guide in self.guides.items():
            made = self.made[index]
            if self.seen.tracks[index] == track and not isinstance(made, GpenError):
                return made, guide
        return None

    def finished(self, faces: Iterator[Pixels | GpenError]) -> RestoreResult:
        """The result with these new faces in place of its own."""
        self.composition.source = picture_of(self.seen.given)
        if self.made or not self.stopped:
            self.put_back()
            for _ in self.crops():
                pass
        return self.composition.composed(faces, checked=True)


class _Steadying:
    """The last wait: for the new faces of the frames after one."""

    def __init__(
        self,
        making: Iterator[_Made | Exception],
        following: _Following,
        strength: float,
        finish: Callable[[RestoreResult, Any], RestoreResult],
    ) -> None:
        self._making, self._following, self._strength, self._finish = making, following, strength, finish
        self._before: deque[_Made] = deque()
        self._after: deque[_Made | Exception] = deque()

    def each(self) -> Iterator[RestoreResult | Exception]:
        broken: Exception | None = None
        while True:
            try:
                made = next(self._making, None)
            except PICTURE_ERRORS as error:
                broken = error
                break
            if made is None:
                break
            self._after.append(made)
            del made
            while self._after and (len(self._after) > self._following.steadied or self._is_full()):
                yield self._next()
        while self._after:
            yield self._next()
        if broken is not None:
            raise broken

    def _is_full(self) -> bool:
        """Whether the faces are too many to wait for more. Those before are let go first."""
        while True:
            held = [*self._before, *(one for one in self._after if isinstance(one, _Made))]
            if sum(one.face_pixels for one in held) <= MOST_FACE_PIXELS:
                return False
            if not self._before:
                return True
            self._before.popleft()

    def _next(self) -> RestoreResult | Exception:
        one = self._after.popleft()
        if isinstance(one, Exception):
            return one
        while self._before and one.seen.number - self._before[0].seen.number > self._following.steadied:
            self._before.popleft()
        try:
            self._tell_noise(one)
            return self._finish(one.finished(self._steadied(one)), one.seen.given)
        except PICTURE_ERRORS as error:
            return error
        finally:
            one.composition.source, one.seen.given = _NOTHING, None
            one.cropped.clear()
            one.samples.clear()
            self._before.append(one)

    def _tell_noise(self, one: _Made) -> None:
        """Tells a frame the noise of its faces: from the frames right before and after it."""
        after = next((other for other in self._after if isinstance(other, _Made)), None)
        for index in one.guides:
            track = one.seen.tracks[index]
            if after is not None and track in one.samples and track in after.samples:
                after.noise[track] = noise_between(one.samples[track], after.samples[track])
            noise = least(one.noise.get(track), None if after is None else after.noise.get(track))
            if noise is not None:
                one.composition.noise[index] = [self._strength * energy for energy in noise]

    def _steadied(self, one: _Made) -> Iterator[Pixels | GpenError]:
        for index, made in one.made.items():
            if isinstance(made, GpenError):
                yield made
            else:
                yield steady.steadied(made, one.guides[index], self._neighbours(one, one.seen.tracks[index]), self._strength)
        if one.stopped:
            raise Stopped

    def _neighbours(self, one: _Made, track: int) -> list[steady.Neighbour]:
        near: list[steady.Neighbour] = []
        for other in (*self._before, *self._after):
            away = abs(other.seen.number - one.seen.number) if isinstance(other, _Made) else 0
            face = other.face_of(track) if isinstance(other, _Made) and away <= self._following.steadied else None
            if face is not None:
                near.append(steady.Neighbour(away, *face))
        return near
