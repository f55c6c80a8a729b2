"""One network for the whole host: loaded on first use, moved where the host wants it, kept until another is needed."""

from __future__ import annotations

import dataclasses
import logging
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gpen_core.errors import GpenError, WeightsError
from gpen_core.faces.detect import Detector, make_detector
from gpen_core.network.load import find_model, load_network
from gpen_core.network.place import place
from gpen_core.options import AUTO, RestoreOptions
from gpen_core.pixels import Pixels
from gpen_core.restore.restorer import FaceRestorer
from gpen_core.restore.results import RestoreResult
from gpen_core.restore.tasks import TaskRestorer
from gpen_core.runtime import is_out_of_memory, pick_device, pick_dtype
from gpen_core.task_options import TaskOptions
from gpen_core.weights.catalog import Task
from gpen_core.weights.files import LOG, Resolved
from gpen_core.weights.folders import search_folders

from . import host
from .progress import HostProgress

if TYPE_CHECKING:
    from gpen_core.network.fused import FusedGenerator

log = logging.getLogger(__name__)
_CPU = torch.device("cpu")
_SILENT = logging.Logger("gpen_webui.silent", logging.CRITICAL)


@dataclass(frozen=True)
class _Key:
    """What a loaded network was made from. A replaced file counts as a different one."""

    path: Path
    changed: int
    dtype: torch.dtype


class Engine:
    """Restores pictures with one network and one detector at a time. Thread-safe: callers wait for each other."""

    def __init__(self) -> None:
        self.model: str | None = None  # name of the last model used; None if it failed
        self._progress = HostProgress()
        self._lock = threading.RLock()
        self._key: _Key | None = None
        self._network: FusedGenerator | None = None
        self._placed: torch.device | None = None  # where the network computes; None while it waits in RAM
        self._detector: tuple[str, torch.device, Detector] | None = None
        self._restorer: FaceRestorer | TaskRestorer | None = None
        self._person: Any = None  # the picture that the restorer was made with
        self._auto_found = False

    def run(self, picture: Any, options: RestoreOptions | TaskOptions, hole: Pixels | None = None, *, person: Any = None) -> RestoreResult:
        """Restores the picture, or does another task. picture: as FaceRestorer accepts it; the device `auto` means the host's device.

        hole: for inpainting. person: a picture of the person whose faces count; None for everyone's.
        Raises GpenError, with a message for users, if nothing could be done.
        """
        with self._lock, self._progress.shown():
            self.model = None
            shared = options.shared if isinstance(options, TaskOptions) else options
            device = host.device() if shared.device == AUTO else pick_device(shared.device)
            if device.type != "cpu":
                host.make_room()
            try:
                result = self._attempt(picture, options, device, person, {} if hole is None else {"hole": hole})
            except BaseException as error:
                self._clear_up_after(error)
                raise
            if host.unload_after():
                self.unload()
            self.model = result.model
            return result

    def unload(self) -> None:
        """Moves the network into RAM and drops everything else that may be on the device."""
        with self._lock:
            self._restorer = self._person = None
            if self._detector is not None and self._detector[1].type != "cpu":
                self._detector = None
            if self._placed is not None and self._placed.type != "cpu":
                self._placed = None
            if self._network is not None:
                try:
                    with _own_modes(_CPU):
                        self._network.to("cpu")  # unchanged, as it only waits there
                except Exception as error:  # nothing can be read from a failed device; the file is loaded again later
                    log.debug("the network could not be moved: %s", error, exc_info=True)
                    self._network = self._key = None
            host.empty_caches()

    def _clear_up_after(self, error: BaseException) -> None:
        """Frees the device after a failure, which may have been a lack of memory. Never raises, so that it does not hide the error."""
        reason: BaseException | None = error
        while reason is not None:
            traceback.clear_frames(reason.__traceback__)  # they keep tensors alive as long as the error is kept
            reason = reason.__cause__ or reason.__context__
        try:
            self.unload()
        except Exception:
            log.debug("clearing up also failed", exc_info=True)

    def _attempt(
        self, picture: Any, options: RestoreOptions | TaskOptions, device: torch.device, person: Any, more: dict[str, Any]
    ) -> RestoreResult:
        for everything in (False, True):
            if everything:  # out here: inside the handler, the traceback would keep the failed call's tensors alive
                host.make_room(everything=True)
            try:
                with _own_modes(device):
                    return self._ready(options, device, person)(picture, **more)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if everything:
                    model = options.shared.model if isinstance(options, TaskOptions) else options.model
                    raise GpenError(
                        f"not enough memory on {device} for {model}, even after unloading everything else; choose a smaller model, "
                        f"or run it on the CPU (A1111: --use-cpu {host.TASK})"
                    ) from error
        raise AssertionError("the second attempt returns or raises")

    def _ready(self, options: RestoreOptions | TaskOptions, device: torch.device, person: Any) -> FaceRestorer | TaskRestorer:
        """A restorer for the options, its network on the device."""
        task: Task = options.task if isinstance(options, TaskOptions) else "restore"
        shared = options.shared if isinstance(options, TaskOptions) else options
        found = self._resolve(shared.model, task)
        key = _Key(found.path, found.path.stat().st_mtime_ns, pick_dtype(shared.precision, device))
        if self._network is None or self._key != key:
            self._network = self._key = self._restorer = None  # frees the old one before the new one needs the memory
            host.empty_caches()
            self._progress.say(f"is loading {found.name}")
            self._network = load_network(found.path, device, key.dtype)
            self._key = key
        elif self._placed != device:
            place(self._network, device)
        self._placed = device
        shared = dataclasses.replace(shared, device=str(device))
        wanted = dataclasses.replace(options, shared=shared) if isinstance(options, TaskOptions) else shared
        if self._restorer is None or self._restorer.options != wanted or self._person is not person:
            self._person = person
            how: Any = {
                "models_dir": host.models_dir(),
                "extra_folders": host.extra_folders(),
                "progress": self._progress,
                "network": self._network,
                "template": found.template,
                "person": person,
                "detector": None if shared.aligned else self._detector_for(shared.detector, device),
            }
            self._restorer = TaskRestorer(wanted, **how) if isinstance(wanted, TaskOptions) else FaceRestorer(wanted, **how)
            self._restorer.model_name = found.name
        return self._restorer

    def _resolve(self, model: str, task: Task) -> Resolved:
        """The weight file. For `auto`, servers are asked only once: the pictures of a batch must not wait for them again."""
        again = model == AUTO and task == "restore" and self._auto_found
        try:
            found = find_model(
                model,
                host.models_dir(),
                task=task,
                extra_folders=host.extra_folders(),
                progress=self._progress.fetched,
                offline=True if again else None,
                log=_SILENT if again else LOG,
            )
        except WeightsError as error:
            error.elsewhere = "To add another folder, start the WebUI with --gpen-models-path."
            raise
        self._auto_found = self._auto_found or (model == AUTO and task == "restore")
        return found

    def _detector_for(self, name: str, device: torch.device) -> Detector:
        if self._detector is None or self._detector[:2] != (name, device):
            folders = [*host.extra_folders(), *search_folders(host.models_dir())]
            self._detector = (name, device, make_detector(name, device=str(device), weights_folders=folders))
        return self._detector[2]


ENGINE = Engine()


@contextmanager
def _own_modes(device: torch.device) -> Generator[None, None, None]:
    """Switches off the host's torch modes.

    The host, or an extension that calls its restorer, may be inside torch.autocast, which would override our precision setting. Forge
    generates in inference mode, and a network loaded there could not be moved outside it.
    """
    with torch.inference_mode(False), torch.no_grad():
        if device.type in ("cpu", "cuda", "xpu"):
            with torch.autocast(device.type, enabled=False):
                yield
        else:
            yield
