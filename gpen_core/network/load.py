"""From a name to a loaded network: every host and the command line come this way."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime import device_error, is_out_of_memory, pick_device, pick_dtype
from ..weights.catalog import Catalog, Task
from ..weights.download import DownloadProgress
from ..weights.files import AUTO, LOG, PROBE_SECONDS, Resolved, resolve

if TYPE_CHECKING:
    import torch

    from .fused import FusedGenerator


def find_model(
    path_or_name: str | Path,
    models_dir: Path | None = None,
    *,
    task: Task | None = None,
    extra_folders: Sequence[Path] = (),
    folder: Path | None = None,
    progress: DownloadProgress | None = None,
    offline: bool | None = None,
    log: logging.Logger = LOG,
    wait: float = PROBE_SECONDS,
) -> Resolved:
    """Finds a model's weight file and downloads it if missing. Arguments are those of weights.files.resolve().

    task: the task it must be made for; None: any. For "auto", a file whose task is unclear from its shape and name is tried on a test face;
    for a task other than restoring it means the catalogue's model.
    Raises WrongTaskError for a model made for another task, and whatever resolve() raises.
    """
    from .trial import restores

    if task not in (None, "restore") and str(path_or_name).strip().lower() == AUTO:
        path_or_name = Catalog.default().names(task)[0]
    return resolve(
        path_or_name,
        models_dir,
        extra_folders=extra_folders,
        folder=folder,
        progress=progress,
        offline=offline,
        log=log,
        wait=wait,
        task=task,
        restores=restores,
    )


def load_network(
    path_or_name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    models_dir: Path | None = None,
    extra_folders: Sequence[Path] = (),
    waits_on: str | torch.device | None = None,
    or_cpu: bool = False,
) -> FusedGenerator:
    """Loads a GPEN generator, ready to run: `y = network(x)` with x (N, 3, S, S), RGB in -1..1, and y of the same shape.

    path_or_name: a .pth, .safetensors or .onnx file, a catalogue name (downloaded if missing), or "auto".
    dtype: None means float32; x must have it too. Size, channel multiplier and narrow come from the tensors.
    waits_on: for hosts that move networks themselves, see place(). or_cpu: if the device has too little memory, it runs on the CPU, and
    the log says so; otherwise the device's own error is raised.
    Raises DeviceError (the device does not compute), WeightsError (wrong or damaged file), WeightsMissingError (not on disk, download
    failed) or SettingsError.
    """
    import torch

    from ..weights.checkpoint import read_generator
    from .build import build_fused
    from .place import place

    where = pick_device(device)
    found = find_model(path_or_name, models_dir, extra_folders=extra_folders)
    try:
        return place(build_fused(read_generator(found.path)), where, dtype, waits_on=waits_on)
    except Exception as error:
        trouble = device_error(error, where)
        if trouble is None and not (or_cpu and where.type != "cpu" and is_out_of_memory(error)):
            raise
    if trouble is not None:
        raise trouble
    LOG.warning("not enough memory on %s for %s; it runs on the CPU", where, found.name)
    cpu = torch.device("cpu")
    return place(build_fused(read_generator(found.path)), cpu, pick_dtype("auto", cpu))
