"""Restores sharp and spoilt faces of people kept out of training, and counts how many come out worse than they went in.

    python -m benchmarks.quality --data DATA [--faces 200] [--sizes 40 80 160 320 640 1000 2000] [--networks GPEN-BFR-256-lite 512]
                                 [--options auto_strength=all guard=yes] [--recogniser w600k_r50.onnx] [--sheet worst.png]

DATA contains zip files of portraits (see benchmarks/detail.py; of portraits-cc0-512.zip, which training never reads, all are used). Every
face has one size, in turn; it is restored as it is (sharp), and once more spoilt by one kind of damage, in turn. Everything runs through
FaceRestorer, with the face's position given.

Prints for every size, as means over faces, inside the mask: sharpness (gradient energy over that of the sharp portrait), PSNR and SSIM
(of lightness) against the sharp portrait before and after, how far landmarks are from the sharp portrait's before and after (in eye
distances), and with a recogniser's file how alike it finds the face and the sharp portrait (cosine). "Worse": a spoilt face that lost over
0.1 dB of PSNR and over 0.002 of SSIM; a sharp one that came out below 40 dB or with under 0.95 of its sharpness. "Spared" and "kept": faces
of which the guards blended less, or nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces.face import Face
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.pixels import Pixels
from gpen_core.restore.pieces import faces_mask
from gpen_core.steps.align import crop_face, similarity, template_points, transform
from gpen_core.steps.guards import MOST_CHANGED, MOST_MOVED, changed_by, moved_by
from gpen_core.steps.mask import landmark_mask
from gpen_core.steps.recognise import SHAPE, Recogniser, features, likeness
from gpen_core.weights.onnx_file import OnnxFile
from training.quality import MISSED, landmark_error, landmarks

from .detail import DAMAGES, LUMA, Bytes, as_float, at_size, networks, portraits, psnr, sharpness, to_bytes

NEVER_TRAINED_ON = ("portraits-cc0-512.zip",)
WORSE_PSNR, WORSE_SSIM = 0.1, 0.002
SHARP_PSNR, SHARP_SHARPNESS = 40.0, 0.95
SHEET = 12

Figures = tuple[float, float, float, float]  # PSNR, SSIM, landmarks, likeness, against the sharp portrait


@dataclass
class Outcome:
    """One restored face."""

    size: int
    damage: str
    sharpness: float
    before: Figures
    after: Figures
    status: str
    strength: float
    changed: float  # coarse structure, grey levels
    moved: float  # landmarks, distances between the eyes
    pictures: list[Bytes]

    @property
    def worse(self) -> bool:
        if self.damage == "sharp":
            return self.after[0] < SHARP_PSNR or self.sharpness < SHARP_SHARPNESS
        return self.before[0] - self.after[0] > WORSE_PSNR and self.before[1] - self.after[1] > WORSE_SSIM


class AsModule(torch.nn.Module):
    """A function of one face, (S, S, 3) RGB 0..1, as a network of `size` pixels."""

    def __init__(self, size: int, restore: Any) -> None:
        super().__init__()
        self.size, self._restore = size, restore
        self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # tells the device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pictures = (x.permute(0, 2, 3, 1).numpy() + 1) / 2
        made = np.stack([self._restore(np.ascontiguousarray(picture)) for picture in pictures])
        return torch.as_tensor(made).permute(0, 3, 1, 2) * 2 - 1


def similar(picture: Pixels, good: Pixels, inside: NDArray[np.bool_]) -> float:
    """SSIM of lightness (Wang et al. 2004; Gaussian window of sigma 1.5), mean inside the mask."""
    a, b = (np.asarray(x @ LUMA, np.float32) for x in (picture, good))

    def near(x: Pixels) -> Pixels:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), np.float32)

    ma, mb = near(a), near(b)
    va, vb, both = near(a * a) - ma * ma, near(b * b) - mb * mb, near(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * ma * mb + c1) * (2 * both + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2)))[inside].mean())


def measured(picture: Pixels, good: Pixels, face: Face, inside: NDArray[np.bool_], recogniser: Recogniser | None) -> Figures:
    matrix = similarity(face.landmarks, template_points("ffhq", 256))
    crop, right = crop_face(picture, matrix, 256), crop_face(good, matrix, 256)
    detector = RetinaFaceMobile()
    true = landmarks(detector, to_bytes(right))
    error = 0.0 if true is None else landmark_error(landmarks(detector, to_bytes(crop)), true)
    alike = likeness(*(features(x, face.landmarks, recogniser) for x in (picture, good))) if recogniser else 0.0
    return psnr(picture, good, inside), similar(picture, good, inside), error, alike


def outcomes(
    good: Pixels, face: Face, size: int, damage: str, number: int, restorer: FaceRestorer, recogniser: Recogniser | None
) -> list[Outcome]:
    """The face restored as it is and spoilt."""
    made: list[Outcome] = []
    for name in ("sharp", damage):
        picture, rng = good, np.random.default_rng((number, size))
        for step in DAMAGES[name]:
            picture = as_float(to_bytes(step(picture, rng)))
        result = restorer(picture, faces=[face])
        only = result.faces[0]
        inside = area(good.shape, face, restorer)
        after = np.clip(result.image, 0, 1)
        ys, xs = np.nonzero(inside)
        box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        parts = [to_bytes(x[box]) for x in (good, picture, after)]
        small = [np.asarray(cv2.resize(part, (320, 400), interpolation=cv2.INTER_AREA), np.uint8) for part in parts]
        sharp = sharpness(after, inside) / sharpness(good, inside)
        figures = [measured(x, good, face, inside, recogniser) for x in (picture, after)]
        changed, moved = drifted(result.crops[0], result.restored[0], face, restorer) if result.restored else (0.0, 0.0)
        made.append(Outcome(size, name, sharp, figures[0], figures[1], only.status, only.strength, changed, moved, small))
    return made


def drifted(crop: Pixels, made: Pixels, face: Face, restorer: FaceRestorer) -> tuple[float, float]:
    """What the setting `guard` looks at: (change of coarse structure, landmarks' move)."""
    points = template_points(restorer.template, restorer.size)
    there = transform(face.landmarks, similarity(face.landmarks, points))
    detector = RetinaFaceMobile()

    def find(picture: Pixels) -> NDArray[np.float64] | None:
        faces = detector.detect(picture, 0.3)
        return np.asarray(max(faces, key=lambda one: one.area).landmarks, np.float64) if faces else None

    moved = moved_by(made, there, find)
    return changed_by(crop, made, landmark_mask(points, restorer.size)), MISSED if moved is None else moved


def area(shape: Sequence[int], face: Face, restorer: FaceRestorer) -> NDArray[np.bool_]:
    """Where the face is pasted, whether or not it was."""
    return faces_mask([face], shape, restorer.template) > 0.5


def print_table(name: str, found: list[Outcome], recognised: bool) -> None:
    print(f"\n{name}\n")
    print("| face | damage | faces | sharpness | PSNR before | after | SSIM before | after | landmarks before | after "
          + ("| likeness before | after " if recognised else "") + "| worse | spared | kept |")  # fmt: skip
    print("|---" * (15 if recognised else 13) + "|")
    for kind in ("sharp", "spoilt"):
        for size in [*sorted({one.size for one in found}), None]:
            here = [one for one in found if (one.damage == "sharp") == (kind == "sharp") and size in (one.size, None)]
            cells = [f"{mean(one.sharpness for one in here):.3f}"]
            for which, places in ((0, 2), (1, 4), (2, 3), *(((3, 3),) if recognised else ())):
                cells += [f"{min(99.0, mean(min(99.0, v[which]) for v in side)):.{places}f}" for side in
                          ([one.before for one in here], [one.after for one in here])]  # fmt: skip
            spared = sum(one.status == "restored" and one.strength < 1 for one in here)
            kept = sum(one.status == "kept" for one in here)
            worse = sum(one.worse for one in here)
            cells += [f"{worse} ({worse / len(here):.1%})", str(spared), str(kept)]
            print(f"| {size or 'all'} | {kind} | {len(here)} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Restores sharp and spoilt faces and counts those that come out worse.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--faces", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[40, 80, 160, 320, 640, 1000, 2000])
    parser.add_argument("--networks", nargs="+", default=["GPEN-BFR-256-lite", "512"])
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the restoration")
    parser.add_argument("--recogniser", type=Path, help="a face recogniser's ONNX file (ArcFace, 112 pixels)")
    parser.add_argument("--sheet", type=Path, help=f"draw the {SHEET} spoilt faces that lose most or gain least: sharp, before, after")
    arguments = parser.parse_args()
    recogniser = OnnxFile(arguments.recogniser, SHAPE) if arguments.recogniser else None
    chosen = portraits(arguments.data, arguments.faces, NEVER_TRAINED_ON)
    print(f"{len(chosen)} faces; settings: {' '.join(arguments.options) or 'as they come'}")
    kinds = [name for name in DAMAGES if name != "sharp"]
    for network in networks(arguments.networks):
        values: dict[str, object] = {"device": "cpu"}
        for one in arguments.options:
            setting, _, value = one.partition("=")
            values[setting] = value
        options = RestoreOptions.from_mapping(values)
        module: Any = AsModule(network.size, network.restore)
        restorer = FaceRestorer(options, network=module, template=network.template)
        found: list[Outcome] = []
        for number, (portrait, where) in enumerate(chosen):
            size = arguments.sizes[number % len(arguments.sizes)]
            damage = kinds[number // len(arguments.sizes) % len(kinds)]
            found += outcomes(*at_size(portrait, where, size), size, damage, number, restorer, recogniser)
        print_table(network.name, found, recogniser is not None)
        changed, moved = (max(getattr(one, what) for one in found) for what in ("changed", "moved"))
        print(f"\nLargest changes of restored faces (limits of the guard): coarse structure {changed:.1f} grey levels ({MOST_CHANGED:g}), "
              f"landmarks {moved:.2f} distances between the eyes ({MOST_MOVED:g})")  # fmt: skip
        if arguments.sheet:
            worst = sorted((one for one in found if one.damage != "sharp"), key=lambda one: one.after[0] - one.before[0])[:SHEET]
            sheet = np.concatenate([np.concatenate(one.pictures, axis=1) for one in worst])
            path = arguments.sheet.with_stem(f"{arguments.sheet.stem}-{network.size}")
            path.write_bytes(cv2.imencode(path.suffix, sheet[..., ::-1])[1].tobytes())
            print(f"\n{path}, from the top: "
                  + "; ".join(f"{one.size} {one.damage} ({one.after[0] - one.before[0]:+.2f} dB)" for one in worst))  # fmt: skip


if __name__ == "__main__":
    main()
