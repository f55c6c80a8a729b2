"""Showing the faces found: boxes, landmarks and positions drawn into a copy of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .face import Face

Pixels = NDArray[np.float32]

_BOX = (0.1, 0.9, 0.2)
_POINTS = ((1.0, 0.2, 0.2), (1.0, 0.2, 0.2), (1.0, 0.9, 0.1), (0.2, 0.5, 1.0), (0.2, 0.5, 1.0))  # eyes, nose, mouth
_SHIFT = 4  # OpenCV draws to 1/16 of a pixel
_FAR = 1 << 20  # corners further away than this are out of every picture and would overflow OpenCV's integers


def draw_faces(picture: Pixels, faces: Sequence[Face]) -> Pixels:
    """A copy of the picture, float32 RGB (H, W, 3) 0..1, with each face's box, five landmarks and position in `faces` (from 0).

    Lines and letters grow with the picture. Eyes are red, the nose yellow, the mouth blue; the first point of a pair is filled.
    """
    drawn = np.array(picture, np.float32, order="C")
    thick = max(1, round(max(drawn.shape[:2]) / 700))
    for index, face in enumerate(faces):
        x0, y0, x1, y1 = face.box
        cv2.rectangle(drawn, _fixed(x0, y0), _fixed(x1, y1), _BOX, thick, cv2.LINE_AA, _SHIFT)
        radius = max(0.6, face.shorter_side * 0.03)
        for number, ((x, y), colour) in enumerate(zip(face.landmarks.tolist(), _POINTS, strict=True)):
            fill = -1 if number in (0, 2, 3) else max(1, thick // 2)
            cv2.circle(drawn, _fixed(x, y), round(radius * (1 << _SHIFT)), colour, fill, cv2.LINE_AA, _SHIFT)
        size = 0.35 * thick + 0.15
        (_, tall), _ = cv2.getTextSize(str(index), cv2.FONT_HERSHEY_SIMPLEX, size, thick)
        corner = (round(float(np.clip(x0, -_FAR, _FAR))), round(float(np.clip(max(y0 - 2 * thick, tall + 1), -_FAR, _FAR))))
        cv2.putText(drawn, str(index), corner, cv2.FONT_HERSHEY_SIMPLEX, size, _BOX, thick, cv2.LINE_AA)
    return np.clip(drawn, 0.0, 1.0)


def _fixed(x: float, y: float) -> tuple[int, int]:
    px, py = (round(float(np.clip(value, -_FAR, _FAR)) * (1 << _SHIFT)) for value in (x, y))
    return px, py
