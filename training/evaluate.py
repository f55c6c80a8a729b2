"""Evaluates restoration networks on faces kept out of training.

    python -m training.evaluate WEIGHTS [OTHER WEIGHTS ...] --data DATA [--faces 200] [--sheet sheet.png] [--json]

Every face is degraded in fixed ways (mild, medium, strong: training/degrade.py), in a random way as in training, and not at all (clean).
Compared are the degraded face enlarged bilinearly, which is also the networks' input; the same enlarged by Lanczos and sharpened by an
unsharp mask; and every given network. All figures are means over faces, without the watermark of one data set:

PSNR (dB), SSIM, MS-SSIM; sharpness: gradient energy over the original's, ideally 1.0; landmarks: mean distance between a detector's five
points and those in the original, in hundredths of the eye distance, for the embedded detector and for YuNet, which training never uses;
Fréchet distance of YuNet's features; colour: error of the channels' means, in grey levels.
The two YuNet figures need its file in DATA (face_detection_yunet*.onnx).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from gpen_core.faces.detect import Detector
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.faces.yunet import YuNet
from gpen_core.network.fused import Network
from gpen_core.network.load import load_network
from training import quality
from training.degrade import FIXED, Damage, random_damage, spoil
from training.faces import FaceFile, list_faces

SEED = 77_000
Figures = dict[str, dict[str, dict[str, float]]]  # damage -> method -> figure -> value

COLUMNS = {  # name of the figure -> heading, format
    "psnr": ("PSNR", "{:.2f}"),
    "gain": ("gain", "{:+.2f}"),
    "ssim": ("SSIM", "{:.4f}"),
    "ms_ssim": ("MS-SSIM", "{:.4f}"),
    "sharpness": ("sharpness", "{:.2f}"),
    "landmarks": ("landmarks", "{:.2f}"),
    "landmarks_yunet": ("landmarks, YuNet", "{:.2f}"),
    "frechet": ("Fréchet", "{:.3f}"),
    "colour": ("colour", "{:.2f}"),
}


def run(network: Network, picture: NDArray[Any]) -> NDArray[Any]:
    """Runs the network on one (S, S, 3) uint8 RGB face."""
    x = torch.as_tensor(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        y = network(x.contiguous(memory_format=torch.channels_last))
    return ((y[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).to(torch.uint8).numpy()


def unsharp(picture: NDArray[Any]) -> NDArray[Any]:
    """Unsharp mask of radius 1.5 and amount 0.8, the usual first attempt."""
    soft = cv2.GaussianBlur(picture, (0, 0), 1.5)
    return cv2.addWeighted(picture, 1.8, soft, -0.8, 0)


def choose(faces: list[FaceFile], count: int) -> list[FaceFile]:
    """Selects held-out faces: all photographs, then painted ones up to `count`, spread over the data sets."""
    held_out = [face for face in faces if face.held_out]
    photos = [face for face in held_out if not face.watermark]
    painted = [face for face in held_out if face.watermark]
    room = max(0, count - len(photos))
    return photos[:count] + painted[:: max(1, len(painted) // max(1, room))][:room]


def damages(index: int) -> dict[str, Damage]:
    """The ways in which face number `index` is degraded."""
    return {"clean": Damage(), **FIXED, "random": random_damage(np.random.default_rng((SEED, index)))}


def spoilt(good: NDArray[Any], damage: Damage, index: int, n: int) -> dict[str, NDArray[Any]]:
    """The degraded face to compare with: enlarged bilinearly (for damage "random", as drawn), and by Lanczos and sharpened."""
    bad, lanczos = (
        spoil(good, dataclasses.replace(damage, enlarge=how), np.random.default_rng((SEED, index, n)))
        for how in (damage.enlarge, cv2.INTER_LANCZOS4)
    )
    return {"input": bad, "Lanczos + unsharp mask": unsharp(lanczos)}


def evaluate(networks: dict[str, Network], faces: list[FaceFile], yunet: Path | None) -> Figures:
    """Means over faces of every figure, for every damage and method."""
    size = next(iter(networks.values())).size
    detectors: dict[str, Detector] = {"landmarks": RetinaFaceMobile()}
    look: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    if yunet is not None:
        detectors["landmarks_yunet"] = YuNet(yunet)
        look = quality.YuNetFeatures(yunet)
    rows: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    features: dict[tuple[str, str], list[NDArray[Any]]] = defaultdict(list)
    for index, face in enumerate(tqdm(faces, desc="evaluating", disable=None)):
        good = face.read(size)
        keep = np.ones(good.shape[:2], bool)
        if box := face.watermark:
            x0, y0, x1, y1 = (round(v * size / 256) for v in box)
            keep[y0:y1, x0:x1] = False
        true = {name: quality.landmarks(detector, good) for name, detector in detectors.items()}
        if look:
            features["original", ""].append(look(good))
        for n, (damage_name, damage) in enumerate(damages(index).items()):
            pictures = spoilt(good, damage, index, n) if damage_name != "clean" else {}
            bad = pictures.get("input", good)
            pictures |= {name: run(network, bad) for name, network in networks.items()}
            for method, picture in pictures.items():
                row = rows[damage_name, method]
                similar, similar_at_scales = quality.ssim(picture, good, keep)
                row["psnr"].append(quality.psnr(picture, good, keep))
                row["ssim"].append(similar)
                row["ms_ssim"].append(similar_at_scales)
                row["sharpness"].append(quality.gradient_energy(picture, keep) / max(quality.gradient_energy(good, keep), 1e-9))
                row["colour"].append(quality.colour_shift(picture, good, keep))
                for name, detector in detectors.items():
                    here = true[name]
                    if here is not None:
                        row[name].append(100 * quality.landmark_error(quality.landmarks(detector, picture), here))
                if look:
                    features[damage_name, method].append(look(picture))
    figures: Figures = defaultdict(dict)
    for (damage_name, method), row in rows.items():
        means = {name: float(np.mean(values)) for name, values in row.items()}
        if "input" in figures[damage_name]:
            means["gain"] = means["psnr"] - figures[damage_name]["input"]["psnr"]
        if look:
            means["frechet"] = quality.frechet_distance(np.stack(features[damage_name, method]), np.stack(features["original", ""]))
        figures[damage_name][method] = means
    damaged = [methods for name, methods in figures.items() if name != "clean"]
    for method in damaged[0]:
        of_method = [methods[method] for methods in damaged]
        figures["mean of the damaged"][method] = {name: float(np.mean([row[name] for row in of_method])) for name in of_method[0]}
    return figures


def table(figures: Figures) -> str:
    """The figures as a Markdown table."""
    shown = [name for name in COLUMNS if any(name in row for methods in figures.values() for row in methods.values())]
    lines = [f"| damage | method | {' | '.join(COLUMNS[name][0] for name in shown)} |", "|---" * (len(shown) + 2) + "|"]
    for damage, methods in figures.items():
        for method, row in methods.items():
            cells = [COLUMNS[name][1].format(row[name]) if name in row else "" for name in shown]
            lines.append(f"| {damage} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sheet(network: Network, faces: list[FaceFile], path: Path) -> None:
    """Draws one row per face: the original, then input and restored face for every fixed damage."""
    rows: list[NDArray[Any]] = []
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
    parser = argparse.ArgumentParser(description="Evaluates networks on faces kept out of training.")
    parser.add_argument("weights", nargs="+", help="files or catalogue names, all of one size; the first is drawn")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--sheet", type=Path, help="draw eight faces before and after")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    networks: dict[str, Network] = {Path(name).name.removesuffix(".safetensors"): load_network(name) for name in arguments.weights}
    faces = choose(list_faces(arguments.data), arguments.faces)
    if arguments.sheet:
        sheet(next(iter(networks.values())), faces[:: max(1, len(faces) // 8)][:8], arguments.sheet)
    yunet = next(iter(sorted(arguments.data.glob("face_detection_yunet*.onnx"))), None)
    figures = evaluate(networks, faces, yunet)
    print(json.dumps({"faces": len(faces), "figures": figures}, indent=2) if arguments.json else f"{len(faces)} faces\n\n{table(figures)}")


if __name__ == "__main__":
    main()
