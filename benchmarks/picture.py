"""Measures everything but the network: reading, detection, cropping, masks, colour, pasting, writing.

    python -m benchmarks.picture [--rounds 3] [--solvay PICTURE [--size 512]]

Runs the real FaceRestorer with a network of size 512 that returns its input. The pictures are examples/portrait.png, enlarged, with camera
noise, once or side by side. First table: median seconds of every step for one megapixel with one face and 8K (7680x4320) with 20, as JPEG
and as PNG. Second table: how a call with given faces (no reading, detection or writing) grows with picture and faces. --solvay: for a
picture of many faces and a real network (random weights of the official shape), how much longer the call takes than its network calls.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import cv2
import numpy as np
import torch

from benchmarks.network import SHAPES, processor, random_generator
from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces.face import Face
from gpen_core.network import run
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.pictures import Picture, from_array, read_picture, write_picture
from gpen_core.restore import compose
from gpen_core.steps.align import template_points

PORTRAIT = Path(__file__).resolve().parent.parent / "examples" / "portrait.png"
NOISE = 1.5  # of 255: like a good camera's, so that files are as large as real photographs
STEPS = ("read", "detect", "crop", "network's in and out", "mask", "colour", "paste", "write")


class Unchanged(torch.nn.Module):
    """A network that returns its input."""

    def __init__(self, size: int = 512) -> None:
        super().__init__()
        self.size = size
        self.nothing = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def photograph(width: int, height: int, columns: int, rows: int) -> Any:
    """(height, width, 3) uint8: columns x rows portraits side by side."""
    wide, tall = width // columns, height // rows
    side = min(wide, tall)
    portrait = cv2.resize(read_picture(PORTRAIT).pixels, (side, side), interpolation=cv2.INTER_CUBIC)
    left, top = (wide - side) // 2, (tall - side) // 2
    tile = cv2.copyMakeBorder(portrait, top, tall - side - top, left, wide - side - left, cv2.BORDER_REPLICATE)
    tiles = np.tile(tile, (rows, columns, 1))
    whole = cv2.copyMakeBorder(tiles, 0, height - tiles.shape[0], 0, width - tiles.shape[1], cv2.BORDER_REPLICATE)
    noise = np.random.default_rng(2048).standard_normal((height, width, 3), np.float32) * np.float32(NOISE)
    return np.clip(np.rint(whole * 255 + noise), 0, 255).astype(np.uint8)


class Stopwatch:
    """Adds up time by step. seconds: the total of every step so far."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the function so that its time is added to the step's."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[step] += time.perf_counter() - started

        return watched

    @contextmanager
    def on_the_pipeline(self) -> Generator[None, None, None]:
        """Times the restorer's own steps inside the `with` block."""
        places: list[tuple[Any, str, str]] = [
            (FaceRestorer, "_choose", "detect"),
            (compose, "crop_face", "crop"),
            (run, "run_batch", "network's in and out"),
            (compose, "landmark_mask", "mask"),
            (compose, "clip_to_picture", "mask"),
            (compose.tone, "match_colour", "colour"),
            (compose.Compositor, "__init__", "paste"),
            (compose.Compositor, "add", "paste"),
            (compose.Compositor, "result", "paste"),
        ]
        patches = [mock.patch.object(where, name, self.timed(step, getattr(where, name))) for where, name, step in places]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


def steps(source: Path, target: Path, pipeline: FaceRestorer) -> tuple[dict[str, float], int]:
    """Restores source into target. Returns (seconds of every step and in total, faces found)."""
    watch = Stopwatch()
    started = time.perf_counter()
    with watch.on_the_pipeline():
        picture = watch.timed("read", read_picture)(source)
        result = pipeline(picture)
        watch.timed("write", write_picture)(result.image, target, overwrite=True)
    return {**watch.seconds, "all": time.perf_counter() - started}, len(result.faces)


def print_steps(rounds: int, folder: Path) -> None:
    """Prints the table of all steps, for both pictures as JPEG and PNG."""
    head = ["picture", "faces found", *STEPS, "rest", "all"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name, (width, height, columns, rows) in {"1 MP": (1152, 896, 1, 1), "8K": (7680, 4320, 5, 4)}.items():
        numbers = photograph(width, height, columns, rows)
        for suffix in (".jpg", ".png"):
            source = write_picture(from_array(numbers), folder / f"{name}{suffix}", overwrite=True)
            pipeline = FaceRestorer(RestoreOptions(colour_match=True), network=cast(Any, Unchanged()))
            steps(source, folder / f"out{suffix}", pipeline)  # builds the detector's network
            runs = [steps(source, folder / f"out{suffix}", pipeline) for _ in range(rounds)]
            median = {key: statistics.median(run[0].get(key, 0.0) for run in runs) for key in (*STEPS, "all")}
            rest = median["all"] - sum(median[step] for step in STEPS)
            figures = [*(f"{median[step]:.3f}" for step in STEPS), f"{rest:.3f}", f"{median['all']:.3f}"]
            print(f"| {name} {suffix} | {runs[0][1]} | {' | '.join(figures)} |", flush=True)


def print_growth(rounds: int) -> None:
    """Prints the table of milliseconds per call with given faces, by picture size and number of faces."""
    counts = (0, 1, 5, 20)
    print(f"| picture | {' | '.join(f'{count} faces, ms' for count in counts)} | one face more, ms |\n{'|---' * (len(counts) + 2)}|")
    pipeline = FaceRestorer(RestoreOptions(colour_match=True), network=cast(Any, Unchanged()))
    points = template_points("gpen", 150)
    for width, height in ((1000, 750), (2000, 1500), (4000, 3000), (7680, 4320)):
        picture = from_array(np.zeros((height, width, 3), np.uint8))
        shifts = [(170 * (i % 5), 170 * (i // 5)) for i in range(max(counts))]
        faces = [Face((x, y, x + 150.0, y + 150.0), np.add(points, (x, y)).astype(np.float32), 1.0) for x, y in shifts]
        medians: list[float] = []
        for count in counts:
            seconds = [call(pipeline, picture, faces[:count]) for _ in range(rounds + 1)][1:]
            medians.append(1000 * statistics.median(seconds))
        more = (medians[-1] - medians[1]) / (counts[-1] - counts[1])
        print(f"| {width}x{height} | {' | '.join(f'{median:.0f}' for median in medians)} | {more:.1f} |", flush=True)


def call(pipeline: FaceRestorer, picture: Picture, faces: list[Face] | None = None) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    pipeline(picture, faces=faces)
    return time.perf_counter() - started


def print_many(path: Path, size: int) -> None:
    """Prints a line that compares the call on a picture of many faces with its network calls alone."""
    network = place(FusedGenerator(random_generator(size)), "cpu")
    pipeline = FaceRestorer(RestoreOptions(precision="fp32"), network=network)
    picture = read_picture(path)
    run.run_network(network, np.zeros((size, size, 3), np.float32))
    pipeline.detect(picture)
    watch = Stopwatch()
    with mock.patch.object(run, "run_batch", watch.timed("network", run.run_batch)):
        started = time.perf_counter()
        result = pipeline(picture)
        whole = time.perf_counter() - started
    alone = watch.seconds["network"]
    print(
        f"\n{path.name}, {len(result.faces)} faces at {size}: the call {whole:.2f} s, its network calls {alone:.2f} s: {whole / alone:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the seconds of everything but the network.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--solvay", type=Path, help="a picture of many faces")
    parser.add_argument("--size", type=int, default=512, choices=list(SHAPES), help="size of the network for that picture")
    parser.add_argument("--only-solvay", action="store_true")
    arguments = parser.parse_args()
    print(f"{processor()}, {torch.get_num_threads()} threads; Python {platform.python_version()}, OpenCV {cv2.__version__}\n")
    if not arguments.only_solvay:
        with tempfile.TemporaryDirectory() as folder:
            print_steps(arguments.rounds, Path(folder))
        print()
        print_growth(arguments.rounds)
    if arguments.solvay is not None:
        print_many(arguments.solvay, arguments.size)


if __name__ == "__main__":
    main()
