"""Measures what restoration does to sharp and to degraded faces, without and with the picture's own detail (the setting `detail`).

    python -m benchmarks.detail --data DATA [--portraits 40] [--sizes 190 300 500 1000 2000]
                                [--networks GPEN-BFR-256-lite 512] [--sheet worst.png]

DATA contains zip files of portraits (faces-webmorph-512.zip and others, training/faces.py); only people kept out of training are used. A
face's size is the longer side of its detection box; smaller faces are enlarged by Lanczos. Each portrait is restored unchanged (sharp), and
degraded at that size by blur, noise and JPEG (blur: sigma in pixels; noise: sigma in grey levels; JPEG: quality).

Prints, for the area where the mask is above 1/2: sharpness, the gradient energy over that of the sharp portrait, and PSNR against the sharp
portrait, without detail (0) and with it (1). These are means; for the gain and for the sharpness with detail, also the worst portrait.

A network is a name or a file. "512" stands in for weights that are not available: it changes a 512-pixel face as the first network would
at its own size, and keeps all finer detail.
"""

from __future__ import annotations

import argparse
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean
from statistics import median
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_core.faces.detect import find_faces
from gpen_core.faces.face import Face
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.network.load import load_network
from gpen_core.network.run import run_network
from gpen_core.pixels import Pixels
from gpen_core.steps.align import crop_face, similarity, template_points
from gpen_core.steps.detail import detail_of_face
from gpen_core.steps.mask import landmark_mask
from gpen_core.steps.paste import Compositor
from gpen_core.weights.catalog import Catalog
from training.degrade import packed_and_unpacked
from training.faces import HELD_OUT_ONE_IN, unpacked

Restore = Callable[[Pixels], Pixels]
ARCHIVES = ("faces-webmorph-512.zip", "faces-congress.zip", "portraits-cc0-512.zip")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
ROUND = 0.6  # margin kept on every side of the face, as a part of its box
WORST = 10

Spoil = Callable[[Pixels, np.random.Generator], NDArray[Any]]
Bytes = NDArray[np.uint8]


def blur(sigma: float) -> Spoil:
    return lambda picture, _rng: cv2.GaussianBlur(picture, (0, 0), sigma)


def noise(sigma: float) -> Spoil:
    return lambda picture, rng: picture + rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(sigma / 255)


def jpeg(quality: int) -> Spoil:
    def spoil(picture: Pixels, _rng: np.random.Generator) -> Pixels:
        return as_float(packed_and_unpacked(to_bytes(picture), quality))

    return spoil


DAMAGES: dict[str, tuple[Spoil, ...]] = {
    "sharp": (),
    "blur 2": (blur(2),),
    "blur 5": (blur(5),),
    "noise 6": (noise(6),),
    "noise 12": (noise(12),),
    "JPEG 70": (jpeg(70),),
    "JPEG 35": (jpeg(35),),
    "blur 2, noise 5, JPEG 60": (blur(2), noise(5), jpeg(60)),
}


@dataclass
class Network:
    """A network to compare. size: side of its input. template: its alignment template. restore: (S, S, 3) float32 RGB 0..1 to the same."""

    name: str
    size: int
    template: str
    restore: Restore


@dataclass
class Row:
    """One portrait, restored without and with detail. All figures are for the area inside the mask."""

    damage: str
    without: float
    with_: float
    sharp_without: float
    sharp_with: float
    pictures: list[Bytes]
    seconds: float  # spent on the detail

    @property
    def gain(self) -> float:
        return self.with_ - self.without


def as_float(picture: NDArray[Any]) -> Pixels:
    return picture.astype(np.float32) / np.float32(255)


def to_bytes(picture: NDArray[Any]) -> Bytes:
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


def portraits(data: Path, count: int, whole: Sequence[str] = ()) -> list[tuple[Bytes, Face]]:
    """Portraits of people kept out of training, (H, W, 3) uint8 RGB, each with its face; taken from the archives in turn.

    whole: archives that training never reads, of which all people are taken.
    """
    detector = RetinaFaceMobile()
    by_archive: list[list[bytes]] = []
    for name in ARCHIVES:
        with zipfile.ZipFile(data / name) as archive:
            members = sorted(m for m in archive.namelist() if Path(m).suffix in (".webp", ".png", ".jpg") and not m.startswith("256/"))
            kept = [m for m in members if name in whole or zlib.crc32(Path(m).stem.encode("utf-8")) % HELD_OUT_ONE_IN == 0]
            by_archive.append([archive.read(member) for member in kept])
    found: list[tuple[Bytes, Face]] = []
    for number in range(max(map(len, by_archive))):
        for files in by_archive:
            if number >= len(files) or len(found) >= count:
                continue
            picture = unpacked(files[number])
            faces = find_faces(as_float(picture), detector)
            if faces:
                found.append((picture, max(faces, key=lambda face: face.area)))
    return found


def at_size(picture: Bytes, face: Face, size: int) -> tuple[Pixels, Face]:
    """The face and its surroundings, resized so that the longer side of its box has `size` pixels; float32 0..1."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = face.box
    dx, dy = ROUND * face.width, ROUND * face.height
    left, top, right, bottom = max(0, int(x0 - dx)), max(0, int(y0 - dy)), min(width, int(x1 + dx)), min(height, int(y1 + dy))
    part = picture[top:bottom, left:right]
    scale = size / max(face.width, face.height)
    wide, tall = round(part.shape[1] * scale), round(part.shape[0] * scale)
    resized = cv2.resize(part, (wide, tall), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LANCZOS4)
    return as_float(resized), face.moved(-left, -top).scaled(wide / part.shape[1], tall / part.shape[0])


def sharpness(picture: Pixels, inside: NDArray[np.bool_]) -> float:
    """Mean absolute difference between neighbouring luma values."""
    luma, both = picture @ LUMA, inside[1:, 1:]
    return float((np.abs(luma[1:, 1:] - luma[1:, :-1]) + np.abs(luma[1:, 1:] - luma[:-1, 1:]))[both].mean())


def psnr(picture: Pixels, good: Pixels, inside: NDArray[np.bool_]) -> float:
    return float(10 * np.log10(1 / max(1e-9, float(np.square(picture - good)[inside].mean()))))


def rows(good: Pixels, face: Face, network: Network, seed: int) -> Iterator[Row]:
    """Yields one row per kind of damage."""
    matrix = similarity(face.landmarks, template_points(network.template, network.size))
    mask = landmark_mask(template_points(network.template, network.size), network.size)
    for number, (name, steps) in enumerate(DAMAGES.items()):
        picture, rng = good, np.random.default_rng((seed, number))
        for step in steps:
            picture = as_float(to_bytes(step(picture, rng)))
        crop = crop_face(picture, matrix, network.size)
        restored = network.restore(crop)
        started = time.perf_counter()
        detail = detail_of_face(picture, crop, restored, mask, matrix, 1.0)
        seconds = time.perf_counter() - started
        pasted: list[Pixels] = []
        inside = np.zeros(0, bool)
        for extra in (None, detail):
            compositor = Compositor(picture)
            compositor.add(restored, mask, matrix, detail=extra)
            out, where = compositor.result()
            inside = where > 0.5
            pasted.append(np.clip(out, 0, 1))
        right = sharpness(good, inside)
        values = [measure for out in pasted for measure in (psnr(out, good, inside), sharpness(out, inside) / right)]
        ys, xs = np.nonzero(inside)
        box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        parts = [to_bytes(part[box]) for part in (good, picture, *pasted)]
        small = [np.asarray(cv2.resize(part, (320, 400), interpolation=cv2.INTER_AREA), np.uint8) for part in parts]
        yield Row(name, values[0], values[2], values[1], values[3], small, seconds)


def networks(names: list[str]) -> list[Network]:
    """The networks of these names. "512" is the stand-in for 512: it changes a face as the first of the others would at its own size."""
    others = [name for name in names if name != "512"]
    loaded = {name: _loaded(name) for name in others or ["GPEN-BFR-256-lite"]}
    return [loaded[name] if name in loaded else _stand_in(next(iter(loaded.values()))) for name in names]


def _loaded(name: str) -> Network:
    network = load_network(name)
    known = next((entry for entry in Catalog.default() if entry.name.lower() == name.lower()), None)
    return Network(name, network.size, known.template if known else "gpen", lambda crop: run_network(network, crop))


def _stand_in(first: Network) -> Network:
    def restore(crop: Pixels) -> Pixels:
        small = np.asarray(cv2.resize(crop, (first.size, first.size), interpolation=cv2.INTER_AREA), np.float32)
        change = cv2.resize(first.restore(small) - small, (512, 512), interpolation=cv2.INTER_CUBIC)
        return np.clip(crop + change, 0, 1)

    return Network("stand-in for 512", 512, first.template, restore)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares sharp and degraded faces, restored without and with the picture's own detail.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--portraits", type=int, default=40)
    parser.add_argument("--sizes", type=int, nargs="+", default=[190, 300, 500, 1000, 2000])
    parser.add_argument("--networks", nargs="+", default=["GPEN-BFR-256-lite", "512"])
    parser.add_argument("--sheet", type=Path, help=f"draw the {WORST} degraded portraits that gain least: sharp, degraded, without, with")
    arguments = parser.parse_args()
    chosen = portraits(arguments.data, arguments.portraits)
    print(f"{len(chosen)} portraits\n")
    print(
        "| face | network | damage | sharpness without | with | worst with | PSNR without | with | gain | worst gain |\n"
        + "|---" * 10
        + "|"
    )
    spoilt: list[Row] = []
    times: list[str] = []
    for size in arguments.sizes:
        for network in networks(arguments.networks):
            found = [row for n, (p, f) in enumerate(chosen) for row in rows(*at_size(p, f, size), network, n)]
            for damage in DAMAGES:
                here = [row for row in found if row.damage == damage]
                gains = [row.gain for row in here]
                print(
                    f"| {size} | {network.name} | {damage} | {mean(row.sharp_without for row in here):.3f} "
                    f"| {mean(row.sharp_with for row in here):.3f} | {min(row.sharp_with for row in here):.3f} "
                    f"| {mean(row.without for row in here):.2f} | {mean(row.with_ for row in here):.2f} "
                    f"| {mean(gains):+.2f} | {min(gains):+.2f} |",
                    flush=True,
                )
            times.append(f"{median(row.seconds for row in found):.3f} s ({size} pixels, {network.name})")
            spoilt = sorted([*spoilt, *(row for row in found if row.damage != "sharp")], key=lambda row: row.gain)[:WORST]
    print("\ndetail_of_face() alone, medians: " + ", ".join(times))
    if arguments.sheet:
        sheet = np.concatenate([np.concatenate(row.pictures, axis=1) for row in spoilt])
        arguments.sheet.write_bytes(cv2.imencode(arguments.sheet.suffix, sheet[..., ::-1])[1].tobytes())
        print("\nThe sheet, from the top: " + "; ".join(f"{row.damage} ({row.gain:+.2f} dB)" for row in spoilt))


if __name__ == "__main__":
    main()
