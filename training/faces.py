"""Training faces: FFHQ-aligned pictures in zip files or folders, decoded once into one array on disk.

Faces are kept out of training by person (the file's stem), not by picture, so that nobody is in both sets.
`python -m training.faces DATA --list` prints the list in splits/held_out.txt.
"""

from __future__ import annotations

import argparse
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

SUFFIXES = {".webp", ".png", ".jpg", ".jpeg"}
HELD_OUT_ONE_IN = 20

# The box (x0, y0, x1, y1 at size 256) with a watermark in every picture of a data set; every loss ignores it.
WATERMARKS = {"faces-artflow": (174, 230, 256, 256)}


@dataclass(frozen=True)
class FaceFile:
    """One picture: its location, and whether it is kept out of training."""

    source: Path
    member: str

    @property
    def person(self) -> str:
        return Path(self.member).stem

    @property
    def label(self) -> str:
        return f"{self.source.stem}/{self.member}"

    @property
    def held_out(self) -> bool:
        return zlib.crc32(self.person.encode("utf-8")) % HELD_OUT_ONE_IN == 0

    @property
    def watermark(self) -> tuple[int, int, int, int] | None:
        return next((box for name, box in WATERMARKS.items() if self.source.stem.startswith(name)), None)

    def read(self, size: int) -> NDArray[Any]:
        """Reads the face as (size, size, 3) uint8 RGB."""
        if self.source.is_dir():
            data = (self.source / self.member).read_bytes()
        else:
            with zipfile.ZipFile(self.source) as archive:
                data = archive.read(self.member)
        return decode(data, size)


def unpacked(data: bytes | NDArray[Any]) -> NDArray[np.uint8]:
    """Decodes a picture file to (H, W, 3) uint8 RGB. Raises ValueError."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("not a picture")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def decode(data: bytes, size: int) -> NDArray[Any]:
    """Decodes a picture file to (size, size, 3) uint8 RGB; a larger one is shrunk by area averaging."""
    picture = unpacked(data)
    if picture.shape[:2] == (size, size):
        return picture
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA if picture.shape[0] > size else cv2.INTER_CUBIC)


def list_faces(data: Path) -> list[FaceFile]:
    """All FFHQ-aligned pictures in a folder's zip files (faces-*.zip) or in the folder itself, sorted."""
    faces: list[FaceFile] = []
    for archive_path in sorted(data.glob("faces-*.zip")):
        with zipfile.ZipFile(archive_path) as archive:
            members = sorted(name for name in archive.namelist() if Path(name).suffix.lower() in SUFFIXES)
        faces += [FaceFile(archive_path, member) for member in members]
    members = sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not faces:
        faces = [FaceFile(data, member) for member in members]
    if not faces:
        raise SystemExit(f"no faces in {data}: put zip files named faces-*.zip or pictures there")
    return faces


def _all_pixels(faces: list[FaceFile], size: int) -> Iterator[NDArray[Any]]:
    archives: dict[Path, zipfile.ZipFile] = {}
    try:
        for face in faces:
            if face.source.is_dir():
                yield face.read(size)
                continue
            if face.source not in archives:
                archives[face.source] = zipfile.ZipFile(face.source)
            yield decode(archives[face.source].read(face.member), size)
    finally:
        for archive in archives.values():
            archive.close()


def decoded(faces: list[FaceFile], size: int, cache: Path) -> NDArray[Any]:
    """All faces as (N, size, size, 3) uint8, memory-mapped from `cache`, which is created on first use."""
    key = zlib.crc32("\n".join(face.label for face in faces).encode("utf-8"))
    path = cache / f"faces-{size}-{len(faces)}-{key:08x}.npy"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(faces), size, size, 3))
        for n, pixels in enumerate(tqdm(_all_pixels(faces, size), total=len(faces), desc="reading faces", disable=None)):
            array[n] = pixels
        array.flush()
        del array
        part.replace(path)
    return np.load(path, mmap_mode="r")


def main() -> None:
    parser = argparse.ArgumentParser(description="Lists the faces kept out of training.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--list", action="store_true", help="print the labels of the faces kept out")
    arguments = parser.parse_args()
    faces = list_faces(arguments.data)
    held_out = [face for face in faces if face.held_out]
    if arguments.list:
        print("\n".join(face.label for face in held_out))
    else:
        print(f"{len(faces)} faces, {len(held_out)} of them kept out of training")


if __name__ == "__main__":
    main()
