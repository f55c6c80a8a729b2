"""How the core says how far it is, and asks whether to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Progress:
    """Override what you need; this one is silent and never stops.

    Every step that can last half a second asks: looks for faces, enlarging in strips or tiles, each face, and the network within one.
    An exception raised in `report` or `stop` (a host's interrupt) passes through the core untouched.
    """

    def report(self, done: int, total: int, what: str, preview: npt.NDArray[np.float32] | None = None) -> None:
        """`done` of `total` steps are over; `what` is a short text for people; `preview` the last restored face, (S, S, 3) 0..1."""

    def stop(self) -> bool:
        """True: keep the faces that are done and return. What is half done (a face, an enlarged picture) is left as it was."""
        return False


class Stopped(Exception):
    """Within the core: a step was asked to stop, and what it has done so far is of no use. It is caught before it reaches a host."""
