"""Measures how much restored faces flicker in videos, frame by frame and steadied (the setting `steady`), on clips whose truth is known.

    python -m benchmarks.video --data DATA [--clips 12] [--frames 24] [--side 384] [--face 160] [--steady 0 1] [--network GPEN-BFR-256-lite]
                               [--sheet FOLDER]

DATA contains zip files of portraits (see benchmarks/detail.py); only people kept out of training are used. Every clip is one portrait moved
by a known motion (in turn: a slow sub-pixel drift with rotation and zoom; a handheld shake; a face that stays while its mouth moves at
once), and every frame is spoilt anew by one kind of damage, in turn. Faces are found by the detector.

Flicker: every frame is warped back by its known motion into the face's own square of 256 pixels (bicubic); the mean absolute difference of
neighbouring frames inside the mask, in grey levels. The truth has a flicker of its own (resampling). "Over truth": how many times that.
PSNR: against the clean frames, inside the mask. "Changed": PSNR around the mouth in the 4 frames before and after it moved. Tremor and lag:
how far the landmarks used are from the truth's (pixels, without their mean) and by how many frames they follow it. Cut: the largest
difference, in grey levels, of the first 4 frames after a cut, with and without the frames before it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean as mean
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces.face import Face
from gpen_core.pixels import Pixels
from gpen_core.steps.align import Matrix, invert, similarity, template_points, transform, warp
from gpen_core.steps.mask import landmark_mask

from .detail import Bytes, as_float, blur, jpeg, noise, portraits, psnr, to_bytes

SQUARE = 256
DAMAGES = {
    "noise 10": (noise(10),),
    "blur 2, noise 4": (blur(2), noise(4)),
    "JPEG 35": (jpeg(35),),
    "blur 1.5, noise 5, JPEG 60": (blur(1.5), noise(5), jpeg(60)),
}
MOTIONS = ("drift", "shake", "mouth")
MOVED = 4  # frames after a change or a cut that are looked at


@dataclass
class Clip:
    """A clip whose truth is known. matrices: from each frame to the face's own square. changed: the mouth in that square, or None."""

    name: str
    truth: list[Pixels]
    spoilt: list[Bytes]
    matrices: list[Matrix]
    landmarks: list[NDArray[np.float64]]
    changed: NDArray[np.bool_] | None = None


@dataclass
class Figures:
    flicker: float
    psnr: float
    changed: float
    tremor: float
    lag: float


def motion(kind: str, number: int, frames: int) -> Iterator[tuple[float, float, float, float]]:
    """(x, y, degrees, zoom) of each frame; x and y in pixels of a face of 160 pixels."""
    rng = np.random.default_rng((7, number))
    phases = rng.uniform(0, 2 * np.pi, 8)
    for t in range(frames):
        if kind == "shake":
            turns = [2 * np.pi * t / period + phase for period, phase in zip((9, 14, 11, 17, 23, 31), phases, strict=False)]
            yield (3 * np.sin(turns[0]) + 3 * np.sin(turns[1]), 2 * np.sin(turns[2]) + 4 * np.sin(turns[3]),
                   1.5 * np.sin(turns[4]), 1 + 0.02 * np.sin(turns[5]))  # fmt: skip
        elif kind == "drift":
            turn = 2 * np.pi * t / 60 + phases[0]
            yield 25 * np.sin(turn), 12 * np.cos(turn + phases[1]), 8 * np.sin(turn + phases[2]), 1 + 0.1 * np.sin(turn + phases[3])
        else:
            yield 0.3 * t, 0.1 * t, 0.0, 1.0


def moved_mouth(picture: Pixels, face: Face) -> Pixels:
    """The portrait with its mouth lower: an eighth of the distance between the eyes."""
    points = face.landmarks.astype(np.float64)
    middle, eyes = points[3:5].mean(axis=0), float(np.linalg.norm(points[1] - points[0]))
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    near = np.exp(-0.5 * (((x - middle[0]) / (0.45 * eyes)) ** 2 + ((y - middle[1]) / (0.3 * eyes)) ** 2))
    return np.asarray(cv2.remap(picture, x, y - (eyes / 8 * near).astype(np.float32), cv2.INTER_CUBIC), np.float32)


def make_clip(portrait: Bytes, face: Face, number: int, frames: int, side: int, size: int) -> Clip:
    kind, damage = MOTIONS[number % len(MOTIONS)], list(DAMAGES)[number // len(MOTIONS) % len(DAMAGES)]
    rng = np.random.default_rng((11, number))
    picture = as_float(portrait)
    still, other = picture, moved_mouth(picture, face) if kind == "mouth" else picture
    scale = size / max(face.width, face.height)
    own = similarity(face.landmarks, template_points("gpen", SQUARE))
    clip = Clip(f"{kind}, {damage}", [], [], [], [])
    for t, (x, y, degrees, zoom) in enumerate(motion(kind, number, frames)):
        cos, sin = (scale * zoom * float(f(np.deg2rad(degrees))) for f in (np.cos, np.sin))
        linear = np.array([[cos, -sin], [sin, cos]])
        centre = np.array(face.centre)
        to_frame = np.column_stack([linear, np.array([side / 2 + x * size / 160, side / 2 + y * size / 160]) - linear @ centre])
        frame = np.clip(warp(other if t >= frames // 2 else still, to_frame, (side, side), border="replicate"), 0, 1)
        spoilt: Any = frame
        for step in DAMAGES[damage]:
            spoilt = as_float(to_bytes(step(spoilt, rng)))
        back = invert(to_frame)
        clip.truth.append(frame)
        clip.spoilt.append(to_bytes(spoilt))
        clip.matrices.append(np.column_stack([own[:, :2] @ back[:, :2], own[:, :2] @ back[:, 2] + own[:, 2]]))
        clip.landmarks.append(transform(face.landmarks, to_frame))
    if kind == "mouth":
        y, x = np.mgrid[:SQUARE, :SQUARE]
        middle = template_points("gpen", SQUARE)[3:5].mean(axis=0)
        clip.changed = (abs(x - middle[0]) < 35) & (abs(y - middle[1]) < 25)
    return clip


def squares(frames: Sequence[NDArray[Any]], clip: Clip) -> list[Pixels]:
    """The face of each frame in its own square, by the known motion."""
    how: Any = {"flags": cv2.INTER_CUBIC, "borderMode": cv2.BORDER_REFLECT_101}
    return [
        np.asarray(cv2.warpAffine(frame, matrix, (SQUARE, SQUARE), **how), np.float32)
        for frame, matrix in zip(frames, clip.matrices, strict=True)
    ]


def flicker(faces: Sequence[Pixels], inside: NDArray[np.bool_], without: int | None = None) -> float:
    """Mean absolute difference of neighbours, in grey levels. without: a frame that is another picture than the one before."""
    steps = enumerate(pairwise(faces), 1)
    return mean(float(np.abs(b - a)[inside].mean()) * 255 for t, (a, b) in steps if t != without)


def measured(frames: Sequence[NDArray[Any]], points: Sequence[NDArray[Any]], clip: Clip) -> Figures:
    inside = landmark_mask(template_points("gpen", SQUARE), SQUARE) > 0.5
    half, faces, right = len(frames) // 2, squares(frames, clip), squares(clip.truth, clip)
    without = half if clip.changed is not None else None
    changed = 0.0
    if clip.changed is not None:
        changed = mean(psnr(a, b, clip.changed) for a, b in list(zip(faces, right, strict=True))[half - MOVED : half + MOVED])
    away = np.stack(points).astype(np.float64) - np.stack(clip.landmarks)
    away -= away.mean(axis=0)
    speed = np.gradient(np.stack(clip.landmarks), axis=0)
    lag = -float((away * speed).sum() / max(1e-9, float(np.square(speed).sum())))
    return Figures(flicker(faces, inside, without), mean(psnr(a, b, inside) for a, b in zip(faces, right, strict=True)), changed,
                   float(np.linalg.norm(away, axis=2).mean()), lag)  # fmt: skip


def restored(restorer: FaceRestorer, frames: Sequence[Bytes]) -> tuple[list[Pixels], list[NDArray[Any]]]:
    made: list[Pixels] = []
    points: list[NDArray[Any]] = []
    for result in restorer.sequence([as_float(frame) for frame in frames]):
        if isinstance(result, Exception):
            raise result
        made.append(np.clip(result.image, 0, 1))
        points.append(result.faces[0].face.landmarks if result.faces else np.full((5, 2), np.nan))
    return made, points


def after_a_cut(restorer: FaceRestorer, one: Clip, other: Clip) -> float:
    """The largest difference that the frames before a cut make to those after it, in grey levels."""
    alone = restored(restorer, other.spoilt[: 2 * MOVED])[0][:MOVED]
    joined = restored(restorer, [*one.spoilt[: 2 * MOVED], *other.spoilt[: 2 * MOVED]])[0][2 * MOVED : 3 * MOVED]
    return max(float(np.abs(a - b).max()) * 255 for a, b in zip(alone, joined, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures how much restored faces flicker in videos.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--face", type=int, default=160, help="longer side of the face's box, pixels")
    parser.add_argument("--steady", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--network", default="GPEN-BFR-256-lite")
    parser.add_argument("--sheet", type=Path, help="a folder for pictures of neighbouring frames: truth, spoilt, and each setting")
    arguments = parser.parse_args()
    restorers = [
        FaceRestorer(RestoreOptions(model=arguments.network, device="cpu", precision="fp32", threshold=0.8, look_closer=False, max_faces=1,
                                    steady=steady))
        for steady in arguments.steady
    ]  # fmt: skip
    clips = [make_clip(portrait, face, n, arguments.frames, arguments.side, arguments.face)
             for n, (portrait, face) in enumerate(portraits(arguments.data, arguments.clips))]  # fmt: skip
    print(f"{len(clips)} clips of {arguments.frames} frames, {arguments.side}x{arguments.side}, faces of {arguments.face} pixels\n")
    head = ["clip", "steady", "flicker", "over truth", "PSNR", "changed", "tremor", "lag"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    everything: dict[str, list[Figures]] = {}
    truths: list[float] = []
    seconds = dict.fromkeys(arguments.steady, 0.0)
    for number, clip in enumerate(clips):
        runs: dict[str, tuple[Sequence[NDArray[Any]], Sequence[NDArray[Any]]]] = {
            "truth": (clip.truth, clip.landmarks),
            "input": ([as_float(frame) for frame in clip.spoilt], clip.landmarks),
        }
        for steady, restorer in zip(arguments.steady, restorers, strict=True):
            started = time.perf_counter()
            runs[f"{steady:g}"] = restored(restorer, clip.spoilt)
            seconds[steady] += time.perf_counter() - started
        figures = {name: measured(*run, clip) for name, run in runs.items()}
        truths.append(figures["truth"].flicker)
        for name, one in figures.items():
            everything.setdefault(name, []).append(one)
            print(f"| {clip.name} | {name} | {one.flicker:.2f} | {one.flicker / truths[-1]:.1f} | {min(99.0, one.psnr):.2f} "
                  f"| {min(99.0, one.changed) or float('nan'):.2f} | {one.tremor:.2f} | {one.lag:+.2f} |", flush=True)  # fmt: skip
        if arguments.sheet:
            draw(arguments.sheet / f"{number:02d}.png", clip, {name: run[0] for name, run in runs.items()})
    for name, found in everything.items():
        over = median(one.flicker / truth for one, truth in zip(found, truths, strict=True))
        psnrs = median(min(99.0, one.psnr) for one in found)
        changed = [one.changed for one in found if one.changed]
        print(f"| medians | {name} | {median(one.flicker for one in found):.2f} | {over:.1f} | {psnrs:.2f} "
              f"| {median(min(99.0, v) for v in changed) if changed else float('nan'):.2f} | {median(one.tremor for one in found):.2f} "
              f"| {median(one.lag for one in found):+.2f} |")  # fmt: skip
    first = everything[f"{arguments.steady[0]:g}"]
    for steady, restorer in zip(arguments.steady, restorers, strict=True):
        found = everything[f"{steady:g}"]
        shares = [one.flicker / other.flicker for one, other in zip(found, first, strict=True)]
        gains = [one.psnr - other.psnr for one, other in zip(found, first, strict=True)]
        cuts = [after_a_cut(restorer, one, other) for one, other in zip(clips[:3], clips[3:6], strict=False)]
        print(f"\nsteady {steady:g}: flicker {median(shares):.2f} (worst {max(shares):.2f}) of steady {arguments.steady[0]:g}; "
              f"PSNR {median(gains):+.2f} dB (worst {min(gains):+.2f}); cut {max(cuts, default=0):.3f} grey levels; "
              f"{seconds[steady] / len(clips) / arguments.frames:.3f} s a frame")  # fmt: skip


def draw(path: Path, clip: Clip, runs: dict[str, Sequence[NDArray[Any]]]) -> None:
    """Four neighbouring faces a row, in the middle of the clip; after each, four times its difference to the one before."""
    rows: list[NDArray[Any]] = []
    half = len(clip.truth) // 2
    for frames in runs.values():
        faces = squares(frames, clip)[half - 3 : half + 3]
        rows.append(np.concatenate([x for a, b in pairwise(faces) for x in (b, 0.5 + 4 * (b - a))], axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, to_bytes(np.concatenate(rows))[..., ::-1])[1].tobytes())


if __name__ == "__main__":
    main()
