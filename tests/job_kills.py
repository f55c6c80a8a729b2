"""Kills the processes of a job at random moments, runs it again until it is done, and counts what was lost, doubled and repeated."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from gpen_core.batch.job import JobFolder

WORKER = Path(__file__).with_name("job_worker.py")


@dataclass
class Figures:
    """kills: how many processes were killed. repeated: for each kill of all workers, how many outputs were written a second time."""

    kills: int = 0
    repeated: list[int] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    broken: int = 0


def make_pictures(folder: Path, count: int) -> None:
    """Tiny pictures in sub-folders, each of a colour of its own."""
    for number in range(count):
        path = folder / str(number % 3) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(path)


def killed_until_done(folder: Path, pictures: int, kills: int, *, workers: int = 1, seconds: float = 0.002, seed: int = 0) -> Figures:
    """Runs a job in `folder` with `workers` processes at once; all are killed together, `kills` times, then it may end."""
    chance, figures = random.Random(seed), Figures()
    source, out, job = (folder / name for name in ("in", "out", "job"))
    make_pictures(source, pictures)
    # A kill falls anywhere in the work that is left, or before it: while Python starts or the list is made.
    work = pictures * (seconds + 0.003) / workers
    before = seen(out)
    for kill in range(kills + 1):
        command = [sys.executable, str(WORKER), str(job), str(source), str(out), str(seconds)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(workers)]
        if kill < kills:
            if chance.random() < 0.8:
                running[0].stdout.readline()  # "begun"
                time.sleep(chance.uniform(0, 2 * work / kills))
            else:
                time.sleep(chance.uniform(0, 0.5))
            for process in running:
                process.kill()
        codes = [process.wait() for process in running]
        for process in running:
            process.stdout.close()
        figures.kills += sum(code != 0 for code in codes) if kill < kills else 0
        after = seen(out)
        figures.repeated.append(sum(after[name] != state for name, state in before.items()))
        before = after
    check(figures, JobFolder(job), source, out)
    return figures


def seen(out: Path) -> dict[str, tuple[int, int]]:
    """Every output, and what changes if it is written again."""
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    return {path.relative_to(out).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def check(figures: Figures, folder: JobFolder, source: Path, out: Path) -> None:
    """Counts what is missing, what is there besides, and what is not the picture it should be."""
    wanted = {path.relative_to(source).as_posix(): path for path in source.rglob("*.png")}
    there = seen(out)
    figures.lost = len(wanted.keys() - there.keys())
    figures.doubled = len(there.keys() - wanted.keys())
    manifest = folder.manifest()
    records = [record for shard in range(manifest.shards) for record in folder.records(shard)]
    named = [Path(record["output"]).relative_to(out).as_posix() for record in records if record["error"] is None]
    figures.lost += len(wanted.keys() - set(named))
    figures.doubled += len(named) - len(set(named))
    figures.broken = sum(not folder.is_done(shard) for shard in range(manifest.shards)) + len(records) - len(named)
    for name in wanted.keys() & there.keys():
        with Image.open(wanted[name]) as before, Image.open(out / name) as after:  # the stub leaves the last corner as it was
            figures.broken += before.getpixel((15, 15)) != after.getpixel((15, 15)) or after.getpixel((0, 0)) != (255, 255, 255)
