"""Jobs whose processes are killed at random moments and run again until they are done: see job_kills.py."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from job_kills import killed_until_done


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    with tempfile.TemporaryDirectory() as folder:
        figures = killed_until_done(Path(folder), given.pictures, given.kills, workers=given.workers, seconds=0.005, seed=given.seed)
    most, repeated = max(figures.repeated), sum(figures.repeated)
    kept = not (figures.lost or figures.doubled or figures.broken) and most <= given.workers
    yield (
        f"{given.pictures} pictures, {given.workers} process(es), {given.kills} kills of {figures.kills} processes: {figures.lost} lost, "
        f"{figures.doubled} doubled, {figures.broken} broken, {repeated} repeated in all, at most {most} after one kill",
        kept,
    )
