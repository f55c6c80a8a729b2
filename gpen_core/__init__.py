"""GPEN face restoration: the public names, nothing else. They are imported on first use, so that this import is quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .catalog import Catalog
    from .errors import FeatureMissingError, GpenError, PictureError, SettingsError, WeightsError, WeightsMissingError
    from .faces.face import Face
    from .network.load import load_network
    from .options import RestoreOptions
    from .picture import Picture, read_picture, write_picture
    from .progress import Progress
    from .restorer import FaceRestorer
    from .results import FaceResult, RestoreResult

_HOMES = {
    "Catalog": ".catalog",
    "Face": ".faces.face",
    "FaceRestorer": ".restorer",
    "FaceResult": ".results",
    "FeatureMissingError": ".errors",
    "GpenError": ".errors",
    "Picture": ".picture",
    "PictureError": ".errors",
    "Progress": ".progress",
    "RestoreOptions": ".options",
    "RestoreResult": ".results",
    "SettingsError": ".errors",
    "WeightsError": ".errors",
    "WeightsMissingError": ".errors",
    "load_network": ".network.load",
    "read_picture": ".picture",
    "write_picture": ".picture",
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
