"""The part of a video that is restored (`--trim START-END`): how it is written, and which frames, packets and chapters lie in it.

Times count from the beginning of the file, as players show them. They are fractions, because frames of 29.97 a second have no exact
decimal time. START belongs to the span, END does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import PictureError, SettingsError, shown

_TIME = re.compile(r"(?:(?:(?P<hours>\d+):(?=\d\d:))?(?P<minutes>\d+):(?=\d\d(?:\.|$)))?(?P<seconds>\d+(?:\.\d+)?)", re.ASCII)
_MARGINS = (1, 10, 60)  # seconds before START at which to look for a key frame, before the file is read from its beginning
_LATE = 10  # seconds by which packets of a file's tracks may be stored later than those of others


@dataclass(frozen=True)
class Span:
    """From `start` up to `end`, in seconds; end None: to the end of the video."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    @classmethod
    def parse(cls, text: str) -> Span:
        """START-END, each in seconds or h:mm:ss, with decimals; either may be missing. Raises SettingsError."""
        before, dash, after = text.strip().partition("-")
        if not dash or not (before or after):
            raise SettingsError(f"the span {shown(text)!r} is not START-END, such as 10-20, 1:05- or -30")
        span = cls(_seconds(before, text) if before else Fraction(0), _seconds(after, text) if after else None)
        if span.end is not None and span.end <= span.start:
            raise SettingsError(f"the span {shown(text)!r} is empty: its end must come after its start")
        return span

    def __str__(self) -> str:
        return f"{_written(self.start)}-{'' if self.end is None else _written(self.end)}"


def _seconds(text: str, whole: str) -> Fraction:
    found = _TIME.fullmatch(text)
    if found is None or (found["hours"] and int(found["minutes"]) > 59) or (found["minutes"] and float(found["seconds"]) >= 60):
        raise SettingsError(
            f"{shown(text)!r} in the span {shown(whole)!r} is not a time: write seconds or h:mm:ss, such as 95, 1:35 or 0:01:35.5"
        )
    return int(found["hours"] or 0) * 3600 + int(found["minutes"] or 0) * 60 + Fraction(found["seconds"])


def _written(seconds: Fraction) -> str:
    """Decimal seconds, without loss: a parsed time has finitely many digits."""
    digits = 0
    while (seconds * 10**digits).denominator != 1 and digits < 30:
        digits += 1
    whole, rest = divmod(round(seconds * 10**digits), 10**digits)
    return f"{whole}.{rest:0{digits}}" if digits else str(whole)


def open_options(av: Any) -> dict[str, str]:
    """Options for av.open(): wrong letters in a video's texts are replaced. PyAV 19 has no such option any more."""
    return {"metadata_errors": "replace"} if int(str(av.__version__).partition(".")[0]) < 19 else {}


def check_span(av: Any, source: Path, span: Span) -> None:
    """Raises PictureError if a video ends before the span begins. What cannot be opened or says no length passes."""
    try:
        with av.open(str(source), **open_options(av)) as container:
            length = Fraction(container.duration or 0, 1_000_000)
    except (av.FFmpegError, OSError, IndexError):
        return
    if 0 < length <= span.start:
        raise PictureError(f"{source}: the span {span} begins after the end of the video, which is {float(length):.2f} seconds long")


class Cut:
    """Applies a span to one video. With START 0 nothing moves in time; otherwise the first frame of the span gets the time 0."""

    def __init__(self, span: Span, reading: Any, video: Any) -> None:
        origin = Fraction(reading.start_time or 0, 1_000_000)
        self.span, self._video, self._rate = span, video, video.average_rate or Fraction(25)
        self.start = origin + span.start if span.start else None  # None: from the beginning, whatever its time
        self.end = None if span.end is None else origin + span.end
        self.has_read = False  # any frame
        self.over = False  # a frame at or beyond the end was read
        self.waits: set[int] = set()  # sound tracks of which packets of the span may still come
        self.zero: Fraction | None = None  # time of the first frame
        self._begun = False  # the first frame was read
        self._last: Fraction | None = None

    def seek(self, av: Any, source: Path, reading: Any) -> None:
        """Moves to a place from which all frames of the span can be decoded."""
        if self.start is None:
            return
        for margin in _MARGINS:
            place = int((self.start - margin) / self._video.time_base)
            if self.start <= margin:
                return
            with av.open(str(source), **open_options(av)) as trial:
                video = trial.streams[self._video.index]
                try:
                    trial.seek(place, stream=video)
                    frame = next(iter(trial.decode(video)), None)
                except (av.FFmpegError, OSError):
                    continue
            # Some containers land on a later key frame, or between two.
            if frame is not None and frame.key_frame and frame.pts is not None and frame.pts * frame.time_base <= self.start:
                reading.seek(place, stream=self._video)
                return

    def has_frame(self, frame: Any) -> bool:
        """Whether a frame lies in the span; they come in the order of their times."""
        base = frame.time_base or self._video.time_base
        after = Fraction(0) if self._last is None else self._last + 1 / self._rate
        time = self._last = after if frame.pts is None else frame.pts * base
        frame.pts, self.has_read = round(time / base), True
        self.over = self.over or (self.end is not None and time >= self.end)
        if self.over or (not self._begun and self.start is not None and time < self.start):
            return False
        self._begun = True
        if self.zero is None:  # a run that goes on knows it before
            self.zero = time
        return True

    def moved(self, pts: int, base: Fraction) -> int:
        """The time of a frame or packet in the result."""
        return pts if self.start is None or self.zero is None else pts - round(self.zero / base)

    def ends_with(self, packet: Any) -> bool:
        """Once the frames are over: whether nothing of the span can come after this packet."""
        time = packet.pts if packet.dts is None else packet.dts
        if self.end is None or time is None:
            return False
        if time * packet.time_base >= self.end:
            self.waits.discard(packet.stream.index)
        return self.over and (not self.waits or time * packet.time_base >= self.end + _LATE)

    def might_need(self, packet: Any) -> bool:
        """Whether a packet of another track reaches into the span, as far as that is known before its first frame."""
        begin, end = _times(packet)
        return (self.end is None or begin < self.end) and (self.start is None or end > self.start)

    def take(self, packet: Any, kind: str) -> bool:
        """Moves a packet in time; False if it lies before the first frame. Sound stays whole, subtitles are shortened to the span."""
        begin, end = _times(packet)
        zero = self.zero if self.start is not None else None
        if zero is not None and end <= zero:
            return False
        base = packet.time_base
        if kind == "subtitle":
            first = begin if zero is None else max(begin, zero)
            last = end if self.end is None else min(end, self.end)
            packet.pts = packet.dts = round(first / base)
            packet.duration = max(0, round((last - first) / base)) if packet.duration else packet.duration
        if packet.pts is not None:
            packet.pts = self.moved(packet.pts, base)
        if packet.dts is not None:
            packet.dts = self.moved(packet.dts, base)
        return True

    def chapters(self, found: list[Any]) -> list[Any]:
        """The chapters that reach into the span, shortened to it."""
        kept: list[Any] = []
        for chapter in found:
            base = chapter["time_base"]
            begin, end = chapter["start"], chapter["end"]
            if self.end is not None:
                end = min(end, round(self.end / base))
            if self.start is not None:
                begin, end = (max(0, time - round(self.start / base)) for time in (begin, end))
            if begin < end:
                kept.append({**chapter, "start": begin, "end": end})
        return kept

    def frames(self, length: Fraction) -> int:
        """How many frames to expect of a video of that many seconds."""
        end = length if self.span.end is None else min(length, self.span.end)
        return max(0, round((end - self.span.start) * self._rate))


def _times(packet: Any) -> tuple[Fraction, Fraction]:
    """When a packet begins and ends."""
    begin = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
    return begin, begin + max(packet.duration or 0, 1) * packet.time_base
