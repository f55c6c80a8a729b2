"""Reads a video: its frames, and on the way the packets of the tracks that are copied. Also from where an earlier run ended."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PictureError
from . import parts
from .copying import Copies
from .parts import MisfitError, Start
from .rate import Rate
from .restored import VideoResult
from .span import Cut

log = logging.getLogger(__name__)


class Reading:
    """Yields frames. damaged: how many packets were skipped. marks: of frames before the end of a segment, by their numbers."""

    def __init__(
        self,
        av: Any,
        source: Path,
        container: Any,
        video: Any,
        copies: Copies,
        cut: Cut | None,
        rate: Rate | None,
        result: VideoResult,
        marks: bool,
    ) -> None:
        self._av, self._source, self._container, self._video, self._rate = av, source, container, video, rate
        self._copies, self._cut, self._result = copies, cut, result
        self._number = 0  # of the next packet of the picture
        self._skip = 0  # packets before this need not be decoded
        self._keys: deque[tuple[int, int]] = deque()  # (number, time) of key frames
        self._marks: deque[tuple[int, int | None, str, int | None]] | None = deque() if marks else None
        self.reached: Callable[[Fraction], None] = lambda time: None  # told the times of packets of the picture
        self.damaged = 0

    def frames(self) -> Generator[Any, None, None]:
        """Yields the readable frames of the picture track, and copies the packets of other tracks on the way."""
        yield from self._marked(self._all(), 0)

    def frames_from(self, start: Start, with_lead: bool) -> Generator[Any, None, None]:
        """As frames(), from where an earlier run ended. with_lead: and the LEAD frames before. Raises MisfitError if they are others."""
        self._skip = (start.last.key or 0) if start.quick else 0
        frames, lead = self._all(), start.last.lead
        first = start.frames - len(lead)
        if start.quick:
            frames = self._up_to(frames, lead[0][0])
        else:
            for _ in range(first):
                if next(frames, None) is None:
                    raise MisfitError
        frames = self._marked(frames, first)
        for time, digest, _ in lead:
            frame = next(frames, None)
            if frame is None or frame.pts != time or digest_of(frame) != digest:
                raise MisfitError
            if with_lead:
                yield frame
        yield from frames

    @staticmethod
    def _up_to(frames: Iterator[Any], time: int) -> Iterator[Any]:
        """The frames from that time on."""
        for frame in frames:
            if frame.pts is None or frame.pts > time:
                raise MisfitError
            if frame.pts == time:
                yield frame
                break
        yield from frames

    def _marked(self, frames: Iterator[Any], first: int) -> Iterator[Any]:
        """Remembers frames by which a run that goes on will know its place."""
        for number, frame in enumerate(frames, first):
            if self._marks is not None and -(number + 1) % parts.SEGMENT < parts.LEAD:
                self._marks.append((number, frame.pts, digest_of(frame), self._key_before(frame.pts)))
            yield frame

    def _key_before(self, time: int | None) -> int | None:
        """The last packet from which a frame can be decoded."""
        if time is None or self.damaged:
            return None
        found: int | None = None
        while self._keys and self._keys[0][1] <= time:
            found = self._keys.popleft()[0]
        if found is not None:
            self._keys.appendleft((found, time))
        return found

    def lead_of(self, end: int) -> tuple[list[tuple[int | None, str]], int | None]:
        """((time, sum) of the LEAD frames before that frame, the packet from which the first can be decoded)."""
        marks = self._marks or deque()
        while marks and marks[0][0] < end - parts.LEAD:
            marks.popleft()
        lead = [mark for mark in marks if mark[0] < end]
        known = bool(lead) and all(time is not None for _, time, _, _ in lead)
        return [(time, digest) for _, time, digest, _ in lead], lead[0][3] if known else None

    def _all(self) -> Iterator[Any]:
        return self._whole() if self._rate is None else filter(self._rate.keeps, self._whole())

    def _whole(self) -> Iterator[Any]:
        if self._cut is None:
            yield from self._read()
            return
        self._cut.waits = {index for index, copy in self._copies.tracks.items() if copy.type == "audio"}
        self._cut.seek(self._av, self._source, self._container)
        yield from filter(self._cut.has_frame, self._read())
        if self._cut.over:
            self._result.cut = False  # the file may be cut short, but not the span

    def _read(self) -> Generator[Any, None, None]:
        """As _whole, of all that is read."""
        packets = self._container.demux([self._video, *(self._container.streams[index] for index in self._copies.tracks)])
        while True:
            try:
                packet = next(packets, None)
            except (self._av.error.InvalidDataError, EOFError) as error:  # FFmpeg cannot read any further
                log.debug("%s: reading ended early: %s", self._source, error)
                self._result.cut = True
                yield from self._decoded(self._video.codec_context.decode)  # the frames still in the decoder
                return
            except (self._av.FFmpegError, OSError) as error:
                raise PictureError(f"cannot read the video {self._source}: {getattr(error, 'strerror', None) or error}") from error
            if packet is None or (self._cut is not None and self._cut.ends_with(packet)):
                return
            if packet.stream.index == self._video.index:
                if self._cut is not None and self._cut.over:
                    continue  # only sound is still to come
                yield from self._of_packet(packet)
            else:
                self._copies.take(packet)

    def _of_packet(self, packet: Any) -> Any:
        """The frames that a packet of the picture gives."""
        number, self._number = self._number, self._number + 1
        if packet.dts is not None:
            self.reached(packet.dts * packet.time_base)
        if number < self._skip and packet.size:  # the last, an empty one, makes the decoder give the rest
            return ()
        if self._marks is not None and packet.is_keyframe and packet.pts is not None:
            self._keys.append((number, packet.pts))
        return self._decoded(packet.decode)

    def _decoded(self, decode: Callable[[], Any]) -> Any:
        try:
            return decode()
        except self._av.error.InvalidDataError:
            self.damaged += 1
            return ()


def digest_of(frame: Any) -> str:
    """A sum of the frame's pixels as they were decoded; without what lies between its rows, which nobody sets."""
    digest = blake2b(f"{frame.format.name} {frame.width}x{frame.height}".encode(), digest_size=16)
    for plane in frame.planes:
        with suppress(ValueError):  # rows from the bottom to the top: then its time must do
            rows = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)
            digest.update(np.ascontiguousarray(rows[:, : plane.width]).tobytes())
    return digest.hexdigest()
