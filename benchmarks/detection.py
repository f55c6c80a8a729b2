"""How many faces are found, at which threshold, how fast.

    python -m benchmarks.detection DATA [--portraits 40]

DATA: a folder with Solvay_conference_1927.png (29 people) and portraits-cc0-512.zip (one person each, seldom somebody behind).
"""

from __future__ import annotations

import argparse
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np

from gpen_core.faces import find_faces, make_detector
from gpen_core.picture import read_picture

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def main() -> None:
    parser = argparse.ArgumentParser(description="Faces found, by threshold, and seconds.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--portraits", type=int, default=40)
    arguments = parser.parse_args()
    detector = make_detector()
    solvay = read_picture(arguments.data / "Solvay_conference_1927.png").pixels
    with zipfile.ZipFile(arguments.data / "portraits-cc0-512.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".webp"))
        files = [archive.read(name) for name in names[:: max(1, len(names) // arguments.portraits)][: arguments.portraits]]
    portraits = [cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255 for f in files]

    find_faces(solvay, detector)  # builds the networks
    for closer in (True, False):
        started = time.perf_counter()
        group = find_faces(solvay, detector, threshold=THRESHOLDS[0], look_closer=closer)
        group_seconds = time.perf_counter() - started
        started = time.perf_counter()
        found = [find_faces(picture, detector, threshold=THRESHOLDS[0], look_closer=closer) for picture in portraits]
        seconds = (time.perf_counter() - started) / len(portraits)
        print(f"\nlooking closer: {'yes' if closer else 'no'}; Solvay {group_seconds:.2f} s, a portrait {seconds:.2f} s\n")
        print(f"| threshold | Solvay (29 people) | {len(portraits)} portraits: person missed | other finds |\n|---|---|---|---|")
        for threshold in THRESHOLDS:
            kept = [[face for face in faces if face.score >= threshold] for faces in found]
            missed = sum(not any(face.shorter_side > 100 for face in faces) for faces in kept)
            others = sum(sum(face.shorter_side <= 100 for face in faces) for faces in kept)
            print(f"| {threshold} | {sum(face.score >= threshold for face in group)} | {missed} | {others} |")


if __name__ == "__main__":
    main()
