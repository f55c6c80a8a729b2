"""What it costs to keep a video in segments, from which a killed run goes on: in the file's size, in quality, in time and in memory.

    python -m benchmarks.segments --data DATA [--clips 3] [--frames 1000] [--side 512] [--codec h264 hevc av1] [--segment 250]

DATA contains zip files of portraits (see benchmarks/detail.py). Every clip is one portrait moved by a known motion (benchmarks/video.py)
with a camera's noise in every frame: the worst case for key frames, because all else can be predicted. Nothing is restored: no face is
found, so the seconds are those of reading, encoding and writing.

Size: of the file in segments, beside that in one go. PSNR: of the stored frames against those given to the encoder; "around": of the 5
frames before and after each beginning of a segment, in segments and in one go; "step": how much PSNR changes there from one frame to the
next, median, for as visible pumping would show. Peak: memory of a process of its own (Linux).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces.face import Face
from gpen_core.steps.align import warp
from gpen_core.video import parts
from gpen_core.video.restore import load_av, restore_video

from .detail import as_float, portraits, to_bytes
from .video import MOTIONS, motion

NEAR = 5


class Nothing:
    """A detector that finds no face: frames go through as they are."""

    name = "nothing"

    def detect(self, picture: Any, threshold: float) -> list[Face]:
        return []


def write_clip(path: Path, portrait: Any, number: int, frames: int, side: int) -> None:
    """A lossless clip."""
    rng, picture = np.random.default_rng((13, number)), as_float(portrait)
    centre, kind = np.array(picture.shape[1::-1]) / 2, MOTIONS[number % len(MOTIONS)]
    av = load_av()
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width = video.height = side
        video.pix_fmt = "yuv420p"
        for x, y, degrees, zoom in motion(kind, number, frames):
            cos, sin = (zoom * side / picture.shape[0] * float(f(np.deg2rad(degrees))) for f in (np.cos, np.sin))
            linear = np.array([[cos, -sin], [sin, cos]])
            matrix = np.column_stack([linear, np.array([side / 2 + x, side / 2 + y]) - linear @ centre])
            frame = warp(picture, matrix, (side, side), border="replicate") + rng.normal(0, 2 / 255, (side, side, 3)).astype(np.float32)
            container.mux(video.encode(av.VideoFrame.from_ndarray(to_bytes(np.clip(frame, 0, 1)), "rgb24")))
        container.mux(video.encode(None))


def lightness(path: Path) -> Iterator[np.ndarray]:
    av = load_av()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray()[: frame.height].astype(np.float32)


def psnrs(one: Path, other: Path) -> list[float]:
    """PSNR of every frame's lightness."""
    errors = [float(np.square(a - b).mean()) for a, b in zip(lightness(one), lightness(other), strict=True)]
    return [10 * float(np.log10(255**2 / max(error, 1e-6))) for error in errors]


def encode(source: Path, target: Path, codec: str, in_segments: bool) -> None:
    restorer = FaceRestorer(RestoreOptions(model="GPEN-BFR-256-lite", device="cpu", steady=0.0), detector=Nothing())
    restorer.prepare()
    started = time.perf_counter()
    restore_video(source, target, restorer, codec=codec, overwrite=True, resume=in_segments)
    seconds = time.perf_counter() - started
    # Not ru_maxrss: it begins with what the process had that started this one.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    sys.stdout.write(f"{seconds} {peak}\n")


def measured(source: Path, target: Path, codec: str, in_segments: bool, segment: int) -> tuple[float, float]:
    """(seconds, peak MiB), in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.segments", "--one", str(source), str(target), codec, str(int(in_segments))]
    ran = subprocess.run([*command, "--segment", str(segment)], check=True, stdout=subprocess.PIPE, encoding="utf-8")  # noqa: S603
    seconds, peak = (float(word) for word in ran.stdout.split()[-2:])
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segments")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--codec", nargs="+", default=["h264", "hevc", "av1"])
    parser.add_argument("--segment", type=int, default=parts.SEGMENT)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    parts.SEGMENT = given.segment
    if given.one:
        source, target, codec, in_segments = given.one
        encode(Path(source), Path(target), codec, in_segments == "1")
        return
    say = sys.stdout.write
    say("| codec | clip | size, one go | in segments | PSNR | in segments | around | in segments | step | in segments | s | in segments |"
        " MiB | in segments |\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for number, (portrait, _) in enumerate(portraits(given.data, given.clips)):
            source = Path(folder) / f"{number}.mkv"
            write_clip(source, portrait, number, given.frames, given.side)
            for codec in given.codec:
                rows: list[list[float]] = []
                for in_segments in (False, True):
                    target = Path(folder) / "out.mp4"
                    seconds, peak = measured(source, target, codec, in_segments, given.segment)
                    quality = psnrs(source, target)
                    begins = range(given.segment, given.frames, given.segment)
                    around = fmean(quality[n] for b in begins for n in range(b - NEAR, min(b + NEAR, given.frames)))
                    step = median(abs(quality[b] - quality[b - 1]) for b in begins)
                    rows.append([target.stat().st_size, fmean(quality), around, step, seconds, peak])
                (size, *one), (other_size, *other) = rows
                pairs = " | ".join(f"{a:.2f} | {b:.2f}" for a, b in zip(one, other, strict=True))
                kind, more = MOTIONS[number % len(MOTIONS)], 100 * (other_size / size - 1)
                say(f"| {codec} | {kind} | {size / 1e6:.2f} MB | {more:+.2f} % | {pairs} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
