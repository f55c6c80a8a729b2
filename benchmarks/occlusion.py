"""What `occlusion = change` leaves out: of faces with nothing in front, and of faces with a hand, rims, a microphone or hair in front.

    python -m benchmarks.occlusion --data DATA [--portraits 40] [--sheet sheet.png]
    python -m benchmarks.occlusion --picture examples/portrait.png --sheet sheet.png

Portraits of people kept out of training, 300 pixels large, sharp and spoilt; the things in front are drawn here, the hand with another
person's skin. Three networks: the embedded one; a perfect one, whose result is the sharp portrait; and one that paints over what is in
front, whose result is the embedded network's for the same face without it. The last two stand for larger networks, which are not at hand
everywhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
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
from gpen_core.steps.mask import Mask, landmark_mask
from gpen_core.steps.occlusion import changed_beyond_reason
from training.faces import unpacked

from .detail import Spoil, as_float, at_size, blur, jpeg, noise, portraits, to_bytes

NETWORK, TEMPLATE, FACE = "GPEN-BFR-256-lite", "ffhq", 300
STAYS = 8 / 255  # a pixel that changed by no more than this is still the original's


def smaller(times: int, *then: Spoil) -> Spoil:
    """Shrinks the picture, spoils it further and enlarges it again."""

    def spoil(picture: Pixels, rng: np.random.Generator) -> Pixels:
        height, width = picture.shape[:2]
        small: NDArray[Any] = cv2.resize(picture, (width // times, height // times), interpolation=cv2.INTER_AREA)
        for step in then:
            small = as_float(to_bytes(step(np.asarray(small, np.float32), rng)))
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)

    return spoil


DAMAGES: dict[str, tuple[Spoil, ...]] = {
    "sharp": (),
    "blur 2": (blur(2),),
    "blur 5": (blur(5),),
    "noise 12": (noise(12),),
    "JPEG 35": (jpeg(35),),
    "4 times smaller": (smaller(4),),
    "4 times smaller, noise 5, JPEG 60": (smaller(4, noise(5), jpeg(60)),),
    "8 times smaller": (smaller(8),),
}
WITH_THINGS = ("sharp", "blur 2", "4 times smaller, noise 5, JPEG 60")

# --- things in front -------------------------------------------------------------------------------------------------


@dataclass
class Frame:
    """A face's own axes: middle of eyes and of mouth, distance of the eyes, and unit vectors across and down."""

    eyes: Pixels
    mouth: Pixels
    wide: float
    across: Pixels
    down: Pixels
    both: Pixels

    @classmethod
    def of(cls, face: Face) -> Frame:
        points = np.asarray(face.landmarks, np.float32)
        eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
        line = points[1] - points[0]
        wide = float(np.hypot(*line))
        across = line / np.float32(wide)
        return cls(eyes, mouth, wide, across, np.array([-across[1], across[0]], np.float32), points[:2])


Drawn = tuple[Pixels, Mask]  # the picture with the thing, and how much each pixel belongs to the thing
Thing = Callable[[Pixels, Frame, np.random.Generator, Pixels], Drawn]


def cover(shape: tuple[int, ...], draw: Callable[[NDArray[np.uint8], int], object]) -> Mask:
    """draw(canvas four times as large, 4) -> the smooth coverage of the picture's pixels, 0..1."""
    canvas = np.zeros((4 * shape[0], 4 * shape[1]), np.uint8)
    draw(canvas, 4)
    small = cv2.resize(canvas, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 0.7), np.float32)


def over(picture: Pixels, where: Mask, colour: Any) -> Pixels:
    return (picture + (np.asarray(colour, np.float32) - picture) * where[..., None]).astype(np.float32)


def at(point: NDArray[Any], scale: int) -> tuple[int, int]:
    return round(float(point[0]) * scale), round(float(point[1]) * scale)


def places(shape: tuple[int, ...]) -> Pixels:
    return np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), axis=2).astype(np.float32)


def hand(picture: Pixels, f: Frame, rng: np.random.Generator, skin: Pixels) -> Drawn:
    """Four fingers from the side over cheek and mouth, round by their shading, with another person's skin."""
    side, all_, shade = rng.choice([-1, 1]), np.zeros(picture.shape[:2], np.float32), np.ones(picture.shape[:2], np.float32)
    half, where = 0.14 * f.wide, places(picture.shape)
    for number in range(4):
        jitter = rng.normal(0, 0.03 * f.wide, 2).astype(np.float32)
        tip = f.mouth + f.across * (side * f.wide * (0.15 - 0.05 * number)) + f.down * (f.wide * (0.27 * number - 0.35)) + jitter
        root = tip + f.across * (side * f.wide * 1.4) + f.down * (f.wide * (0.25 + 0.1 * number))
        finger = cover(picture.shape, lambda c, s, a=tip, b=root: cv2.line(c, at(a, s), at(b, s), 255, round(2 * half * s), cv2.LINE_AA))
        along = (root - tip) / np.float32(np.hypot(*(root - tip)))
        off = np.abs((where - tip) @ np.array([-along[1], along[0]], np.float32)) / half
        shade = shade + (1 - 0.45 * np.clip(off, 0, 1.2) ** 3 - shade) * finger
        all_ = np.maximum(all_, finger)
    tile = np.concatenate([skin, skin[:, ::-1]], axis=1)
    tile = np.concatenate([tile, tile[::-1]])
    times = [-(-picture.shape[axis] // tile.shape[axis]) for axis in (0, 1)]
    texture = np.tile(tile, (*times, 1))[: picture.shape[0], : picture.shape[1]]
    return over(picture, all_, np.clip(texture * shade[..., None], 0, 1)), all_


def rims(picture: Pixels, f: Frame, rng: np.random.Generator, skin: Pixels) -> Drawn:
    """Thick rims of glasses: two rings, a bridge, two arms."""

    def draw(canvas: NDArray[np.uint8], scale: int) -> None:
        thick, angle = round(0.075 * f.wide * scale), float(np.degrees(np.arctan2(f.across[1], f.across[0])))
        for eye, side in zip(f.both, (-1, 1), strict=True):
            axes = (round(0.4 * f.wide * scale), round(0.32 * f.wide * scale))
            cv2.ellipse(canvas, at(eye + f.down * (0.05 * f.wide), scale), axes, angle, 0, 360, 255, thick, cv2.LINE_AA)
            reach = f.across * (side * f.wide)
            cv2.line(canvas, at(eye + reach * 0.4, scale), at(eye + reach * 1.1, scale), 255, thick, cv2.LINE_AA)
        bridge = f.across * (0.12 * f.wide)
        cv2.line(canvas, at(f.eyes - bridge, scale), at(f.eyes + bridge, scale), 255, thick, cv2.LINE_AA)

    where = cover(picture.shape, draw)
    return over(picture, where, ((0.06, 0.05, 0.05), (0.35, 0.05, 0.06), (0.12, 0.1, 0.25))[rng.integers(3)]), where


def microphone(picture: Pixels, f: Frame, rng: np.random.Generator, skin: Pixels) -> Drawn:
    """A ball with a grille before the mouth, on a dark handle."""
    centre, radius = f.mouth + f.down * (0.25 * f.wide) + f.across * float(rng.normal(0, 0.15) * f.wide), 0.42 * f.wide
    end = centre + f.down * (2.5 * f.wide) + f.across * float(rng.normal(0, 0.4) * f.wide)
    ball = cover(picture.shape, lambda c, s: cv2.circle(c, at(centre, s), round(radius * s), 255, -1, cv2.LINE_AA))
    handle = cover(picture.shape, lambda c, s: cv2.line(c, at(centre, s), at(end, s), 255, round(0.36 * f.wide * s), cv2.LINE_AA))
    where, period = places(picture.shape), max(3.0, 0.05 * f.wide)
    waves = np.sin(2 * np.pi * where.sum(axis=2) / period) * np.sin(2 * np.pi * (where[..., 0] - where[..., 1]) / period)
    light = np.clip(1.5 - 0.75 * np.square((where - centre + 0.3 * radius) / radius).sum(axis=2), 0.3, 1.5)
    return over(over(picture, handle, 0.08), ball, ((0.28 + 0.16 * waves) * light)[..., None]), np.maximum(ball, handle)


def hair(picture: Pixels, f: Frame, rng: np.random.Generator, skin: Pixels) -> Drawn:
    """A lock of hair across forehead, eye and cheek, with strands."""
    side, steps = rng.choice([-1, 1]), np.linspace(0, 1, 24)
    line = [
        f.eyes + f.across * float(side * f.wide * (0.1 + 0.75 * t + 0.1 * np.sin(3 * t))) + f.down * float(f.wide * (2.4 * t - 1.3))
        for t in steps
    ]

    def draw(canvas: NDArray[np.uint8], scale: int) -> None:
        cv2.polylines(
            canvas, [np.array([at(point, scale) for point in line], np.int32)], False, 255, round(0.4 * f.wide * scale), cv2.LINE_AA
        )

    where, lock = places(picture.shape), cover(picture.shape, draw)
    strand = (where @ f.across) / f.wide + 0.25 * np.sin(2 * (where @ f.down) / f.wide)
    colour = np.array(((0.1, 0.07, 0.05), (0.45, 0.3, 0.15), (0.75, 0.6, 0.35))[rng.integers(3)], np.float32)
    return over(picture, lock, np.clip(colour * (1 + 0.35 * np.sin(90 * strand) + 0.2 * np.sin(217 * strand))[..., None], 0, 1)), lock


THINGS: dict[str, Thing] = {"hand": hand, "rims": rims, "microphone": microphone, "hair": hair}


def skin_of(picture: Pixels, face: Face) -> Pixels:
    """A piece of cheek."""
    f = Frame.of(face)
    x, y = at(f.eyes - f.across * (0.5 * f.wide) + f.down * (0.5 * f.wide), 1)
    half = max(6, round(0.12 * f.wide))
    return picture[max(0, y - half) : y + half, max(0, x - half) : x + half]


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One face. thing: "" if there is none. left_out: share of the mask. stays: share of the thing's pixels that are the original's,
    without and with the mask."""

    network: str
    damage: str
    thing: str
    left_out: float
    stays: tuple[float, float]
    pictures: tuple[NDArray[Any], ...]


def measured(network: str, damage: str, thing: str, crop: Pixels, made: Pixels, inside: Mask, belongs: Mask) -> Row:
    keep = changed_beyond_reason(crop, made, inside)
    masks = inside, np.minimum(inside, keep)
    pasted = [crop + (made - crop) * mask[..., None] for mask in masks]
    of_thing = (belongs > 0.9) & (inside > 0.5)
    same = [np.abs(picture - crop).max(axis=2) <= STAYS for picture in pasted]
    shares = [float(one[of_thing].mean()) if of_thing.any() else 1.0 for one in same]
    left_out = 1 - float(masks[1].sum() / inside.sum())
    return Row(network, damage, thing, left_out, (shares[0], shares[1]), (crop, *pasted, np.repeat(masks[1][..., None], 3, axis=2)))


def rows(chosen: list[tuple[Pixels, Face]]) -> Iterator[Row]:
    loaded = load_network(NETWORK)
    size, points = loaded.size, template_points(TEMPLATE, loaded.size)
    inside = landmark_mask(points, size)

    def restore(crop: Pixels) -> Pixels:
        return run_network(loaded, crop)

    for number, (picture, face) in enumerate(chosen):
        matrix = similarity(face.landmarks, points)
        sharp = crop_face(picture, matrix, size)
        painted = restore(sharp)
        skin = skin_of(*chosen[(number + 1) % len(chosen)])
        for name, thing in {"": None, **THINGS}.items():
            rng = np.random.default_rng((number, len(name)))
            shown, belongs = thing(picture, Frame.of(face), rng, skin) if thing else (picture, np.zeros(picture.shape[:2], np.float32))
            there = np.asarray(cv2.warpAffine(belongs, matrix, (size, size)), np.float32)
            for turn, (damage, steps) in enumerate(DAMAGES.items()):
                if thing and damage not in WITH_THINGS:
                    continue
                spoilt, rng = shown, np.random.default_rng((number, turn))
                for step in steps:
                    spoilt = as_float(to_bytes(step(spoilt, rng)))
                crop = crop_face(spoilt, matrix, size)
                yield measured("embedded", damage, name, crop, restore(crop), inside, there)
                other = ("paints over", painted) if thing else ("perfect", sharp)
                yield measured(other[0], damage, name, crop, other[1], inside, there)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the occlusion mask that needs no file.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, help="folder with the portraits' archives")
    what.add_argument("--picture", type=Path, help="draw only the sheet, of this picture's face")
    parser.add_argument("--portraits", type=int, default=40)
    parser.add_argument("--sheet", type=Path, help="draw some faces: crop, restored without and with the mask, the mask")
    arguments = parser.parse_args()
    if arguments.picture:
        of_one(arguments.picture, arguments.sheet or Path("sheet.png"))
        return
    chosen = [at_size(picture, face, FACE) for picture, face in portraits(arguments.data, arguments.portraits)]
    found = list(rows(chosen))
    print(f"{len(chosen)} portraits\n\nNothing in front: share of the mask that is left out, mean (highest)\n")
    print("| damage | embedded | perfect |\n|---|---|---|")
    for damage in DAMAGES:
        parts = [
            [row.left_out for row in found if (row.network, row.damage, row.thing) == (n, damage, "")] for n in ("embedded", "perfect")
        ]
        print(f"| {damage} | " + " | ".join(f"{mean(part):.2%} ({max(part):.1%})" for part in parts) + " |")
    print("\nSomething in front: share of its pixels that stay the original's, without and with the mask\n")
    print(
        "| thing | damage | embedded: without | with | paints over: without | with | left out of the mask |\n|---|---|---|---|---|---|---|"
    )
    for thing in THINGS:
        for damage in WITH_THINGS:
            cells: list[str] = []
            outside: list[float] = []
            for network in ("embedded", "paints over"):
                here = [row for row in found if (row.network, row.damage, row.thing) == (network, damage, thing)]
                cells += [f"{mean(row.stays[n] for row in here):.0%}" for n in (0, 1)]
                outside = [row.left_out for row in here]
            print(f"| {thing} | {damage} | " + " | ".join(cells) + f" | {mean(outside):.0%} |")
    if arguments.sheet:
        kinds = [(n, t) for t in THINGS for n in ("embedded", "paints over")] + [("embedded", ""), ("perfect", "")]
        lines = [[row for row in found if (row.network, row.thing, row.damage) == (n, t, WITH_THINGS[2])][:4] for n, t in kinds]
        save(arguments.sheet, lines)
        print("\nThe sheet, from the top: " + "; ".join(f"{network}, {thing or 'nothing'}" for network, thing in kinds))


def save(sheet: Path, lines: list[list[Row]]) -> None:
    """Draws faces: crop, restored without and with the mask, the mask."""
    drawn = np.concatenate([np.concatenate([np.concatenate(row.pictures, axis=1) for row in line], axis=1) for line in lines])
    sheet.write_bytes(cv2.imencode(sheet.suffix, to_bytes(drawn)[..., ::-1])[1].tobytes())


def of_one(path: Path, sheet: Path) -> None:
    """The things in front of one picture's largest face, painted over."""
    picture = unpacked(path.read_bytes())
    faces = find_faces(as_float(picture), RetinaFaceMobile())
    if not faces:
        raise SystemExit(f"{path}: no face")
    found = list(rows([at_size(picture, max(faces, key=lambda face: face.area), FACE)]))
    save(sheet, [[row for row in found if (row.network, row.thing, row.damage) == ("paints over", thing, "sharp")] for thing in THINGS])


if __name__ == "__main__":
    main()
