"""The work itself, over the jobs that `plan_outputs` made (`run_batch`, `run_jobs`). One bad input never stops the others."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from traceback import clear_frames
from typing import TYPE_CHECKING, Any

from ..errors import FeatureMissingError, GpenError, OutputExistsError, PictureError, SettingsError
from ..pictures import Form, Picture, check_frames, frame_file, read_frames, read_picture, write_picture
from ..pictures.disk import remove_abandoned_parts
from ..progress import Progress
from ..runtime import pick_device
from ..video.restore import CRF, restore_video
from .overlap import about, overlapped
from .plan import Job, all_keys, plan_outputs
from .sheet import before_after, eight_bits

if TYPE_CHECKING:
    from ..faces.face import Face
    from ..restore.restorer import FaceRestorer
    from ..restore.results import RestoreResult

__all__ = ["Job", "JobResult", "describe", "exit_code", "plan_outputs", "run_batch", "run_jobs"]

log = logging.getLogger(__name__)


@dataclass
class JobResult:
    """What became of a job. output: the file that was written (None where none was). faces: `FaceResult.to_json()` of each, with the
    number of its frame in a video or an animation (its page in a TIFF of several); frames: how many those have. cut: a video that is cut
    short. skipped: the output was there already. failure: the exception behind `error`, if there was one."""

    job: Job
    output: Path | None = None
    seconds: float = 0.0
    faces: list[dict[str, Any]] = field(default_factory=lambda: [])
    scale: float | None = None
    frames: int | None = None
    cut: bool = False
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
        if self.frames is not None and self.job.kind == "video":
            values["cut"] = self.cut
        return values


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
    started: Callable[[Job], None] = lambda job: None,
) -> Iterator[JobResult]:
    """Restores the jobs and tells of each, in their order, when its files are written. A job that fails says so in its result.

    overwrite: replace outputs that exist; skip_existing: leave them and go on (outputs appear whole, so what exists is finished);
    with neither an existing output is an error of that job, which is then not begun. The picture is written last of all, so where it is
    there, its sheet and its faces are too. quality: of JPEG and WebP. crf: of videos. faces_dir: also save each
    face before and after there. progress: told of the frames of videos and animations. started: told of each job as its turn comes.
    Raises what `restorer.prepare()` raises, before the first job that has something to do.

    While one picture is restored, the next is read (and, where the network runs on a GPU, its faces are looked for), and the one before
    is encoded and written, each in a thread. So there are up to three pictures in memory, one of them twice, before and after: 1.6 GB for
    pictures of 8K, 0.8 GB more than one alone, and the bytes of two files. `seconds` of a result counts what was done for it, also
    beside others. After an interrupt, and where nobody asks for more, what was restored is written before the threads end.
    """
    run = _Run(restorer, overwrite, skip_existing, quality, crf, faces_dir, progress, started)
    for done in overlapped(_Restoration(job, run) for job in jobs):
        yield done.result


@dataclass(frozen=True)
class _Run:
    """What all jobs of a run have in common: see run_batch."""

    restorer: FaceRestorer
    overwrite: bool
    skip_existing: bool
    quality: int
    crf: int
    faces_dir: Path | None
    progress: Progress | None
    started: Callable[[Job], None]
    tidied: set[Path] = field(default_factory=lambda: set())
    faces_there: dict[Path, dict[str, Path]] = field(default_factory=lambda: {})  # before this run, by folder

    def faces_of(self, job: Job) -> Path | None:
        """What the names of the job's faces begin with, if they are saved."""
        return None if self.faces_dir is None else self.faces_dir / job.name

    def earlier_face_of(self, job: Job) -> Path | None:
        """A face that an earlier run saved under the job's name, if there is one."""
        base = self.faces_of(job)
        if base is None:
            return None
        if base.parent not in self.faces_there:
            self.faces_there[base.parent] = _faces_in(base.parent)
        return self.faces_there[base.parent].get(base.name)


class _Restoration:
    """A job of run_batch on its way through the pipeline. It lets go of its pictures as early as it can."""

    def __init__(self, job: Job, run: _Run) -> None:
        self.job, self.run = job, run
        self.result = JobResult(job, error=job.error)
        self.reads = all_keys([job.source])
        self.writes = all_keys([job.target, job.sheet])
        self._picture: Picture | None = None
        self._faces: list[Face] | None = None  # None: not looked for
        self._restored: RestoreResult | None = None

    def begin(self) -> bool:
        self.run.started(self.job)
        if self._is_settled():
            return False
        self.run.restorer.prepare()
        _tidy(self.run.tidied, self.job.target, self.run.faces_of(self.job))
        return True

    def read(self) -> None:
        with self._step():
            if self.job.kind == "video" or self._is_settled():
                return
            picture = read_picture(self.job.source)
            if picture.form.frames > 1 and self.job.target is not None:
                self._check_frames(picture, self.job.target)
            elif _computes_elsewhere(self.run.restorer) and not self.run.restorer.options.aligned:
                self._faces = self.run.restorer.detect(picture)
            self._picture = picture

    def work(self) -> None:
        with self._step():
            result, run = self.result, self.run
            if result.error is not None:
                return
            if self.job.target is None:
                raise SettingsError(f"{self.job.source} has no output path")
            if self.job.kind == "video":
                video = restore_video(
                    self.job.source, self.job.target, run.restorer, overwrite=run.overwrite, crf=run.crf, progress=run.progress
                )
                result.output, result.scale, result.faces, result.frames = self.job.target, video.scale, video.faces, video.frames
                result.cut = video.cut
                return
            if self._picture is not None and self._picture.form.frames > 1:
                form, self._picture = self._picture.form, None
                self._restore_frames(form, self.job.target)
                return
            self._restored = run.restorer(self._picture, faces=self._faces)
            result.faces, result.scale = [face.to_json() for face in self._restored.faces], self._restored.scale
            if self.job.sheet is None:
                self._picture = None

    def write(self) -> None:
        with self._step():
            picture, restored, self._picture, self._restored = self._picture, self._restored, None, None
            if restored is None or self.job.target is None:
                return
            run = self.run
            if picture is not None and self.job.sheet is not None:
                self._write_beside(before_after(picture, restored.image), self.job.sheet)
            self._save_faces(restored)
            self.result.output = write_picture(restored.image, self.job.target, overwrite=run.overwrite, quality=run.quality)

    def _check_frames(self, first: Picture, target: Path) -> None:
        """Raises PictureError where the frames, or pages, of which this is the first cannot all be restored and kept."""
        check_frames(first.form, target)
        if first.form.format != "TIFF" and self.run.restorer.options.output_size == "native":
            raise PictureError("the output size 'native' would differ from frame to frame; use 'keep' or 'factor' for animations")

    def _restore_frames(self, form: Form, target: Path) -> None:
        """All frames, or pages, one after another; no more than one is in memory."""
        run, result = self.run, self.result
        with ExitStack() as files:
            add = files.enter_context(frame_file(form, target, overwrite=run.overwrite, quality=run.quality))
            sheet = self.job.sheet
            if sheet is not None and run.skip_existing and sheet.exists():
                sheet = None
            compare = files.enter_context(frame_file(form, sheet, overwrite=run.overwrite, quality=run.quality)) if sheet else None
            for number, (picture, milliseconds) in enumerate(read_frames(self.job.source)):
                restored = run.restorer(picture)
                result.faces += [{"frame": number, **face.to_json()} for face in restored.faces]
                result.scale = restored.scale
                if compare is not None:
                    compare(before_after(picture, restored.image), milliseconds)
                self._save_faces(restored, f"-{number}")
                add(restored.image, milliseconds)
                if run.progress is not None:
                    run.progress.report(number + 1, form.frames, "frame")
        result.output, result.frames = target, form.frames

    def _save_faces(self, restored: RestoreResult, frame: str = "") -> None:
        """The network's view of each restored face, before and after."""
        base = self.run.faces_of(self.job)
        if base is None:
            return
        indices = [face.index for face in restored.faces if face.status == "restored"]
        for index, before, after in zip(indices, restored.crops, restored.restored, strict=True):
            for what, pixels in (("before", before), ("after", after)):
                self._write_beside(eight_bits(pixels), base.with_name(f"{base.name}{frame}-{index}-{what}.png"))

    def _write_beside(self, picture: Picture, path: Path) -> None:
        """What is written besides the output itself, which --skip-existing leaves as it is where it is there."""
        if not (self.run.skip_existing and path.exists()):
            write_picture(picture, path, overwrite=self.run.overwrite, quality=self.run.quality)

    def _is_settled(self) -> bool:
        return _is_settled(self.result, self.run.overwrite, self.run.skip_existing, self.run.earlier_face_of(self.job))

    @contextmanager
    def _step(self) -> Generator[None, None, None]:
        """Counts the time, keeps an error as the job's own, and names the input in the log: three threads are at three inputs."""
        start, token = time.perf_counter(), about.set(str(self.job.source))
        try:
            yield
        except Exception as error:  # a bug or a full memory in one input is no reason to lose the others
            _failed(self.result, error)
        finally:
            about.reset(token)
            self.result.seconds += time.perf_counter() - start


def _tidy(done: set[Path], *paths: Path | None) -> None:
    """Removes what killed runs left in the folders of `paths`, each folder once a run."""
    for folder in {path.parent for path in paths if path is not None} - done:
        remove_abandoned_parts(folder)
        done.add(folder)


def _computes_elsewhere(restorer: FaceRestorer) -> bool:
    """Whether the network is on a device of its own. Faces are looked for ahead only then: on processors both would compete for the same
    cores, whose threads wait for one another (2 cores, 512 pixels: a folder took a tenth to a sixth longer)."""
    return pick_device(restorer.options.device).type != "cpu"


def run_jobs(
    jobs: Iterable[Job],
    work: Callable[[JobResult, Path | None], None],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[JobResult]:
    """Any work over jobs, one after another: `work(result, target)` fills the result in, and may raise. The rest is as in run_batch.

    prepare: called before each job that has something to do; what it raises ends the run.
    """
    tidied: set[Path] = set()
    for job in jobs:
        result = JobResult(job, error=job.error)
        started = time.perf_counter()
        if not _is_settled(result, overwrite, skip_existing):
            prepare()
            _tidy(tidied, job.target)
            try:
                work(result, job.target)
            except Exception as error:  # as in _Restoration
                _failed(result, error)
        result.seconds = time.perf_counter() - started
        yield result


def _is_settled(result: JobResult, overwrite: bool, skip_existing: bool, face: Path | None = None) -> bool:
    """Whether there is nothing left to do for a job: it has failed, or what it would write exists, which is then said in the result.

    face: one that an earlier run saved under the same name.
    """
    target = result.job.target
    if result.error is None and target is not None and not overwrite:
        if skip_existing:
            result.skipped = target.exists()
            result.output = target if result.skipped else None
        else:
            there = next((path for path in (target, result.job.sheet, face) if path is not None and path.exists()), None)
            if there is not None:
                result.failure = OutputExistsError(there)
                result.error = str(result.failure)
    return result.skipped or result.error is not None


def _faces_in(folder: Path) -> dict[str, Path]:
    """The faces that are saved in a folder, by the NAME in NAME-INDEX-before.png and, of frames, NAME-FRAME-INDEX-before.png."""
    found: dict[str, Path] = {}
    with suppress(OSError):  # a folder that will be made
        for path in folder.iterdir():
            if match := re.fullmatch(r"(.+?)(?:-\d+){1,2}-(?:before|after)\.png", path.name):
                found[match[1]] = path
    return found


def _failed(result: JobResult, error: Exception) -> None:
    log.debug("%s failed", result.job.source, exc_info=error)
    result.failure, result.error = error, describe(error)
    # The traceback may stay, the pictures in it may not: results live as long as the run.
    reason: BaseException | None = error
    while reason is not None:
        clear_frames(reason.__traceback__)
        reason = reason.__cause__ or reason.__context__


def describe(error: BaseException) -> str:
    """One line for people. The core's own errors speak for themselves; of any other the kind is said as well."""
    text = " ".join(str(error).split())
    if isinstance(error, GpenError):
        return text
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return f"unexpected {type(error).__name__}{': ' if text else ''}{text[:300]}"


def exit_code(results: Sequence[JobResult]) -> int:
    """0: all done. 1: some failed. 2: all failed for want of an optional package."""
    failed = [result for result in results if result.error is not None]
    if failed and len(failed) == len(results) and all(isinstance(result.failure, FeatureMissingError) for result in failed):
        return 2
    return 1 if failed else 0
