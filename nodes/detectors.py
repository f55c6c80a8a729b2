"""Face detectors, loaded once and cached."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .folders import models_dir, search_folders
from .tensors import frames_of, to_array

if TYPE_CHECKING:
    from ..gpen_core.faces.detect import Detector


PERSON_TIP = (
    "A picture of one person (of a batch, the first): only the faces that a recogniser finds to be this person's count. Not connected: "
    "everyone's. Needs a face recogniser's file, w600k_r50.onnx."
)


def person_in(image: Any) -> Any:
    """The core's picture of the person from an IMAGE, or None."""
    return None if image is None else to_array(frames_of(image)[0])


def detector(name: str) -> Detector:
    """The detector with that name, on ComfyUI's device if it can use it. Raises GpenError if it is not available."""
    from comfy.model_management import get_torch_device

    return _make(name, str(get_torch_device()), tuple(weights_folders()))


@lru_cache(maxsize=3)
def _make(name: str, device: str, folders: tuple[Path, ...]) -> Detector:
    from ..gpen_core.faces.detect import make_detector

    return make_detector(name, device=device, weights_folders=folders)


def weights_folders() -> list[Any]:
    """The folders searched for the weights of detectors, ParseNet and Real-ESRGAN."""
    from ..gpen_core.weights.folders import helper_folders

    return [*search_folders(), *helper_folders(models_dir())]
