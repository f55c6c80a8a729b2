"""Measures what helps with old photographs: sepia and faded prints, and scratches.

    python -m benchmarks.old_photos --data DATA [--portraits 30] [--model GPEN-BFR-256-lite] [--sheet old.png]

DATA is as for benchmarks.detail; only people kept out of training are used. Each portrait becomes a print (sepia; faded; faded badly, to
0.4 of its contrast), which is blurred, halved in size and given grain. Its face is restored in several ways and compared with the
undamaged print's, where the mask is above 1/2: PSNR, and colour, the mean distance in a*b* of Lab (1 is hardly visible).

For scratches, thin lines are drawn on the portraits. Recall is the share of their pixels that a simple detector finds; touched the share
of pixels that it takes for scratches in a portrait without any.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.detail import Bytes, as_float, at_size, portraits, psnr, to_bytes
from gpen_core.faces.face import Face
from gpen_core.network.fused import Network
from gpen_core.network.load import load_network
from gpen_core.network.run import run_network
from gpen_core.pixels import Pixels
from gpen_core.steps.align import crop_face, similarity, template_points
from gpen_core.steps.detail import detail_of_face
from gpen_core.steps.luma import luma_of, with_luma
from gpen_core.steps.mask import Mask, landmark_mask
from gpen_core.steps.paste import Compositor
from gpen_core.steps.tone import keep_low_frequencies, match_colour
from gpen_core.weights.catalog import Catalog
from training.degrade import faded

Bools = NDArray[np.bool_]
FACE = 160  # longer side of a face's box in the print, in pixels

# (weak, strong, length, least): thresholds of the top hat in grey levels, length of the opening's line, least length of a scratch.
DETECTORS = ((12, 40, 21, 80), (15, 50, 31, 120), (15, 60, 41, 150), (20, 70, 51, 150))


def sepia(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Brown for black, yellowish paper for white."""
    dark, light = (
        rng.uniform(0.04, 0.16) * np.array([1.5, 1.0, 0.6]),
        rng.uniform(0.85, 0.95) * np.array([1.05, 0.96, rng.uniform(0.7, 0.85)]),
    )
    return np.asarray(np.clip(dark + (light - dark) * luma_of(picture)[..., None], 0, 1), np.float32)


def badly_faded(picture: Pixels, rng: np.random.Generator) -> Pixels:
    low = rng.uniform(0.2, 0.4)
    return np.asarray((low + 0.4 * picture) * np.array([1.0, 0.95, 0.85], np.float32), np.float32)


PRINTS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "sepia": sepia,
    "faded": lambda picture, rng: as_float(faded(to_bytes(picture), rng)),
    "faded badly": badly_faded,
}


def damaged(print_: Pixels, rng: np.random.Generator) -> Pixels:
    height, width = print_.shape[:2]
    small = np.asarray(
        cv2.resize(cv2.GaussianBlur(print_, (0, 0), 1.2), (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.float32
    )
    grain = rng.standard_normal(small.shape[:2], dtype=np.float32)[..., None] * np.float32(6 / 255)
    return np.asarray(cv2.resize(np.clip(small + grain, 0, 1), (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def stretched(crop: Pixels, mask: Mask) -> tuple[Pixels, Pixels]:
    """(low, gain) per channel that give the face nearly the whole range of tones, without the cast."""
    low, high = np.percentile(crop[mask > 0.5], (1, 99), axis=0)
    gain = 0.8 / np.maximum(0.05, high - low)
    return np.asarray(low - 0.1 / gain, np.float32), np.asarray(gain, np.float32)


def colour_error(picture: Pixels, good: Pixels, inside: Bools) -> float:
    one, other = (cv2.cvtColor(np.clip(image, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)[..., 1:] for image in (picture, good))
    return float(np.sqrt(np.square(one - other).sum(axis=2))[inside].mean())


def ways(network: Network, crop: Pixels, mask: Mask) -> dict[str, Pixels]:
    """The damaged face, and restored in every way that is compared."""
    grey = np.repeat(luma_of(crop)[..., None], 3, axis=2)
    made, made_grey = run_network(network, crop), run_network(network, grey)
    low, gain = stretched(crop, mask)
    corrected = run_network(network, np.clip((crop - low) * gain, 0, 1)) / gain + low
    return {
        "damaged": crop,
        "restored": made,
        "with colour_match": match_colour(made, crop, mask),
        "with fidelity 1": keep_low_frequencies(made, crop, 1.0),
        "with the print's chroma": with_luma(crop, luma_of(made)),
        "made from grey, with the print's chroma": with_luma(crop, luma_of(made_grey)),
        "tones stretched before, shrunk again after": np.asarray(corrected, np.float32),
    }


def colours(people: list[tuple[Bytes, Face]], network: Network, template: str, sheet: list[Bytes]) -> None:
    size = network.size
    points = template_points(template, size)
    mask = landmark_mask(points, size)
    inside = mask > 0.5
    print("| print | way | PSNR | colour | worst colour |\n| --- | --- | --- | --- | --- |")
    for kind, make in PRINTS.items():
        figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number, (picture, face) in enumerate(people):
            rng = np.random.default_rng(number)
            sharp, moved = at_size(picture, face, FACE)
            good = make(sharp, rng)
            matrix = similarity(moved.landmarks, points)
            target = crop_face(good, matrix, size)
            outcomes = ways(network, crop_face(damaged(good, rng), matrix, size), mask)
            for way, made in outcomes.items():
                figures[way].append((psnr(made, target, inside), colour_error(made, target, inside)))
            if number < 2:
                sheet.append(np.hstack([to_bytes(part) for part in (target, *outcomes.values())]))
        for way, values in figures.items():
            both = np.asarray(values)
            print(f"| {kind} | {way} | {both[:, 0].mean():.2f} | {both[:, 1].mean():.2f} | {both[:, 1].max():.2f} |", flush=True)


def details(people: list[tuple[Bytes, Face]], network: Network, template: str) -> None:
    """The setting detail on large prints with grain of two pixels: sharp, soft, and soft with scratches."""
    size = network.size
    points = template_points(template, size)
    mask = landmark_mask(points, size)
    print("\n| print, face of 700 pixels | PSNR with detail 0 | with detail 1 |\n| --- | --- | --- |")
    for kind in ("sharp", "soft", "soft, scratched"):
        figures: list[tuple[float, ...]] = []
        for number, (picture, face) in enumerate(people):
            rng = np.random.default_rng(number)
            sharp, moved = at_size(picture, face, 700)
            good = sepia(sharp, rng)
            bad = good if kind == "sharp" else np.asarray(cv2.GaussianBlur(good, (0, 0), 3.5), np.float32)
            bad = bad if "scratched" not in kind else scratched(bad, *scratches(bad.shape, rng, 12))
            grain = cv2.GaussianBlur(rng.standard_normal(bad.shape[:2], dtype=np.float32), (0, 0), 1.0)
            bad = as_float(to_bytes(bad + np.asarray(grain / grain.std() * (8 / 255), np.float32)[..., None]))
            matrix = similarity(moved.landmarks, points)
            crop = crop_face(bad, matrix, size)
            made = run_network(network, crop)
            values: list[float] = []
            for amount in (0.0, 1.0):
                compositor = Compositor(bad)
                compositor.add(made, mask, matrix, detail=detail_of_face(bad, crop, made, mask, matrix, amount))
                out, where = compositor.result()
                values.append(psnr(np.clip(out, 0, 1), good, where > 0.5))
            figures.append(tuple(values))
        without, with_ = np.mean(figures, axis=0)
        print(f"| {kind} | {without:.2f} | {with_:.2f} |", flush=True)


# --- scratches -------------------------------------------------------------------------------------------------------


def scratches(shape: tuple[int, ...], rng: np.random.Generator, count: int = 6) -> tuple[Pixels, Pixels]:
    """Long thin curves, most of them bright: how much each covers, and its tone, (H, W) each."""
    height, width = shape[:2]
    cover, tone = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for _ in range(count):
        length, bend = rng.uniform(0.25, 0.8) * height, rng.normal(0, 0.4) / height
        angles = rng.normal(np.pi / 2, 0.5) + bend * np.linspace(0, length, 40)
        start = np.array([rng.uniform(0, width), rng.uniform(0, height / 2)])
        points = start + np.cumsum(np.column_stack([np.cos(angles), np.sin(angles)]), axis=0) * (length / 40)
        line = np.zeros((height, width), np.uint8)
        cv2.polylines(line, [np.rint(points * 16).astype(np.int32)], False, 255, int(rng.integers(1, 4)), cv2.LINE_AA, 4)
        share = np.asarray(line * (rng.uniform(0.6, 1) / 255), np.float32)
        level = rng.uniform(0.85, 1) if rng.random() < 0.7 else rng.uniform(0, 0.12)
        tone, cover = tone * (1 - share) + np.float32(level) * share, cover + share - cover * share
    return cover.astype(np.float32), tone.astype(np.float32)


def scratched(picture: Pixels, cover: Pixels, tone: Pixels) -> Pixels:
    return np.asarray(picture * (1 - cover[..., None]) + (tone * cover)[..., None], np.float32)


def detected(luma: Pixels, weak: int, strong: int, length: int, least: int) -> Bools:
    """Thin bright or dark lines: top hat, opened along lines of 12 directions, hysteresis, length."""
    grey = np.asarray(np.rint(np.clip(luma, 0, 1) * 255), np.uint8)
    found = np.zeros(grey.shape, np.bool_)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    for source in (grey, np.asarray(255 - grey, np.uint8)):
        thin = cv2.morphologyEx(source, cv2.MORPH_TOPHAT, disc)
        lines = np.zeros_like(grey)
        for angle in np.arange(12) * np.pi / 12:
            kernel, middle = np.zeros((length, length), np.uint8), length // 2
            dx, dy = round(np.cos(angle) * middle), round(np.sin(angle) * middle)
            cv2.line(kernel, (middle - dx, middle - dy), (middle + dx, middle + dy), 1)
            lines = np.maximum(lines, cv2.morphologyEx(thin, cv2.MORPH_OPEN, kernel))
        count, components, boxes, _ = cv2.connectedComponentsWithStats((lines >= weak).astype(np.uint8), connectivity=8)
        labels = np.asarray(components, np.int32)
        kept = np.zeros(count, np.bool_)
        kept[np.unique(labels[lines >= strong])] = True
        reach = np.hypot(boxes[:, 2], boxes[:, 3])
        kept &= (reach >= least) & (boxes[:, 4] < 6 * reach)
        kept[0] = False
        found |= kept[labels]
    return found


def finding(people: list[tuple[Bytes, Face]]) -> None:
    print("\n| weak, strong, length, least | recall | touched, mean | touched, worst | portraits under 0.1 % |\n" + "| --- " * 5 + "|")
    for settings in DETECTORS:
        recalls: list[float] = []
        touched: list[float] = []
        for number, (picture, _) in enumerate(people):
            rng = np.random.default_rng(number)
            clean = as_float(picture)
            cover, tone = scratches(clean.shape, rng)
            bad = scratched(clean, cover, tone)
            grain = rng.standard_normal(cover.shape, dtype=np.float32) * np.float32(4 / 255)
            there = cover > 0.3
            recalls.append(float(detected(np.asarray(luma_of(bad) + grain, np.float32), *settings)[there].mean()))
            touched.append(100 * float(detected(luma_of(clean), *settings).mean()))
        few = sum(value < 0.1 for value in touched)
        print(
            f"| {', '.join(map(str, settings))} | {np.mean(recalls):.2f} | {np.mean(touched):.3f} % | {max(touched):.3f} % "
            f"| {few} of {len(people)} |",
            flush=True,
        )


def filling(people: list[tuple[Bytes, Face]], network: Network, template: str, sheet: list[Bytes]) -> None:
    """What the network makes of a scratched face, and of one whose scratches were filled before, where a user painted a mask."""
    size = network.size
    points = template_points(template, size)
    inside = landmark_mask(points, size) > 0.5
    figures: dict[str, list[float]] = defaultdict(list)
    for number, (picture, face) in enumerate(people):
        rng = np.random.default_rng(number)
        clean = as_float(picture)
        cover, tone = scratches(clean.shape, rng, 12)
        bad = scratched(clean, cover, tone)
        painted = cv2.dilate((cover > 0.02).astype(np.uint8), np.ones((3, 3), np.uint8))
        filled = as_float(np.asarray(cv2.inpaint(to_bytes(bad), painted, 3, cv2.INPAINT_TELEA)))
        matrix = similarity(face.landmarks, points)
        target, marred, mended = (crop_face(each, matrix, size) for each in (clean, bad, filled))
        ways = {"scratched": marred, "restored": run_network(network, marred), "filled": mended,
                "filled, then restored": run_network(network, mended)}  # fmt: skip
        for way, made in ways.items():
            figures[way].append(psnr(made, target, inside))
        if number < 3:
            sheet.append(np.hstack([to_bytes(part) for part in (target, *ways.values())]))
    print("\n| scratched face | PSNR | worst |\n| --- | --- | --- |")
    for way, values in figures.items():
        print(f"| {way} | {np.mean(values):.2f} | {min(values):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--portraits", type=int, default=30)
    parser.add_argument("--model", default="GPEN-BFR-256-lite")
    parser.add_argument("--sheet", type=Path, help="write the pictures compared here (PNG)")
    arguments = parser.parse_args()
    people = portraits(arguments.data, arguments.portraits)
    network = load_network(arguments.model, device="cpu")
    template = Catalog.default().get(arguments.model).template
    sheet: list[Bytes] = []
    colours(people, network, template, sheet)
    details(people, network, template)
    finding(people)
    filling(people, network, template, sheet)
    if arguments.sheet is not None:
        width = max(row.shape[1] for row in sheet)
        whole = np.vstack([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in sheet])
        cv2.imwrite(str(arguments.sheet), cv2.cvtColor(whole, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
