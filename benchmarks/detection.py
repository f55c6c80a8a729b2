"""Measures face detection: faces found by threshold and size, false detections, accuracy of the landmarks, speed.

    python -m benchmarks.detection DATA [--portraits 40] [--no-sizes] [--no-looks] [--no-turned | --only-turned]

DATA: a folder with Solvay_conference_1927.png (29 people) and portraits-cc0-512.zip (one person each, rarely a second in the background).
Pictures without faces: scikit-image's, if installed, and portraits with painted-over faces. Rotated heads: these portraits, and those of
faces-congress.zip, faces-webmorph-512.zip and faces-artflow-256-0.zip if present.
"""

from __future__ import annotations

import argparse
import statistics
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.detail import as_float
from gpen_core.faces import Face, find_faces, make_detector
from gpen_core.faces.detect import THRESHOLD, Detector
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.pictures import read_picture
from gpen_core.pixels import Pixels
from training.degrade import packed_and_unpacked
from training.faces import unpacked

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
SIZES = (11, 14, 19, 29, 48, 72, 96, 140, 200)  # shorter side of a face, pixels
SHEETS = ((1000, 1000), (2000, 1500), (4000, 3000))
THINGS = (  # of scikit-image
    *("brick", "cat", "checkerboard", "clock", "coffee", "coins", "colorwheel", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "logo", "microaneurysms", "moon", "page", "retina", "rocket", "text"),
)

TURNS = (0, 20, 40, 55, 90, 135, 180)  # degrees, clockwise
MORE_HEADS = ("faces-congress.zip", "faces-webmorph-512.zip", "faces-artflow-256-0.zip")


def portraits_of(data: Path, count: int, file: str = "portraits-cc0-512.zip") -> list[NDArray[np.uint8]]:
    with zipfile.ZipFile(data / file) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".webp"))
        files = [archive.read(name) for name in names[:: max(1, len(names) // count)][:count]]
    return [unpacked(file) for file in files]


def without_faces(portraits: list[NDArray[np.uint8]], faces: list[Face]) -> list[Pixels]:
    """Pictures of things, and portraits whose heads are covered by a soft disc of the mean colour."""
    pictures: list[Pixels] = []
    try:
        from skimage import data as things
    except ImportError:
        print("scikit-image is not installed: its pictures without faces are left out")
    else:
        for name in THINGS:
            try:
                thing = getattr(things, name)()
            except Exception as error:  # some need a download
                print(f"left out: {name} ({type(error).__name__})")
                continue
            thing = thing.astype(np.float32) / (1.0 if thing.dtype == bool else 255.0)
            pictures.append(np.ascontiguousarray(np.dstack([thing] * 3) if thing.ndim == 2 else thing[..., :3]))
    for portrait, face in zip(portraits[::2], faces[::2], strict=True):
        picture = as_float(portrait)
        cover = np.zeros(picture.shape[:2], np.float32)
        cv2.circle(cover, (round(face.centre[0]), round(face.centre[1])), round(face.height * 0.8), 1.0, -1)
        cover = cv2.GaussianBlur(cover, (0, 0), face.height * 0.05)[..., None]
        pictures.append(picture * (1 - cover) + picture.mean(axis=(0, 1)) * cover)
    return pictures


def sheets(portraits: list[NDArray[np.uint8]], faces: list[Face], side: int, wide: int, tall: int) -> Iterator[tuple[Pixels, list[Face]]]:
    """Yields sheets of portraits, shrunk to faces of `side` pixels and degraded by noise and JPEG 60, with the faces' positions."""
    rng = np.random.default_rng(7)

    def spoilt(sheet: NDArray[np.uint8]) -> Pixels:
        noisy = np.clip(np.rint(sheet + rng.normal(0, 5, sheet.shape)), 0, 255).astype(np.uint8)
        return as_float(packed_and_unpacked(noisy, 60))

    sheet, there = np.full((tall, wide, 3), 118, np.uint8), list[Face]()
    x = y = row = 0
    for portrait, face in zip(portraits, faces, strict=True):
        scale = side / face.shorter_side
        small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if x + small.shape[1] > wide:
            x, y, row = 0, y + row, 0
        if y + small.shape[0] > tall:
            yield spoilt(sheet), there
            sheet, there = np.full((tall, wide, 3), 118, np.uint8), []
            x = y = row = 0
        small = small[: tall - y, : wide - x]  # a portrait may be larger than the sheet
        sheet[y : y + small.shape[0], x : x + small.shape[1]] = small
        there.append(face.scaled(scale, scale).moved(x, y))
        x, row = x + small.shape[1], max(row, small.shape[0])
    yield spoilt(sheet), there


def is_same(found: Face, there: Face) -> bool:
    apart = np.hypot(found.centre[0] - there.centre[0], found.centre[1] - there.centre[1])
    return bool(apart < 0.35 * there.shorter_side) and 0.5 < found.shorter_side / there.shorter_side < 2


def by_size(detector: Detector, portraits: list[NDArray[np.uint8]], faces: list[Face], wide: int, tall: int) -> None:
    print(f"\nfaces of one size in pictures of {wide}x{tall}; landmarks' mean error as in a face of 300 px\n")
    print(f"| face, px | missed of {len(faces)} | other finds | landmarks |")
    print("|---|---|---|---|")
    for side in SIZES:
        if side * 4 > min(wide, tall):  # no room for a portrait
            continue
        missed = others = 0
        errors: list[float] = []
        for sheet, there in sheets(portraits, faces, side, wide, tall):
            found = find_faces(sheet, detector)
            for face in there:
                match = next((f for f in found if is_same(f, face)), None)
                if match is None:
                    missed += 1
                else:
                    errors.append(float(np.abs(match.landmarks - face.landmarks).mean()) * 300 / side)
                    found.remove(match)
            others += len(found)
        print(f"| {side} | {missed} | {others} | {np.mean(errors):.1f} |", flush=True)


def heads(data: Path, count: int) -> Iterator[Pixels]:
    """Yields `count` upright heads from each archive, 256 x 256 pixels, with faces of about 90 to 130."""
    for picture in portraits_of(data, count):
        yield as_float(np.asarray(cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA), np.uint8))
    for name in MORE_HEADS:
        if (data / name).is_file():
            for picture in portraits_of(data, count, name):  # these show only the face, so they get a border
                small = cv2.resize(picture, (192, 192), interpolation=cv2.INTER_AREA)
                yield as_float(np.asarray(cv2.copyMakeBorder(small, 32, 32, 32, 32, cv2.BORDER_REPLICATE), np.uint8))


def turned(picture: Pixels, degrees: float) -> tuple[Pixels, NDArray[np.float64]]:
    """The picture rotated clockwise on a larger square, and the (2, 3) matrix that does this."""
    side = round(picture.shape[0] * (abs(np.cos(np.radians(degrees))) + abs(np.sin(np.radians(degrees)))))
    middle = (picture.shape[1] - 1) / 2, (picture.shape[0] - 1) / 2
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, -degrees, 1.0), np.float64)
    matrix[:, 2] += (side - picture.shape[0]) / 2
    ground = picture.mean(axis=(0, 1)).tolist()
    result = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_CUBIC, borderValue=ground)
    return np.clip(result, 0, 1).astype(np.float32), matrix


def turned_heads(detector: Detector, data: Path, count: int, threshold: float, near_enough: float) -> None:
    """Counts rotated heads with right landmarks (mean error below near_enough, in eye distances), with wrong ones, or with none."""
    shipped = make_detector()
    upright = [(head, faces) for head in heads(data, count) if (faces := find_faces(head, shipped))]
    seen: dict[tuple[int, bool], list[str]] = {(turn, rotations): [] for turn in TURNS for rotations in (False, True)}
    for head, faces in upright:
        person = max(faces, key=lambda face: face.area)
        for turn, rotations in seen:
            picture, matrix = turned(head, turn)
            points = person.landmarks @ matrix[:, :2].T + matrix[:, 2]
            found = find_faces(picture, detector, threshold=threshold, rotations=rotations)
            near = [f for f in found if np.linalg.norm(f.landmarks.mean(axis=0) - points.mean(axis=0)) < person.shorter_side / 2]
            # Every detection of the head counts: a second, wrong one makes the result wrong.
            worst = max((float(np.linalg.norm(f.landmarks - points, axis=1).mean()) for f in near), default=None)
            eyes = float(np.linalg.norm(points[0] - points[1]))
            seen[turn, rotations].append("missed" if worst is None else "right" if worst < near_enough * eyes else "wrong")
    print(f"\n{len(upright)} heads turned by so many degrees: landmarks right / wrong / head missed ({detector.name})\n")
    print("| turned by | " + " | ".join(f"{turn}" for turn in TURNS) + " |\n|---|" + "---|" * len(TURNS))
    for rotations in (False, True):
        cells = [" / ".join(str(seen[turn, rotations].count(what)) for what in ("right", "wrong", "missed")) for turn in TURNS]
        print(f"| {'with' if rotations else 'without'} rotations | " + " | ".join(cells) + " |", flush=True)


def looks(rounds: int = 9) -> None:
    """Prints the detector's own milliseconds on pictures of one shape, one at a time and batched."""
    detector = RetinaFaceMobile()
    print("\n| look at | alone, ms | eight together, ms each |\n|---|---|---|")
    for side in (192, 320, 512, 640, 1120):
        pictures = list(np.random.default_rng(0).random((8 if side < 512 else 1, side, side, 3), np.float32))
        seconds: list[list[float]] = [[], []]
        for _ in range(rounds + 1):
            for given, times in zip((pictures[:1], pictures), seconds, strict=True):
                started = time.perf_counter()
                detector.predict(given)
                times.append((time.perf_counter() - started) / len(given))
        alone, together = (statistics.median(times[1:]) * 1000 for times in seconds)
        print(f"| {side}x{side} | {alone:.1f} | {f'{together:.1f}' if len(pictures) > 1 else ''} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures faces found by threshold and size, and seconds.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--portraits", type=int, default=40)
    parser.add_argument("--no-sizes", action="store_true", help="leave out the sheets of faces of one size")
    parser.add_argument("--no-looks", action="store_true", help="leave out the milliseconds per detector run")
    parser.add_argument("--no-turned", action="store_true", help="leave out rotated heads")
    parser.add_argument("--only-turned", action="store_true", help="only rotated heads")
    parser.add_argument(
        "--yunet", action="store_true", help="rotated heads only, by YuNet, whose file is in DATA; its landmarks may be coarse"
    )
    arguments = parser.parse_args()
    if arguments.yunet:
        turned_heads(make_detector("yunet", weights_folders=[arguments.data]), arguments.data, arguments.portraits // 4, 0.85, 0.3)
        return
    detector = make_detector()
    if not arguments.no_turned:
        turned_heads(detector, arguments.data, arguments.portraits // 4, THRESHOLD, 0.1)
    if arguments.only_turned:
        return
    solvay = read_picture(arguments.data / "Solvay_conference_1927.png").pixels
    portraits = portraits_of(arguments.data, arguments.portraits)

    find_faces(solvay, detector)  # builds the network
    faces: list[Face] = []
    for closer in (True, False):
        started = time.perf_counter()
        group = find_faces(solvay, detector, threshold=THRESHOLDS[0], look_closer=closer)
        group_seconds = time.perf_counter() - started
        started = time.perf_counter()
        found = [find_faces(as_float(picture), detector, threshold=THRESHOLDS[0], look_closer=closer) for picture in portraits]
        seconds = (time.perf_counter() - started) / len(portraits)
        faces = faces or [max(several, key=lambda face: face.area) for several in found]
        empty = [find_faces(picture, detector, threshold=THRESHOLDS[0], look_closer=closer) for picture in without_faces(portraits, faces)]
        print(f"\nlooking closer: {'yes' if closer else 'no'}; Solvay {group_seconds:.2f} s, a portrait {seconds:.2f} s\n")
        print(
            f"| threshold | Solvay (29 people) | {len(portraits)} portraits: person missed | other finds | in {len(empty)} without faces |"
        )
        print("|---|---|---|---|---|")
        for threshold in THRESHOLDS:
            kept = [[face for face in several if face.score >= threshold] for several in found]
            missed = sum(not any(face.shorter_side > 100 for face in several) for several in kept)
            others = sum(sum(face.shorter_side <= 100 for face in several) for several in kept)
            wrong = sum(face.score >= threshold for several in empty for face in several)
            print(f"| {threshold} | {sum(face.score >= threshold for face in group)} | {missed} | {others} | {wrong} |", flush=True)
    if not arguments.no_sizes:
        for wide, tall in SHEETS:
            by_size(detector, portraits, faces, wide, tall)
    if not arguments.no_looks:
        looks()


if __name__ == "__main__":
    main()
