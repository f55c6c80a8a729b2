"""The commands `models list | download | verify | convert | where`."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import OutputExistsError, WeightsError, WeightsMissingError
from ..weights.catalog import Catalog, WeightFile
from ..weights.download import download as fetch
from ..weights.download import missing, sources
from ..weights.files import find
from ..weights.folders import gpen_folder, helper_folders, models_dir, offline_switch
from ..weights.sums import verify as compare
from .console import ELSEWHERE, Console

MISSING = 3


def list_models(arguments: argparse.Namespace, console: Console) -> int:
    """`models list`: the catalogue, which files are on disk, and their download addresses."""
    rows: list[dict[str, Any]] = []
    for entry in Catalog.default():
        path = find(entry, arguments.models_dir)
        rows.append(
            {
                "name": entry.name,
                "task": entry.task,
                "size": entry.size,
                "embedded": entry.embedded,
                "path": None if path is None else str(path),
                "urls": [source.url for source in sources(entry)],
                "sha256": sorted(entry.known_sums),
                "licence": entry.licence,
            }
        )
        where = str(path) if path else "missing from this copy" if entry.embedded else f"not on disk{_megabytes(entry)}"
        console.say(f"{entry.name:<24} {entry.task:<9} {entry.size:>4}  {where}")
        for source in sources(entry):
            console.say(f"  {source.url}")
    if console.as_json:
        console.show_json({"models": rows})
    return 0


def _megabytes(entry: WeightFile) -> str:
    known = entry.size_bytes or entry.tensor_bytes
    return f" (a download of about {known / 1e6:.0f} MB)" if known else ""


def download(arguments: argparse.Namespace, console: Console) -> int:
    """`models download NAME...`: downloads to models/GPEN. A failed download does not stop the others."""
    entries = [Catalog.default().get(name) for name in dict.fromkeys(arguments.names)]  # a wrong name fails before any download
    folder = gpen_folder(arguments.models_dir)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        row: dict[str, Any] = {"name": entry.name, "path": None, "error": None}
        try:
            path = find(entry, arguments.models_dir)
            if path is not None:
                console.say(f"{entry.name} is already on disk: {path}")
            elif entry.embedded or offline_switch():
                reason = "it is not part of this copy" if entry.embedded else f"{offline_switch()} forbids downloads"
                raise missing(entry, folder, reason)
            else:
                path = fetch(entry, folder, progress=(lambda done, total: None) if console.quiet else None, notice=console.error)
                console.say(f"{entry.name}: {path}")
            row["path"] = str(path)
        except WeightsError as error:
            error.elsewhere = ELSEWHERE
            console.error(str(error))
            row["error"] = str(error)
        rows.append(row)
    failed = sum(row["error"] is not None for row in rows)
    if console.as_json:
        console.show_json({"models": rows, "failed": failed})
    return MISSING if failed else 0


def verify(arguments: argparse.Namespace, console: Console) -> int:
    """`models verify [NAME...]`: checks the files on disk. Records missing checksums of files in models/GPEN."""
    catalog = Catalog.default()
    entries = [catalog.get(name) for name in dict.fromkeys(arguments.names)] or list(catalog)
    own = gpen_folder(arguments.models_dir)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        row: dict[str, Any] = {"name": entry.name, "path": None, "ok": False, "sha256": None, "basis": None, "message": ""}
        try:
            path = find(entry, arguments.models_dir)
            if path is None and not arguments.names:
                continue  # without names, only files on disk are checked
            if path is None:
                raise WeightsMissingError(f"{entry.name} is not on disk; download it with: models download {entry.name}")
            # Write nothing into other programs' folders.
            done = compare(path, entry, record=path.parent.resolve() == own.resolve())
            row.update(path=str(path), ok=done.ok, sha256=done.sha256, basis=done.basis, message=done.message)
        except WeightsError as error:
            row["message"] = str(error)
        rows.append(row)
        (console.say if row["ok"] else console.error)(row["message"])
    if not rows:
        console.say(f"none of the catalogue's weights are on disk ({own})")
    failed = sum(not row["ok"] for row in rows)
    if console.as_json:
        console.show_json({"models": rows, "failed": failed})
    return MISSING if failed else 0


def convert(arguments: argparse.Namespace, console: Console) -> int:
    """`models convert MODEL -o FILE`: writes weights as .safetensors, fp16 unless --float32 is given."""
    from ..network.convert import convert_weights
    from ..network.load import find_model

    source = find_model(arguments.model, arguments.models_dir)
    try:
        path = convert_weights(source, arguments.out, half=not arguments.float32, overwrite=arguments.overwrite)
    except OutputExistsError as error:
        console.error(f"{error}: use --overwrite to replace it")
        return 1
    before, after = source.path.stat().st_size, path.stat().st_size
    console.say(f"{source.name} ({before / 1e6:.1f} MB): {path} ({after / 1e6:.1f} MB)")
    if console.as_json:
        console.show_json({"source": str(source.path), "path": str(path), "bytes": after, "template": source.template})
    return 0


def where(arguments: argparse.Namespace, console: Console) -> int:
    """`models where`: the download folder and all folders that are searched."""
    folder = gpen_folder(arguments.models_dir)
    searched = helper_folders(arguments.models_dir)
    console.say(f"{folder}{'' if folder.is_dir() else ' (created by the first download)'}")
    for item in searched:
        if item != folder:
            console.say(f"{item} (also searched)")
    if console.as_json:
        searched_texts = [str(item) for item in searched]
        console.show_json({"models_dir": str(models_dir(arguments.models_dir)), "downloads": str(folder), "searched": searched_texts})
    return 0
