"""Much work for one restorer: a thousand pictures in a row, and eight threads at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.pictures import read_picture

PICTURES = 1000
THREADS = 8
PORTRAIT = Path(__file__).resolve().parents[2] / "examples" / "portrait.png"


def now() -> tuple[float, int]:
    """(memory in MiB, open files), where the system says; else (0, 0)."""
    if not sys.platform.startswith("linux"):
        return 0.0, 0
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / (1 << 20), len(list(Path("/proc/self/fd").iterdir()))


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    portrait = read_picture(PORTRAIT).pixels
    rng = np.random.default_rng(given.seed)
    restorer = FaceRestorer(RestoreOptions(model="GPEN-BFR-256-lite", device="cpu"))
    sizes: list[tuple[float, int]] = []
    faces = 0
    for number in range(PICTURES):
        picture = np.roll(portrait, int(rng.integers(0, 20)), axis=1)[: portrait.shape[0] - int(rng.integers(0, 30))]
        faces += sum(face.status == "restored" for face in restorer(np.ascontiguousarray(picture)).faces)
        if number % 100 == 99:
            sizes.append(now())
    (early, files), (late, files_late) = sizes[1], sizes[-1]
    yield (
        (
            f"{PICTURES} pictures in a row, {faces} faces: memory {early:.0f} MiB after 200, {late:.0f} MiB in the end; "
            f"open files {files}, {files_late}"
        ),
        faces >= PICTURES and late < early + 50 and files_late <= files,
    )
    pictures = [np.ascontiguousarray(np.roll(portrait, shift, axis=1)) for shift in range(32)]
    alone = [restorer(picture).image for picture in pictures]
    with ThreadPoolExecutor(THREADS) as threads:
        together = [result.image for result in threads.map(restorer, pictures)]
    different = sum(not np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    yield f"{len(pictures)} pictures on {THREADS} threads with one restorer: {different} differ from one thread's", different == 0
