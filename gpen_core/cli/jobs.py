"""`restore --job DIR`: jobs of many pictures that go on where they were."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..batch.job import JobChangedError, JobFolder, Manifest
from ..batch.listing import STDIN, Found, absolute, inputs_of
from ..batch.plan import output_name
from ..batch.shards import restoring, run_shards
from ..errors import SettingsError
from ..options import RestoreOptions
from ..weights.sums import sha256_of
from .console import Bars, Console

# Flags that mean something only with --job, by their names in the arguments.
JOB_FLAGS = ("list", "list_only", "shard", "job_restart")


def check_flags(arguments: argparse.Namespace) -> None:
    """Raises SettingsError for flags that lack something."""
    missing = [name for name, is_there in (("IN", arguments.inputs or arguments.list), ("-o/--out", arguments.out)) if not is_there]
    if missing:
        raise SettingsError(f"the following arguments are required: {', '.join(missing)} (see restore --help)")
    given = [name for name in JOB_FLAGS if getattr(arguments, name) not in (None, False, (0, 1))]
    if given and arguments.job is None:
        raise SettingsError(f"--{given[0].replace('_', '-')} works only with --job DIR")


def restore_job(arguments: argparse.Namespace, options: RestoreOptions, console: Console) -> int:
    """Restores the pictures of a job, or those of a part of it."""
    from ..network.load import find_model
    from ..restore.restorer import FaceRestorer

    folder = JobFolder(arguments.job)
    settings = settings_of(arguments, options)
    weights = sha256_of(find_model(options.model, arguments.models_dir, task="restore").path)
    manifest = _opened(folder, arguments, settings, weights, console)
    if arguments.list_only:
        return _said(console, folder, f"{manifest.pictures} inputs in {manifest.shards} shards are listed in {folder.path}", manifest, {})
    part, parts = arguments.shard
    shards = range(part, manifest.shards, parts)
    total = sum(map(manifest.size_of, shards))
    bars = Bars(console, total, folder.begun(manifest, shards))
    try:
        work = restoring(FaceRestorer(options, models_dir=arguments.models_dir), settings)
        run_shards(folder, manifest, shards, work, finished=lambda record: _finished(record, bars, console))
    finally:
        bars.close()
    counts = folder.counts(manifest, shards)
    left = f", {counts.left} left (others work on them, or run it again)" if counts.left else ""
    text = f"{counts.done} of {total} inputs done" + (f", {counts.failed} failed" if counts.failed else "") + left
    return _said(console, folder, text, manifest, counts.__dict__) or (1 if counts.failed or counts.left else 0)


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
    if not (arguments.overwrite or arguments.skip_existing) and out.is_dir() and any(out.iterdir()):
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
        checked = _checked(found, arguments.compare, settings["output_size"])
        manifest = folder.make_list(checked, settings, weights, compare=arguments.compare, listed=bars.inputs_at)
    finally:
        bars.close()
    if manifest.twice:
        console.warn(f"{manifest.twice} inputs are named twice; they are processed once")
    return manifest


def _checked(found: Iterator[tuple[int, Found]], compare: bool, output_size: str) -> Iterator[tuple[int, Found]]:
    """Raises SettingsError for settings that a video among the inputs does not allow."""
    for number, one in found:
        if (compare or output_size == "native") and output_name(one.source)[0] == "video":
            check_video(one.source, compare, output_size)
        yield number, one


def check_video(video: Path, compare: bool, output_size: str) -> None:
    """Raises SettingsError for settings that a video does not allow."""
    if compare:
        raise SettingsError(f"--compare works for pictures only, and {video} is a video; remove one of them")
    if output_size == "native":
        raise SettingsError(
            f"{video} is a video, and the output size native would differ from frame to frame; use keep or factor, or remove the video"
        )


def _finished(record: dict[str, Any], bars: Bars, console: Console) -> None:
    bars.end()
    if record["error"] is not None:
        text = str(record["error"])
        console.error(text if record["input"] in text else f"{record['input']}: {text}")


def _said(console: Console, folder: JobFolder, text: str, manifest: Manifest, more: dict[str, Any]) -> int:
    if console.as_json:
        console.show_json({"job": str(folder.path), "pictures": manifest.pictures, "shards": manifest.shards, **more})
    else:
        console.say(text)
    return 0
