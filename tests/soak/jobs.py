"""Jobs whose processes are killed at random moments and run again until they are done: see job_kills.py."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from job_kills import killed_until_done


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    yield outcome(given, 0)
    yield outcome(given, 20)


def outcome(given: argparse.Namespace, in_tars_of: int) -> tuple[str, bool]:
    """in_tars_of: so many pictures in each archive, or 0."""
    with tempfile.TemporaryDirectory() as folder:
        figures = killed_until_done(
            Path(folder), given.pictures, given.kills, workers=given.workers, seconds=0.005, seed=given.seed, in_tars_of=in_tars_of
        )
    most, repeated = max(figures.repeated), sum(figures.repeated)
    kept = not (figures.lost or figures.doubled or figures.broken) and most <= given.workers
    where = f" in archives of {in_tars_of}, which are counted" if in_tars_of else ""
    said = f"{figures.lost} lost, {figures.doubled} doubled, {figures.broken} broken, {repeated} repeated, at most {most} after one kill"
    return f"{given.pictures} pictures{where}, {given.workers} process(es), {given.kills} kills of {figures.kills} processes: {said}", kept
