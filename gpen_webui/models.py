"""The models a user can choose from in the host's lists."""

from __future__ import annotations

from typing import Any

from gpen_core.options import AUTO
from gpen_core.weights.catalog import Catalog
from gpen_core.weights.files import find, own_models

from . import host


def choices() -> list[str]:
    """auto, the catalogue's restoration models, and the user's own files in models/GPEN. Offline; reads only the heads of files."""
    return [AUTO, *Catalog.default().names("restore"), *own_files()]


def own_files() -> list[str]:
    """Names of GPEN files in models/GPEN (and --gpen-models-path) other than the catalogue's own files."""
    return own_models(host.models_dir(), host.extra_folders())


def listing() -> list[dict[str, Any]]:
    """The choices without auto, for the API: name, size in pixels (None if only the file says), on_disk, embedded, licence."""
    rows: list[dict[str, Any]] = []
    for entry in Catalog.default():
        if entry.task == "restore":
            on_disk = find(entry, host.models_dir(), host.extra_folders()) is not None
            rows.append({"name": entry.name, "size": entry.size, "on_disk": on_disk, "embedded": entry.embedded, "licence": entry.licence})
    rows += [{"name": name, "size": None, "on_disk": True, "embedded": False, "licence": None} for name in own_files()]
    return rows
