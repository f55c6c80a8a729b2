"""Measures how much of a picture's noise the setting `detail` brings back into the restored face, and how much true detail.

    python -m benchmarks.grain --data DATA [--portraits 40] [--first 0] [--ratios 0.75 1.0 1.4 2.0]
                               [--network GPEN-BFR-256-lite] [--sheet noise.png]

DATA contains zip files of portraits (see benchmarks/detail.py; of portraits-cc0-512.zip, which training never reads, all are used). Those
from number `first` to number `portraits` are measured. A ratio is the picture's pixels per pixel of the network: each portrait is resized
to it. Noise of a sigma in grey levels is added: white, soft (smoothed by 0.7 pixels, as cameras leave it) or grain (soft, and the same in
all colours).

Prints, for the area where the mask is above 1/2, without detail (0) and with it (1): PSNR against the clean portrait (means; of the gain
also the worst portrait); how alike its fine structure is to the clean portrait's (correlation of what a Gaussian of 1.5 pixels takes
away, in lightness); the share of the added noise's energy that is in the result, and what detail alone brings. To tell noise from all
else, portraits are restored with the noise added and with it subtracted: half the difference is noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_core.faces.face import Face
from gpen_core.pixels import Pixels
from gpen_core.steps.align import crop_face, scale_of, similarity, template_points
from gpen_core.steps.detail import detail_of_face
from gpen_core.steps.mask import landmark_mask
from gpen_core.steps.paste import Compositor

from .detail import LUMA, WORST, Bytes, Network, as_float, at_size, jpeg, networks, portraits, psnr, to_bytes
from .quality import NEVER_TRAINED_ON

Noise = Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]
SOFT = 0.7  # sigma in pixels by which soft noise is smoothed
FINE = 1.5  # pixels


def white(sigma: float) -> Noise:
    return lambda rng, shape: rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma / 255)


def soft(sigma: float, colours: int = 3) -> Noise:
    def noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        made = rng.standard_normal((*shape[:2], colours), dtype=np.float32)
        made = cv2.GaussianBlur(made, (0, 0), SOFT).reshape(*shape[:2], colours)
        return np.float32(sigma / 255) * made / made.std() * np.ones(3, np.float32)

    return noise


# Noise, and the quality of a JPEG file (0: none).
DAMAGES: dict[str, tuple[Noise | None, int]] = {
    "none": (None, 0),
    **{f"white {sigma}": (white(sigma), 0) for sigma in (4, 8, 16)},
    **{f"soft {sigma}": (soft(sigma), 0) for sigma in (4, 8, 16)},
    "grain 8": (soft(8, 1), 0),
    "JPEG 70": (None, 70),
    "soft 8, JPEG 85": (soft(8), 85),
}


@dataclass
class Row:
    """One portrait with one damage. Each pair of figures: without detail, with it."""

    damage: str
    psnr: list[float]
    alike: list[float]
    noise: list[float]  # share of the added noise's energy; empty where none was added
    brought: float  # by detail alone
    pictures: list[Bytes]

    @property
    def gain(self) -> float:
        return self.psnr[1] - self.psnr[0]


def fine(picture: Pixels) -> NDArray[Any]:
    return (picture - cv2.GaussianBlur(picture, (0, 0), FINE)) @ LUMA


def rows(good: Pixels, face: Face, network: Network, number: int) -> Iterator[Row]:
    """Yields one row per damage."""
    points = template_points(network.template, network.size)
    matrix, mask = similarity(face.landmarks, points), landmark_mask(points, network.size)
    for which, (name, (noise, quality)) in enumerate(DAMAGES.items()):
        added = np.zeros_like(good) if noise is None else noise(np.random.default_rng((number, which)), good.shape)
        results: list[list[Pixels]] = []
        pictures: list[Pixels] = []
        inside = np.zeros(0, bool)
        for sign in (1, -1) if noise else (1,):
            picture = as_float(to_bytes(good + sign * added))
            picture = jpeg(quality)(picture, np.random.default_rng(0)) if quality else picture
            crop = crop_face(picture, matrix, network.size)
            restored = network.restore(crop)
            made: list[Pixels] = []
            for extra in (None, detail_of_face(picture, crop, restored, mask, matrix, 1.0)):
                compositor = Compositor(picture)
                compositor.add(restored, mask, matrix, detail=extra)
                out, where = compositor.result()
                inside = where > 0.5
                made.append(np.clip(out, 0, 1))
            results.append(made)
            pictures.append(picture)
        true = fine(good)[inside]
        alike = [float(np.corrcoef(fine(out)[inside], true)[0, 1]) for out in results[0]]
        shares, brought = [], 0.0
        if noise:
            half = [(plus - minus) / 2 for plus, minus in zip(*results, strict=True)]
            of = float(np.square((pictures[0] - pictures[1]) / 2)[inside].sum())
            shares = [float(np.square(one)[inside].sum()) / of for one in half]
            brought = float(np.square(half[1] - half[0])[inside].sum()) / of
        ys, xs = np.nonzero(inside)
        box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        parts = [to_bytes(np.ascontiguousarray(part[box])) for part in (good, pictures[0], *results[0])]
        shown = [np.asarray(cv2.resize(part, (320, 400), interpolation=cv2.INTER_CUBIC), np.uint8) for part in parts]
        yield Row(name, [psnr(out, good, inside) for out in results[0]], alike, shares, brought, shown)


def at_ratio(picture: Bytes, face: Face, network: Network, ratio: float) -> tuple[Pixels, Face]:
    """The portrait with so many of its pixels per pixel of the network."""
    own = 1.0 / scale_of(similarity(face.landmarks, template_points(network.template, network.size)))
    return at_size(picture, face, round(max(face.width, face.height) * ratio / own))


def line(ratio: float, damage: str, found: list[Row]) -> str:
    gains = [row.gain for row in found]
    cells = [
        f"{ratio:g}",
        damage,
        *(f"{mean(row.psnr[k] for row in found):.2f}" for k in (0, 1)),
        f"{mean(gains):+.2f}",
        f"{min(gains):+.2f}",
    ]
    cells += [f"{mean(row.alike[k] for row in found):.3f}" for k in (0, 1)]
    if found[0].noise:
        cells += [f"{mean(row.noise[k] for row in found):.1%}" for k in (0, 1)] + [f"{mean(row.brought for row in found):.1%}"]
    else:
        cells += ["", "", ""]
    return f"| {' | '.join(cells)} |"


COLUMNS = "pixels", "noise", "PSNR without", "with", "gain", "worst gain", "alike without", "with", "noise without", "with", "by detail"
HEAD = f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures how much noise and how much true detail the setting detail brings back.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--portraits", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="leave out the portraits before this one")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.75, 1.0, 1.4, 2.0])
    parser.add_argument("--network", default="GPEN-BFR-256-lite")
    parser.add_argument("--sheet", type=Path, help=f"draw the {WORST} portraits that gain least: clean, noisy, without, with")
    arguments = parser.parse_args()
    chosen = portraits(arguments.data, arguments.portraits, NEVER_TRAINED_ON)[arguments.first :]
    network = networks([arguments.network])[0]
    print(f"{len(chosen)} portraits\n\n{HEAD}")
    worst: list[Row] = []
    for ratio in arguments.ratios:
        found = [
            row for number, one in enumerate(chosen) for row in rows(*at_ratio(*one, network, ratio), network, arguments.first + number)
        ]
        for damage in DAMAGES:
            print(line(ratio, damage, [row for row in found if row.damage == damage]), flush=True)
        worst = sorted([*worst, *(row for row in found if row.damage != "none")], key=lambda row: row.gain)[:WORST]
    if arguments.sheet:
        sheet = np.concatenate([np.concatenate(row.pictures, axis=1) for row in worst])
        arguments.sheet.write_bytes(cv2.imencode(arguments.sheet.suffix, sheet[..., ::-1])[1].tobytes())
        print("\nThe sheet, from the top: " + "; ".join(f"{row.damage} ({row.gain:+.2f} dB)" for row in worst))


if __name__ == "__main__":
    main()
