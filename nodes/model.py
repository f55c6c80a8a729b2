"""The type GPEN_MODEL: a loaded GPEN network. ComfyUI manages its memory and may unload it at any time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..gpen_core.errors import SettingsError
from ..gpen_core.weights.catalog import Task
from .devices import DEFAULT, find_device
from .folders import AUTO, FOLDER, gpen_folders, model_path, models_dir, search_folders
from .host import full_load, interrupted, out_of_memory

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.utils import ProgressBar as HostBar

    from ..gpen_core.network.fused import FusedGenerator
    from ..gpen_core.weights.files import Resolved

GPEN_MODEL = "GPEN_MODEL"
T = TypeVar("T")
log = logging.getLogger(__name__)

NODE_OF_TASK: dict[Task, str] = {
    "restore": "Restore Faces (GPEN)",
    "colorize": "Colorize Face (GPEN)",
    "inpaint": "Inpaint Face (GPEN)",
    "seg2face": "Segmentation to Face (GPEN)",
}
# Values held at once per pixel of the network's full size: the measured maximum, rounded up.
_VALUES_PER_PIXEL = 160


@dataclass(eq=False)
class GpenModel:
    """A loaded model. patcher: ComfyUI's ModelPatcher for the network. note: short lines to show the user, or None."""

    name: str
    task: Task
    template: str
    network: FusedGenerator
    patcher: ModelPatcher
    note: str | None = None

    @property
    def size(self) -> int:
        """Side of the square the network restores, in pixels."""
        return self.network.size

    def made_for(self, task: Task) -> GpenModel:
        """Returns self. Raises SettingsError if the model was made for another task."""
        if self.task != task:
            raise SettingsError(f"{self.name} is made for another task: connect it to {NODE_OF_TASK[self.task]}.")
        return self


class Session:
    """One run of a node: loads the model onto the device for every picture, and continues on the CPU if memory runs out."""

    def __init__(self, model: GpenModel) -> None:
        self._model = model
        self._was_loaded = _is_loaded(model.patcher)
        self.on_cpu = False  # True once the device has run out of memory

    def run(self, work: Callable[[], T]) -> T:
        """Calls work() with the network on ComfyUI's device, or on the CPU if that runs out of memory. The interrupt passes through."""
        from comfy import model_management as host

        if self.on_cpu:
            interrupted()
            return work()
        patcher = self._model.patcher
        parameter = next(self._model.network.parameters())
        try:
            interrupted()
            full_load(patcher, _VALUES_PER_PIXEL * self._model.size**2 * parameter.element_size())
            return work()
        except host.InterruptProcessingException:
            if not self._was_loaded:
                _unload(patcher)
            raise
        except Exception as error:
            if host.is_device_cpu(patcher.load_device) or not out_of_memory(error):
                raise
            why = str(error).splitlines()[0] if str(error) else type(error).__name__  # after the core has tried strips
        # Outside the handler, because the error's frames keep tensors alive on the device.
        log.warning("GPEN: not enough memory on %s (%s); %s continues on the CPU", patcher.load_device, why, self._model.name)
        _unload(patcher)
        self._model.network.to("cpu")  # without `place`, so that it keeps the form for ComfyUI's device
        host.soft_empty_cache()
        self.on_cpu = True
        return work()


def _is_loaded(patcher: ModelPatcher) -> bool:
    from comfy import model_management as host

    return any(loaded.model is patcher for loaded in host.current_loaded_models)


def _unload(patcher: ModelPatcher) -> None:
    """Removes this model, and no other, from the device's memory."""
    from comfy import model_management as host

    others = [loaded for loaded in host.current_loaded_models if loaded.model is not patcher]
    if len(others) < len(host.current_loaded_models):
        host.free_memory(1e30, patcher.load_device, keep_loaded=others)


def load_model(name: str, precision: str = AUTO, where: str = DEFAULT) -> GpenModel:
    """Loads and wraps the named model, downloading it first if missing. where: a word of `devices`. Raises GpenError, for users."""
    from comfy import model_management as host
    from comfy.model_patcher import ModelPatcher

    from ..gpen_core.network.load import load_network
    from ..gpen_core.runtime import pick_dtype
    from ..gpen_core.weights.files import AUTO_MODEL

    found = _resolve(name)
    device, elsewhere = find_device(where)
    waits_on = host.unet_offload_device()  # the CPU, or the default device if ComfyUI is to keep everything on it
    waits_on = waits_on if host.is_device_cpu(waits_on) else device
    network = load_network(found.path, device, pick_dtype(precision, device), waits_on="cpu")
    patcher = ModelPatcher(network, load_device=device, offload_device=waits_on)
    replaced = None if found.note is None else f"{AUTO}: {AUTO_MODEL} could not be downloaded"
    return GpenModel(
        name=found.name,
        task=found.task,
        template=found.template,
        network=network,
        patcher=patcher,
        note="\n".join(line for line in (replaced, elsewhere) if line) or None,
    )


def _resolve(name: str) -> Resolved:
    from ..gpen_core.errors import WeightsError
    from ..gpen_core.network.load import find_model

    bar: list[HostBar] = []

    def progress(so_far: int, total: int | None) -> None:
        from comfy.utils import ProgressBar

        if total:
            if not bar:
                bar.append(ProgressBar(total))
            bar[0].update_absolute(so_far, total)

    path = model_path(name)
    try:
        return find_model(
            name if path is None else path,
            models_dir(),
            extra_folders=search_folders(),
            folder=gpen_folders()[0],
            progress=progress,
        )
    except WeightsError as error:
        error.elsewhere = f"To use another folder, add it to extra_model_paths.yaml under {FOLDER}."
        raise


def fingerprint(name: str) -> str:
    """A text that changes with the file behind a name; for auto and catalogue names, with any weight file that appears, goes or changes."""
    from ..gpen_core.weights.folders import weight_files

    path = model_path(name)
    files: list[Path] = [path] if path is not None else [file for folder in search_folders() for file in weight_files(folder)]
    marks: list[str] = []
    for file in files:
        status = file.stat()
        marks.append(f"{file}:{status.st_size}:{status.st_mtime_ns}")
    return "|".join(marks)


_last: dict[str, tuple[str, GpenModel]] = {}


def default_model(task: Task = "restore") -> GpenModel:
    """The model for a node without a connected one; loaded once, and again when files change."""
    name = AUTO if task == "restore" else _first_of(task)
    state = fingerprint(name)
    if task not in _last or _last[task][0] != state:
        model = load_model(name)
        _last[task] = (fingerprint(name), model)  # computed again, since the file may just have been downloaded
    return _last[task][1]


def _first_of(task: Task) -> str:
    from ..gpen_core.weights.catalog import Catalog

    return Catalog.default().names(task)[0]


def fingerprint_unless_linked(task: Task, values: dict[str, Any]) -> str:
    """IS_CHANGED for a node with an optional model: ComfyUI tracks a linked model; otherwise the state of the weight files counts."""
    if "model" in values:
        return ""
    return fingerprint(AUTO if task == "restore" else _first_of(task))
