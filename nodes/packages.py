"""What the nodes need beyond what ComfyUI brings."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from typing import Any

from ..gpen_core.errors import FeatureMissingError

log = logging.getLogger(__name__)


def advice() -> str:
    return (
        "The GPEN nodes need the package opencv-python, which this ComfyUI does not have. "
        f'Install it with "{sys.executable}" -m pip install opencv-python (or opencv-python-headless), then start ComfyUI again.'
    )


def say_what_is_missing() -> None:
    """One line in the log while the pack is loaded. Nothing is imported for it."""
    if importlib.util.find_spec("cv2") is None:
        log.warning("%s", advice())


def with_opencv(work: Callable[..., Any]) -> Callable[..., Any]:
    """The node's function, with a sentence for users in the place of a missing OpenCV's ModuleNotFoundError."""

    @functools.wraps(work)
    def checked(*arguments: Any, **named: Any) -> Any:
        try:
            importlib.import_module("cv2")
        except ImportError as error:
            raise FeatureMissingError(f"{advice()} ({error})") from error
        return work(*arguments, **named)

    return checked
