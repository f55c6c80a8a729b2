"""Selecting faces by size, order, count and number."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from ..errors import SettingsError
from .face import Face

log = logging.getLogger(__name__)


def select_faces(
    faces: Sequence[Face],
    shape: Sequence[int],
    *,
    min_size: float = 0,
    max_size: float = 0,
    max_faces: int = 0,
    order: str = "largest",
    indices: Sequence[int] = (),
    keep: Callable[[Face], bool] | None = None,
) -> list[Face]:
    """Selects the faces to restore, in the chosen order.

    shape: of the picture, (H, W, ...). Sizes are the shorter side of the detection box, in pixels of that picture; 0: no limit.
    order: "largest", "smallest", "left", "right", "top", "bottom" (box centre nearest to that side first), "centre" (nearest to the
    picture's centre first) or "confidence"; always by the detection box. Ties keep the input order.
    indices: keep only the faces with these numbers, in the order of the indices. They count from 0 in the chosen order, after the size
    limits. A number beyond the last face is skipped and logged, because the number of faces changes from frame to frame. max_faces: keep
    at most this many of the rest; 0: all. keep: asked for each face that fits the size limits; if it says no, the face does not count.
    Raises SettingsError for an unknown order or a negative number.
    """
    if order not in ORDERS:
        raise SettingsError(f"There is no face order named {order!r}. Choose one of {', '.join(ORDERS)}.")
    numbers = {"minimum size": min_size, "maximum size": max_size, "number of faces": max_faces, "face number": min(indices, default=0)}
    for name, value in numbers.items():
        if value < 0:
            raise SettingsError(f"The {name} is {value}; it must not be negative.")
    fitting = [face for face in faces if face.shorter_side >= min_size and (max_size == 0 or face.shorter_side <= max_size)]
    if keep is not None:
        fitting = [face for face in fitting if keep(face)]
    key = ORDERS[order]
    height, width = shape[0], shape[1]
    chosen = sorted(fitting, key=lambda face: key(face, height, width))
    if indices:
        wanted = list(dict.fromkeys(indices))
        missing = [index for index in wanted if index >= len(chosen)]
        if missing:
            log.info("there is no face number %s: %d found", ", ".join(map(str, missing)), len(chosen))
        chosen = [chosen[index] for index in wanted if index < len(chosen)]
    return chosen[:max_faces] if max_faces else chosen


def _from_centre(face: Face, height: int, width: int) -> float:
    x, y = face.centre
    return (x - (width - 1) / 2) ** 2 + (y - (height - 1) / 2) ** 2


ORDERS: dict[str, Callable[[Face, int, int], float]] = {
    "largest": lambda face, _height, _width: -face.area,
    "smallest": lambda face, _height, _width: face.area,
    "left": lambda face, _height, _width: face.centre[0],
    "right": lambda face, _height, _width: -face.centre[0],
    "top": lambda face, _height, _width: face.centre[1],
    "bottom": lambda face, _height, _width: -face.centre[1],
    "centre": _from_centre,
    "confidence": lambda face, _height, _width: -face.score,
}
