"""A video whose process is killed at random moments and run again until it is done: see video_kills.py."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from video_kills import killed_until_done


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    with tempfile.TemporaryDirectory() as folder:
        figures = killed_until_done(Path(folder), given.frames, given.kills, seed=given.seed)
    yield (
        f"{given.frames} frames, {figures.kills} kills until {figures.videos} videos were done, {figures.resumed} times gone on in the "
        f"middle: {figures.lost} frames lost, {figures.doubled} doubled, {figures.broken} with other pixels, times or sound",
        not (figures.lost or figures.doubled or figures.broken),
    )
