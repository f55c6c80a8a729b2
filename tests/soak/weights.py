"""Hostile weight files, and good ones damaged at random: see hostile_weights.py and guarded_reading.py."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hostile_weights import corpus
from test_weights_corpus import good_files, read_all
from test_weights_fuzz import damaged

DAMAGED = 500  # of each good file


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good_files(folder)
        for file, content in corpus():
            (folder / file).write_bytes(content)
        for good in sorted(folder.glob("warm-up*")):
            for number in range(DAMAGED):
                (folder / f"damaged-{number}{good.name.removeprefix('warm-up')}").write_bytes(damaged(good.read_bytes(), rng))
        lines = read_all(folder)
        hostile = [line for line in lines if not line["name"].startswith("damaged")]
        did = sum(bool(line["did"]) for line in lines)
        odd = sum(said.startswith("!") for line in lines for said in line["said"])
        taken = sum(not line["said"][2] for line in hostile)
        memory, seconds = (max(line[what] for line in lines) for what in ("memory", "seconds"))
        yield f"{len(hostile)} hostile files and {len(lines) - len(hostile)} damaged ones, each read in 5 ways", len(hostile) > 300
        yield (
            f"{did} ran code or touched another file, {odd} ended in an error that is not ours, {taken} hostile ones were taken",
            not (did or odd or taken),
        )
        yield f"the longest took {seconds:.1f} s, memory grew by at most {memory} MiB", seconds < 30 and memory < 1024
