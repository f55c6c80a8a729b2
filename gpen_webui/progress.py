"""The host's progress bar and its Interrupt and Skip buttons, as the core sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from modules import shared

from gpen_core.errors import GpenError
from gpen_core.progress import Progress

from .host import NAME


class Stopped(GpenError):
    """The user pressed Interrupt or Skip before any face was restored (while weights were fetched)."""


class HostProgress(Progress):
    """Shows "GPEN face 3/7" in the host's bar; Interrupt and Skip end the work after the face at hand.

    `stopping_generation` ("after the current picture") is not asked: the current picture is to be finished.
    """

    def report(self, done: int, total: int, what: str, preview: npt.NDArray[np.float32] | None = None) -> None:
        self.say(what if what.startswith("face ") else f"is {what[:1].lower()}{what[1:]}")  # "face 1/3", "looking for faces"

    def say(self, what: str) -> None:
        shared.state.textinfo = f"{NAME} {what}"

    def stop(self) -> bool:
        return bool(shared.state.interrupted or shared.state.skipped)

    def fetched(self, done: int, total: int | None) -> None:
        """Told while weights are downloaded. Raises Stopped; what was fetched stays, and the next try goes on from there."""
        self.say(f"is fetching weights: {done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f}" if total else ""))
        if self.stop():
            raise Stopped("stopped while its weights were being fetched; the next picture goes on with the download")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Whatever the bar said before, it says again afterwards."""
        before = getattr(shared.state, "textinfo", None)
        try:
            yield
        finally:
            shared.state.textinfo = before
