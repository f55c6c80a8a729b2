"""The models in the page's list and in GET /gpen/v1/models. Offline; reads only the heads of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpen_core.errors import SettingsError
from gpen_core.options import AUTO
from gpen_core.weights.catalog import Catalog
from gpen_core.weights.files import AUTO_MODEL, find, own_models
from gpen_core.weights.folders import gpen_folder


@dataclass(frozen=True)
class Model:
    """A model to choose. size: side of the face it restores, in pixels (None: only the file says). bytes: of the file, or to download."""

    name: str
    size: int | None
    bytes: int | None
    path: Path | None
    embedded: bool
    licence: str | None

    @property
    def label(self) -> str:
        """For the list: what it is, and what it costs to use it."""
        if self.path is not None:
            return f"{self.name} (on disk)"
        return f"{self.name} (a download{f' of {self.bytes / 1e6:.0f} MB' if self.bytes else ''})"

    @property
    def place(self) -> str:
        """Size and place, for below the list."""
        size = f"Faces of {self.size} pixels" if self.size else "Your own file"
        if self.path is None:
            return f"{size}; not on disk: the first restoration downloads it."
        place = "included" if self.embedded else f"in {self.path}"
        return f"{size}; {self.bytes / 1e6:.1f} MB, {place}" if self.bytes else f"{size}; {place}"


def listing(models_dir: Path | None = None) -> list[Model]:
    """Every model that restores faces, without auto."""
    found: list[Model] = []
    for entry in Catalog.default():
        if entry.task == "restore":
            path = find(entry, models_dir)
            found.append(
                Model(entry.name, entry.size, _bytes(path) or entry.size_bytes or entry.tensor_bytes, path, entry.embedded, entry.licence)
            )
    for name in own_models(models_dir):
        path = gpen_folder(models_dir) / name
        found.append(Model(name, None, _bytes(path), path, False, None))
    return found


def _bytes(path: Path | None) -> int | None:
    try:
        return None if path is None else path.stat().st_size
    except OSError:
        return None


def names(models_dir: Path | None = None) -> list[str]:
    """What `model` may be: auto, or a name from the list."""
    return [AUTO, *(model.name for model in listing(models_dir))]


def auto(models_dir: Path | None = None) -> str:
    """What auto means here, for below the list."""
    best = next(model for model in listing(models_dir) if model.name == AUTO_MODEL)
    if best.path is not None:
        return f"{best.name}: {best.place}"
    size = f" (a download of {best.bytes / 1e6:.0f} MB)" if best.bytes else ""
    return f"{best.name}{size} on the first restoration; without a network the best model on disk."


def check(name: str, models_dir: Path | None = None) -> None:
    """Raises SettingsError unless it is a model of the list. A path would let a visitor name any file on this machine, or on another."""
    if name not in Catalog.default() and name not in names(models_dir):
        raise SettingsError(f"there is no model of this name; there are {', '.join(names(models_dir))}")
