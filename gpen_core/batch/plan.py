"""Plans where each output goes: `plan_outputs` makes a `Job` for every input. Reads and writes no pictures."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import SettingsError
from ..pictures import WRITE_SUFFIXES, is_picture_path
from ..video.restore import CONTAINER_SUFFIXES, container_suffix, is_video_path
from .tars import SUFFIX, is_tar_path

log = logging.getLogger(__name__)
Kind = Literal["picture", "video", "tar"]


@dataclass(frozen=True)
class Job:
    """One input and the path of its output.

    target: None if there is nothing to write; `error` then says why. name: the target relative to the output folder.
    sheet: path of the before/after sheet, if requested. redo: what is found in the output's place is this job's own, from a run that was
    killed, and is replaced.
    """

    source: Path
    target: Path | None
    kind: Kind = "picture"
    name: Path = Path()
    sheet: Path | None = None
    error: str | None = None
    redo: bool = False


def plan_outputs(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None,
    *,
    compare: bool = False,
    videos: bool = True,
    leave_out: Sequence[Path] = (),
) -> list[Job]:
    """Makes a job for every picture and video in `inputs` (files, and folders including sub-folders).

    Tar archives count where they are named, not where a folder is searched.
    inputs: a name with * or ? that is not an existing file matches pictures, videos and folders.
    out: a file, if there is one input file and `out` has the suffix of a picture or video; a folder, if it exists as one, has no suffix
    or ends with a slash; None: plan reading only. A single input folder keeps its structure in `out`; with several inputs, each folder
    gets a sub-folder of its name. No two jobs share an output, and no output is another job's input: the later one is numbered
    (a-2.png). Folder searches ignore files in `out` and `leave_out`. An impossible input becomes a Job with an error.
    Raises SettingsError if `out` does not fit the inputs.
    """
    paths = [path for item in inputs for path in _fitting(Path(item))]
    folder, file = (None, None) if out is None else _split_out(paths, os.fspath(out))
    hidden = [item.resolve() for item in (*leave_out, *([folder] if folder else []))]
    found = _Unique()
    for path in paths:
        if path.is_dir():
            below = Path(path.resolve().name) if len(paths) > 1 else Path()
            inside = [item for item in _walk(path, hidden) if is_picture_path(item) or (videos and is_video_path(item))]
            if not inside:
                found.add(Job(path, None, error=f"there are no {'pictures or videos' if videos else 'pictures'} in the folder {path}"))
            for item in inside:
                found.add(_job(item, below / item.relative_to(path), videos))
        else:
            found.add(_job(path, Path(path.name), videos))
    if folder is not None:
        return _with_targets(found.jobs, folder, None, compare)
    return _with_targets(found.jobs, None, file, compare) if file else found.jobs


def _fitting(path: Path) -> list[Path]:
    """The path itself, or the paths it matches: shells on Windows expand no wildcards, and no shell expands quoted ones."""
    if not has_wildcards(path) or path.exists():
        return [path]
    start = Path(path.anchor)
    found: list[Path] = []
    with suppress(ValueError, OSError):  # invalid patterns, unreadable folders
        found = sorted(start.glob(str(path.relative_to(start)).replace("[", "[[]")))
    return [item for item in found if is_input(item)] or [path]


def is_input(path: Path) -> bool:
    """True for what a wildcard may match: folders, pictures, videos and archives that are not hidden."""
    return not path.name.startswith(".") and (path.is_dir() or is_picture_path(path) or is_video_path(path) or is_tar_path(path))


def has_wildcards(path: Path) -> bool:
    """True if the path contains * or ?."""
    return any(letter in str(path) for letter in "*?")


def _split_out(paths: list[Path], text: str) -> tuple[Path | None, Path | None]:
    """(folder, None) or (None, file) for the output `text`. Raises SettingsError if it does not fit the inputs."""
    out, suffix = Path(text), Path(text).suffix.lower()
    if text == "-":
        raise SettingsError("pictures cannot be written to standard output (-); give a file or a folder")
    if out.is_dir() or text.endswith(tuple(filter(None, (os.sep, os.altsep)))) or (not suffix and not out.is_file()):
        return out, None
    kind = output_name(paths[0])[0] if len(paths) == 1 else "picture"
    writable = {"picture": WRITE_SUFFIXES, "video": CONTAINER_SUFFIXES, "tar": (SUFFIX,)}[kind]
    if (
        suffix not in (*WRITE_SUFFIXES, *CONTAINER_SUFFIXES, SUFFIX)
        and not is_picture_path(out)
        and not is_video_path(out)
        and not out.is_file()
    ):
        raise SettingsError(
            f"{out} ends with {suffix}, which cannot be written; a file name must end with one of {', '.join(writable)} "
            "(a folder has no extension, or a slash at the end)"
        )
    if len(paths) != 1 or paths[0].is_dir():
        raise SettingsError(f"several inputs or a folder need an output folder, and {out} is a file")
    if suffix not in writable:
        raise SettingsError(f"{out} cannot store a {kind}; its name must end with one of {', '.join(writable)}")
    return None, out


def _walk(folder: Path, hidden: list[Path]) -> Iterator[Path]:
    """All files below a folder, sorted by name, without hidden files and the folders in `hidden`."""
    root = folder.resolve()
    # An output folder that is the input folder itself (or holds it) hides nothing.
    skipped = {item for item in hidden if item != root and root in item.parents}
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (Path(here) / name).resolve() not in skipped)
        yield from (Path(here) / name for name in sorted(files) if not name.startswith("."))


def _job(source: Path, name: Path, videos: bool) -> Job:
    if error := why_no_file(source):
        return Job(source, None, error=error)
    kind, name = output_name(name)
    if kind != "picture" and not videos:
        return Job(source, None, kind, name, error=f"{source} is a {kind}; this command takes only pictures")
    return Job(source, None, kind, name)


def why_no_file(source: Path) -> str | None:
    """What is wrong with an input that is no file, or None."""
    if not source.exists():
        fits = "picture, video or folder that matches" if has_wildcards(source) else "file or folder"
        return f"there is no {fits} {source}"
    if not source.is_file():  # opening a pipe may wait for ever for a writer
        return f"{source} is a folder" if source.is_dir() else f"{source} is a pipe or a device, not a file"
    return None


def output_name(name: Path) -> tuple[Kind, Path]:
    """What an input of that name is, and its output's name: with an extension that can be written."""
    if is_video_path(name):
        return "video", name.with_suffix(container_suffix(name))
    if is_tar_path(name):
        return "tar", name
    return "picture", name if name.suffix.lower() in WRITE_SUFFIXES else name.with_suffix(".png")


class _Unique:
    """Jobs with different sources: an input named twice is processed once."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._seen: dict[object, Path] = {}

    def add(self, job: Job) -> None:
        key = _identity(job.source) or job.source
        known = self._seen.get(key)
        if known is None:
            self._seen[key] = job.source
            self.jobs.append(job)
        elif known.parent.resolve() / known.name != job.source.parent.resolve() / job.source.name:
            log.warning("%s and %s are the same file; it is processed once", known, job.source)


def _identity(path: Path) -> tuple[object, ...] | None:
    """A file's identity from the file system, equal for two names of one file (P.png and p.png may be two files); None if it is missing.

    Hard links count as separate files: an output replaces one name, and the other names keep their file.
    """
    try:
        status = path.stat()
        links = (str(path.resolve()),) if status.st_nlink > 1 or not status.st_ino else ()
        return (status.st_dev, status.st_ino, *links)
    except (OSError, ValueError):
        return None


def file_keys(path: Path) -> set[object]:
    """Keys that two paths share if they are one file, or would be one on a file system that ignores case and accent encoding, because
    an output may go to such a file system."""
    folded = unicodedata.normalize("NFC", os.path.normcase(path.resolve()).casefold())
    return {folded, *filter(None, [_identity(path)])}


def all_keys(paths: Iterable[Path | None]) -> set[object]:
    """The `file_keys` of all paths together."""
    return {key for path in paths if path is not None for key in file_keys(path)}


def _with_targets(jobs: list[Job], folder: Path | None, file: Path | None, compare: bool) -> list[Job]:
    # All input names are reserved from the start: only an input's own output may use its name.
    taken = all_keys(job.source for job in jobs)
    wanted = [job if job.error else (file or (folder or Path()) / job.name) for job in jobs]
    reserved = all_keys(item for item in wanted if isinstance(item, Path))

    def free(path: Path, source: Path | None = None) -> Path:
        if file_keys(path).isdisjoint(taken) or (source is not None and _identity(path) == _identity(source) is not None):
            return path
        number = 2
        while True:
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
            if file_keys(candidate).isdisjoint(taken) and file_keys(candidate).isdisjoint(reserved):
                return candidate
            number += 1

    planned: list[Job] = []
    for job, target in zip(jobs, wanted, strict=True):
        if isinstance(target, Job):
            planned.append(job)
            continue
        if file is None:
            target = free(target, job.source)
        taken |= file_keys(target)
        name = target.relative_to(folder) if folder is not None else Path(target.name)
        planned.append(Job(job.source, target, job.kind, name))
    if not compare:
        return planned
    for index, job in enumerate(planned):
        if job.target is not None and job.kind == "picture":
            sheet = free(job.target.with_name(f"{job.target.stem}-compare{job.target.suffix}"))
            taken |= file_keys(sheet)
            planned[index] = Job(job.source, job.target, job.kind, job.name, sheet)
    return planned
