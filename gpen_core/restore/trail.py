"""Which faces of frames in a row are one, frame by frame: so that a run that goes on where another ended follows faces as that one did."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

HELD = 512  # frames whose numbers are held; sequence() is never so far ahead


@dataclass
class Trail:
    """known: for each of the first frames, in their order, the numbers of its faces' tracks (None: unknown). first: number of the first
    frame."""

    known: deque[Sequence[int] | None] = field(default_factory=lambda: deque())
    first: int = 0
    _seen: deque[Sequence[int] | None] = field(default_factory=lambda: deque(maxlen=HELD))
    _count: int = 0

    def expected(self) -> Sequence[int] | None:
        """The numbers of the next frame's faces, if they are known."""
        return self.known.popleft() if self.known else None

    def note(self, numbers: Sequence[int] | None) -> None:
        """Takes the numbers of the next frame's faces; None: it was not looked at."""
        self._seen.append(numbers)
        self._count += 1

    def passed(self) -> None:
        """The next frame is not looked at."""
        self.expected()
        self.note(None)

    def of(self, frame: int) -> Sequence[int] | None:
        """The numbers of a frame's faces."""
        place = frame - self.first - self._count + len(self._seen)
        return self._seen[place] if 0 <= place < len(self._seen) else None
