"""The folders that hold weight files (models/GPEN and other programs' folders) and the candidate files in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import shown

SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx"})
# Beside models/GPEN: the folders of ReActor and facerestore (ComfyUI, A1111), then those that people use by hand.
_SIBLINGS = ("facerestore_models", "face_restore", "facerestore", "GFPGAN", "Codeformer", "CodeFormer", "gpen", "")
_FACEFUSION = Path(".assets") / "models"
# Where ReActor, insightface and FaceFusion's nodes keep face parsers, occlusion masks and recognisers.
_HELPERS = ("facefusion", "facedetection", "face_parsing", "insightface", "insightface/models/buffalo_l", "insightface/models/antelopev2")
_SMALLEST_BYTES = 4_000_000


def models_dir(explicit: Path | None = None) -> Path:
    """The folder `models`: the given one, otherwise GPEN_MODELS_DIR, otherwise ./models. Our files are in its subfolder GPEN."""
    if explicit is not None:
        return Path(explicit)
    named = os.environ.get("GPEN_MODELS_DIR", "").strip()
    return Path(named).expanduser() if named else Path.cwd() / "models"


# A second name, because parameters below are called models_dir too.
_root = models_dir


def gpen_folder(models_dir: Path | None = None) -> Path:
    """The folder for downloads: models/GPEN."""
    return _root(models_dir) / "GPEN"


def search_folders(models_dir: Path | None = None, extra: Iterable[Path] = ()) -> list[Path]:
    """The existing folders to search, in order: models/GPEN, `extra`, GPEN_EXTRA_MODELS, other programs', FaceFusion's."""
    root = _root(models_dir)
    # Not Path.expanduser: it raises if a user's home is unknown, and one wrong name would hide all folders.
    named = (Path(os.path.expanduser(item)) for item in os.environ.get("GPEN_EXTRA_MODELS", "").split(os.pathsep) if item.strip())  # noqa: PTH111
    wanted = [root / "GPEN", *map(Path, extra), *named, *(root / name for name in _SIBLINGS)]
    return _existing([*wanted, Path.cwd() / _FACEFUSION, root.parent / _FACEFUSION])


def helper_folders(models_dir: Path | None = None, extra: Iterable[Path] = ()) -> list[Path]:
    """The folders of search_folders() and those in which other programs keep networks that help: parsers, masks, recognisers.

    models/GPEN is among them also before it exists, because messages name these folders as the places to put a missing file.
    """
    folder = gpen_folder(models_dir)
    found = _existing([*search_folders(models_dir, extra), *(_root(models_dir) / name for name in _HELPERS)])
    return found if folder.is_dir() else [folder, *found]


def find_file(names: Iterable[str], folders: Sequence[Path]) -> Path | None:
    """The first of these files, by name and then by folder, that is in one of the folders."""
    places = (folder / name for name in names for folder in folders)
    return next((place for place in places if place.is_file()), None)


def how_to_get(file: str, address: str, folders: Iterable[Path]) -> str:
    """What to do about a missing file, for messages: where it is and where it belongs. folders: those in which it was searched."""
    places = ", ".join(shown(folder, 300) for folder in dict.fromkeys(folders)) or "models/GPEN"
    return f"Download {file} from {address} and put it into one of the folders searched ({places})"


def _existing(wanted: Iterable[Path]) -> list[Path]:
    folders: list[Path] = []
    for folder in wanted:
        try:
            if folder.is_dir() and not any(folder.samefile(known) for known in folders):
                folders.append(folder)
        except (OSError, ValueError):
            continue  # not readable, or an invalid name
    return folders


def weight_files(folder: Path) -> Iterator[Path]:
    """Files in a folder that could hold a GPEN generator, judged by extension and length, sorted by name. Ignores subfolders."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError:
        return
    for path in paths:
        named = path.name.lower().startswith("gpen")  # checked whatever its length, to report damaged files
        try:
            if path.is_file() and (named or path.stat().st_size >= _SMALLEST_BYTES):
                yield path
        except OSError:
            continue  # deleted meanwhile or not readable


def offline_switch() -> str | None:
    """The environment variable that forbids the network (HF_HUB_OFFLINE or GPEN_OFFLINE), or None."""
    for name in ("GPEN_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on"):
            return name
    return None
