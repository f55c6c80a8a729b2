"""How the core reports progress and asks whether to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Progress:
    """Reports progress and says whether to stop. Override what you need; this class is silent and never stops.

    Every step that can take half a second asks: detection, enlarging in strips or tiles, each face, and the network within one.
    An exception raised in `report` or `stop` (a host's interrupt) passes through the core unchanged.
    """

    def report(self, done: int, total: int, what: str, preview: npt.NDArray[np.float32] | None = None) -> None:
        """`done` of `total` steps are over; `what` is a short text for users; `preview` the last restored face, (S, S, 3) 0..1."""

    def stop(self) -> bool:
        """True: keep the finished faces and return. An unfinished face or enlargement is discarded."""
        return False


class Stopped(Exception):
    """Internal: a step was stopped and its unfinished result is discarded. The core catches it before it reaches a host."""
