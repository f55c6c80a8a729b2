"""Measures how time grows with the network's size, the number of faces and the picture's area; fits exponents and plots them:

    python -m benchmarks.growth [--rounds 3] [--plots docs/images] [--only size faces area]

An exponent is the slope of a straight line through the logarithms: 1 is linear, 2 quadratic. Each point is a median; every round measures
all points in turn. Weights are random, of the official shape. For the area, a network that returns its input replaces the real one, so that
only the rest counts. Plots need matplotlib.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.folder import PORTRAIT, random_restorer
from benchmarks.network import SHAPES, processor, random_generator
from benchmarks.picture import Unchanged
from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.network.run import run_network
from gpen_core.pictures import Picture, from_array, read_picture, write_picture
from gpen_core.runtime import computes_bf16

FACES = (1, 2, 4, 8, 16)
GRID, CELL = 4, 320  # cells per side and pixels per cell; fixed, so that the picture's size does not depend on the number of faces
AREAS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)  # megapixels
WHATS = ("size", "faces", "area")


@dataclass(frozen=True)
class Line:
    """One curve. The exponent is fitted only to the points from fit_from to fit_to."""

    name: str
    xs: tuple[float, ...]
    seconds: tuple[float, ...]
    fit_from: float = 0.0
    fit_to: float = float("inf")

    @property
    def fitted_xs(self) -> list[float]:
        return [x for x in self.xs if self.fit_from <= x <= self.fit_to]

    @property
    def exponent(self) -> str:
        """The exponent as text, with the range it was fitted to."""
        inner = self.fitted_xs
        ends = [f"from {inner[0]:g}"] if inner[0] > self.xs[0] else []
        ends += [f"to {inner[-1]:g}"] if inner[-1] < self.xs[-1] else []
        return f"{self.fitted[0]:.2f}" + (f" ({' '.join(ends)})" if ends else "")

    @property
    def fitted(self) -> tuple[float, float]:
        """(exponent, seconds at x = 1) of the best-fitting power law."""
        points = [(x, y) for x, y in zip(self.xs, self.seconds, strict=True) if x in self.fitted_xs]
        slope, start = np.polyfit(np.log([x for x, _ in points]), np.log([y for _, y in points]), 1)
        return float(slope), float(np.exp(start))


@dataclass(frozen=True)
class Chart:
    """The content of one plot. axis: the name of x, with its unit."""

    name: str
    title: str
    axis: str
    lines: tuple[Line, ...]


# --- measuring -------------------------------------------------------------------------------------------------------


def medians(runs: Mapping[Any, Callable[[], dict[str, float]]], rounds: int) -> dict[Any, dict[str, float]]:
    """{point: {name: median seconds}}. Runs each point once to warm up, then all in turn."""
    seen: dict[Any, list[dict[str, float]]] = {point: [] for point in runs}
    for number in range(rounds + 1):
        for point, run in runs.items():
            seconds = run()
            if number:
                seen[point].append(seconds)
    return {point: {name: statistics.median(one[name] for one in found) for name in found[0]} for point, found in seen.items()}


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def by_size(rounds: int) -> Chart:
    """Times one face through the network, by the network's input size."""
    dtypes = [torch.float32, *([torch.bfloat16] if computes_bf16() else [])]
    found: dict[str, dict[int, float]] = {str(dtype).removeprefix("torch."): {} for dtype in dtypes}
    for size in SHAPES:  # one size at a time: all at once would take gigabytes
        plain = random_generator(size)
        face = np.random.default_rng(1).random((size, size, 3), np.float32)
        networks = {name: place(FusedGenerator(plain).eval(), "cpu", dtype) for name, dtype in zip(found, dtypes, strict=True)}
        runs = {name: lambda network=network, face=face: {"": timed(run_network, network, face)[0]} for name, network in networks.items()}
        for name, median in medians(runs, rounds).items():
            found[name][size] = median[""]
    # At 256 the official network has half the channels, so it is on another curve.
    lines = tuple(Line(name, tuple(times), tuple(times.values()), fit_from=512) for name, times in found.items())
    return Chart("size", "One face through the network", "side of the network's picture, pixels", lines)


def with_faces(count: int) -> Picture:
    """A picture with `count` faces in the first cells of a grid; the rest is grey."""
    portrait = read_picture(PORTRAIT).pixels[..., :3]
    cell = cv2.resize(portrait, (CELL, CELL), interpolation=cv2.INTER_AREA)
    pixels = np.full((GRID * CELL, GRID * CELL, 3), 0.5, np.float32)
    for number in range(count):
        top, left = number // GRID * CELL, number % GRID * CELL
        pixels[top : top + CELL, left : left + CELL] = cell if number % 2 else cell[:, ::-1]
    return from_array(np.rint(pixels * 255).astype(np.uint8))


def by_faces(rounds: int) -> Chart:
    """Times a whole picture with 1 to 16 faces, network 256, and the network alone."""
    restorer = random_restorer(256)

    def run(picture: Picture, count: int) -> dict[str, float]:
        seconds, result = timed(restorer, picture)
        if len(result.faces) != count:
            raise SystemExit(f"{len(result.faces)} faces were found, not {count}")
        alone = sum(timed(run_network, restorer.loaded_network, crop)[0] for crop in result.crops)
        return {"whole picture": seconds, "network alone": alone}

    pictures = {count: with_faces(count) for count in (0, *FACES)}
    found = medians({count: lambda count=count: run(pictures[count], count) for count in pictures}, rounds)
    empty = found[0]["whole picture"]
    more = tuple(max(1e-6, found[count]["whole picture"] - empty) for count in FACES)
    lines = [Line(name, FACES, tuple(found[count][name] for count in FACES)) for name in ("whole picture", "network alone")]
    lines.insert(1, Line(f"whole picture, less the {empty:.2f} s without faces", FACES, more))
    return Chart("faces", f"A picture of {(GRID * CELL) ** 2 / 1e6:.1f} megapixels, network 256", "faces in the picture", tuple(lines))


def of_area(megapixels: float) -> NDArray[np.uint8]:
    """A picture (4:3) of that area with one face of fixed size in its centre and no face around it."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(height * 4 / 3)
    random = np.random.default_rng(2)
    coarse = np.asarray(random.uniform(0.2, 0.8, (12, 16, 3)), np.float32)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    ground += np.asarray(random.normal(0, 0.02, ground.shape), np.float32)
    portrait = read_picture(PORTRAIT).pixels[..., :3]
    top, left = (height - portrait.shape[0]) // 2, (width - portrait.shape[1]) // 2
    ground[top : top + portrait.shape[0], left : left + portrait.shape[1]] = portrait
    return np.rint(np.clip(ground, 0, 1) * 255).astype(np.uint8)


def by_area(rounds: int) -> Chart:
    """Times everything but the network, by the picture's area."""
    network: Any = Unchanged(512)
    restorer = FaceRestorer(RestoreOptions(device="cpu"), network=network)
    names = ("all", "finding faces", "reading and writing (JPEG)", "restoring (without network)")
    with tempfile.TemporaryDirectory() as folder:

        def run(path: Path) -> dict[str, float]:
            read, picture = timed(read_picture, path)
            found, faces = timed(restorer.detect, picture)
            if len(faces) != 1:
                raise SystemExit(f"{len(faces)} faces were found, not one")
            restored, result = timed(lambda: restorer(picture, faces=faces))
            written, _ = timed(lambda: write_picture(result.image, path.with_name("out.jpg"), overwrite=True))
            return dict(zip(names, (read + found + restored + written, found, read + written, restored), strict=True))

        runs: dict[float, Callable[[], dict[str, float]]] = {}
        for area in AREAS:
            path = write_picture(from_array(of_area(area)), Path(folder) / f"{area}.jpg")
            runs[area] = lambda path=path: run(path)
        seconds = medians(runs, rounds)
    # The detector's work is bounded above 4 megapixels, and small files cost mostly fixed time.
    ranges = {"finding faces": (0, 4), "reading and writing (JPEG)": (1, 32)}
    lines = tuple(Line(name, AREAS, tuple(seconds[area][name] for area in AREAS), *ranges.get(name, ())) for name in names)
    return Chart("area", "Everything but the network, one face", "area of the picture, megapixels", lines)


# --- showing ---------------------------------------------------------------------------------------------------------


def table(chart: Chart) -> str:
    """The chart's points and exponents, in Markdown."""
    xs = chart.lines[0].xs
    rows = [f"| {chart.axis} | {' | '.join(f'{x:g}' for x in xs)} | exponent |", "|---" * (len(xs) + 2) + "|"]
    for line in chart.lines:
        rows.append(f"| {line.name}, s | {' | '.join(f'{y:.3f}' for y in line.seconds)} | {line.exponent} |")
    return "\n".join(rows)


def pyplot() -> Any:
    """matplotlib, for files only."""
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise SystemExit(
            f"plots need matplotlib, which cannot be imported here ({error}); install it with: pip install matplotlib"
        ) from None


def plot(chart: Chart, folder: Path) -> Path:
    """Draws the chart as growth-NAME.png in the folder. Returns its path."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7.2, 4.6), dpi=110, layout="constrained")
    for line, colour, mark in zip(chart.lines, ("#1f5fa8", "#d1661f", "#3c8c4a", "#7d4fa3"), "os^D", strict=False):
        exponent, start = line.fitted
        axes.plot(line.xs, line.seconds, mark, color=colour, markersize=6, label=f"{line.name}: exponent {line.exponent}")
        ends = np.array([line.fitted_xs[0], line.fitted_xs[-1]])
        axes.plot(ends, start * ends**exponent, "-", color=colour, linewidth=1.2, alpha=0.7)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    xs = chart.lines[0].xs
    axes.set_xticks(xs, [f"{x:g}" for x in xs])
    axes.set_xticks([], minor=True)
    low, high = axes.get_ylim()
    nice = [step * 10.0**power for power in range(-6, 4) for step in (1, 2, 5)]
    shown = [value for value in nice if low <= value <= high]
    axes.set_yticks(shown, [f"{value:g}" for value in shown])
    axes.set_yticks([], minor=True)
    axes.set_xlabel(chart.axis)
    axes.set_ylabel("seconds")
    axes.set_title(chart.title)
    axes.grid(visible=True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=1 if len(chart.lines) < 4 else 2, frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"growth-{chart.name}.png"
    figure.savefig(path)
    plt.close(figure)
    return path


MEASURES: dict[str, Callable[[int], Chart]] = {"size": by_size, "faces": by_faces, "area": by_area}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures how time grows with network size, faces and picture area.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="also draw growth-*.png there (needs matplotlib)")
    parser.add_argument("--only", nargs="+", default=list(WHATS), choices=WHATS)
    arguments = parser.parse_args()
    print_tables(arguments.rounds, arguments.plots, arguments.only)


def print_tables(rounds: int = 3, plots: Path | None = None, only: Sequence[str] = WHATS) -> None:
    """Prints the tables. plots: the folder for the plots; None draws none. only: which of WHATS."""
    if plots is not None:
        pyplot()  # reports a missing matplotlib before minutes are spent
    print(f"{processor()}, {torch.get_num_threads()} threads; torch {torch.__version__}, Python {platform.python_version()}")
    for what in only:
        chart = MEASURES[what](rounds)
        print(f"\n{chart.title}:\n\n{table(chart)}", flush=True)
        if plots is not None:
            print(f"\nplot: {plot(chart, plots)}", flush=True)


if __name__ == "__main__":
    main()
