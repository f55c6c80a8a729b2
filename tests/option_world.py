"""Drawn faces, and stand-ins for everything with weights, so that every setting shows in the picture within milliseconds.

A face is drawn as a green half above a blue one. `Marks` finds such faces, upright ones from 20 pixels on; `Standin` paints them over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

LITE, OWN = "GPEN-BFR-256-lite", "own.safetensors"
EMBEDDED = Path(__file__).resolve().parents[1] / "gpen_core" / "weights" / "embedded" / f"{LITE}.safetensors"
GREY = 0.5
RED, BLUE, PINK, WHITE, YELLOW = (0.9, 0.1, 0.2), (0.1, 0.2, 0.9), (0.9, 0.5, 0.7), (1.0, 1.0, 1.0), (0.9, 0.9, 0.1)
# ArcFace's points in GPEN's square, rounded: eyes, nose, corners of the mouth, as shares of its side.
POINTS = np.array([[0.395, 0.474], [0.604, 0.473], [0.5, 0.594], [0.414, 0.716], [0.588, 0.716]])


@dataclass(frozen=True)
class Drawn:
    """A drawn face. centre: (x, y); side: of the network's square in pixels of the picture; the face's box is half as wide.

    score: from the detector; other: from the detector yunet. turned: quarter turns.
    """

    name: str
    centre: tuple[int, int]
    side: int = 64
    score: float = 0.95
    other: float = 0.5
    turned: int = 0


@dataclass(frozen=True, eq=False)
class Scene:
    """A drawing. pixels: (H, W, 3) uint8. faces: the faces in it."""

    pixels: np.ndarray
    faces: Sequence[Drawn] = ()

    def painted(self, image: np.ndarray) -> set[str]:
        """The faces that are no longer green and blue. image: float, possibly of another size."""
        scale = image.shape[0] / self.pixels.shape[0]
        before = self.pixels.astype(np.float32) / 255
        changed = set()
        for face in self.faces:
            x, y = face.centre
            there = image[round((y + 0.5) * scale - 0.5), round((x + 0.5) * scale - 0.5)]
            if np.abs(there - before[y, x]).max() > 0.1:
                changed.add(face.name)
        return changed


def draw(shape: tuple[int, int], *faces: Drawn, stripes: int = 0) -> Scene:
    """Draws faces on grey. shape: (height, width). stripes: alternating lighter and darker rows in the middle of each face."""
    pixels = np.full((*shape, 3), GREY, np.float32)
    for face in faces:
        wide, half = round(0.5 * face.side), round(0.325 * face.side)
        tile = np.empty((2 * half, wide, 3), np.float32)
        tile[:half] = (1 - face.score, 0.8, 0.1)
        tile[half:] = (1 - face.other, 0.1, 0.8)
        for row in range(half - stripes, half + stripes):
            tile[row, wide // 3 : wide - wide // 3] += 0.1 if row // 2 % 2 else -0.1
        tile = np.rot90(tile, face.turned)
        x, y = face.centre[0] - tile.shape[1] // 2, face.centre[1] - tile.shape[0] // 2
        pixels[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    return Scene(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8), faces)


class Marks:
    """A detector for drawn faces. retinaface-mobile reads a face's score from its upper half, yunet from its lower half; the third
    takes the higher of the two."""

    smallest = 20

    def __init__(self, name: str, face: Callable[..., Any]) -> None:
        self.name, self._face = name, face

    def detect(self, picture: np.ndarray, threshold: float) -> list[Any]:
        red, green, blue = (picture[..., channel] for channel in range(3))
        upper, lower = (green > 0.6) & (blue < 0.3), (blue > 0.6) & (green < 0.3)
        found = []
        _, halves, below, _ = cv2.connectedComponentsWithStats(lower.astype(np.uint8))
        for x, y, wide, tall, _ in cv2.connectedComponentsWithStats(upper.astype(np.uint8))[2][1:]:
            row, column = int(y + 1.5 * tall), int(x + wide // 2)
            if row >= picture.shape[0] or not halves[row, column] or wide < tall:
                continue
            bottom = below[halves[row, column]][1] + below[halves[row, column]][3]
            if min(wide, bottom - y) < self.smallest:
                continue
            scores = [1 - float(red[int(y + tall // 2), column]), 1 - float(red[row, column])]
            score = scores[0] if self.name == "retinaface-mobile" else scores[1] if self.name == "yunet" else max(scores)
            if score >= threshold:
                box = (float(x) - 0.5, float(y) - 0.5, float(x + wide) - 0.5, float(bottom) - 0.5)
                # The box is the middle half of the square in width and 65 % of it in height, from 20 % on.
                square, top = (bottom - y) / 0.65, box[1] - 0.2 * (bottom - y) / 0.65
                middle = (box[0] + box[2]) / 2
                points = (POINTS - (0.5, 0)) * square + (middle, top)
                found.append(self._face(box, points.astype(np.float32), score))
        return sorted(found, key=lambda face: -face.score)


class Standin(torch.nn.Module):
    """A network that paints. paint: (input (N, 3, S, S) 0..1, colour) -> output, 0..1.

    Its colour shows how it was loaded: from which file, in which precision, onto which device.
    """

    def __init__(self, size: int, paint: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], file: str, where: Any) -> None:
        super().__init__()
        self.size, self.paint, self.file, self.where = size, paint, file, torch.device(where)
        self.one = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def to(self, *where: Any, **more: Any) -> Any:
        if where and isinstance(where[0], (str, torch.device)):
            self.where = torch.device(where[0])
        return super().to(*where, **more)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        number = {torch.bfloat16: BLUE, torch.float16: PINK}.get(self.one.dtype, RED)
        colour = WHITE if self.file == OWN else YELLOW if self.where.index == 0 else number
        given = x.float() * 0.5 + 0.5
        return (self.paint(given, torch.tensor(colour).view(1, 3, 1, 1)) * 2 - 1).to(x.dtype) * self.one


def flat(x: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Paints one colour."""
    return colour.expand(x.shape)


def striped(x: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Paints fine stripes on a different grey."""
    rows = (torch.arange(x.shape[2]) // 2 % 2 * 0.16 - 0.08).view(1, 1, -1, 1)
    return (0.45 + rows).expand(x.shape)


def tinted(x: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Returns its input with another tint."""
    return x + torch.tensor([0.12, -0.1, 0.1]).view(1, 3, 1, 1)


def smeared(x: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Gives its input another tint, and paints over a part of it below the middle, on both sides."""
    y, side = tinted(x, colour).clone(), x.shape[3]
    for left in (0.32, 0.6):
        y[..., int(0.55 * side) : int(0.68 * side), int(left * side) : int((left + 0.1) * side)] = colour
    return y


def half_lost(x: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Returns its input with another tint, but paints one colour over a face whose lower half has red in it (Drawn.other below 0.7)."""
    lost = (x[:, :1, 5 * x.shape[2] // 8, x.shape[3] // 2, None, None] > 0.3).to(x.dtype)
    return lost * flat(x, colour) + (1 - lost) * tinted(x, colour)


def same(x: torch.Tensor, colour: torch.Tensor) -> torch.Tensor:
    """Returns its input."""
    return x


class World:
    """Replaces everything that is loaded by the stand-ins. package: the core's import name.

    size, paint: of the network loaded next. doors: names of modules that import load_network or make_detector themselves.
    """

    def __init__(self, monkeypatch: Any, package: str = "gpen_core", doors: Sequence[str] = ()) -> None:
        self.size, self.paint = 64, flat
        face = import_module(f"{package}.faces.face").Face

        def load_network(path: Any, device: Any = "cpu", dtype: Any = None, **_: Any) -> Standin:
            return Standin(self.size, self.paint, Path(path).name, device).to(dtype=dtype or torch.float32)

        def make_detector(name: str, **_: Any) -> Marks:
            return Marks(name, face)

        def left_half(_face: np.ndarray) -> np.ndarray:
            """A ParseNet that sees a face only on the left: skin above hair."""
            classes = np.zeros((512, 512), np.uint8)
            classes[:256, :256], classes[256:, :256] = 1, 13
            return classes

        def upper_half(crop: np.ndarray) -> np.ndarray:
            """An XSeg that sees the face only above the middle."""
            return np.repeat(np.float32([[1], [0]]), 128, axis=0).repeat(256, axis=1)

        def by_the_red(face: np.ndarray) -> np.ndarray:
            """A recogniser that tells faces by how much red is in their upper half: half of it is an angle of 180 degrees."""
            red = 0.5 + 0.5 * face[0, 0, 20:40, 40:72].mean()
            return np.float32([np.cos(2 * np.pi * red), np.sin(2 * np.pi * red)])

        def black(picture: np.ndarray) -> np.ndarray:
            return np.zeros((2 * picture.shape[0], 2 * picture.shape[1], 3), np.float32)

        replaced = {
            "load_network": load_network,
            "make_detector": make_detector,
            "load_recogniser": lambda *_: by_the_red,
            "load_parsenet": lambda *_, **__: left_half,
            "need_parsing_package": lambda: None,
            "load_xseg": lambda *_: upper_half,
            "load_realesrgan": lambda *_, **__: black,
            "need_realesrgan_package": lambda: None,
            "computes_bf16": lambda: False,
            "computes_fp16": lambda: True,  # the stand-ins do, also with torch 2.0
        }
        core = (
            "network.load",
            "restore.restorer",
            "faces.detect",
            "steps.mask",
            "steps.occlusion",
            "steps.background",
            "steps.recognise",
            "runtime",
        )
        for module in map(import_module, (*(f"{package}.{name}" for name in core), *doors)):
            for name, value in replaced.items():
                if hasattr(module, name):
                    monkeypatch.setattr(module, name, value)


def with_files(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with the drawing of a person, if any, as the path of a file."""
    person = settings.get("person")
    if not isinstance(person, Scene):
        return dict(settings)
    cv2.imwrite(str(folder / "person.bmp"), person.pixels[..., ::-1])
    return {**settings, "person": str(folder / "person.bmp")}


def own_model(models: Path) -> None:
    """Adds a second weight file to the models, so that there is a choice."""
    (models / "GPEN").mkdir(parents=True, exist_ok=True)
    (models / "GPEN" / OWN).write_bytes(EMBEDDED.read_bytes())
