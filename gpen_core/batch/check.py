"""Checks a job from the outside: every input has a record, and every record its whole output."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..errors import GpenError, shown
from ..pictures import read_picture
from .job import JobFolder, Manifest
from .listing import Listed
from .plan import output_name
from .tars import members, opened


def problems_of(folder: JobFolder, manifest: Manifest, *, quick: bool = False) -> Iterator[str]:
    """A line for every input without exactly one whole output. Holds one record at a time.

    An output is whole if it is as long as it was when it was written, and (unless `quick`) can be decoded. Videos are not decoded. An
    archive is whole if it has the members of its source.
    """
    for shard in range(manifest.shards):
        if not folder.is_done(shard) and not folder.part_path(shard).exists():
            first = next(folder.listed(shard))
            yield f"shard {shard}: its {manifest.size_of(shard)} inputs are not done, from {first.source} on"
            continue
        for listed, record in zip_longest(folder.listed(shard), folder.records(shard)):
            problem = _problem(manifest, listed, record, quick)
            if problem is not None:
                yield problem


def _problem(manifest: Manifest, listed: Listed | None, record: dict[str, Any] | None, quick: bool) -> str | None:
    if listed is None or (record is not None and record["input"] != str(listed.source)):
        return f"{record and record['input']}: its record does not fit the list"
    if record is None:
        return f"{listed.source}: not done"
    if record["error"] is not None:
        return f"{listed.source}: {record['error']}"
    if manifest.settings.get("dry_run"):
        return None
    if record.get("tar") and record["tar"]["failed"]:
        name, error = record["tar"]["errors"][0]
        return f"{listed.source}: {record['tar']['failed']} pictures in it failed, first {name}: {error}"
    output = manifest.out / listed.name
    try:
        length = output.stat().st_size
    except OSError as error:
        return f"{listed.source}: its output {output} is missing ({error.strerror})"
    if length != record["bytes"]:
        return f"{listed.source}: its output {output} has {length} bytes, and had {record['bytes']} when it was written"
    return None if quick else _undecodable(listed.source, output)


def _undecodable(source: Path, output: Path) -> str | None:
    kind = output_name(source)[0]
    if kind == "video":
        return None
    if kind == "tar":
        problem = _difference(source, output)
        return None if problem is None else f"{source}: {problem}"
    try:
        read_picture(output)
    except GpenError as error:
        return f"{source}: its output is damaged: {error}"
    return None


def _difference(source: Path, output: Path) -> str | None:
    """What an output lacks to be whole: the members of its source, in the same order. None: nothing."""
    try:
        with opened(source) as before, opened(output) as after:
            for one, other in zip_longest(members(before), members(after)):
                if one is None or other is None or one.name != other.name:
                    names = " and ".join("nothing" if item is None else shown(item.name) for item in (one, other))
                    return f"its output {output} has other members ({names})"
    except GpenError as error:
        return f"its output cannot be compared: {error}"
    return None
