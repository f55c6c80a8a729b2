"""The host's progress bar and its Interrupt and Skip buttons, as the core sees them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from modules import shared

from gpen_core.errors import GpenError
from gpen_core.progress import Progress

from .host import NAME


class Stopped(GpenError):
    """The user pressed Interrupt or Skip while weights were being downloaded, before any face was restored."""


class HostProgress(Progress):
    """Shows "GPEN face 3/7" in the host's bar. Interrupt and Skip stop the work after the current face.

    `stopping_generation` (stop after the current picture) is ignored, as the current picture should be finished.
    """

    def report(self, done: int, total: int, what: str, preview: npt.NDArray[np.float32] | None = None) -> None:
        self.say(what if what.startswith("face ") else f"is {what[:1].lower()}{what[1:]}")  # "face 1/3", "looking for faces"

    def say(self, what: str) -> None:
        shared.state.textinfo = f"{NAME} {what}"

    def stop(self) -> bool:
        return bool(shared.state.interrupted or shared.state.skipped)

    def fetched(self, done: int, total: int | None) -> None:
        """Called during a download. Raises Stopped; the part already downloaded is kept, and the next attempt resumes there."""
        self.say(f"is downloading weights: {done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f}" if total else ""))
        if self.stop():
            raise Stopped("stopped while downloading weights; the next picture resumes the download")

    @contextmanager
    def shown(self) -> Generator[None, None, None]:
        """Restores the bar's earlier text afterwards."""
        before = getattr(shared.state, "textinfo", None)
        try:
            yield
        finally:
            shared.state.textinfo = before
