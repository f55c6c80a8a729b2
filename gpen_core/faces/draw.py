"""Faces drawn on a picture: boxes, landmarks, positions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .face import Face

Pixels = NDArray[np.float32]

_COLOUR = (0.15, 0.95, 0.35)
_SHADOW = (0.0, 0.0, 0.0)


def draw_faces(picture: Pixels, faces: Sequence[Face]) -> Pixels:
    """A copy of the picture with every face's box, landmarks and position in the list.

    picture: float32 RGB (H, W, 3), 0..1. Lines grow with the picture, numbers with the face.
    """
    drawn = np.ascontiguousarray(picture).copy()
    line = max(1, round(max(drawn.shape[:2]) / 700))
    for index, face in enumerate(faces):
        x0, y0, x1, y1 = (round(v) for v in face.box)
        cv2.rectangle(drawn, (x0, y0), (x1, y1), _COLOUR, line, cv2.LINE_AA)
        for x, y in face.landmarks:
            cv2.circle(drawn, (round(float(x)), round(float(y))), line, _COLOUR, -1, cv2.LINE_AA)
        size = float(np.clip(face.shorter_side / 110, 0.35, 2.0 * line))
        baseline = (x0, y0 - 2 * line if y0 > 24 * size else y1 + round(22 * size) + 2 * line)
        stroke = max(line, round(2 * size))
        for colour, width in ((_SHADOW, stroke + 2 * line), (_COLOUR, stroke)):
            cv2.putText(drawn, str(index), baseline, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
    return drawn
