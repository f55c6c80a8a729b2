"""Small pictures of faces for reports: one crop, a pair, and a contact sheet of many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import GpenError
from ..pictures import Picture, read_picture
from ..pixels import Pixels
from .sheet import eight_bits

_AROUND = 0.35  # of the face's longer side
COLUMNS = 20


def crop(picture: Picture, box: Sequence[float], side: int, scale: float = 1.0) -> Pixels:
    """A square of `side` pixels around a box. scale: the picture's size relative to the one that the box is in."""
    x0, y0, x1, y1 = (value * scale for value in box)
    half = max(1.0, max(x1 - x0, y1 - y0) * (0.5 + _AROUND))
    factor = side / (2 * half)
    middle = ((x0 + x1) / 2, (y0 + y1) / 2)
    top, left = max(0, int(middle[1] - half)), max(0, int(middle[0] - half))
    part = np.ascontiguousarray(picture.pixels[top : int(middle[1] + half) + 2, left : int(middle[0] + half) + 2])
    if not part.size:  # a box outside the picture, such as one from a damaged record
        return np.ones((side, side, 3), np.float32)
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    small = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), np.float32)
    whole = np.ones((side, side, 3), np.float32)
    down, right = max(0, round((top - (middle[1] - half)) * factor)), max(0, round((left - (middle[0] - half)) * factor))
    fitting = small[: max(0, side - down), : max(0, side - right)]
    whole[down : down + fitting.shape[0], right : right + fitting.shape[1]] = fitting
    return whole


def pair(record: dict[str, Any], side: int) -> Picture | None:
    """The largest face of a picture before and after; None if a file is not there any more."""
    try:
        before, after = read_picture(record["input"]), read_picture(record["output"])
    except GpenError:
        return None
    box = max((face["box"] for face in record["faces"]), key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    return eight_bits(np.concatenate([crop(before, box, side), crop(after, box, side, record["scale"] or 1.0)], axis=1))


def contact_sheet(faces: Iterable[tuple[dict[str, Any], int]], side: int) -> Picture | None:
    """Faces in rows; one picture is in memory at a time. None if there are none (any more)."""
    found: list[Pixels] = []
    path, picture = "", None
    for record, number in faces:
        if record["input"] != path:
            path, picture = record["input"], _read(record["input"])
        if picture is not None:
            found.append(crop(picture, record["faces"][number]["box"], side))
    if not found:
        return None
    columns = min(COLUMNS, len(found))
    rows = -(-len(found) // columns)
    sheet = np.ones((rows * side, columns * side, 3), np.float32)
    for number, face in enumerate(found):
        top, left = number // columns * side, number % columns * side
        sheet[top : top + side, left : left + side] = face
    return eight_bits(sheet)


def _read(path: str | Path) -> Picture | None:
    try:
        return read_picture(path)
    except GpenError:
        return None
