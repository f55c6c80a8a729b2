"""The tables that go into docs/dependencies.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHOWN = {
    "python": "Python",
    "torch": "torch",
    "numpy": "numpy",
    "opencv-python-headless": "OpenCV",
    "Pillow": "Pillow",
    "safetensors": "safetensors",
    "filelock": "filelock",
    "tqdm": "tqdm",
}


@dataclass(frozen=True)
class Tests:
    """How the tests ended. failed: their names."""

    passed: int
    skipped: int
    failed: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """What measure.py found. facts: versions by package. pictures: restored ones, 0..1."""

    facts: Mapping[str, str]
    figures: Mapping[str, float]
    pictures: Mapping[str, np.ndarray]
    absent: tuple[str, ...]


def read(path: Path) -> Measured:
    with np.load(path) as data:
        names, values = data["figures"]
        facts = dict(zip(*data["facts"].tolist(), strict=True))
        pictures = {name.removeprefix("picture "): data[name] for name in data.files if name.startswith("picture ")}
        return Measured(
            facts, dict(zip(names.tolist(), map(float, values), strict=True)), pictures, tuple(str(name) for name in data["absent"])
        )


def versions(measured: Mapping[str, Measured], tests: Mapping[str, Tests]) -> Iterator[str]:
    """A row for each environment: what is installed, and how the tests ended."""
    yield f"| environment | {' | '.join(SHOWN.values())} | passed | skipped | failed |"
    yield "|" + " --- |" * (len(SHOWN) + 4)
    for name, one in measured.items():
        ended = tests.get(name)
        counts = f"{ended.passed} | {ended.skipped} | {len(ended.failed)}" if ended else "not run | |"
        yield f"| {name} | {' | '.join(one.facts[fact] for fact in SHOWN)} | {counts} |"


def deviations(measured: Mapping[str, Measured], reference: str) -> Iterator[str]:
    """A row for each environment: the largest deviations in grey levels, of pictures from those of the reference."""
    first = measured[reference]
    yield f"| environment | {' | '.join([*first.figures, *(f'{name}: most / mean' for name in first.pictures)])} |"
    yield "|" + " --- |" * (len(first.figures) + len(first.pictures) + 1)
    for name, one in measured.items():
        cells = [f"{value:.1e}" if value else "0" for value in one.figures.values()]
        for which, picture in first.pictures.items():
            apart = np.abs(one.pictures[which].astype(np.float64) - picture) * 255
            cells.append("-" if name == reference else f"{apart.max():.2g} / {apart.mean():.1e}")
        yield f"| {name} | {' | '.join(cells)} |"


def widest(measured: Mapping[str, Measured], reference: str) -> float:
    """The largest deviation of a picture between the reference and another environment, in grey levels."""
    first = measured[reference].pictures
    return max((float(np.abs(one.pictures[name] - first[name]).max()) * 255 for one in measured.values() for name in first), default=0.0)
