"""What a user should know when the nodes are loaded: OpenCV is missing, which ComfyUI does not bring; there is another copy of them."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..gpen_core.errors import FeatureMissingError

log = logging.getLogger(__name__)
INSTALLER = Path(__file__).resolve().parents[1] / "install.py"
HEADLESS = "opencv-python-headless>=4.8,<4.12"  # as in install.py, which is not in the Comfy Registry's archive


def advice() -> str:
    if INSTALLER.is_file():
        how = f'Run "{sys.executable}" "{INSTALLER}", which installs it or says what is wrong'
    else:
        how = f'Install it with "{sys.executable}" -m pip install --no-deps "{HEADLESS}"'
    return f"The GPEN nodes need OpenCV, which is missing or broken in this ComfyUI. {how}, then restart ComfyUI."


def say_what_is_missing() -> None:
    """Logs one line at loading time if OpenCV is missing. Does not import it."""
    found = importlib.util.find_spec("cv2")
    if found is None or found.origin is None:  # no origin: an empty folder left by an uninstalled OpenCV
        log.warning("%s", advice())


def say_if_there_is_another_copy(name: str) -> None:
    """Logs one line if ComfyUI has already loaded these nodes from another folder. name: of one of them. Both copies work."""
    other: Any = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {}).get(name)
    where = getattr(sys.modules.get(getattr(other, "__module__", "")), "__file__", None)
    here = Path(__file__).resolve().parents[1]
    if where is not None and (folder := Path(where).resolve().parents[1]) != here:
        log.warning("There are two copies of the GPEN nodes: %s is used, and no longer %s. Remove one of them.", here, folder)


def with_opencv(work: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a node's function so that a missing OpenCV raises a message for users instead of ModuleNotFoundError."""

    @functools.wraps(work)
    def checked(*arguments: Any, **named: Any) -> Any:
        try:
            importlib.import_module("cv2")
        except ImportError as error:
            raise FeatureMissingError(f"{advice()} ({error})") from error
        return work(*arguments, **named)

    return checked
