"""ComfyUI's model folders: where weights are listed, found and downloaded to."""

from __future__ import annotations

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
    import folder_paths as host

    roots = gpen_folders()
    for name in OTHER_FOLDERS:
        if name in host.folder_names_and_paths:
            roots += [Path(path) for path in host.get_folder_paths(name)]
    folders: list[Path] = []
    for root in roots:
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
    for name in OTHER_FOLDERS:
        if name in host.folder_names_and_paths:
            yield from sorted(file for file in host.get_filename_list(name) if Path(file).name.lower().startswith("gpen"))


def model_path(name: str) -> Path | None:
    """The file behind a name from the list; None for auto and for catalogue names."""
    if name == AUTO or name in Catalog.default().names():
        return None
    import folder_paths as host

    for folder in (FOLDER, *OTHER_FOLDERS):
        if folder in host.folder_names_and_paths:
            path = host.get_full_path(folder, name)
            if path is not None:
                return Path(path)
    return None
