"""Which file goes where: `plan_outputs` makes a `Job` of every input. Nothing is read or written here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .errors import SettingsError
from .picture import WRITE_SUFFIXES, is_picture_path
from .video import container_suffix, is_video_path


@dataclass(frozen=True)
class Job:
    """One input and where its output goes.

    target: None where there is nothing to write; `error` then says why. name: the target relative to the output folder.
    sheet: where a before/after sheet goes, if one was asked for.
    """

    source: Path
    target: Path | None
    kind: Literal["picture", "video"] = "picture"
    name: Path = Path()
    sheet: Path | None = None
    error: str | None = None


def plan_outputs(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] | None,
    *,
    compare: bool = False,
    videos: bool = True,
    leave_out: Sequence[Path] = (),
) -> list[Job]:
    """A job for every picture and video among `inputs` (files and folders, which are searched with their sub-folders).

    out: a file, where there is one input file and `out` ends like a picture or video; else a folder. The content of a single input
    folder keeps its structure in it; of several inputs each folder gets one of its own name. No two jobs share an output, and no output
    is another job's input: the later one is numbered (a-2.png). None plans reading only. Files under `out` and `leave_out` are not
    taken for inputs when a folder is searched. What cannot be done becomes a Job with an error.
    Raises SettingsError where `out` does not fit the inputs.
    """
    paths = [Path(item) for item in inputs]
    folder, file = (None, None) if out is None else _split_out(paths, Path(out))
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


def _split_out(paths: list[Path], out: Path) -> tuple[Path | None, Path | None]:
    """(folder, None) or (None, file)."""
    suffix = out.suffix.lower()
    looks_like_file = is_picture_path(out) or is_video_path(out) or suffix in WRITE_SUFFIXES
    if out.is_dir() or (not looks_like_file and not out.is_file()):
        return out, None
    if len(paths) != 1 or paths[0].is_dir():
        raise SettingsError(f"several inputs or a folder need a folder to go to, and {out} is a file")
    if is_video_path(paths[0]):
        if suffix != container_suffix(out):
            raise SettingsError(f"{out} cannot take a video; its name must end with .mp4, .m4v, .mov or .mkv")
    elif suffix not in WRITE_SUFFIXES:
        raise SettingsError(f"{out} cannot take a picture; its name must end with one of {', '.join(WRITE_SUFFIXES)}")
    return None, out


def _walk(folder: Path, hidden: list[Path]) -> Iterator[Path]:
    """All files below a folder in the order of their names, without hidden ones and those of the folders in `hidden`."""
    root = folder.resolve()
    # An output folder that is the input folder itself (or holds it) hides nothing.
    skipped = {item for item in hidden if item != root and root in item.parents}
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and (Path(here) / name).resolve() not in skipped)
        yield from (Path(here) / name for name in sorted(files) if not name.startswith("."))


def _job(source: Path, name: Path, videos: bool) -> Job:
    if not source.exists():
        return Job(source, None, error=f"there is no file or folder {source}")
    if is_video_path(source):
        if not videos:
            return Job(source, None, "video", name, error=f"{source} is a video; only pictures can be taken here")
        return Job(source, None, "video", name.with_suffix(container_suffix(name)))
    if name.suffix.lower() not in WRITE_SUFFIXES:
        name = name.with_suffix(".png")
    return Job(source, None, "picture", name)


class _Unique:
    """Jobs of different sources: what is named twice is done once."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._seen: set[str] = set()

    def add(self, job: Job) -> None:
        key = file_key(job.source)
        if key not in self._seen:
            self._seen.add(key)
            self.jobs.append(job)


def file_key(path: Path) -> str:
    """Equal for two names of one file, also where the file system does not tell capitals apart."""
    return os.path.normcase(path.resolve()).casefold()


def _with_targets(jobs: list[Job], folder: Path | None, file: Path | None, compare: bool) -> list[Job]:
    # Every input's own name is taken from the start: an output may only have it where it is that same input's.
    taken = {file_key(job.source) for job in jobs}
    wanted = [job if job.error else (file or (folder or Path()) / job.name) for job in jobs]
    reserved = {file_key(item) for item in wanted if isinstance(item, Path)}

    def free(path: Path, own: str = "") -> Path:
        if file_key(path) not in taken or file_key(path) == own:
            return path
        number = 2
        while True:
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
            if file_key(candidate) not in taken | reserved:
                return candidate
            number += 1

    planned: list[Job] = []
    for job, target in zip(jobs, wanted, strict=True):
        if isinstance(target, Job):
            planned.append(job)
            continue
        if file is None:
            target = free(target, file_key(job.source))
        taken.add(file_key(target))
        name = target.relative_to(folder) if folder is not None else Path(target.name)
        planned.append(Job(job.source, target, job.kind, name))
    if not compare:
        return planned
    for index, job in enumerate(planned):
        if job.target is not None and job.kind == "picture":
            sheet = free(job.target.with_name(f"{job.target.stem}-compare{job.target.suffix}"))
            taken.add(file_key(sheet))
            planned[index] = Job(job.source, job.target, job.kind, job.name, sheet)
    return planned
