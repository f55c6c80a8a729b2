"""What became of a job of `plan_outputs`, and what of it was there before."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from traceback import clear_frames
from typing import Any

from ..errors import FeatureMissingError, OutputExistsError, describe
from ..runtime import device_error
from .plan import Job
from .tars import TarResult

log = logging.getLogger(__name__)


@dataclass
class JobResult:
    """The result of a job. output: the written file, or None. faces: `FaceResult.to_json()` of each face, with its frame number for
    videos and animations (page number for multi-page TIFFs). frames: number of frames or pages. cut: the video is cut short.
    frames_failed: frames of a video that could not be restored and are unchanged. frames_resumed: those that an earlier run had restored.
    tar: what became of the members of an archive. skipped: the output already existed. failure: the exception behind `error`, if any."""

    job: Job
    output: Path | None = None
    seconds: float = 0.0
    faces: list[dict[str, Any]] = field(default_factory=lambda: [])
    scale: float | None = None
    frames: int | None = None
    cut: bool = False
    frames_failed: int = 0
    frames_resumed: int = 0
    tar: TarResult | None = None
    skipped: bool = False
    error: str | None = None
    failure: Exception | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as plain text and numbers, as `restore --json` prints it."""
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
            values["frames_failed"] = self.frames_failed
            values["frames_resumed"] = self.frames_resumed
            values["frames_kept"] = len({face["frame"] for face in self.faces if face["status"] == "kept"})
        if self.tar is not None:
            values["tar"] = self.tar.to_json()
        return values


def is_settled(result: JobResult, overwrite: bool, skip_existing: bool, face: Path | None = None) -> bool:
    """True if a job has no work left: it has failed, or an output exists, which the result then records.

    face: a face that an earlier run saved under the same name.
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


def faces_in(folder: Path) -> dict[str, Path]:
    """The faces saved in a folder, by the NAME in NAME-INDEX-before.png or, for frames, NAME-FRAME-INDEX-before.png."""
    found: dict[str, Path] = {}
    with suppress(OSError):  # the folder may not exist yet
        for path in folder.iterdir():
            if match := re.fullmatch(r"(.+?)(?:-\d+){1,2}-(?:before|after)\.png", path.name):
                found[match[1]] = path
    return found


def note_failure(result: JobResult, error: Exception, device: str = "the device") -> None:
    log.debug("%s failed", result.job.source, exc_info=error)
    result.failure = device_error(error, device) or error
    result.error = describe(result.failure)
    # Keep the traceback but free the pictures in it, because results live as long as the run.
    reason: BaseException | None = error
    while reason is not None:
        clear_frames(reason.__traceback__)
        reason = reason.__cause__ or reason.__context__


def exit_code(results: Sequence[JobResult]) -> int:
    """The exit code of a run. 0: all done. 1: some failed. 2: all failed because an optional package is missing."""
    failed = [result for result in results if result.error is not None]
    if failed and len(failed) == len(results) and all(isinstance(result.failure, FeatureMissingError) for result in failed):
        return 2
    return 1 if failed else 0
