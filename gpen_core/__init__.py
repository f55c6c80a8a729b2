"""GPEN face restoration: only the public names. They are imported on first use, so that this import is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .errors import FeatureMissingError, GpenError, PictureError, SettingsError, WeightsError, WeightsMissingError
    from .faces.face import Face
    from .network.load import load_network
    from .options import RestoreOptions
    from .pictures import Picture, read_picture, write_picture
    from .progress import Progress
    from .restore.restorer import FaceRestorer
    from .restore.results import FaceResult, RestoreResult
    from .restore.tasks import TaskRestorer
    from .task_options import TaskOptions
    from .weights.catalog import Catalog

_HOMES = {
    "Catalog": ".weights.catalog",
    "Face": ".faces.face",
    "FaceRestorer": ".restore.restorer",
    "FaceResult": ".restore.results",
    "FeatureMissingError": ".errors",
    "GpenError": ".errors",
    "Picture": ".pictures",
    "PictureError": ".errors",
    "Progress": ".progress",
    "RestoreOptions": ".options",
    "RestoreResult": ".restore.results",
    "SettingsError": ".errors",
    "TaskOptions": ".task_options",
    "TaskRestorer": ".restore.tasks",
    "WeightsError": ".errors",
    "WeightsMissingError": ".errors",
    "load_network": ".network.load",
    "read_picture": ".pictures",
    "write_picture": ".pictures",
}

__all__ = [
    "Catalog",
    "Face",
    "FaceRestorer",
    "FaceResult",
    "FeatureMissingError",
    "GpenError",
    "Picture",
    "PictureError",
    "Progress",
    "RestoreOptions",
    "RestoreResult",
    "SettingsError",
    "TaskOptions",
    "TaskRestorer",
    "WeightsError",
    "WeightsMissingError",
    "load_network",
    "read_picture",
    "write_picture",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
