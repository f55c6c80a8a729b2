"""Figures of a restoration network on faces kept out of training, against the same faces enlarged bilinearly.

    python -m training.evaluate WEIGHTS --data DATA [--faces 300] [--sheet sheet.png] [--json]

Every face is spoilt in fixed ways (mild, medium, strong: training/degrade.py), in a random way drawn as training draws them,
and not at all (clean); "input" is the spoilt face enlarged bilinearly, which is also what the network is given.
PSNR in dB, SSIM (Wang et al. 2004, Gaussian window), sharpness as gradient energy over the original's (1.0 is right);
means over faces, the watermark of one data set left out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.metrics import structural_similarity
from tqdm import tqdm

from gpen_core.network.fused import Network
from gpen_core.network.load import load_network
from training.degrade import FIXED, Damage, random_damage, spoil
from training.faces import FaceFile, list_faces

SEED = 77_000


@dataclass
class Scores:
    """Sums of one picture's figures."""

    psnr: float
    ssim: float
    sharpness: float


def score(picture: np.ndarray, good: np.ndarray, keep: np.ndarray) -> Scores:
    """Figures of one picture; picture, good: (S, S, 3) uint8; keep: (S, S) bool, where to look."""
    error = (picture.astype(np.float64) - good)[keep]
    psnr = 10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-6))
    _, ssim = structural_similarity(
        picture, good, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return Scores(float(psnr), float(ssim[keep].mean()), gradient_energy(picture, keep) / max(gradient_energy(good, keep), 1e-9))


def gradient_energy(picture: np.ndarray, keep: np.ndarray) -> float:
    """Mean absolute difference between neighbouring pixels of the luma."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
    both = keep[1:, 1:]
    across, down = np.abs(luma[1:, 1:] - luma[1:, :-1]), np.abs(luma[1:, 1:] - luma[:-1, 1:])
    return float((across + down)[both].mean())


def run(network: Network, picture: np.ndarray) -> np.ndarray:
    """The network on one (S, S, 3) uint8 RGB face."""
    x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        y = network(x.contiguous(memory_format=torch.channels_last))
    return ((y[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).to(torch.uint8).numpy()


def choose(faces: list[FaceFile], count: int) -> list[FaceFile]:
    """Held-out faces: all photographs, then painted ones up to `count`, spread over the data sets."""
    held_out = [face for face in faces if face.held_out]
    photos = [face for face in held_out if not face.watermark]
    painted = [face for face in held_out if face.watermark]
    room = max(0, count - len(photos))
    return photos[:count] + painted[:: max(1, len(painted) // max(1, room))][:room]


def damages(index: int) -> dict[str, Damage]:
    """The ways face number `index` is spoilt."""
    return {"clean": Damage(), **FIXED, "random": random_damage(np.random.default_rng((SEED, index)))}


def evaluate(network: Network, faces: list[FaceFile]) -> dict[str, dict[str, float]]:
    """Means over faces: {damage: {"psnr_in", "psnr_out", "ssim_in", "ssim_out", "sharp_in", "sharp_out"}}."""
    sums: dict[str, np.ndarray] = {}
    for index, face in enumerate(tqdm(faces, desc="evaluating", disable=None)):
        good = face.read(network.size)
        keep = np.ones(good.shape[:2], bool)
        if box := face.watermark:
            x0, y0, x1, y1 = (round(v * network.size / 256) for v in box)
            keep[y0:y1, x0:x1] = False
        for n, (name, damage) in enumerate(damages(index).items()):
            bad = spoil(good, damage, np.random.default_rng((SEED, index, n)))
            before, after = score(bad, good, keep), score(run(network, bad), good, keep)
            row = np.array([before.psnr, after.psnr, before.ssim, after.ssim, before.sharpness, after.sharpness])
            sums[name] = sums.get(name, np.zeros(6)) + np.minimum(row, 1e3)
    keys = ("psnr_in", "psnr_out", "ssim_in", "ssim_out", "sharp_in", "sharp_out")
    return {name: dict(zip(keys, (total / len(faces)).tolist(), strict=True)) for name, total in sums.items()}


def table(figures: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table, with the mean of the damaged rows (all but clean) last."""
    lines = [
        "| damage | PSNR input | PSNR restored | gain | SSIM input | SSIM restored | sharpness input | sharpness restored |",
        "|---|---|---|---|---|---|---|---|",
    ]
    damaged = [row for name, row in figures.items() if name != "clean"]
    mean = {key: float(np.mean([row[key] for row in damaged])) for key in damaged[0]}
    for name, row in [*figures.items(), ("mean of the damaged", mean)]:
        gain = f"{row['psnr_out'] - row['psnr_in']:+.2f}" if name != "clean" else ""
        before = f"{row['psnr_in']:.2f}" if name != "clean" else "same"
        lines.append(
            f"| {name} | {before} | {row['psnr_out']:.2f} | {gain} | {row['ssim_in']:.4f} | {row['ssim_out']:.4f} "
            f"| {row['sharp_in']:.2f} | {row['sharp_out']:.2f} |"
        )
    return "\n".join(lines)


def sheet(network: Network, faces: list[FaceFile], path: Path) -> None:
    """A picture of rows: original, then input and restored for every fixed damage."""
    rows: list[np.ndarray] = []
    for index, face in enumerate(faces):
        good = face.read(network.size)
        cells = [good]
        for n, damage in enumerate(FIXED.values()):
            bad = spoil(good, damage, np.random.default_rng((SEED, index, n + 1)))
            cells += [bad, run(network, bad)]
        rows.append(np.concatenate(cells, axis=1))
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR))
    if not done:
        raise SystemExit(f"{path} cannot be written")
    path.write_bytes(data.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of a network on faces kept out of training.")
    parser.add_argument("weights")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=300)
    parser.add_argument("--sheet", type=Path, help="write a picture of eight faces before and after")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    network = load_network(arguments.weights)
    faces = choose(list_faces(arguments.data), arguments.faces)
    if arguments.sheet:
        sheet(network, faces[:: max(1, len(faces) // 8)][:8], arguments.sheet)
    figures = evaluate(network, faces)
    print(json.dumps({"faces": len(faces), "figures": figures}, indent=2) if arguments.json else f"{len(faces)} faces\n\n{table(figures)}")


if __name__ == "__main__":
    main()
