"""Works through the shards of a job: a shard's pictures go through `run_batch`, and each leaves a record as soon as it is written."""

from __future__ import annotations

import errno
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DeviceError, PictureError
from ..pictures import read_frames
from ..pictures.disk import flush
from ..progress import Progress
from ..replacing import replace
from .job import JobFolder, JobStoppedError, Manifest, now, whole_lines
from .listing import Listed
from .plan import Job, output_name, why_no_file
from .run import JobResult, run_batch, run_jobs

if TYPE_CHECKING:
    from ..restore.restorer import FaceRestorer
    from ..restore.results import RestoreResult

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))

Work = Callable[[Iterator[Job], "Records"], Generator[JobResult, None, None]]


def restoring(
    restorer: FaceRestorer,
    settings: dict[str, Any],
    progress: Progress | None = None,
    started: Callable[[Job], None] = lambda job: None,
    *,
    restart: bool = False,
) -> Work:
    """The work of restoring, with a job's settings. progress, started: as in run_batch(). restart: begins videos anew."""
    faces_dir = settings["faces_dir"]
    more: dict[str, Any] = {name: settings[name] for name in ("overwrite", "skip_existing", "quality", "crf", "video_on_card")}
    more.update({name: settings[name] for name in ("trim", "codec", "fps") if name in settings})
    more.update(progress=progress, started=started, resume=True, restart=restart)

    def work(jobs: Iterator[Job], records: Records) -> Generator[JobResult, None, None]:
        yield from run_batch(jobs, restorer, **more, faces_dir=None if faces_dir is None else Path(faces_dir), written=records.add)

    return work


def finding(restorer: FaceRestorer) -> Work:
    """The work of a dry run: finds the faces of pictures, and writes nothing."""

    def find(result: JobResult, target: Path | None) -> None:
        if result.job.kind != "picture":
            raise PictureError(f"{result.job.source} is a {result.job.kind}; a dry run looks only at pictures")
        for number, (picture, _) in enumerate(read_frames(result.job.source)):
            frame = {"frame": number} if picture.form.frames > 1 else {}
            result.faces += [{**frame, **face.to_json()} for face in restorer.detect(picture)]
            result.frames = picture.form.frames if picture.form.frames > 1 else None

    def work(jobs: Iterator[Job], records: Records) -> Generator[JobResult, None, None]:
        yield from run_jobs(jobs, find, prepare=restorer.prepare)

    return work


def run_shards(
    folder: JobFolder,
    manifest: Manifest,
    shards: Iterable[int],
    work: Work,
    *,
    finished: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Works on the shards that nobody else works on. finished: receives each new record.

    Raises JobStoppedError if the disk is full, a DeviceError if the device stops working; what was finished is kept.
    """
    for shard in shards:
        if folder.is_done(shard):
            continue
        with folder.claimed(shard) as is_ours:
            if is_ours:
                run_shard(folder, manifest, shard, work, finished)


def run_shard(folder: JobFolder, manifest: Manifest, shard: int, work: Work, finished: Callable[[dict[str, Any]], None]) -> None:
    """Works on a shard, from the first input without a record on."""
    listed = list(folder.listed(shard))
    with Records(folder.part_path(shard), manifest, shard, listed, finished) as records:
        with closing(work(records.jobs(), records)) as results:  # its threads end before the file of records is closed
            for result in results:
                records.add(result)
                if records.stop is not None:
                    break
        if records.stop is not None:
            raise records.stop
    if len(listed) == records.count:
        try:
            replace(records.path, folder.done_path(shard))
        except FileNotFoundError:
            if not folder.is_done(shard):  # by another machine, which thought this one lost
                raise


class Records:
    """The records of a shard. They are always the first of its list, in order: a run that goes on begins after the last.

    A record is written, to the disk, after its output is on the disk. So a kill or a power cut loses no output that has a record; it may
    leave one without, which is then made again. The first line says which outputs existed before the shard was begun: those are not ours.
    """

    def __init__(
        self, path: Path, manifest: Manifest, shard: int, listed: list[Listed], finished: Callable[[dict[str, Any]], None]
    ) -> None:
        self.path = path
        self.stop: Exception | None = None
        self._writes = not manifest.settings.get("dry_run")
        self._manifest, self._listed, self._finished = manifest, listed, finished
        self._waiting: deque[Job] = deque()
        lines = list(whole_lines(path)) if path.exists() else []
        self._again = bool(lines)
        self._there = (
            set(lines[0][0]["there"])
            if lines
            else {number for number, one in enumerate(listed) if self._writes and (manifest.out / one.name).exists()}
        )
        self.count = sum("input" in line for line, _ in lines)
        self._file = path.open("ab")
        self._file.truncate(lines[-1][1] if lines else 0)  # what follows the last whole line was being written at a kill
        self._append({"shard": shard, "begun": now(), **({} if lines else {"there": sorted(self._there)})})

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # of a full disk
            self._file.close()

    def jobs(self) -> Iterator[Job]:
        """A job for every input without a record."""
        for number in range(self.count, len(self._listed)):
            one = self._listed[number]
            error = one.error or why_no_file(one.source)
            sheet = None if one.sheet is None else self._manifest.out / one.sheet
            redo = self._again and number not in self._there
            kind = output_name(one.source)[0]
            target = None if error or not self._writes else self._manifest.out / one.name
            job = Job(one.source, target, kind, one.name, sheet, error, redo)
            self._waiting.append(job)
            yield job

    def add(self, result: JobResult, restored: RestoreResult | None = None) -> None:
        """Adds a record, once for each job. After a disk was full or a device has stopped, nothing is added: it is to be done again."""
        if self.stop is not None or not self._waiting or result.job is not self._waiting[0]:
            return
        self._waiting.popleft()
        if isinstance(result.failure, DeviceError):
            self.stop = result.failure
            return
        try:
            if _is_full(result.failure):
                raise OSError(errno.ENOSPC, "full")
            record = self._record(result, restored)
            self._append(record)
        except OSError as error:
            self.stop = error
            if _is_full(error):
                self.stop = JobStoppedError(f"the disk is full (at {result.job.target}); free some space and run the job again: it goes on")
            return
        self.count += 1
        self._finished(record)

    def _record(self, result: JobResult, restored: RestoreResult | None) -> dict[str, Any]:
        record = {
            "number": self.count,
            **result.to_json(),
            "settings": self._manifest.sum,
            "weights": self._manifest.weights[:16],
            "at": now(),
        }
        if result.output is not None:
            if not result.skipped:
                flush(result.output)
            record["bytes"] = result.output.stat().st_size
        if restored is not None and restored.crops:
            record["change"] = round(_change(restored), 4)
        return record

    def _append(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _change(restored: RestoreResult) -> float:
    """How much restoring changed the faces: the mean difference of their pixels, 0..1. Every eighth row and column of 1024 tells enough."""
    step = max(1, restored.crops[0].shape[0] // 128)
    pairs = zip(restored.crops, restored.restored, strict=True)
    return float(np.mean([np.abs(after[::step, ::step] - before[::step, ::step]).mean() for before, after in pairs]))


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
