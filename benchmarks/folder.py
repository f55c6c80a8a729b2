"""Measures how close the time for a folder of pictures comes to the network's own, with and without overlapped reading and writing:

    python -m benchmarks.folder [--pictures 200] [--size 512] [--suffix .jpg] [--precision auto]

The pictures are variants of examples/portrait.png in a temporary folder (one face, 1 megapixel; brighter, darker, larger or mirrored).
Weights are random, of the official shape: speed does not depend on them. "Network alone": its calls on the same faces, one after another,
with nothing else running. "Restoring alone": likewise the restorer's calls, which also find and paste the faces. Ratios: those times over
the time of the whole folder.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.network import SHAPES, processor, random_generator
from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.batch.run import JobResult, plan_outputs, run_batch
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.network.run import run_network
from gpen_core.pictures import from_array, read_picture, write_picture
from gpen_core.runtime import pick_dtype

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
SIDE = 1000  # pixels: 1 megapixel


def make_pictures(folder: Path, count: int, suffix: str) -> None:
    """Writes `count` different pictures of 1 megapixel, each with one face."""
    portrait = np.ascontiguousarray(read_picture(PORTRAIT).pixels[..., :3])
    height, width = int(portrait.shape[0]), int(portrait.shape[1])
    random = np.random.default_rng(5)
    for number in range(count):
        scale: float = SIDE / height * random.uniform(1.0, 1.15)
        left, top = random.uniform(0, scale * width - SIDE), random.uniform(0, scale * height - SIDE)
        placed = cv2.warpAffine(
            portrait, np.array([[scale, 0, -left], [0, scale, -top]]), (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        if random.random() < 0.5:
            placed = placed[:, ::-1]
        # A little camera noise, because smooth pictures are encoded unrealistically fast.
        pixels = placed * random.uniform(0.8, 1.1) + random.normal(0, 0.01, placed.shape)
        write_picture(from_array(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)), folder / f"{number:04}{suffix}")


def random_restorer(size: int, precision: str = "auto") -> FaceRestorer:
    """A restorer whose network has random weights of the official shape."""
    network = place(FusedGenerator(random_generator(size)).eval(), "cpu", pick_dtype(precision, torch.device("cpu")))
    return FaceRestorer(RestoreOptions(device="cpu", precision=precision), network=network)


def one_after_another(source: Path, out: Path, restorer: FaceRestorer) -> tuple[float, float, list[NDArray[np.uint8]]]:
    """Restores the folder without any overlap: (total seconds, seconds of the restorer's calls, the network's input faces)."""
    crops: list[NDArray[np.uint8]] = []
    restoring = 0.0
    started = time.perf_counter()
    for path in sorted(source.iterdir()):
        result = restorer(read_picture(path))
        restoring += result.seconds
        write_picture(result.image, out / path.name)
        crops += [np.rint(crop * 255).astype(np.uint8) for crop in result.crops]  # a quarter of the memory
    return time.perf_counter() - started, restoring, crops


def overlapped(source: Path, out: Path, restorer: FaceRestorer) -> tuple[float, list[JobResult]]:
    """Restores the folder as the command line does: (seconds, results)."""
    started = time.perf_counter()
    results = list(run_batch(plan_outputs([source], out), restorer))
    return time.perf_counter() - started, results


def network_alone(restorer: FaceRestorer, crops: Sequence[NDArray[np.uint8]]) -> float:
    """Seconds of the network's calls on these faces."""
    seconds = 0.0
    for crop in crops:
        face = crop.astype(np.float32) / np.float32(255)
        started = time.perf_counter()
        run_network(restorer.loaded_network, face)
        seconds += time.perf_counter() - started
    return seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--suffix", default=".jpg", choices=[".jpg", ".png"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the time for a folder of pictures with the network's own.")
    add_options(parser)
    parser.add_argument("--size", type=int, default=512, choices=list(SHAPES))
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    arguments = parser.parse_args()
    print_table(arguments.pictures, arguments.size, arguments.suffix, arguments.precision)


def print_table(pictures: int, size: int, suffix: str = ".jpg", precision: str = "auto") -> None:
    restorer = random_restorer(size, precision)
    with tempfile.TemporaryDirectory() as name:
        source, plain, beside = (Path(name) / part for part in ("in", "plain", "beside"))
        make_pictures(source, pictures, suffix)
        restorer(read_picture(source / f"0000{suffix}"))  # warms up: some things are built on first use
        seconds, results = overlapped(source, beside, restorer)
        if problems := [result.error for result in results if result.error is not None]:
            raise SystemExit(problems[0])
        serial, restoring, crops = one_after_another(source, plain, restorer)
        alone = network_alone(restorer, crops)
        same = all((beside / path.name).read_bytes() == path.read_bytes() for path in plain.iterdir())
    dtype = str(next(restorer.loaded_network.parameters()).dtype).removeprefix("torch.")
    print(f"{processor()}, {torch.get_num_threads()} threads; torch {torch.__version__}, Python {platform.python_version()}")
    print(f"{pictures} {suffix} pictures of 1 megapixel, {len(crops)} faces, network {size} in {dtype}\n")
    print("| how | seconds | a picture | network alone / this | restoring alone / this |\n|---|---|---|---|---|")
    rows = {"network alone": alone, "restoring alone": restoring, "read, restored, written in turn": serial, "overlapped": seconds}
    for how, value in rows.items():
        print(f"| {how} | {value:.1f} | {value / pictures:.3f} | {alone / value:.2f} | {restoring / value:.2f} |")
    print(f"\nthe files are {'the same both ways' if same else 'NOT the same'}", flush=True)


if __name__ == "__main__":
    main()
