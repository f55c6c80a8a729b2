"""Compares the speed and file size of the project's PNG compression with the settings of OpenCV and Pillow.

    python -m benchmarks.png [--rounds 7] [--picture PICTURE]

The picture is examples/portrait.png, enlarged by Lanczos to 3840x2160, with camera grain; --picture uses another one unchanged.
Every candidate compresses it once per round, in turn, so that other load on the machine affects all alike. Ratios are taken within a round;
the table shows their medians. "length" is the file's length over the project's.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version

from benchmarks.network import processor
from gpen_core.pictures import read_picture
from gpen_core.pictures.png import packed_pixels

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
WIDTH, HEIGHT = 3840, 2160
GRAIN = 1.5  # of 255: like a good camera's, so that files are as large as real photographs
STRATEGIES = {
    "default": cv2.IMWRITE_PNG_STRATEGY_DEFAULT,
    "filtered": cv2.IMWRITE_PNG_STRATEGY_FILTERED,
    "fixed": cv2.IMWRITE_PNG_STRATEGY_FIXED,
    "huffman": cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    "rle": cv2.IMWRITE_PNG_STRATEGY_RLE,
}
SEARCHES_NOT = ("huffman", "rle")  # the level has no effect on these

Pack = Callable[[Any], bytes]


def stand_in() -> Any:
    """The middle of the example picture: (2160, 3840, 3) floats, 0..1."""
    portrait = read_picture(PORTRAIT).pixels
    rows = portrait.shape[1] * HEIGHT // WIDTH
    top = (portrait.shape[0] - rows) // 2
    large = cv2.resize(portrait[top : top + rows], (WIDTH, HEIGHT), interpolation=cv2.INTER_LANCZOS4)
    grain = np.random.default_rng(4).standard_normal((HEIGHT, WIDTH, 3), np.float32)
    return large + grain * np.float32(GRAIN / 255)


def opencv(*settings: int) -> Pack:
    def pack(values: NDArray[np.uint8]) -> bytes:
        return cv2.imencode(".png", cv2.cvtColor(values, cv2.COLOR_RGB2BGR), settings)[1].tobytes()

    return pack


def pillow(level: int) -> Pack:
    def pack(values: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "PNG", compress_level=level)
        return stream.getvalue()

    return pack


def candidates(dtype: type) -> dict[str, Pack]:
    """All ways to compress, the project's first."""
    packs: dict[str, Pack] = {"this project": packed_pixels, "OpenCV as it comes": opencv()}
    for strategy, number in STRATEGIES.items():
        for level in (1,) if strategy in SEARCHES_NOT else (1, 2, 3):
            packs[f"OpenCV {level}, {strategy}"] = opencv(cv2.IMWRITE_PNG_COMPRESSION, level, cv2.IMWRITE_PNG_STRATEGY, number)
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # OpenCV 4.12 and later; without a filter, libpng chooses row by row
        for strategy in SEARCHES_NOT:
            mean = (cv2.IMWRITE_PNG_STRATEGY, STRATEGIES[strategy], cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG)
            packs[f"OpenCV 1, {strategy}, filter of the mean"] = opencv(cv2.IMWRITE_PNG_COMPRESSION, 1, *mean)
    if dtype is np.uint8:  # Pillow has no 16-bit colour
        packs |= {f"Pillow {level}": pillow(level) for level in (1, 2, 3)}
    return packs


def print_table(pixels: Any, dtype: type, rounds: int) -> None:
    full = np.iinfo(dtype).max
    values = np.clip(np.rint(pixels * full), 0, full).astype(dtype)
    packs = candidates(dtype)
    lengths = {name: len(pack(values)) for name, pack in packs.items()}  # a warm-up that does not count
    seconds: dict[str, list[float]] = {name: [] for name in packs}
    for _ in range(rounds):
        for name, pack in packs.items():
            started = time.perf_counter()
            pack(values)
            seconds[name].append(time.perf_counter() - started)
    own = next(iter(packs))
    print(f"\n{values.shape[1]}x{values.shape[0]}, {8 * values.itemsize} bits, {lengths[own] / 1e6:.2f} MB\n")
    print("| how | seconds | time / this project's | length / this project's |\n|---|---|---|---|")
    for name in packs:
        ratio = statistics.median(other / mine for other, mine in zip(seconds[name], seconds[own], strict=True))
        print(f"| {name} | {statistics.median(seconds[name]):.3f} | {ratio:.2f} | {lengths[name] / lengths[own]:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the project's PNG compression with OpenCV's and Pillow's.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--picture", type=Path, help="a picture to use instead of the example")
    arguments = parser.parse_args()
    versions = f"OpenCV {cv2.__version__}, Pillow {pillow_version}, Python {platform.python_version()}"
    print(f"{processor()}, {os.cpu_count()} processors; {versions}")
    pixels = read_picture(arguments.picture).pixels if arguments.picture else stand_in()
    for dtype in (np.uint8, np.uint16):
        print_table(pixels, dtype, arguments.rounds)


if __name__ == "__main__":
    main()
