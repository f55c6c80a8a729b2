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


def test_official_colours_at_the_networks_size_are_its_own_output() -> None:
    wanted = noise(64, 64, 3)
    network = Fixed(wanted)
    result = colorize(from_array(noise(64, 64, seed=1)), network, official=True)  # type: ignore[arg-type]
    assert np.abs(result.pixels - wanted).max() < 1e-6
    assert torch.equal(network.seen[0, 0], network.seen[0, 1]) and torch.equal(network.seen[0, 0], network.seen[0, 2])


@pytest.mark.parametrize(
    ("size", "official"), [((64, 64), False), ((96, 80), False), ((30, 200), False), ((96, 80), True), ((30, 200), True)]
)
def test_a_grey_picture_keeps_its_luma_and_leaves_in_colour(size: tuple[int, int], official: bool) -> None:
    grey = (noise(*size) * 0.5 + 0.25).astype(np.float32)
    soft = cv2.GaussianBlur(noise(64, 64, 3, seed=2), (0, 0), 8)
    out = to_array(colorize(from_array(grey), Fixed(soft), official=official))  # type: ignore[arg-type]
    assert out.shape == (*size, 3) and out.std(axis=2).max() > 0.001
    luma = cv2.cvtColor(out, cv2.COLOR_RGB2YUV)[..., 0]
    assert np.abs(luma - grey).max() < (2e-3 if official else 1e-5)


def test_colours_that_do_not_exist_at_a_brightness_get_paler_in_the_same_hue() -> None:
    grey = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    red = np.broadcast_to(np.array([1, 0, 0], np.float32), (64, 64, 3))
    out = to_array(colorize(from_array(grey), Fixed(red)))  # type: ignore[arg-type]
    assert out.min() >= 0 and out.max() <= 1
    assert np.abs(out @ np.array([0.299, 0.587, 0.114]) - grey).max() < 1e-6
    assert np.abs(out[..., 1] - out[..., 2]).max() < 1e-6 and (out[1:-1, :, 0] > out[1:-1, :, 1]).all()


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
    hard = to_array(inpaint(from_array(picture), network, hole, feather=0))  # type: ignore[arg-type]
    assert np.array_equal(hard[hole == 0], picture[hole == 0])
    assert np.abs(hard[hole == 1] - 0.25).max() < 1e-6
    assert float(network.seen[0, :, 20, 31].min()) > 0.9, "the hole is shown to the network as white"
    whole = to_array(inpaint(from_array(picture), network, official=True))  # type: ignore[arg-type]
    assert np.abs(whole - 0.25).max() < 1e-6
    with pytest.raises(PictureError, match="mask"):
        inpaint(from_array(picture), network, hole[1:])  # type: ignore[arg-type]


def test_a_hole_has_no_hard_border_and_what_it_hides_does_not_show() -> None:
    """The network's face is darker than the picture: the hole begins like the picture, and its middle is the network's."""
    hole = np.zeros((256, 256), np.float32)
    hole[60:200, 60:200] = 1
    outs = []
    for hidden in (0.0, 1.0):
        picture = np.where(hole > 0, np.float32(hidden), np.float32(0.6))[..., None].repeat(3, 2)
        network = Fixed(np.full((256, 256, 3), 0.3, np.float32))
        outs.append(to_array(inpaint(from_array(picture), network, hole)))  # type: ignore[arg-type]
    assert np.array_equal(*(np.where(hole[..., None] > 0, out, 0) for out in outs))
    line = outs[0][130, :, 0]
    assert np.abs(np.diff(line)).max() < 0.05 and abs(line[130] - 0.3) < 1e-6
    assert np.diff(line[60:130]).max() <= 1e-6 and np.diff(line[130:200]).min() >= -1e-6
    hard = to_array(inpaint(from_array(picture), network, hole, feather=0))  # type: ignore[arg-type]
    assert np.abs(np.diff(hard[130, :, 0])).max() > 0.29


def test_white_areas_are_filled_but_not_the_light_in_an_eye() -> None:
    picture = np.full((256, 256, 3), 0.5, np.float32)
    picture[100:140, 80:180] = 1
    picture[40:42, 60:62] = 1
    out = to_array(inpaint(from_array(picture), Fixed(np.full((256, 256, 3), 0.25, np.float32))))  # type: ignore[arg-type]
    changed = (out != picture).any(axis=2)
    assert changed[100:140, 80:180].all() and not changed[40:42, 60:62].any()
    assert changed[97:143, 77:183].sum() == changed.sum()
    plain = from_array(np.full((256, 256, 3), 0.5, np.float32))
    assert inpaint(plain, Fixed(np.zeros((256, 256, 3), np.float32))) is plain  # type: ignore[arg-type]


def test_a_grey_picture_stays_grey_when_its_holes_are_filled() -> None:
    hole = np.zeros((64, 64), np.float32)
    hole[20:40, 20:40] = 1
    red = Fixed(np.broadcast_to(np.array([0.9, 0.1, 0.1], np.float32), (64, 64, 3)))
    for picture in (noise(64, 64), noise(64, 64)[..., None].repeat(3, 2)):
        out = to_array(inpaint(from_array(picture), red, hole, feather=0))  # type: ignore[arg-type]
        assert out.shape == picture.shape and np.abs(out[hole == 1] - (0.299 * 0.9 + 0.701 * 0.1)).max() < 1e-6
    coloured = to_array(inpaint(from_array(noise(64, 64, 3)), red, hole, feather=0))  # type: ignore[arg-type]
    assert np.abs(coloured[30, 30] - (0.9, 0.1, 0.1)).max() < 1e-6


def test_segmentation_goes_in_and_comes_out_in_0_1() -> None:
    wanted = noise(64, 64, 3)
    network = Fixed(wanted, centred=False)
    result = segmentation_to_face(from_array(noise(128, 128, 3, seed=4)), network)  # type: ignore[arg-type]
    assert result.pixels.shape == (64, 64, 3) and np.abs(result.pixels - wanted).max() < 1e-6
    assert float(network.seen.min()) >= 0
