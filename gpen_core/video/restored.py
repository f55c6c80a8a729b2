"""The frames of a video on their way through the restorer, on a device several together. A frame that fails is left as it is."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PICTURE_ERRORS, FeatureMissingError, SettingsError, WeightsError
from ..progress import Progress
from .frames import Colours, to_rgb

if TYPE_CHECKING:
    from ..restore.restorer import FaceRestorer
    from ..restore.results import RestoreResult
    from ..restore.trail import Trail

log = logging.getLogger(__name__)


@dataclass
class VideoResult:
    """The result of a video. faces: `FaceResult.to_json()` of every face, with its frame number. kept: number of frames that failed and
    are unchanged. scale: output size over input size. cut: the file is cut short, and `frames` counts the readable ones. resumed: how
    many of the frames an earlier run had restored."""

    frames: int = 0
    kept: int = 0
    scale: float = 1.0
    cut: bool = False
    resumed: int = 0
    faces: list[dict[str, Any]] = field(default_factory=lambda: [])


class RestoredFrames:
    """Restores frames, and notes their faces and failures in `result`, whose `frames` numbers the next one. last_error: of a kept frame."""

    def __init__(self, source: Path, restorer: FaceRestorer, result: VideoResult, progress: Progress) -> None:
        self._source, self._restorer, self._result, self._progress = source, restorer, result, progress
        self._taken: deque[Any] = deque()  # frames that are read, and not restored yet
        self._lead = 0  # frames to come that an earlier run has written
        self._begun = False
        self.colours = Colours()  # of the video, once its first frame is read
        self.last_error: Exception | None = None
        self.trail: Trail | None = None

    def go_on(self, colours: Colours, lead: int) -> None:
        """Goes on where an earlier run ended. lead: so many frames come first that it has written; they are restored, but not yielded."""
        self.colours, self._lead, self._begun = colours, lead, True

    def each(self, frames: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        """Yields every frame in its order with its upright restored RGB array, or None if it stays unchanged.

        Frames are read ahead as FaceRestorer.sequence() takes pictures. Once the progress says stop, no other frame is begun; those that
        the network has begun then are finished.
        """
        done = self._each(frames)
        while self._lead and next(done, None) is not None:
            self._lead -= 1
        yield from done

    def _each(self, frames: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        more: dict[str, Any] = {} if self.trail is None else {"trail": self.trail}
        while True:
            aside: list[Exception | None] = []  # why the last frame taken is not to be restored; None: stopped
            done = self._restorer.sequence(self._pictures(frames, aside), stop=self._progress.stop, **more)
            for pixels in map(self._pixels, done):  # a result itself is in no variable: it holds every face
                yield self._taken.popleft(), pixels
            while len(self._taken) > len(aside):  # only after a stop
                yield self._taken.popleft(), None
            if not aside:
                return
            yield self._taken.popleft(), None if aside[0] is None else self._pixels(aside[0])

    def _pictures(self, frames: Iterator[Any], aside: list[Exception | None]) -> Iterator[Any]:
        """The frames as upright RGB, up to one that is not to be restored."""
        for frame in frames:
            if not self._begun:
                self.colours, self._begun = Colours.of(frame), True
            self._taken.append(frame)
            if self._progress.stop():
                aside.append(None)
                return
            try:
                picture = upright(frame, self.colours)
            except PICTURE_ERRORS as error:
                aside.append(error)
                if self.trail is not None:
                    self.trail.passed()
                return
            yield picture

    def _pixels(self, done: RestoreResult | Exception) -> Any:
        """The restored RGB array of the next frame, or None if that stays unchanged."""
        result = self._result
        if isinstance(done, (SettingsError, WeightsError, FeatureMissingError)):  # these concern every frame
            raise done
        if self._lead:
            return None
        if isinstance(done, Exception):
            result.kept += 1
            self.last_error = done
            level = logging.WARNING if result.kept <= 3 else logging.DEBUG  # the total is logged at the end
            details = done if log.isEnabledFor(logging.DEBUG) else None
            log.log(level, "%s: frame %d is left unchanged: %s", self._source, result.frames, done, exc_info=details)
            return None
        result.faces.extend({"frame": result.frames, **face.to_json()} for face in done.faces)
        touched = any(face.status == "restored" for face in done.faces)
        # When enlarging, use the restorer's result for every frame, so that the background looks the same with and without faces.
        return done.image if touched or done.scale != 1 else None


def turns_of(frame: Any) -> int:
    """How many quarter turns, counterclockwise, make the frame upright."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def upright(frame: Any, colours: Colours) -> Any:
    """The frame as an upright RGB array."""
    return np.ascontiguousarray(np.rot90(to_rgb(frame, colours), turns_of(frame)))
