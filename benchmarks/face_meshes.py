"""How far the landmarks of MediaPipe's face mesh lie from the five of RetinaFace, and the boxes from each other:

    python -m benchmarks.face_meshes FOLDER

FOLDER: pictures of one face each. Needs mediapipe 0.10.14, which this project does not use otherwise. `--save FILE` writes the mesh of one
picture as JSON instead (tests/portrait_mesh.json).
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces.landmarks import face_from_landmarks
from gpen_core.pictures import read_picture

POINTS = ("left eye", "right eye", "nose", "left of the mouth", "right of the mouth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    meshes: Any = importlib.import_module("mediapipe.python.solutions.face_mesh")
    with meshes.FaceMesh(static_image_mode=True, max_num_faces=1, refine_landmarks=True) as finder:
        if arguments.save:
            points = [[round(float(x), 2), round(float(y), 2)] for x, y in mesh_of(finder, pixels(arguments.path))]
            made = f"the 478 points that MediaPipe finds in {arguments.path.name}, in pixels"
            arguments.save.write_text(json.dumps({"made": made, "points": points}, separators=(",", ":")) + "\n", encoding="utf-8")
        else:
            compare(finder, sorted(arguments.path.rglob("*")))


def pixels(path: Path) -> Any:
    return np.rint(read_picture(path).pixels[..., :3] * 255).astype(np.uint8)


def mesh_of(finder: Any, picture: Any) -> Any:
    """(478, 2) in pixels, or None."""
    found = finder.process(picture).multi_face_landmarks
    if not found:
        return None
    return np.array([(p.x, p.y) for p in found[0].landmark]) * np.array([picture.shape[1], picture.shape[0]]) - 0.5


def compare(finder: Any, paths: list[Path]) -> None:
    restorer = FaceRestorer(RestoreOptions(device="cpu"))
    moved: list[Any] = []
    boxes: list[Any] = []
    for path in (path for path in paths if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp")):
        picture = pixels(path)
        mesh, faces = mesh_of(finder, picture), restorer.detect(picture)
        if mesh is None or len(faces) != 1:
            continue
        face, between = face_from_landmarks(mesh), np.linalg.norm(faces[0].landmarks[1] - faces[0].landmarks[0])
        moved.append((face.landmarks - faces[0].landmarks) / between)
        boxes.append((np.array(face.box) - np.array(faces[0].box)) / between)
    print(f"{len(moved)} faces; in distances between the eyes:")
    for number, name in enumerate(POINTS):
        apart = np.linalg.norm(np.array(moved)[:, number], axis=1)
        print(f"{name:20} median {np.median(apart):.3f}, 95 % within {np.percentile(apart, 95):.3f}")
    print("box (left, top, right, bottom): mean " + ", ".join(f"{value:+.3f}" for value in np.mean(boxes, axis=0)))


if __name__ == "__main__":
    main()
