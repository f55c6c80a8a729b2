"""Many inputs at once: which file goes where (`plan_outputs`), and the work itself (`run_batch`). One bad input never stops the others."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import FeatureMissingError, GpenError, SettingsError
from .picture import WRITE_SUFFIXES, is_picture_path, read_picture, write_picture
from .progress import Progress
from .sheet import before_after, eight_bits
from .video import CRF, container_suffix, is_video_path, restore_video

if TYPE_CHECKING:
    from .restorer import FaceRestorer
    from .results import RestoreResult

log = logging.getLogger(__name__)


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


@dataclass
class JobResult:
    """What became of a job. output: the file that was written (None where none was). faces: `FaceResult.to_json()` of each, with the
    number of its frame in a video. skipped: the output was there already. failure: the exception behind `error`, if there was one."""

    job: Job
    output: Path | None = None
    seconds: float = 0.0
    faces: list[dict[str, Any]] = field(default_factory=lambda: [])
    scale: float | None = None
    frames: int | None = None
    skipped: bool = False
    error: str | None = None
    failure: Exception | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain texts and numbers, as `restore --json` prints them."""
        values: dict[str, Any] = {
            "input": str(self.job.source),
            "output": None if self.output is None else str(self.output),
            "seconds": round(self.seconds, 3),
            "faces": self.faces,
            "error": self.error,
            "scale": self.scale,
        }
        if self.skipped:
            values["skipped"] = True
        if self.frames is not None:
            values["frames"] = self.frames
        return values


# --- planning --------------------------------------------------------------------------------------------------------


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
        key = _key(job.source)
        if key not in self._seen:
            self._seen.add(key)
            self.jobs.append(job)


def _key(path: Path) -> str:
    """Equal for two names of one file, also where the file system does not tell capitals apart."""
    return os.path.normcase(path.resolve()).casefold()


def _with_targets(jobs: list[Job], folder: Path | None, file: Path | None, compare: bool) -> list[Job]:
    # Every input's own name is taken from the start: an output may only have it where it is that same input's.
    taken = {_key(job.source) for job in jobs}
    wanted = [job if job.error else (file or (folder or Path()) / job.name) for job in jobs]
    reserved = {_key(item) for item in wanted if isinstance(item, Path)}

    def free(path: Path, own: str = "") -> Path:
        if _key(path) not in taken or _key(path) == own:
            return path
        number = 2
        while True:
            candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
            if _key(candidate) not in taken | reserved:
                return candidate
            number += 1

    planned: list[Job] = []
    for job, target in zip(jobs, wanted, strict=True):
        if isinstance(target, Job):
            planned.append(job)
            continue
        if file is None:
            target = free(target, _key(job.source))
        taken.add(_key(target))
        name = target.relative_to(folder) if folder is not None else Path(target.name)
        planned.append(Job(job.source, target, job.kind, name))
    if not compare:
        return planned
    for index, job in enumerate(planned):
        if job.target is not None and job.kind == "picture":
            sheet = free(job.target.with_name(f"{job.target.stem}-compare{job.target.suffix}"))
            taken.add(_key(sheet))
            planned[index] = Job(job.source, job.target, job.kind, job.name, sheet)
    return planned


# --- work ------------------------------------------------------------------------------------------------------------


def run_batch(
    jobs: Iterable[Job],
    restorer: FaceRestorer,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    quality: int = 95,
    crf: int = CRF,
    faces_dir: Path | None = None,
    progress: Progress | None = None,
) -> Iterator[JobResult]:
    """Restores the jobs one after another and tells of each as it is done. A job that fails says so in its result; the next one follows.

    overwrite: replace outputs that exist; skip_existing: leave them and go on (outputs appear whole, so what exists is finished);
    with neither an existing output is an error of that job. quality: of JPEG and WebP. crf: of videos. faces_dir: also save each
    face before and after there. progress: told of the frames of videos.
    Raises what `restorer.prepare()` raises, before the first job that has something to do.
    """

    def restore(result: JobResult, target: Path | None) -> None:
        job = result.job
        if target is None:
            raise SettingsError(f"{job.source} has no output to go to")
        if job.kind == "video":
            done = restore_video(job.source, target, restorer, overwrite=overwrite, crf=crf, progress=progress)
            result.output, result.scale, result.faces, result.frames = target, done.scale, done.faces, done.frames
            return
        picture = read_picture(job.source)
        restored = restorer(picture)
        result.faces, result.scale = [face.to_json() for face in restored.faces], restored.scale
        result.output = write_picture(restored.image, target, overwrite=overwrite, quality=quality)
        if job.sheet is not None:
            write_picture(before_after(picture, restored.image), job.sheet, overwrite=overwrite, quality=quality)
        if faces_dir is not None:
            _save_faces(restored, faces_dir / job.name, overwrite)

    return run_jobs(jobs, restore, overwrite=overwrite, skip_existing=skip_existing, prepare=restorer.prepare)


def run_jobs(
    jobs: Iterable[Job],
    work: Callable[[JobResult, Path | None], None],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[JobResult]:
    """Any work over jobs: `work(result, target)` fills the result in, and may raise. overwrite, skip_existing: as in run_batch.

    prepare: called before each job that has something to do; what it raises ends the run.
    """
    for job in jobs:
        result = JobResult(job, error=job.error)
        started = time.perf_counter()
        target = job.target
        if job.error is None and target is not None and target.exists() and not overwrite:
            if skip_existing:
                result.output, result.skipped = target, True
            else:
                result.error = f"{target} exists already and is kept: --overwrite replaces it, --skip-existing passes over it"
        elif job.error is None:
            prepare()
            try:
                work(result, target)
            except Exception as error:  # a bug or a full memory in one input is no reason to lose the others
                log.debug("%s failed", job.source, exc_info=True)
                result.failure, result.error = error, describe(error)
        result.seconds = time.perf_counter() - started
        yield result


def describe(error: BaseException) -> str:
    """One line for people. The core's own errors speak for themselves; of any other the kind is said as well."""
    text = " ".join(str(error).split())
    if isinstance(error, GpenError):
        return text
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    return f"unexpected {type(error).__name__}{': ' if text else ''}{text[:300]} (--debug shows where)"


def _save_faces(restored: RestoreResult, base: Path, overwrite: bool) -> None:
    """The network's view of each restored face, before and after: NAME-INDEX-before.png and NAME-INDEX-after.png."""
    indices = [face.index for face in restored.faces if face.status == "restored"]
    for index, before, after in zip(indices, restored.crops, restored.restored, strict=True):
        for what, pixels in (("before", before), ("after", after)):
            write_picture(eight_bits(pixels), base.with_name(f"{base.name}-{index}-{what}.png"), overwrite=overwrite)


def exit_code(results: Sequence[JobResult]) -> int:
    """0: all done. 1: some failed. 2: all failed for want of an optional package."""
    failed = [result for result in results if result.error is not None]
    if failed and len(failed) == len(results) and all(isinstance(result.failure, FeatureMissingError) for result in failed):
        return 2
    return 1 if failed else 0
