"""Measures how far restoration shifts the colours of faces: as the network makes them, with Match colours, and with Fidelity.

    python -m benchmarks.colours --data DATA [--portraits 40] [--sizes 256 500 1000] [--kinds sharp warm] [--network GPEN-BFR-256-lite]

DATA: see benchmarks.detail, whose portraits of people kept out of training are used. Each is restored sharp, with damage, and with a colour
cast (which the network was not trained on). The shift is the mean of a channel after restoring less that before, in grey levels (of 255),
where the mask is above 1/2, without highlights, which clip: there a channel of the input, averaged over 2 pixels (or noise would choose the
pixels), is above 250. A portrait's shift is that of its worst channel.

Prints for each kind of picture the mean and the worst of the portraits: without a setting, with Match colours computed on gamma-encoded
values and in linear light (measured on all pixels, or on 64 x 64 averages of gamma-encoded ones), and with Fidelity 1 computed either way.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean as mean
from statistics import median
from typing import cast

import cv2
import numpy as np

from benchmarks.detail import Network, Spoil, as_float, at_size, blur, jpeg, networks, noise, portraits, to_bytes
from gpen_core.faces.face import Face
from gpen_core.pixels import Pixels
from gpen_core.steps import tone
from gpen_core.steps.align import crop_face, similarity, template_points
from gpen_core.steps.detail import detail_of_face
from gpen_core.steps.mask import Mask, clip_to_picture, landmark_mask
from gpen_core.steps.paste import Compositor

Change = Callable[[Pixels, Pixels, Mask], Pixels]
HIGHLIGHT = 250 / 255


def light(picture: Pixels) -> Pixels:
    """sRGB values as linear light."""
    return np.where(picture <= 0.04045, picture / 12.92, ((np.maximum(picture, 0) + 0.055) / 1.055) ** 2.4).astype(np.float32)


def encoded(picture: Pixels) -> Pixels:
    """Linear light as sRGB values."""
    return np.where(picture <= 0.0031308, picture * 12.92, 1.055 * np.maximum(picture, 1e-9) ** (1 / 2.4) - 0.055).astype(np.float32)


def in_linear_light(change: Change) -> Change:
    return lambda made, crop, mask: encoded(change(light(made), light(crop), mask))


def linear_of_coarse(made: Pixels, crop: Pixels, mask: Mask) -> Pixels:
    """match_colour in linear light, measured on pictures shrunk before the conversion: detail and noise then do not look like light."""
    ours, kept, weight = (cast(Pixels, cv2.resize(each, (64, 64), interpolation=cv2.INTER_AREA)) for each in (made, crop, mask))
    matched = cast(Pixels, cv2.transform(light(made), tone.colour_map(light(ours), light(kept), weight)))
    return encoded(np.clip(matched, 0, 1))


def fidelity(made: Pixels, crop: Pixels, mask: Mask) -> Pixels:
    return tone.keep_low_frequencies(made, crop, 1.0)


CHANGES: dict[str, Change] = {
    "off": lambda made, crop, mask: made,
    "match": tone.match_colour,
    "match, linear": in_linear_light(tone.match_colour),
    "match, linear, coarse": linear_of_coarse,
    "fidelity": fidelity,
    "fidelity, linear": in_linear_light(fidelity),
}


def cast_of(*factors: float) -> Spoil:
    """A lamp of another colour: each channel's light is multiplied."""
    return lambda picture, _rng: encoded(light(picture.astype(np.float32)) * np.array(factors, np.float32))


KINDS: dict[str, tuple[Spoil, ...]] = {
    "sharp": (),
    "blur 2": (blur(2),),
    "noise 12": (noise(12),),
    "JPEG 35": (jpeg(35),),
    "blur 2, noise 5, JPEG 60": (blur(2), noise(5), jpeg(60)),
    "warm": (cast_of(1.0, 0.75, 0.45),),
    "cold": (cast_of(0.6, 0.8, 1.0),),
    "green": (cast_of(0.7, 1.0, 0.7),),
    "dark": (cast_of(0.3, 0.3, 0.3),),
}


def shifts(good: Pixels, face: Face, network: Network, steps: tuple[Spoil, ...], seed: int, seconds: dict[str, list[float]]) -> list[float]:
    """The shift with each of CHANGES."""
    points = template_points(network.template, network.size)
    matrix, mask = similarity(face.landmarks, points), landmark_mask(points, network.size)
    picture, rng = good, np.random.default_rng(seed)
    for step in steps:
        picture = as_float(to_bytes(step(picture, rng)))
    crop = crop_face(picture, matrix, network.size)
    restored = network.restore(crop)
    found: list[float] = []
    for name, change in CHANGES.items():
        started = time.perf_counter()
        made = change(restored, crop, clip_to_picture(mask, matrix, picture.shape))
        seconds.setdefault(name, []).append(time.perf_counter() - started)
        compositor = Compositor(picture)
        compositor.add(made, mask, matrix, detail=detail_of_face(picture, crop, made, mask, matrix, 1.0))
        out, where = compositor.result()
        counted = (where > 0.5) & (cv2.GaussianBlur(picture, (0, 0), 2).max(axis=2) <= HIGHLIGHT)
        off = (np.clip(out, 0, 1)[counted].mean(axis=0, dtype=np.float64) - picture[counted].mean(axis=0, dtype=np.float64)) * 255
        found.append(float(np.abs(off).max()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures how far restoration shifts the colours of faces.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--portraits", type=int, default=40)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 500, 1000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--network", default="GPEN-BFR-256-lite")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    chosen = portraits(arguments.data, arguments.portraits)
    network = networks([arguments.network])[0]
    print(f"{len(chosen)} portraits; mean / worst shift in grey levels\n\n| face | picture | {' | '.join(CHANGES)} |")
    print("|---" * (2 + len(CHANGES)) + "|")
    seconds: dict[str, list[float]] = {}
    for size in arguments.sizes:
        for kind in arguments.kinds:
            rows = [shifts(*at_size(picture, face, size), network, KINDS[kind], n, seconds) for n, (picture, face) in enumerate(chosen)]
            cells = [f"{mean(column):.2f} / {max(column):.2f}" for column in zip(*rows, strict=True)]
            print(f"| {size} | {kind} | {' | '.join(cells)} |", flush=True)
    times = (f"{name} {median(each):.4f}" for name, each in seconds.items())
    print(f"\nseconds for one face, medians: {', '.join(times)}")


if __name__ == "__main__":
    main()
