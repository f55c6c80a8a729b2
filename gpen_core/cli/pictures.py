"""The commands for pictures: restore, detect, colorize, inpaint, seg2face."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.run import Job, JobResult, exit_code, plan_outputs, run_batch, run_jobs
from ..batch.sheet import eight_bits
from ..errors import FeatureMissingError, GpenError, OutputExistsError, PictureError
from ..options import AUTO, PRESET, Option, RestoreOptions
from ..pictures import Picture, check_frames, frame_file, read_frames, read_picture, write_picture
from ..pixels import Pixels
from ..runtime import pick_device, pick_dtype
from ..task_options import FaceTask, TaskOptions
from ..video.restore import load_av
from ..video.span import Span, check_span
from ..weights.catalog import Catalog
from ..weights.files import check_name
from .console import Bars, Console
from .jobs import announce, check_flags, check_tar, check_video, restore_job

if TYPE_CHECKING:
    from ..faces.face import Face
    from ..network.fused import Network


def restore(arguments: argparse.Namespace, console: Console) -> int:
    """`restore`: restores the faces in pictures and videos."""
    check_flags(arguments)
    options = RestoreOptions.from_mapping(_given(arguments))
    check_name(options.model, "restore")
    if arguments.job is not None:
        return restore_job(arguments, options, console)
    from ..restore.restorer import FaceRestorer

    leave_out = [arguments.faces_dir] if arguments.faces_dir else []
    jobs = plan_outputs(arguments.inputs, arguments.out, compare=arguments.compare, leave_out=leave_out)
    todo = [job for job in jobs if job.error is None]
    _check_videos(todo, arguments.compare, options, arguments.codec)
    for job in todo:
        if job.kind == "tar":
            check_tar(job.source, arguments)
    if todo and all(job.kind == "video" for job in todo):
        load_av()  # fails now rather than after downloading weights
    if arguments.trim is not None:
        jobs = [_with_span(job, arguments.trim) for job in jobs]
    bars = Bars(console, len(jobs))
    restorer = FaceRestorer(options, models_dir=arguments.models_dir, progress=bars.faces)
    results = run_batch(
        jobs,
        restorer,
        overwrite=arguments.overwrite,
        skip_existing=arguments.skip_existing,
        quality=arguments.quality,
        crf=arguments.crf,
        video_on_card=arguments.video_on_card,
        trim=None if arguments.trim is None else str(arguments.trim),
        codec=arguments.codec,
        fps=arguments.fps,
        resume=True,
        restart=arguments.video_restart,
        faces_dir=arguments.faces_dir,
        progress=bars.frames,
        started=lambda job: announce(job, bars),
    )
    done = _collected(results, bars, console, _restored_line)
    return _finished(done, console, restorer.model_name)


def _check_videos(jobs: list[Job], compare: bool, options: RestoreOptions, codec: str) -> None:
    """Raises SettingsError for settings that videos do not allow, before any picture is processed."""
    for job in jobs:
        if job.kind == "video" and job.target is not None:
            check_video(job.source, job.target, compare, options.output_size, codec)


def _with_span(job: Job, span: Span) -> Job:
    """The job, with an error if its video ends before the span begins: now, rather than after downloading weights."""
    if job.kind == "video" and job.error is None:
        try:
            check_span(load_av(), job.source, span)
        except PictureError as error:
            return replace(job, error=str(error))
        except FeatureMissingError:
            pass  # the job itself says so, and the others go on
    return job


def detect(arguments: argparse.Namespace, console: Console) -> int:
    """`detect`: finds faces and prints their boxes; with -o also marks them in copies."""
    from ..restore.restorer import FaceRestorer

    # Only the detector is needed: the smallest weights replace the default ones, which might need a download.
    smallest = next(entry.name for entry in Catalog.default() if entry.embedded)
    options = RestoreOptions.from_mapping({"model": smallest, **_given(arguments)})
    jobs = plan_outputs(arguments.inputs, arguments.out, videos=False)
    bars = Bars(console, len(jobs))
    restorer = FaceRestorer(options, models_dir=arguments.models_dir)

    def found(result: JobResult, picture: Picture, number: int) -> list[Face]:
        faces = restorer.detect(picture)
        frame = {"frame": number} if picture.form.frames > 1 else {}
        result.faces += [{**frame, **face.to_json(), "index": index} for index, face in enumerate(faces)]
        return faces

    def drawn(picture: Picture, faces: list[Face]) -> Picture:
        from ..faces import draw_faces

        return eight_bits(draw_faces(picture.pixels, faces))

    def work(result: JobResult, target: Path | None) -> None:
        if target is not None:
            _change(result, target, arguments, lambda picture, number: drawn(picture, found(result, picture, number)))
            return
        for number, (picture, _) in enumerate(read_frames(result.job.source)):
            found(result, picture, number)
            result.frames = picture.form.frames if picture.form.frames > 1 else None

    results = _run(jobs, work, arguments, bars, restorer.prepare)
    done = _collected(results, bars, console, _detected_line)
    return _finished(done, console, None, detector=options.detector)


def colorize(arguments: argparse.Namespace, console: Console) -> int:
    """`colorize`: colourises the faces in black-and-white pictures."""
    return _task(arguments, console, "colorize")


def inpaint(arguments: argparse.Namespace, console: Console) -> int:
    """`inpaint`: fills the missing parts of faces."""
    hole = None if arguments.hole_mask is None else read_picture(arguments.hole_mask).pixels.max(axis=2)
    return _task(arguments, console, "inpaint", hole)


def _task(arguments: argparse.Namespace, console: Console, task: FaceTask, hole: Pixels | None = None) -> int:
    """Changes the faces of pictures. hole: for inpainting."""
    options = TaskOptions.from_mapping(task, _given(arguments, TaskOptions.table(task)))
    check_name(options.shared.model, task)

    from ..restore.tasks import TaskRestorer

    jobs = plan_outputs(arguments.inputs, arguments.out, videos=False)
    bars = Bars(console, len(jobs))
    restorer = TaskRestorer(options, models_dir=arguments.models_dir, progress=bars.faces)

    def work(result: JobResult, target: Path | None) -> None:
        def made(picture: Picture, number: int) -> Picture:
            done = restorer(picture, hole=hole)
            frame = {"frame": number} if picture.form.frames > 1 else {}
            result.faces += [{**frame, **face.to_json()} for face in done.faces]
            result.scale = done.scale
            return done.image

        _change(result, target, arguments, made)

    done = _collected(_run(jobs, work, arguments, bars, restorer.prepare), bars, console, _restored_line)
    return _finished(done, console, restorer.model_name)


def seg2face(arguments: argparse.Namespace, console: Console) -> int:
    """`seg2face`: generates faces from segmentation maps."""
    from ..network.load import load_network
    from ..restore.whole_picture import segmentation_to_face

    options = RestoreOptions.from_mapping(_given(arguments))
    model = Catalog.default().names("seg2face")[0] if options.model.lower() == AUTO else options.model
    check_name(model, "seg2face")
    jobs = plan_outputs(arguments.inputs, arguments.out, videos=False)
    bars = Bars(console, len(jobs))
    loaded: list[Network] = []

    def prepare() -> None:
        if not loaded:
            device = pick_device(options.device)
            dtype = pick_dtype(options.precision, device)
            loaded.append(load_network(model, device=device, dtype=dtype, models_dir=arguments.models_dir, or_cpu=True))

    def work(result: JobResult, target: Path | None) -> None:
        def made(picture: Picture, number: int) -> Picture:
            changed = segmentation_to_face(picture, loaded[0], or_cpu=True)
            result.scale = changed.width / picture.width
            return changed

        _change(result, target, arguments, made)

    done = _collected(_run(jobs, work, arguments, bars, prepare), bars, console, _line)
    return _finished(done, console, model)


# --- shared parts ----------------------------------------------------------------------------------------------------


def _given(arguments: argparse.Namespace, table: Iterable[Option] = (PRESET, *RestoreOptions.table())) -> Mapping[str, Any]:
    """The settings given on the command line."""
    values = {option.name: getattr(arguments, option.name, None) for option in table}
    return {name: value for name, value in values.items() if value is not None}


def _run(
    jobs: list[Job],
    work: Callable[[JobResult, Path | None], None],
    arguments: argparse.Namespace,
    bars: Bars,
    prepare: Callable[[], None],
) -> Iterator[JobResult]:
    return run_jobs(_told(jobs, bars), work, overwrite=arguments.overwrite, skip_existing=arguments.skip_existing, prepare=prepare)


def _change(result: JobResult, target: Path | None, arguments: argparse.Namespace, change: Callable[[Picture, int], Picture]) -> None:
    """Reads the job's picture and writes the result of `change(picture, number)`, for every frame or page."""
    if target is None:
        raise PictureError(f"{result.job.source} has no output path")
    picture = read_picture(result.job.source)
    form, settings = picture.form, {"overwrite": arguments.overwrite, "quality": arguments.quality}
    if form.frames == 1:
        result.output = write_picture(change(picture, 0), target, **settings)
        return
    check_frames(form, target)
    with frame_file(form, target, **settings) as add:
        for number, (frame, milliseconds) in enumerate(read_frames(result.job.source)):
            add(change(frame, number), milliseconds)
    result.output, result.frames = target, form.frames


def _told(jobs: list[Job], bars: Bars) -> Iterator[Job]:
    """The jobs, each announced to the progress bars when it starts."""
    for job in jobs:
        announce(job, bars)
        yield job


def _collected(results: Iterator[JobResult], bars: Bars, console: Console, line: Callable[[JobResult], str]) -> list[JobResult]:
    """All results, each printed as it arrives."""
    done: list[JobResult] = []
    try:
        for result in results:
            done.append(result)
            bars.end()
            console.input = ""
            if result.error is not None:
                source = str(result.job.source)
                text = _with_advice(result)
                console.error(text if source in text else f"{source}: {text}")
            else:
                console.say(line(result))
    finally:
        bars.close()
        console.input = ""
    return done


def _with_advice(result: JobResult) -> str:
    """The error of an input, with the flag that helps."""
    text = result.error or ""
    if isinstance(result.failure, OutputExistsError):
        return f"{text}: use --overwrite to replace it or --skip-existing to skip it"
    expected = result.failure is None or isinstance(result.failure, (GpenError, MemoryError))
    return text if expected else f"{text} (--debug shows where)"


def _finished(done: list[JobResult], console: Console, model: str | None, **more: str) -> int:
    failed = sum(result.error is not None for result in done)
    if console.as_json:
        console.show_json({"model": model, **more, "inputs": [result.to_json() for result in done], "failed": failed})
    elif len(done) > 1:
        console.say(f"{len(done) - failed} of {len(done)} inputs done" + (f", {failed} failed" if failed else ""))
    return exit_code(done)


def _line(result: JobResult, what: str = "") -> str:
    if result.skipped:
        return f"{result.output} already exists"
    return f"{result.job.source} -> {result.output} ({what}{result.seconds:.1f} s)"


def _frames(result: JobResult) -> str:
    return f"{result.frames} frames, " if result.frames is not None else ""


def _restored_line(result: JobResult) -> str:
    if result.tar is not None:
        pictures, failed = _plural(result.tar.pictures, "picture"), result.tar.failed
        return _line(result, f"{pictures}{f', {failed} failed' if failed else ''}, {_plural(result.tar.faces['restored'], 'face')}, ")
    good = sum(face["status"] == "restored" for face in result.faces)
    count = f"{good} of {len(result.faces)} faces" if good != len(result.faces) else _plural(good, "face")
    kept = sum(face["status"] == "kept" for face in result.faces)
    return _line(result, f"{_frames(result)}{count}{f', {kept} kept' if kept else ''}, ")


def _detected_line(result: JobResult) -> str:
    lines = [_line(result) if result.skipped else f"{result.job.source}: {_frames(result)}{_plural(len(result.faces), 'face')}"]
    for face in result.faces:
        x0, y0, x1, y1 = (round(value) for value in face["box"])
        frame = f"  frame {face['frame']}" if "frame" in face else ""
        lines.append(f"{frame}  {face['index']:>2}  {x0},{y0} to {x1},{y1}  score {face['score']:.3f}")
    return "\n".join(lines)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
