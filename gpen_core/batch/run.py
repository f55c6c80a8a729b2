"""Runs the jobs of `plan_outputs` (`run_batch`, `run_jobs`). One bad input never stops the others."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError, PictureError, SettingsError, describe
from ..pictures import Form, Picture, check_frames, frame_file, read_frames, read_picture, write_picture
from ..pictures.disk import remove_abandoned_parts
from ..progress import Progress
from ..runtime import pick_device
from ..video.codecs import DEFAULT
from ..video.parts import forget_finished, remove_abandoned
from ..video.restore import CRF, restore_video
from .outcome import JobResult, exit_code, faces_in, is_settled, note_failure
from .overlap import about, overlapped
from .plan import Job, all_keys, plan_outputs
from .sheet import before_after, eight_bits
from .tars import restore_tar

if TYPE_CHECKING:
    from ..faces.face import Face
    from ..restore.restorer import FaceRestorer
    from ..restore.results import RestoreResult

__all__ = ["Job", "JobResult", "describe", "exit_code", "plan_outputs", "run_batch", "run_jobs"]

log = logging.getLogger(__name__)


def run_batch(
    jobs: Iterable[Job],
    restorer: FaceRestorer,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    quality: int = 95,
    crf: int = CRF,
    video_on_card: bool = False,
    trim: str | None = None,
    codec: str = DEFAULT,
    fps: Fraction | float | str | None = None,
    resume: bool = False,
    restart: bool = False,
    faces_dir: Path | None = None,
    progress: Progress | None = None,
    started: Callable[[Job], None] = lambda job: None,
    written: Callable[[JobResult, RestoreResult | None], None] = lambda result, restored: None,
) -> Iterator[JobResult]:
    """Restores the jobs and yields each result, in order, once its files are written. The result of a failed job has an `error`.

    overwrite: replace existing outputs; skip_existing: skip them (an existing output is complete, because files appear whole);
    otherwise an existing output is an error of that job, before any work. The picture is written last, so if it exists, its sheet and
    faces do too. quality: for JPEG and WebP. crf to restart: for videos (see restore_video). faces_dir: folder for each
    face before and after. progress: receives the frames of videos and animations. started: called when each job starts. written: called
    in the writing thread as soon as a job with work has its files or its error, in order; restored: None for videos, animations, errors.
    Raises the errors of `restorer.prepare()`, before the first job that has work. A job that fails because its device stopped working is
    the last; its error is a DeviceError.

    While one picture is restored, threads read the next one (and, if the network runs on a GPU, detect its faces) and encode and write
    the previous one. So memory holds up to three pictures, one of them before and after: 1.6 GB for 8K pictures, 0.8 GB more than for
    one alone, plus the bytes of two files. `seconds` of a result counts its own work, even parallel to others. After an interrupt or a
    closed iterator, restored pictures are written before the threads end.
    """
    videos = {"crf": crf, "on_card": video_on_card, "trim": trim, "codec": codec, "fps": fps, "resume": resume, "restart": restart}
    run = _Run(restorer, overwrite, skip_existing, quality, videos, faces_dir, progress, started, written)
    for done in overlapped(_Restoration(job, run) for job in jobs):
        if not done.is_left_out:
            yield done.result


@dataclass(frozen=True)
class _Run:
    """The settings and state shared by all jobs of a run: see run_batch."""

    restorer: FaceRestorer
    overwrite: bool
    skip_existing: bool
    quality: int
    videos: dict[str, Any]
    faces_dir: Path | None
    progress: Progress | None
    started: Callable[[Job], None]
    written: Callable[[JobResult, RestoreResult | None], None]
    tidied: set[Path] = field(default_factory=lambda: set())
    lost: list[DeviceError] = field(default_factory=lambda: [])  # the device does not compute any more
    faces_there: dict[Path, dict[str, Path]] = field(default_factory=lambda: {})  # before this run, by folder

    def faces_of(self, job: Job) -> Path | None:
        """The path prefix of the job's saved faces, or None if they are not saved."""
        return None if self.faces_dir is None else self.faces_dir / job.name

    def earlier_face_of(self, job: Job) -> Path | None:
        """A face that an earlier run saved under the job's name, or None."""
        base = self.faces_of(job)
        if base is None:
            return None
        if base.parent not in self.faces_there:
            self.faces_there[base.parent] = faces_in(base.parent)
        return self.faces_there[base.parent].get(base.name)


class _Restoration:
    """A job of run_batch in the pipeline. Releases its pictures as early as possible."""

    def __init__(self, job: Job, run: _Run) -> None:
        self.job, self.run = job, run
        self.result = JobResult(job, error=job.error)
        self.is_left_out = False
        self.overwrite = run.overwrite or job.redo
        self.skip_existing = run.skip_existing and not job.redo
        self.reads = all_keys([job.source])
        self.writes = all_keys([job.target, job.sheet])
        self._picture: Picture | None = None
        self._faces: list[Face] | None = None  # None: not detected ahead
        self._restored: RestoreResult | None = None

    def begin(self) -> bool:
        if self.run.lost:
            self.is_left_out = True
            return False
        self.run.started(self.job)
        if self._is_settled():
            if self.job.kind == "video" and self.job.target is not None:
                forget_finished(self.job.target)
            return False
        self.run.restorer.prepare()
        _tidy(self.run.tidied, self.job.target, self.run.faces_of(self.job))
        return True

    def read(self) -> None:
        with self._step():
            if self.job.kind != "picture" or self._is_settled():
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
                    self.job.source,
                    self.job.target,
                    run.restorer,
                    overwrite=self.overwrite,
                    progress=run.progress,
                    **run.videos,
                )
                result.output, result.scale, result.faces, result.frames = self.job.target, video.scale, video.faces, video.frames
                result.cut, result.frames_failed, result.frames_resumed = video.cut, video.kept, video.resumed
                return
            if self.job.kind == "tar":
                result.tar = restore_tar(
                    self.job.source, self.job.target, run.restorer, overwrite=self.overwrite, quality=run.quality, progress=run.progress
                )
                result.output = self.job.target
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
        picture, restored, self._picture, self._restored = self._picture, self._restored, None, None
        with self._step():
            if restored is not None and self.job.target is not None:
                if picture is not None and self.job.sheet is not None:
                    self._write_beside(before_after(picture, restored.image), self.job.sheet)
                self._save_faces(restored)
                self.result.output = write_picture(restored.image, self.job.target, overwrite=self.overwrite, quality=self.run.quality)
        self.run.written(self.result, None if self.result.error is not None else restored)

    def _check_frames(self, first: Picture, target: Path) -> None:
        """Raises PictureError if the target cannot store all frames or pages, of which `first` is the first."""
        check_frames(first.form, target)
        if first.form.format != "TIFF" and self.run.restorer.options.output_size == "native":
            raise PictureError("the output size 'native' would differ from frame to frame; use 'keep' or 'factor' for animations")

    def _restore_frames(self, form: Form, target: Path) -> None:
        """Restores all frames or pages. In memory are as many as FaceRestorer.sequence() holds; of pages, which are pictures of their own,
        as many as each() does."""
        run, result = self.run, self.result
        with ExitStack() as files:
            add = files.enter_context(frame_file(form, target, overwrite=self.overwrite, quality=run.quality))
            sheet = self.job.sheet
            if sheet is not None and self.skip_existing and sheet.exists():
                sheet = None
            compare = files.enter_context(frame_file(form, sheet, overwrite=self.overwrite, quality=run.quality)) if sheet else None
            taken: deque[tuple[Picture, float]] = deque()  # frames that are read, and not written yet

            def pictures() -> Iterator[Picture]:
                for frame in read_frames(self.job.source):
                    taken.append(frame)
                    yield frame[0]

            def write(number: int, restored: RestoreResult | Exception) -> int:
                if isinstance(restored, Exception):
                    raise restored
                picture, milliseconds = taken.popleft()
                result.faces += [{"frame": number, **face.to_json()} for face in restored.faces]
                result.scale = restored.scale
                if compare is not None:
                    compare(before_after(picture, restored.image), milliseconds)
                self._save_faces(restored, f"-{number}")
                add(restored.image, milliseconds)
                return number + 1

            restore = run.restorer.each if form.format == "TIFF" else run.restorer.sequence
            for written in map(write, count(), restore(pictures())):  # a result is in no variable: it holds every face
                if run.progress is not None:
                    run.progress.report(written, form.frames, "frame")
        result.output, result.frames = target, form.frames

    def _save_faces(self, restored: RestoreResult, frame: str = "") -> None:
        """Saves the aligned crop of each restored face, before and after."""
        base = self.run.faces_of(self.job)
        if base is None:
            return
        indices = [face.index for face in restored.faces if face.status == "restored"]
        for index, before, after in zip(indices, restored.crops, restored.restored, strict=True):
            for what, pixels in (("before", before), ("after", after)):
                self._write_beside(eight_bits(pixels), base.with_name(f"{base.name}{frame}-{index}-{what}.png"))

    def _write_beside(self, picture: Picture, path: Path) -> None:
        """Writes an additional file; with --skip-existing it keeps an existing one."""
        if not (self.skip_existing and path.exists()):
            write_picture(picture, path, overwrite=self.overwrite, quality=self.run.quality)

    def _is_settled(self) -> bool:
        return is_settled(self.result, self.overwrite, self.skip_existing, self.run.earlier_face_of(self.job))

    @contextmanager
    def _step(self) -> Generator[None, None, None]:
        """Measures the time, stores an error in the result, and names the input in the log, because threads work on several inputs."""
        start, token = time.perf_counter(), about.set(str(self.job.source))
        try:
            yield
        except Exception as error:  # a bug or lack of memory in one input must not stop the others
            note_failure(self.result, error, self.run.restorer.options.device)
            if isinstance(self.result.failure, DeviceError) and not self.run.lost:
                self.run.lost.append(self.result.failure)
                log.error("the run ends here; what was finished is kept")
        finally:
            about.reset(token)
            self.result.seconds += time.perf_counter() - start


def _tidy(done: set[Path], *paths: Path | None) -> None:
    """Removes leftovers of killed runs in the folders of `paths`, once per folder and run."""
    for folder in {path.parent for path in paths if path is not None} - done:
        remove_abandoned_parts(folder)
        remove_abandoned(folder)
        done.add(folder)


def _computes_elsewhere(restorer: FaceRestorer) -> bool:
    """True if the network runs on a GPU. Only then are faces detected ahead: on a CPU both would compete for the same cores (2 cores,
    512 pixels: a folder took a tenth to a sixth longer)."""
    return pick_device(restorer.options.device).type != "cpu"


def run_jobs(
    jobs: Iterable[Job],
    work: Callable[[JobResult, Path | None], None],
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[JobResult]:
    """Runs any work on jobs, one by one: `work(result, target)` fills in the result and may raise. The rest is as in run_batch.

    prepare: called before each job that has work; an exception from it ends the run.
    """
    tidied: set[Path] = set()
    for job in jobs:
        result = JobResult(job, error=job.error)
        started = time.perf_counter()
        if not is_settled(result, overwrite, skip_existing):
            prepare()
            _tidy(tidied, job.target)
            try:
                work(result, job.target)
            except Exception as error:  # as in _Restoration
                note_failure(result, error)
        result.seconds = time.perf_counter() - started
        yield result
        if isinstance(result.failure, DeviceError):
            log.error("the run ends here; what was finished is kept")
            return
