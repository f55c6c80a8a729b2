"""Colourising, filling holes, making a face from a segmentation: with stand-ins for the networks, whose weights are not to be had here."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gpen_core.errors import PictureError
from gpen_core.pictures import from_array, to_array
from gpen_core.restore.whole_picture import colorize, inpaint, segmentation_to_face


class Fixed(torch.nn.Module):
    """Gives one picture, (S, S, 3) 0..1, whatever it is shown; remembers what that was."""

    def __init__(self, picture: np.ndarray, centred: bool = True) -> None:
        super().__init__()
        self.size = picture.shape[0]
        y = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32))
        self.y = torch.nn.Parameter(y * 2 - 1 if centred else y)
        self.seen = torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return self.y


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def test_colours_at_the_networks_size_are_its_own_output() -> None:
    wanted = noise(64, 64, 3)
    network = Fixed(wanted)
    result = colorize(from_array(noise(64, 64, seed=1)), network)  # type: ignore[arg-type]
    assert np.abs(result.pixels - wanted).max() < 1e-6
    assert torch.equal(network.seen[0, 0], network.seen[0, 1]) and torch.equal(network.seen[0, 0], network.seen[0, 2])


def test_a_grey_picture_keeps_its_luma_and_leaves_in_colour() -> None:
    grey = (noise(96, 80) * 0.5 + 0.25).astype(np.float32)
    soft = cv2.GaussianBlur(noise(64, 64, 3, seed=2), (0, 0), 8)
    out = to_array(colorize(from_array(grey), Fixed(soft)))  # type: ignore[arg-type]
    assert out.shape == (96, 80, 3) and out.std(axis=2).max() > 0.001
    luma = cv2.cvtColor(out, cv2.COLOR_RGB2YUV)[..., 0]
    assert np.abs(luma - grey).max() < 2e-3


def test_official_chroma_post_processing(golden_folder: Path) -> None:
    """The official picture of that step has the input's luma, to 8-bit rounding and clipping: so has ours (the output is not published)."""
    golden = np.load(golden_folder / "prepost_part.npz")
    given, official = golden["color_gray_in"], golden["color_post_chroma"]
    ours = to_array(colorize(from_array(given[..., ::-1].copy()), Fixed(cv2.resize(official, (64, 64))[..., ::-1] / np.float32(255))))  # type: ignore[arg-type]
    inside = ((official > 0) & (official < 255)).all(axis=2) & ((ours > 0) & (ours < 255)).all(axis=2)
    y_official = cv2.cvtColor(official, cv2.COLOR_BGR2YUV)[..., 0].astype(int)
    y_ours = cv2.cvtColor(ours, cv2.COLOR_RGB2YUV)[..., 0].astype(int)
    assert inside.mean() > 0.5
    assert np.abs(y_ours - y_official)[inside].max() <= 2


def test_holes_are_filled_and_the_rest_is_not_touched() -> None:
    picture = noise(50, 70, 3)
    hole = np.zeros((50, 70), np.float32)
    hole[10:20, 30:40] = 1
    network = Fixed(np.full((64, 64, 3), 0.25, np.float32))
    out = to_array(inpaint(from_array(picture), network, hole))  # type: ignore[arg-type]
    assert np.array_equal(out[hole == 0], picture[hole == 0])
    assert np.abs(out[hole == 1] - 0.25).max() < 1e-6
    assert float(network.seen[0, :, 20, 31].min()) > 0.9, "the hole is shown to the network as white"
    whole = to_array(inpaint(from_array(picture), network))  # type: ignore[arg-type]
    assert np.abs(whole - 0.25).max() < 1e-6
    with pytest.raises(PictureError, match="mask"):
        inpaint(from_array(picture), network, hole[1:])  # type: ignore[arg-type]


def test_segmentation_goes_in_and_comes_out_in_0_1() -> None:
    wanted = noise(64, 64, 3)
    network = Fixed(wanted, centred=False)
    result = segmentation_to_face(from_array(noise(128, 128, 3, seed=4)), network)  # type: ignore[arg-type]
    assert result.pixels.shape == (64, 64, 3) and np.abs(result.pixels - wanted).max() < 1e-6
    assert float(network.seen.min()) >= 0
