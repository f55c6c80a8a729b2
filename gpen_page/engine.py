"""One network at a time for everyone who uses the page or the API; one restoration at a time, the others wait for their turn."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpen_core.errors import GpenError
from gpen_core.faces.detect import Detector, make_detector
from gpen_core.network.load import find_model, load_network
from gpen_core.options import RestoreOptions
from gpen_core.progress import Progress
from gpen_core.restore.restorer import FaceRestorer
from gpen_core.runtime import pick_device
from gpen_core.weights.files import Resolved

_WAIT = 0.2  # seconds between two looks at whether someone who waits has pressed Cancel


class Cancelled(GpenError):
    """The user pressed Cancel before any face was restored."""


class Job(Progress):
    """One restoration that somebody waits for. show(share done or None, text) is told how far it is."""

    def __init__(self, show: Callable[[float | None, str], None] = lambda share, text: None) -> None:
        self._show = show
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Stops it: after the current face, or at once if it still waits or downloads. May be called from any thread."""
        self._cancelled.set()

    def report(self, done: int, total: int, what: str, preview: npt.NDArray[np.float32] | None = None) -> None:
        self.say(done / total if total else None, what[:1].upper() + what[1:])

    def stop(self) -> bool:
        return self._cancelled.is_set()

    def say(self, share: float | None, text: str) -> None:
        """Tells whoever waits."""
        self._show(share, text)

    def check(self) -> None:
        """Raises Cancelled if it was cancelled."""
        if self.stop():
            raise Cancelled("cancelled")


class _Relay(Progress):
    """Hands on to the job whose turn it is: restorers outlive jobs."""

    def __init__(self) -> None:
        self.job = Job()

    def report(self, done: int, total: int, what: str, preview: npt.NDArray[np.float32] | None = None) -> None:
        self.job.report(done, total, what, preview)

    def stop(self) -> bool:
        return self.job.stop()

    def fetched(self, name: str, done: int, total: int | None) -> None:
        """Of a download. What is there stays there when it is cancelled: the next one goes on from it."""
        self.job.say(
            done / total if total else None, f"Downloading {name}: {done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f} MB" if total else "")
        )
        if self.job.stop():
            raise Cancelled("cancelled; the next download goes on where this one ended")


class Engine:
    """Keeps the last network, detector and restorer. models_dir: the folder that holds GPEN/ (see gpen_core)."""

    def __init__(self, models_dir: Path | None = None) -> None:
        self.models_dir = models_dir
        self._turn = threading.Lock()
        self._relay = _Relay()
        self._network: tuple[tuple[Any, ...], Any] | None = None
        self._detector: tuple[tuple[str, str], Detector] | None = None
        self._restorer: FaceRestorer | None = None
        self._person: Any = None

    @contextmanager
    def turn(self, job: Job) -> Generator[None, None, None]:
        """Waits until nothing else is being restored. Raises Cancelled."""
        while not self._turn.acquire(timeout=_WAIT):
            job.say(None, "Waiting for another restoration")
            job.check()
        try:
            job.check()
            self._relay.job = job
            yield
        finally:
            self._relay.job = Job()
            self._turn.release()

    def restorer(self, options: RestoreOptions, person: Any = None) -> FaceRestorer:
        """A restorer for the options; only within turn(). Calls that differ only in the numbers of faces share one.

        person: a picture of the person, in place of the path in the options.
        """
        same = dataclasses.replace(options, faces="")
        if self._restorer is None or dataclasses.replace(self._restorer.options, faces="") != same or self._person is not person:
            self._restorer = _Sharing(self, options, person)
            self._person = person
        self._restorer.options = options
        return self._restorer

    def find(self, model: str) -> Resolved:
        """The weights of a model, downloaded if they are missing; only within turn(). Raises WeightsError."""
        return find_model(model, self.models_dir, task="restore", progress=lambda done, total: self._relay.fetched(model, done, total))

    def network(self, found: Resolved, device: Any, dtype: Any) -> Any:
        """The network, loaded unless it is the last one."""
        key = (found.path, found.path.stat().st_mtime_ns, str(device), dtype)
        if self._network is None or self._network[0] != key:
            self._network = None  # frees the old one before the new one needs the memory
            self._relay.job.say(None, f"Loading {found.name}")
            self._network = key, load_network(found.path, device, dtype, or_cpu=True)
        return self._network[1]

    def detector(self, name: str, device: str, folders: Sequence[Path]) -> Detector:
        """The detector, made unless it is the last one."""
        if self._detector is None or self._detector[0] != (name, device):
            self._detector = (name, device), make_detector(name, device=device, weights_folders=folders)
        return self._detector[1]

    @property
    def progress(self) -> Progress:
        """Tells the job whose turn it is."""
        return self._relay


class _Sharing(FaceRestorer):
    """A restorer whose network and detector are the engine's."""

    def __init__(self, engine: Engine, options: RestoreOptions, person: Any) -> None:
        self._engine = engine
        super().__init__(options, models_dir=engine.models_dir, progress=engine.progress, person=person)

    def _prepare_detector(self) -> Detector:
        device = str(pick_device(self.options.device))
        self._detector = self._engine.detector(self.options.detector, device, self._weights_folders())
        return self._detector

    def _load_network(self, device: Any, dtype: Any) -> None:
        found = self._engine.find(self.options.model)
        self.weights, self.note, self.model_name, self.template = found.path, found.note, found.name, found.template
        self._network = self._engine.network(found, device, dtype)
