"""Jobs of many pictures that go on where they were: `restore --job DIR`, and `job check` and `job report`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..batch.check import problems_of
from ..batch.job import JobChangedError, JobFolder, Manifest
from ..batch.listing import STDIN, Found, absolute, inputs_of
from ..batch.plan import Job, output_name
from ..batch.ray import run_on_ray
from ..batch.report import write_report
from ..batch.shards import finding, restoring, run_shards
from ..batch.tally import tally_of
from ..batch.tars import is_tar_path
from ..batch.workers import devices_of, end_with_parent, run_workers
from ..errors import SettingsError
from ..options import RestoreOptions
from ..video.codecs import DEFAULT, check_codec, check_encoder
from ..video.restore import load_av
from ..weights.catalog import Catalog
from ..weights.sums import sha256_of
from .console import Bars, Console

# Flags that mean something only with --job: names in the arguments, and defaults.
JOB_FLAGS = {"list": None, "list_only": False, "shard": (0, 1), "workers": 1, "dry_run": False, "ray": None, "job_restart": False}
_PROBLEMS = 1000  # in the JSON of `job check`


def check_flags(arguments: argparse.Namespace) -> None:
    """Raises SettingsError for flags that lack something."""
    missing = [name for name, is_there in (("IN", arguments.inputs or arguments.list), ("-o/--out", arguments.out)) if not is_there]
    if missing:
        raise SettingsError(f"the following arguments are required: {', '.join(missing)} (see restore --help)")
    given = [name for name, default in JOB_FLAGS.items() if getattr(arguments, name) != default]
    if given and arguments.job is None:
        raise SettingsError(f"--{given[0].replace('_', '-')} works only with --job DIR")


def restore_job(arguments: argparse.Namespace, options: RestoreOptions, console: Console) -> int:
    """Restores the pictures of a job, or those of a part of it."""
    folder = JobFolder(arguments.job)
    settings = settings_of(arguments, options)
    manifest = _opened(folder, arguments, settings, _weights(arguments, options), console)
    if arguments.list_only:
        return _said(console, folder, f"{manifest.pictures} inputs in {manifest.shards} shards are listed in {folder.path}", manifest, {})
    part, parts = arguments.shard
    shards = range(part, manifest.shards, parts)
    if arguments.job_worker is not None:
        end_with_parent()
        _work(folder, manifest, _begun_at(shards, *arguments.job_worker), arguments, options, lambda record: _tell_parent(record, console))
        return 0
    total, done = sum(map(manifest.size_of, shards)), folder.begun(manifest, shards)
    bars = Bars(console, total, done)
    try:
        if arguments.ray is not None:
            _run_on_ray(folder, shards, arguments, bars, console)
        elif arguments.workers > 1 and done < total:
            worst = _run_workers(arguments, bars, console)
            if worst:
                return worst
        else:
            _work(folder, manifest, shards, arguments, options, lambda record: _finished(record, bars, console), bars)
    finally:
        bars.close()
        console.input = ""
    tally = tally_of(folder, shards)
    left = total - tally.done - tally.failed
    more: dict[str, Any] = {}
    if left == 0 and all(map(folder.is_done, range(manifest.shards))):
        more = {"report": str(write_report(folder, manifest, tally if parts == 1 else None))}
    found = sum(tally.faces.values())
    text = f"{tally.done} of {total} inputs done" + (f", {tally.failed} failed" if tally.failed else "")
    text += f", {found} faces found" if arguments.dry_run else ""
    text += f", {left} left (others work on them, or run it again)" if left else ""
    text += f"; report: {more['report']}" if more else ""
    counts = {"done": tally.done, "failed": tally.failed, "left": left, "faces": found, **more}
    return _said(console, folder, text, manifest, counts) or (1 if tally.failed or left else 0)


def _weights(arguments: argparse.Namespace, options: RestoreOptions) -> str:
    """The sha256 of the model's weights; a dry run needs none."""
    if arguments.dry_run:
        return ""
    from ..network.load import find_model

    return sha256_of(find_model(options.model, arguments.models_dir, task="restore").path)


def _work(
    folder: JobFolder,
    manifest: Manifest,
    shards: Iterable[int],
    arguments: argparse.Namespace,
    options: RestoreOptions,
    finished: Callable[[dict[str, Any]], None],
    bars: Bars | None = None,
) -> None:
    """Works on shards in this process. bars: show the steps of each input."""
    from ..restore.restorer import FaceRestorer

    if arguments.dry_run:  # only the detector is needed, and the smallest weights are always there
        options = replace(options, model=next(entry.name for entry in Catalog.default() if entry.embedded))
    restorer = FaceRestorer(options, models_dir=arguments.models_dir, progress=None if bars is None else bars.faces)

    def started(job: Job) -> None:
        if bars is not None:
            announce(job, bars)

    restart = arguments.job_restart or arguments.video_restart
    frames = None if bars is None else bars.frames
    work = finding(restorer) if arguments.dry_run else restoring(restorer, manifest.settings, frames, started, restart=restart)
    run_shards(folder, manifest, shards, work, finished=finished)


def announce(job: Job, bars: Bars) -> None:
    """Tells the bars which input begins."""
    bars.begin(str(job.source), "face" if job.kind == "picture" else "frame")


# --- several processes


def _begun_at(shards: range, worker: int, workers: int) -> list[int]:
    """The shards, begun at a place of the worker's own, so that workers seldom ask for the same one."""
    first = len(shards) * worker // workers
    return [*shards[first:], *shards[:first]]


def worker_commands(arguments: argparse.Namespace) -> list[list[str]]:
    """This command once for each worker, with a device of its own."""
    given = ["--video-restart" if word == "--job-restart" else word for word in arguments.argv]  # the list is made
    end = given.index("--") if "--" in given else len(given)
    devices = devices_of(arguments.workers, arguments.device or "auto")
    return [
        [sys.executable, "-m", "gpen_core", *given[:end], "--device", device, "--job-worker", f"{number}/{len(devices)}", *given[end:]]
        for number, device in enumerate(devices)
    ]


def _run_workers(arguments: argparse.Namespace, bars: Bars, console: Console) -> int:
    """Runs the workers. Returns the exit code of an error that ended one before any work, else 0."""

    def said(line: str) -> None:
        try:
            _finished(json.loads(line), bars, console)
        except (ValueError, TypeError, KeyError):  # something else that a library has printed
            console.raw_error(line)

    def told(line: str) -> None:
        if line != "gpen: interrupted":
            console.raw_error(line)

    codes = run_workers(worker_commands(arguments), said, told)
    for number, code in enumerate(codes):
        if code < 0 or code > 3:
            console.error(f"worker {number} ended unexpectedly (exit code {code}); what it left is done when you run the job again")
    return next((code for code in (2, 3) if code in codes), 0)


def _run_on_ray(folder: JobFolder, shards: Iterable[int], arguments: argparse.Namespace, bars: Bars, console: Console) -> None:
    if arguments.dry_run:
        raise SettingsError("--dry-run cannot go with --ray; use --workers")

    def finished(told: dict[str, Any]) -> None:
        for name, error in told["errors"]:
            _tell_error(name, error, console)
        bars.inputs_more(told["count"])

    run_on_ray(
        folder,
        [shard for shard in shards if not folder.is_done(shard)],
        address=arguments.ray,
        workers=arguments.workers if arguments.workers > 1 else 0,
        given=None if arguments.models_dir is None else str(absolute(arguments.models_dir)),
        use_cards=arguments.device != "cpu",
        finished=finished,
        warn=console.warn,
    )


def _tell_parent(record: dict[str, Any], console: Console) -> None:
    console.out.write(json.dumps({"input": record["input"], "error": record["error"]}) + "\n")
    console.out.flush()


# --- the job itself


def settings_of(arguments: argparse.Namespace, options: RestoreOptions) -> dict[str, Any]:
    """What must not change while a job goes on. The device may: its machines may differ."""
    if Path(arguments.out).suffix and not Path(arguments.out).is_dir() and not arguments.out.endswith((os.sep, "/")):
        raise SettingsError(f"a job needs an output folder, and {arguments.out} has the name of a file (end it with a slash)")
    table = {option.name: getattr(options, option.name) for option in RestoreOptions.table() if option.name != "device"}
    lists: list[Path] = arguments.list or []
    names = ("quality", "crf", "video_on_card", "compare", "overwrite", "skip_existing")
    return {
        **table,
        **{name: getattr(arguments, name) for name in names},
        # Only where they are given, so that jobs begun before these flags go on.
        **({} if arguments.trim is None else {"trim": str(arguments.trim)}),
        **({} if arguments.codec == DEFAULT else {"codec": arguments.codec}),
        **({} if arguments.fps is None else {"fps": str(arguments.fps)}),
        "dry_run": arguments.dry_run,
        "inputs": [str(absolute(path)) for path in arguments.inputs],
        "list": [str(path if path == STDIN else absolute(path)) for path in lists],
        "out": str(absolute(arguments.out)),
        "faces_dir": None if arguments.faces_dir is None else str(absolute(arguments.faces_dir)),
    }


def _opened(folder: JobFolder, arguments: argparse.Namespace, settings: dict[str, Any], weights: str, console: Console) -> Manifest:
    """The job's manifest, checked; its list is made if there is none."""
    if arguments.job_restart:
        _forget(folder, arguments)
    try:
        manifest = folder.manifest()
        if manifest is None:
            with folder.lock():
                manifest = folder.manifest()  # another process may have made it meanwhile
                if manifest is None:
                    return _listed(folder, arguments, settings, weights, console)
        manifest.check(settings, weights, folder.path)
    except JobChangedError as error:
        raise SettingsError(f"{error} (--job-restart)") from error
    return manifest


def _forget(folder: JobFolder, arguments: argparse.Namespace) -> None:
    out = Path(arguments.out)
    if (
        not (arguments.overwrite or arguments.skip_existing)
        and out.is_dir()
        and not all(path.name.startswith(".") for path in out.iterdir())
    ):
        raise SettingsError(f"{out} has files already: with --job-restart say --overwrite or --skip-existing, or choose another folder")
    if arguments.shard != (0, 1):
        raise SettingsError("--job-restart cannot go with --shard, as every machine would restart the job; use it once, with --list-only")
    if folder.path.is_dir():
        folder.forget()


def _listed(folder: JobFolder, arguments: argparse.Namespace, settings: dict[str, Any], weights: str, console: Console) -> Manifest:
    hidden = [path for path in (arguments.faces_dir, arguments.job) if path is not None]
    found = inputs_of(arguments.inputs, arguments.list or [], Path(arguments.out), hidden=hidden)
    bars = Bars(console, 0, 0)
    try:
        checked = _checked(found, arguments, settings["output_size"])
        manifest = folder.make_list(checked, settings, weights, compare=arguments.compare, listed=bars.inputs_at)
    finally:
        bars.close()
    if manifest.twice:
        console.warn(f"{manifest.twice} inputs are named twice; they are processed once")
    return manifest


def _checked(found: Iterator[tuple[int, Found]], arguments: argparse.Namespace, output_size: str) -> Iterator[tuple[int, Found]]:
    """Raises SettingsError for settings that a video or an archive among the inputs does not allow."""
    compare, codec = arguments.compare, arguments.codec
    for number, one in found:
        if is_tar_path(one.source):
            check_tar(one.source, arguments)
        elif compare or output_size == "native" or codec != DEFAULT:
            kind, name = output_name(one.source)
            if kind == "video":
                check_video(one.source, name, compare, output_size, codec)
        yield number, one


def check_tar(archive: Path, arguments: argparse.Namespace) -> None:
    """Raises SettingsError for settings that an archive does not allow."""
    for flag, is_given in (("--compare", arguments.compare), ("--faces-dir", arguments.faces_dir is not None)):
        if is_given:
            raise SettingsError(f"{flag} does not work for archives, and {archive} is a tar; remove one of them")


def check_video(video: Path, target: Path, compare: bool, output_size: str, codec: str) -> None:
    """Raises SettingsError for settings that a video does not allow, FeatureMissingError for a codec that PyAV lacks."""
    if codec != DEFAULT:
        check_encoder(load_av(), check_codec(codec, target))
    if compare:
        raise SettingsError(f"--compare works for pictures only, and {video} is a video; remove one of them")
    if output_size == "native":
        raise SettingsError(
            f"{video} is a video, and the output size native would differ from frame to frame; use keep or factor, or remove the video"
        )


def check(arguments: argparse.Namespace, console: Console) -> int:
    """`job check`: names every input without one whole output."""
    folder, manifest = _existing(arguments)
    problems: list[str] = []
    count = 0
    for problem in problems_of(folder, manifest, quick=arguments.quick):
        count += 1
        if console.as_json:
            problems = [*problems, problem][:_PROBLEMS]
        console.say(problem)
    text = f"{manifest.pictures} inputs, {count} problems" if count else f"all {manifest.pictures} inputs have their output"
    return _said(console, folder, text, manifest, {"problems": count, "first": problems}) or (1 if count else 0)


def report(arguments: argparse.Namespace, console: Console) -> int:
    """`job report`: writes the report of a job, finished or not."""
    folder, manifest = _existing(arguments)
    path = write_report(folder, manifest)
    return _said(console, folder, str(path), manifest, {"report": str(path)})


def _existing(arguments: argparse.Namespace) -> tuple[JobFolder, Manifest]:
    folder = JobFolder(arguments.job)
    manifest = folder.manifest()
    if manifest is None:
        raise SettingsError(f"there is no job in {folder.path}: it has no list/manifest.json")
    return folder, manifest


def _finished(record: dict[str, Any], bars: Bars, console: Console) -> None:
    bars.inputs_more(1)  # not end(): the next input may have begun
    if record["error"] is not None:
        _tell_error(record["input"], record["error"], console)


def _tell_error(name: str, error: str, console: Console) -> None:
    console.error(error if name in error else f"{name}: {error}")


def _said(console: Console, folder: JobFolder, text: str, manifest: Manifest, more: dict[str, Any]) -> int:
    if console.as_json:
        console.show_json({"job": str(folder.path), "pictures": manifest.pictures, "shards": manifest.shards, **more})
    else:
        console.say(text)
    return 0
