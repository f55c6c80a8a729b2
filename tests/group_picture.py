"""A picture of 29 people that needs no other files: the example portrait's head in many sizes, angles, lights and degradations."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_core.pictures import read_picture

Pixels = NDArray[np.float32]
PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
CENTRE = np.array([140.0, 74.0], np.float32)  # of the portrait's face
LANDMARKS = np.array([[127.1, 62.0], [153.9, 64.2], [138.9, 79.8], [125.6, 86.2], [151.7, 88.2]], np.float32)
MIRRORED = [1, 0, 2, 4, 3]  # eyes and corners of the mouth change sides
WIDTH, HEIGHT, COLUMNS, ROWS = 132, 189, 10, 3
PEOPLE = COLUMNS * ROWS - 1  # one place stays empty


class Group(NamedTuple):
    """The picture and the true landmarks of its faces."""

    pixels: Pixels
    landmarks: list[Pixels]


@cache
def composed() -> Group:
    """The same picture at every call: 1320x567, faces of 31 to 52 pixels, one in the centre of each cell but the last."""
    portrait, dice = read_picture(PORTRAIT).pixels, np.random.default_rng(1927)
    whole = np.full((ROWS * HEIGHT, COLUMNS * WIDTH, 3), 0.45, np.float32)
    landmarks = []
    for place in range(PEOPLE):
        top, left = place // COLUMNS * HEIGHT, place % COLUMNS * WIDTH
        head, points = person(portrait, dice, mirrored=place % 2 == 1)
        whole[top : top + HEIGHT, left : left + WIDTH] = head
        landmarks.append(points + np.array([left, top], np.float32))
    return Group(whole, landmarks)


def person(portrait: Pixels, dice: np.random.Generator, mirrored: bool) -> tuple[Pixels, Pixels]:
    """One cell of the picture with a head in its centre, and the head's landmarks."""
    scale, degrees = dice.uniform(0.55, 0.9), dice.uniform(-12, 12)
    matrix = cv2.getRotationMatrix2D(CENTRE.tolist(), degrees, scale).astype(np.float32)
    matrix[:, 2] += np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2]) - CENTRE
    points = LANDMARKS @ matrix[:, :2].T + matrix[:, 2]
    head = cv2.warpAffine(portrait, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if mirrored:
        head, points = head[:, ::-1], (points * [-1, 1] + [WIDTH - 1, 0])[MIRRORED]
    head = np.clip(head, 0, 1) ** dice.uniform(0.7, 1.5)  # the light
    head = cv2.GaussianBlur(head, (0, 0), dice.uniform(0.3, 0.8)) + dice.normal(0, dice.uniform(0, 0.02), head.shape)
    if dice.random() < 0.5:  # an old photograph
        head = np.repeat(head.mean(2, keepdims=True), 3, 2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot((x - (WIDTH - 1) / 2) / WIDTH, (y - (HEIGHT - 1) / 2) / HEIGHT) * 2  # 1 in the middle of each side
    seen = np.clip((1 - away) / 0.2, 0, 1)[..., None]
    return np.clip(head * seen + 0.45 * (1 - seen), 0, 1).astype(np.float32), points.astype(np.float32)
