"""Kills the processes of a job at random moments, runs it again until it is done, and counts what was lost, doubled and repeated."""

from __future__ import annotations

import io
import random
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
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


def make_archives(folder: Path, pictures: int, each: int) -> None:
    """Archives of `each` such pictures, and a text beside every one of them."""
    make_pictures(folder / "pictures", pictures)
    every = sorted((folder / "pictures").rglob("*.png"))
    for first in range(0, pictures, each):
        with tarfile.open(folder / f"{first // each:04}.tar", "w") as archive:
            for path in every[first : first + each]:
                archive.add(path, path.name)
                archive.addfile(tarfile.TarInfo(f"{path.stem}.txt"), io.BytesIO())


def killed_until_done(
    folder: Path, pictures: int, kills: int, *, workers: int = 1, seconds: float = 0.002, seed: int = 0, in_tars_of: int = 0
) -> Figures:
    """Runs a job in `folder` with `workers` processes at once; all are killed together, `kills` times, then it may end.

    in_tars_of: so many pictures lie in each archive; what is counted are then archives.
    """
    chance, figures = random.Random(seed), Figures()
    source, out, job = (folder / name for name in ("in", "out", "job"))
    if in_tars_of:
        make_archives(source, pictures, in_tars_of)
    else:
        make_pictures(source, pictures)
    inputs = source / "*.tar" if in_tars_of else source
    # A kill falls anywhere in the work that is left, or before it: while Python starts or the list is made.
    work = pictures * (seconds + 0.003) / workers
    before = seen(out)
    for kill in range(kills + 1):
        command = [sys.executable, str(WORKER), str(job), str(inputs), str(out), str(seconds)]
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
        if in_tars_of:  # what is there is whole, also right after a kill
            figures.broken += sum(not has_all(source / name, out / name) for name in after)
    check(figures, JobFolder(job), source, out)
    return figures


def seen(out: Path) -> dict[str, tuple[int, int]]:
    """Every output, and what changes if it is written again."""
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.endswith(".part")]
    return {path.relative_to(out).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def check(figures: Figures, folder: JobFolder, source: Path, out: Path) -> None:
    """Counts what is missing, what is there besides, and what is not the picture it should be."""
    archives = {path.name: path for path in source.glob("*.tar")}
    wanted = archives or {path.relative_to(source).as_posix(): path for path in source.rglob("*.png")}
    there = seen(out)
    figures.lost = len(wanted.keys() - there.keys())
    figures.doubled = len(there.keys() - wanted.keys())
    manifest = folder.manifest()
    records = [record for shard in range(manifest.shards) for record in folder.records(shard)]
    named = [Path(record["output"]).relative_to(out).as_posix() for record in records if record["error"] is None]
    figures.lost += len(wanted.keys() - set(named))
    figures.doubled += len(named) - len(set(named))
    figures.broken += sum(not folder.is_done(shard) for shard in range(manifest.shards)) + len(records) - len(named)
    for name in wanted.keys() & there.keys():
        if archives:
            before, after = list(members(wanted[name])), list(members(out / name))
            figures.broken += [one for one, _ in before] != [one for one, _ in after]
            pairs = [(a, b) for (member, a), (_, b) in zip(before, after, strict=False) if member.endswith(".png")]
        else:
            pairs = [(wanted[name].read_bytes(), (out / name).read_bytes())]
        figures.broken += not all(is_restored(*pair) for pair in pairs)


def has_all(source: Path, output: Path) -> bool:
    try:
        return [name for name, _ in members(source)] == [name for name, _ in members(output)]
    except tarfile.TarError:
        return False


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            yield member.name, opened.extractfile(member).read()


def is_restored(before: bytes, after: bytes) -> bool:
    """Whether the stub made this of it, which leaves the last corner as it was."""
    with Image.open(io.BytesIO(before)) as one, Image.open(io.BytesIO(after)) as other:
        return one.getpixel((15, 15)) == other.getpixel((15, 15)) and other.getpixel((0, 0)) == (255, 255, 255)
