"""ComfyUI's model folders: where weights are listed, found and downloaded to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..gpen_core.weights.catalog import Catalog
from ..gpen_core.weights.folders import SUFFIXES

FOLDER = "GPEN"
OTHER_FOLDERS = ("facerestore_models",)  # ReActor and facerestore keep GPEN's ONNX files there
AUTO = "auto"


def register_folder() -> None:
    """Registers models/GPEN with ComfyUI, after the folders in the user's extra_model_paths.yaml."""
    import folder_paths as host

    host.add_model_folder_path(FOLDER, str(Path(host.models_dir) / FOLDER), is_default=False)
    paths, known = host.folder_names_and_paths[FOLDER]
    # Without extensions ComfyUI would list every file, including unfinished downloads.
    host.folder_names_and_paths[FOLDER] = (paths, {*known, *SUFFIXES})


def gpen_folders() -> list[Path]:
    """The GPEN folders, the user's default first. Downloads go into the first."""
    import folder_paths as host

    return [Path(path) for path in host.get_folder_paths(FOLDER)]


def search_folders() -> list[Path]:
    """All folders that may contain weights, including subfolders; GPEN folders come first."""
    folders: list[Path] = []
    for root in (*gpen_folders(), *_other_folders()):
        inside = sorted(path for path in root.rglob("*") if path.is_dir()) if root.is_dir() else []
        folders += [folder for folder in (root, *inside) if folder not in folders]
    return folders


def models_dir() -> Path:
    """ComfyUI's folder `models`."""
    import folder_paths as host

    return Path(host.models_dir)


def model_names() -> list[str]:
    """The choices of Load GPEN Model: auto, the catalogue, files in the GPEN folders, other packs' GPEN ONNX files. Opens no file."""
    return list(dict.fromkeys([AUTO, *Catalog.default().names(), *_file_names()]))


def _file_names() -> Iterator[str]:
    import folder_paths as host

    yield from sorted(host.get_filename_list(FOLDER))
    for root in _other_folders():
        yield from sorted(_gpen_files(root))


def _other_folders() -> list[Path]:
    """The folders of other packs, whether these packs are installed or not."""
    import folder_paths as host

    known = host.folder_names_and_paths
    return [Path(path) for name in OTHER_FOLDERS for path in (host.get_folder_paths(name) if name in known else [str(models_dir() / name)])]


def _gpen_files(root: Path) -> Iterator[str]:
    """Names relative to the folder, as ComfyUI writes them. Not ComfyUI's own list: the packs leave .onnx out of it."""
    for folder, _, files in os.walk(root, followlinks=True):
        for file in files:
            if file.lower().startswith("gpen") and Path(file).suffix.lower() in SUFFIXES:
                yield os.path.relpath(Path(folder) / file, root)


def model_path(name: str) -> Path | None:
    """The file behind a name from the list; None for auto and for catalogue names."""
    if name == AUTO or name in Catalog.default().names():
        return None
    import folder_paths as host

    path = host.get_full_path(FOLDER, name)
    if path is not None:
        return Path(path)
    return next((root / name for root in _other_folders() if name in _gpen_files(root)), None)
