"""What differs between the WebUI's forks: devices, memory, folders and how errors are reported."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from modules import devices, errors, shared
from modules.paths import models_path
from modules.scripts_postprocessing import PostprocessedImage

from gpen_core.errors import without_folders

log = logging.getLogger(__name__)

NAME = "GPEN"  # the restorer in Settings, the accordion in Extras, the first word of every infotext key
TASK = "gpen"  # --use-cpu gpen


def restores_faces() -> bool:
    """Whether the host has face restorers. SD.Next gave them up in February 2026."""
    return find_spec("modules.face_restoration") is not None


def device() -> torch.device:
    """The device that the host's flags choose for the network (A1111: --use-cpu gpen or all; Forge: --always-cpu)."""
    chosen = getattr(devices, "get_device_for", None)
    return torch.device(chosen(TASK) if chosen is not None else devices.device)


def make_room(everything: bool = False) -> None:
    """Makes room on the device before the network moves there: Forge and reForge unload models, other hosts empty their caches."""
    for name in ("modules_forge.utils", "modules_forge.forge_util"):
        try:
            free = import_module(name).prepare_free_memory
        except (ImportError, AttributeError):
            continue
        if everything:
            free(aggressive=True)
        else:
            free()
        break
    empty_caches()


def empty_caches() -> None:
    """Returns the memory that torch has cached to the device."""
    devices.torch_gc()


def unload_after() -> bool:
    """The host's setting "Move face restoration model from VRAM into RAM after processing"."""
    return bool(getattr(shared.opts, "face_restoration_unload", False))


def models_dir() -> Path:
    """The host's models folder (it follows --data-dir and --models-dir). Ours are in its subfolder GPEN."""
    return Path(models_path)


def extra_folders() -> list[Path]:
    """The folder given with --gpen-models-path (preload.py), if any."""
    given = getattr(shared.cmd_opts, "gpen_models_path", None)
    return [Path(given).expanduser()] if given else []


def report(message: str, *, traceback: bool = False) -> None:
    """Prints a line for the user on the host's console. traceback: adds that of the current exception, for unexpected errors."""
    tell = getattr(errors, "report", None)
    if tell is not None:
        tell(f"{NAME}: {message}", exc_info=traceback)
    else:  # SD.Next
        log.error("%s: %s", NAME, message, exc_info=traceback)


def is_video(pp: PostprocessedImage) -> bool:
    """Whether there is a video and no picture (SD.Next's Process Video). Tells the user then."""
    if pp.image is None:
        report("videos stay as they are here; `python -m gpen_core restore` restores them")
    return pp.image is None


def public(error: BaseException | str) -> str:
    """An error's message without this machine's folders: for pictures and answers that others see. The console has the rest."""
    return without_folders(error, models_dir(), "see the WebUI's console for details")
