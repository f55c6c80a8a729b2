"""What happens behind the page's buttons, without gradio: faces found, files restored, models fetched."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_core.batch.run import Job as Plan
from gpen_core.batch.run import JobResult, describe, plan_outputs, run_batch
from gpen_core.errors import GpenError, WeightsError
from gpen_core.faces import draw_faces
from gpen_core.options import RestoreOptions, parse_indices
from gpen_core.pictures import Picture, read_picture
from gpen_core.video.restore import is_video_path

from . import models
from .controls import only
from .engine import Cancelled, Engine, Job

log = logging.getLogger(__name__)

LONGEST = 2048  # pixels of the previews' longer side: more than a page shows, and quick to send
Shown = NDArray[np.uint8]  # (H, W, 3), what the page shows; the files are written from the uploaded ones, not from this


@dataclass
class Found:
    """The faces of a file. picture: a preview with their boxes and numbers. on: those that the settings choose. note: for the user."""

    picture: Shown | None = None
    faces: int = 0
    on: list[int] = field(default_factory=lambda: [])
    note: str = ""
    failed: bool = False


@dataclass
class Done:
    """An uploaded file that was restored, or why it was not. file: the result. line: for the user."""

    source: Path
    line: str
    file: Path | None = None
    failed: bool = False

    @property
    def is_video(self) -> bool:
        return is_video_path(self.source)

    def previews(self) -> tuple[Shown, Shown] | None:
        """The picture before and after, of one size; None if there is none."""
        if self.file is None or self.is_video:
            return None
        before, after = read_picture(self.source), read_picture(self.file)
        return preview(before, like=after), preview(after)


def find(engine: Engine, path: Path, options: RestoreOptions, job: Job) -> Found:
    """Finds the faces of an uploaded file. Never raises: what is wrong is in the note."""
    if is_video_path(path):
        return Found(note=f"{path.name} is a video: the settings choose its faces, frame by frame.")
    try:
        with engine.turn(job):
            job.say(None, "Looking for faces")
            picture = read_picture(path)
            if options.aligned:
                return Found(preview(picture), note="The picture counts as one aligned face: all of it is restored.")
            faces = engine.restorer(dataclasses.replace(options, faces="")).detect(picture)
    except Exception as error:
        return Found(note=told(error, path), failed=not isinstance(error, Cancelled))
    wanted = parse_indices(options.faces)
    on = [number for number in range(len(faces)) if not wanted or number in wanted]
    drawn = preview(dataclasses.replace(picture, pixels=draw_faces(picture.pixels, faces)) if faces else picture)
    if not faces:
        return Found(drawn, note="No face was found. Lower the detection threshold, or choose the preset group or old-photo.")
    more = f" It has {picture.form.frames} frames or pages; this is the first." if picture.form.frames > 1 else ""
    return Found(drawn, len(faces), on, f"{_plural(len(faces), 'face')} found.{more}")


def restore(
    engine: Engine, paths: Sequence[Path], options: RestoreOptions, switched_on: Mapping[Path, Sequence[int]], folder: Path, job: Job
) -> list[Done]:
    """Restores uploaded files into a folder. One that fails does not stop the others; errors that concern all are raised.

    switched_on: the faces to restore, by file; files that are not in it follow the settings. Raises GpenError.
    """
    models.check(options.model, engine.models_dir)
    done: list[Done] = []
    with engine.turn(job):
        for index, plan in enumerate(plan_outputs(paths, folder)):
            if job.stop():
                break
            if len(paths) > 1:
                job.say(index / len(paths), f"{plan.source.name}: {index + 1} of {len(paths)}")
            done.append(_one(engine, plan, options, switched_on.get(plan.source), job))
    return done


def _one(engine: Engine, plan: Plan, options: RestoreOptions, numbers: Sequence[int] | None, job: Job) -> Done:
    name = plan.source.name
    if plan.kind == "tar":
        return Done(plan.source, f"{name}: the page takes no archives; restore it on the command line.", failed=True)
    if plan.kind == "video":
        if options.output_size == "native":
            return Done(
                plan.source, f"{name}: the output size native would differ from frame to frame; choose keep or factor.", failed=True
            )
    elif numbers is not None and not options.aligned:
        if not numbers:
            return Done(plan.source, f"{name}: no face is switched on, so nothing was done.", failed=True)
        options = dataclasses.replace(options, faces=only(numbers))
    restorer = engine.restorer(options)
    (result,) = run_batch([plan], restorer, progress=engine.progress)
    if isinstance(result.failure, Cancelled):
        raise result.failure
    if result.error is not None or result.output is None:
        return Done(plan.source, told(result.failure or result.error or "it failed", plan.source), failed=True)
    line = f"{name}: {summary(result, restorer.model_name)}" + (" Cancelled before the end." if job.stop() else "")
    if restorer.note:
        line += f" {restorer.note}"
    return Done(plan.source, line, result.output)


def summary(result: JobResult, model: str) -> str:
    """What was done to a file, in a sentence or two."""
    states = [face["status"] for face in result.faces]
    frames = f"{result.frames} frames, " if result.frames is not None else ""
    text = f"{frames}{states.count('restored')} of {_plural(len(states), 'face')} restored with {model} in {result.seconds:.1f} s."
    reasons = dict.fromkeys(f"{face['status']}: {face['reason']}" for face in result.faces if face["reason"])
    return " ".join([text, *(f"({reason})" for reason in list(reasons)[:3])])


def fetch(engine: Engine, model: str, job: Job) -> str:
    """Downloads a model unless it is on disk. Returns where it lies. Raises GpenError."""
    models.check(model, engine.models_dir)
    with engine.turn(job):
        found = engine.find(model)
        return found.note or f"{found.name} is on disk: {found.path}"


def told(error: BaseException | str, path: Path | None = None) -> str:
    """An error as a line for the page, with the file's name in place of the folder that it was uploaded to. Bugs go to the console too."""
    if isinstance(error, WeightsError):
        error.elsewhere = "To use another folder, start the page with --models-dir."
    text = describe(error) if isinstance(error, BaseException) else " ".join(error.split())
    if isinstance(error, BaseException) and not isinstance(error, (GpenError, MemoryError)):
        log.error("%s", "".join(traceback.format_exception(error)))
        text += " (a bug: the console has more)"
    if path is not None:
        text = text.replace(str(path), path.name).replace(str(path.resolve()), path.name)
        text = text if path.name in text else f"{path.name}: {text}"
    return text[:1].upper() + text[1:] if path is None else text


def preview(picture: Picture, like: Picture | None = None) -> Shown:
    """What the page shows of a picture: 8 bits, on a grey ground where it is transparent, at most LONGEST pixels; as large as `like`."""
    pixels: Any = picture.pixels
    if picture.alpha is not None:
        alpha: Any = picture.alpha[:, :, None]
        pixels = pixels * alpha + 0.5 * (1 - alpha)
    size = like or picture
    shrink = min(1.0, LONGEST / max(size.width, size.height))
    wanted = max(1, round(size.width * shrink)), max(1, round(size.height * shrink))
    if wanted != (picture.width, picture.height):
        way = cv2.INTER_AREA if wanted[0] < picture.width else cv2.INTER_CUBIC
        pixels = cast(Any, cv2.resize(pixels, wanted, interpolation=way))
    limited: Any = np.clip(pixels, 0, 1)
    return np.rint(limited * 255).astype(np.uint8)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
