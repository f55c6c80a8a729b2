"""Showing the faces found: boxes, landmarks and positions drawn into a copy of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .face import Face

Pixels = NDArray[np.float32]

# Colours with their coverage: RGBA, 8 bit.
_BOX = (25, 230, 50, 255)
_EYE, _NOSE, _MOUTH = (255, 50, 50, 255), (255, 230, 25, 255), (50, 130, 255, 255)
_POINTS = (_EYE, _EYE, _NOSE, _MOUTH, _MOUTH)
_SHIFT = 4  # OpenCV draws to 1/16 of a pixel
_FAR = 1 << 20  # corners further away than this are out of every picture and would overflow OpenCV's integers


def draw_faces(picture: Pixels, faces: Sequence[Face]) -> Pixels:
    """A copy of the picture, float32 RGB (H, W, 3) 0..1, with each face's box, five landmarks and position in `faces` (from 0).

    Lines and letters grow with the picture. Eyes are red, the nose yellow, the mouth blue. Pixels without ink keep their values.
    """
    height, width = picture.shape[:2]
    # OpenCV 5 writes letters into 8 bits only: the ink is drawn on a transparent sheet, where antialiasing mixes colour and coverage alike.
    ink = np.zeros((height, width, 4), np.uint8)
    thick = max(1, round(max(height, width) / 700))
    for index, face in enumerate(faces):
        x0, y0, x1, y1 = face.box
        cv2.rectangle(ink, _fixed(x0, y0), _fixed(x1, y1), _BOX, thick, cv2.LINE_AA, _SHIFT)
        radius = round(max(0.6, face.shorter_side * 0.03) * (1 << _SHIFT))
        for (x, y), colour in zip(face.landmarks.tolist(), _POINTS, strict=True):
            cv2.circle(ink, _fixed(x, y), min(radius, _FAR), colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
        size = 0.35 * thick + 0.15
        tall = cv2.getTextSize(str(index), cv2.FONT_HERSHEY_SIMPLEX, size, thick)[0][1]
        corner = (_whole(x0), _whole(max(y0 - 2 * thick, tall + 1)))
        cv2.putText(ink, str(index), corner, cv2.FONT_HERSHEY_SIMPLEX, size, _BOX, thick, cv2.LINE_AA)
    drawn = np.array(picture, np.float32)
    wet = ink[:, :, 3] > 0
    inked = ink[wet].astype(np.float32) / 255
    drawn[wet] = np.clip(drawn[wet] * (1 - inked[:, 3:]) + inked[:, :3], 0, 1)
    return drawn


def _whole(value: float) -> int:
    return round(float(np.clip(value, -_FAR, _FAR)))


def _fixed(x: float, y: float) -> tuple[int, int]:
    return round(float(np.clip(x, -_FAR, _FAR)) * (1 << _SHIFT)), round(float(np.clip(y, -_FAR, _FAR)) * (1 << _SHIFT))
