"""Drawing detected faces into a copy of the picture: boxes, landmarks, numbers, scores and sizes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..pixels import Pixels
from .face import Face

# Colours with their coverage: RGBA, 8 bit.
_BOX, _OUTLINE = (25, 230, 50, 255), (0, 0, 0, 255)
_EYE, _NOSE, _MOUTH = (255, 50, 50, 255), (255, 230, 25, 255), (50, 130, 255, 255)
_POINTS = (_EYE, _EYE, _NOSE, _MOUTH, _MOUTH)
_SHIFT = 4  # OpenCV draws to 1/16 of a pixel
_FAR = 1 << 20  # corners further away are outside every picture and would overflow OpenCV's integers
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LETTER = 21.0  # height of its capitals at size 1, in pixels
# Letters are a third of the face high, so that labels do not cover a crowd, within these shares of the picture's longer side: readable
# if a page shows it 500 pixels wide.
_SMALLEST, _LARGEST = 1 / 60, 1 / 22
_DETAILS = 0.6  # height of the score and size, as a share of the number's
_LEAST = 7.0  # pixels: smaller letters cannot be read


def draw_faces(picture: Pixels, faces: Sequence[Face], numbers: Sequence[int] | None = None) -> Pixels:
    """A copy of the picture, float32 RGB (H, W, 3) 0..1, with each face's box, five landmarks, number, score and size.

    numbers: the faces' numbers in the full order; None: their positions in `faces`, from 0. The size is the box's shorter side in pixels,
    as in the settings for minimum and maximum face size. Lines and letters grow with the picture and have a dark edge, so that they show
    on any background. Eyes are red, the nose yellow, the mouth blue. Other pixels keep their values.
    """
    height, width = picture.shape[:2]
    # OpenCV 5 writes letters only into 8 bits, so draw on a transparent sheet, where antialiasing mixes colour and coverage alike.
    ink = np.zeros((height, width, 4), np.uint8)
    longest = max(height, width)
    thick = max(1, round(longest / 700))
    for face in faces:
        x0, y0, x1, y1 = face.box
        for colour, wide in ((_OUTLINE, thick + 2), (_BOX, thick)):
            cv2.rectangle(ink, _fixed(x0, y0), _fixed(x1, y1), colour, wide, cv2.LINE_AA, _SHIFT)
        radius = round(max(0.6, face.shorter_side * 0.03) * (1 << _SHIFT))
        for (x, y), colour in zip(face.landmarks.tolist(), _POINTS, strict=True):
            cv2.circle(ink, _fixed(x, y), min(radius, _FAR), colour, cv2.FILLED, cv2.LINE_AA, _SHIFT)
    # Labels come last, numbers last of all, so that nothing crosses them.
    heights = [max(_LEAST, float(np.clip(face.shorter_side / 3, _SMALLEST * longest, _LARGEST * longest))) for face in faces]
    for face, tall in zip(faces, heights, strict=True):
        small = max(_LEAST, tall * _DETAILS)
        _write(ink, f"{face.score:.2f}  {min(face.shorter_side, _FAR):.0f} px", face.box[0], face.box[3] + small * 1.5, small)
    for face, tall, number in zip(faces, heights, range(len(faces)) if numbers is None else numbers, strict=True):
        _write(ink, str(number), face.box[0], face.box[1] - tall * 0.4, tall)
    drawn = np.array(picture, np.float32)
    wet = ink[:, :, 3] > 0
    inked = ink[wet].astype(np.float32) / 255
    drawn[wet] = np.clip(drawn[wet] * (1 - inked[:, 3:]) + inked[:, :3], 0, 1)
    return drawn


def _write(ink: NDArray[np.uint8], text: str, left: float, base: float, tall: float) -> None:
    """Writes outlined text, its letters `tall` pixels high and standing on `base`, moved fully into the picture if necessary."""
    height, width = ink.shape[:2]
    size, thick, edge = tall / _LETTER, max(1, round(tall / 9)), max(1, round(tall / 11))
    (wide, high), below = cv2.getTextSize(text, _FONT, size, thick)
    wide, high, below = wide + 2 * edge, high + 2 * edge, below + 2 * edge
    letters = np.zeros((high + below, wide), np.uint8)
    cv2.putText(letters, text, (edge, high - edge), _FONT, size, 255, thick, cv2.LINE_AA)
    # Grow the letters for the edge instead of using a thicker line, which OpenCV 5 also makes wider.
    outline = cv2.dilate(letters, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * edge + 1, 2 * edge + 1)))
    x = max(0, min(_whole(left), width - wide))
    y = max(0, min(_whole(base) + edge - high, height - high - below))
    part = ink[y : y + high + below, x : x + wide]
    mixed = part.astype(np.float32)
    for cover, colour in ((outline, _OUTLINE), (letters, _BOX)):
        share = cover[: part.shape[0], : part.shape[1], None].astype(np.float32) / 255
        mixed += (np.array(colour, np.float32) - mixed) * share
    part[:] = np.rint(mixed).astype(np.uint8)


def _whole(value: float) -> int:
    return round(float(np.clip(value, -_FAR, _FAR)))


def _fixed(x: float, y: float) -> tuple[int, int]:
    return round(float(np.clip(x, -_FAR, _FAR)) * (1 << _SHIFT)), round(float(np.clip(y, -_FAR, _FAR)) * (1 << _SHIFT))
