"""Fewer frames a second (`--fps N`): which frames stay. The others are neither restored nor written; times and sound are as they were."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ..errors import SettingsError, shown

_MOST = 1000


def rate_of(fps: Fraction | float | str) -> Fraction:
    """A number of frames a second, such as 12, "12.5" or "30000/1001". Raises SettingsError."""
    try:
        rate = Fraction(str(fps))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= _MOST:
        raise SettingsError(
            f"fps must be a number of frames a second, above 0 and up to {_MOST}, such as 12 or 30000/1001; {shown(str(fps))} is not"
        )
    return rate


class Rate:
    """Keeps the first frame of each 1/fps second. That depends on no frame but the one before, so a run that goes on keeps the same."""

    def __init__(self, fps: Fraction, video: Any) -> None:
        self.fps, self._video = fps, video
        self._rate: Fraction = video.average_rate or Fraction(25)
        self._last: Fraction | None = None  # time of the frame before

    def keeps(self, frame: Any) -> bool:
        """Whether a frame stays; they come in the order of their times. One that stays is shown for at least 1/fps second."""
        base: Fraction = frame.time_base or self._video.time_base
        before = self._last
        missing = Fraction(0) if before is None else before + 1 / self._rate
        time = self._last = missing if frame.pts is None else frame.pts * base
        # Times in whole units (milliseconds in .mkv) tremble, so a video that has no more frames anyway keeps all.
        if self.fps < self._rate and before is not None and self._place(time, base) == self._place(before, base):
            return False
        frame.pts = round(time / base)  # a frame without a time has one now: the encoder would not know how many were left out
        if hasattr(frame, "duration"):
            frame.duration = max(frame.duration or 0, round(1 / (self.fps * base)))
        return True

    def _place(self, time: Fraction, base: Fraction) -> int:
        """The number of the 1/fps second; half a unit is added, because containers round times to whole units."""
        return int((time + base / 2) * self.fps // 1)

    def limited(self, rate: Fraction) -> Fraction:
        """A video's frames a second, of which at most `fps` stay."""
        return min(rate, self.fps)
