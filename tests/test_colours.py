"""The included weights keep a face's colours: no channel's mean moves by more than one grey level outside highlights (docs/quality.md)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_restorer import Finder, face_at, noise

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.pictures import read_picture
from gpen_core.steps.align import similarity, template_points
from gpen_core.steps.mask import clip_to_picture

Pixels = NDArray[np.float32]
PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
HIGHLIGHT = 250 / 255  # in the picture averaged over 2 pixels, or noise would choose which pixels count


def examples() -> Iterator[Pixels]:
    yield read_picture(PORTRAIT).pixels


def people(folder: Path) -> Iterator[Pixels]:
    with zipfile.ZipFile(folder / "portraits-cc0-512.zip") as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".webp"))[::80]:
            bgr = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            yield bgr[..., ::-1].astype(np.float32) / 255


def states(picture: Pixels, side: float) -> Iterator[tuple[str, Pixels]]:
    """The picture sharp, blurred, noisy, and under other lamps. side: of the face, in pixels."""
    noise = np.random.default_rng(1).normal(0, 12 / 255, picture.shape)
    yield "sharp", picture
    yield "blurred", cv2.GaussianBlur(picture, (0, 0), side / 128)
    yield "noisy", (np.round(np.clip(picture + noise, 0, 1) * 255) / 255).astype(np.float32)
    yield "warm", picture * np.array([1, 0.87, 0.7], np.float32)
    yield "dark", picture * np.float32(0.5)


@pytest.mark.parametrize("options", [{}, {"colour_match": True}, {"fidelity": 1.0}], ids=["as it comes", "Match colours", "Fidelity"])
@pytest.mark.parametrize("source", ["the example", "AI-made"])
def test_no_colour_moves_by_a_level(source: str, options: dict[str, object], request: pytest.FixtureRequest) -> None:
    values = {"model": "GPEN-BFR-256-lite", "auto_strength": "off", "device": "cpu", **options}
    restorer = FaceRestorer(RestoreOptions.from_mapping(values))
    pictures = examples() if source == "the example" else people(request.getfixturevalue("people"))
    worst = 0.0
    for number, picture in enumerate(pictures):
        faces = restorer.detect(picture)[:1]
        for name, spoilt in states(picture, faces[0].shorter_side):
            result = restorer(spoilt, faces=faces)
            counted = (result.mask > 0.5) & (cv2.GaussianBlur(spoilt, (0, 0), 2).max(axis=2) <= HIGHLIGHT)
            assert counted.sum() > 1000
            change = np.clip(result.image, 0, 1)[counted].mean(axis=0, dtype=float) - spoilt[counted].mean(axis=0, dtype=float)
            assert np.abs(change).max() * 255 <= 1, (number, name, change * 255)
            worst = max(worst, float(np.abs(change).max() * 255))
    assert worst > 0, "nothing was restored"


@pytest.mark.parametrize("values", [{"colour_match": True}, {"occlusion": "change"}])
def test_what_is_made_beyond_the_picture_does_not_count(values: dict[str, Any]) -> None:
    """Colours and changes are measured where there is a picture."""
    face = face_at(-25, 20, 56)
    picture = cv2.GaussianBlur(noise((100, 110, 3), np.float32), (0, 0), 5)
    seen = clip_to_picture(np.ones((64, 64), np.float32), similarity(face.landmarks, template_points("gpen", 64)), picture.shape)
    beyond = torch.from_numpy(cv2.erode((seen == 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0)
    assert 0.1 < beyond.float().mean() < 0.6

    class Painter(torch.nn.Module):
        size = 64

        def __init__(self, paint: bool) -> None:
            super().__init__()
            self.paint, self.one = paint, torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(beyond, torch.ones_like(x), x * 0.9) if self.paint else x * 0.9

    options = RestoreOptions.from_mapping({"device": "cpu", "detail": 0, **values})
    plain, painted = (FaceRestorer(options, network=Painter(paint), detector=Finder([]))(picture, faces=[face]) for paint in (False, True))  # type: ignore[arg-type]
    near = plain.mask > 0.3
    assert near.sum() > 300 and np.abs(plain.image - painted.image)[near].max() < 0.01 and np.abs(plain.mask - painted.mask).max() < 0.01
