"""Which of the faces found are meant."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from ..errors import SettingsError
from .face import Face

log = logging.getLogger(__name__)

ORDERS = ("largest", "left", "right", "top", "bottom", "centre", "confidence")
_MOST_INDEX = 9999


def parse_indices(text: str) -> tuple[int, ...]:
    """Positions from a text such as "0,2,4-6", each once, in the order named; () for an empty one. Raises SettingsError."""
    indices: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        if not part and not text.strip(" ,"):
            continue
        match = re.fullmatch(r"(\d{1,4})(?:\s*-\s*(\d{1,4}))?", part)
        if not match:
            raise SettingsError(f"faces is a list of positions counted from 0, such as 0,2,4-6; {text!r} is not")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise SettingsError(f"faces counts upwards; {part!r} does not (write {last}-{first})")
        indices += [n for n in range(first, last + 1) if n not in indices and n <= _MOST_INDEX]
    return tuple(indices)


def select_faces(
    faces: Sequence[Face],
    shape: Sequence[int],
    *,
    min_size: float = 0,
    max_size: float = 0,
    max_faces: int = 0,
    order: str = "largest",
    indices: Sequence[int] = (),
) -> list[Face]:
    """The faces meant, in their order.

    shape: (height, width, ...) of the picture. min_size, max_size: bounds on the box's shorter side in pixels (max_size 0: none).
    order: by the detection box; equals by confidence, then from top to bottom and left to right, so that the order never changes.
    indices: positions in that order, from 0, counted after the sizes were looked at; one beyond the last face is passed over with
    a log line, as the frames of a video do not all show every face. max_faces: then at most so many (0: all).
    Raises SettingsError for an unknown order.
    """
    keys = _keys(shape)
    if order not in keys:
        raise SettingsError(f"order is one of {', '.join(ORDERS)}; {order!r} is not")
    key = keys[order]
    fitting = [face for face in faces if face.shorter_side >= min_size and (max_size <= 0 or face.shorter_side <= max_size)]
    ranked = sorted(fitting, key=lambda face: (key(face), -face.score, face.box[1], face.box[0]))
    if indices:
        missing = [n for n in indices if not 0 <= n < len(ranked)]
        if missing:
            log.info("face %s asked for, but there are %d", ", ".join(str(n) for n in missing), len(ranked))
        ranked = [ranked[n] for n in indices if 0 <= n < len(ranked)]
    return ranked[:max_faces] if max_faces > 0 else ranked


def _keys(shape: Sequence[int]) -> dict[str, Callable[[Face], float]]:
    middle_x, middle_y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    return {
        "largest": lambda face: -face.area,
        "left": lambda face: face.centre[0],
        "right": lambda face: -face.centre[0],
        "top": lambda face: face.centre[1],
        "bottom": lambda face: -face.centre[1],
        "centre": lambda face: (face.centre[0] - middle_x) ** 2 + (face.centre[1] - middle_y) ** 2,
        "confidence": lambda face: -face.score,
    }
