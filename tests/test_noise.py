"""Noise in a single picture: it is told from detail, also where a pixel of the picture is about as large as the network's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detail import LEVEL, Mirror, as_jpeg, power, smooth, textured

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.steps.align import crop_face, invert, similarity, template_points, warp
from gpen_core.steps.detail import detail_of_face
from gpen_core.steps.mask import landmark_mask
from gpen_core.steps.paste import reach

SIZE = 128
MASK = landmark_mask(template_points("gpen", SIZE), SIZE)
NEAR = st.floats(0.98, 1.04)  # pixels of the picture per pixel of the network


def noise_of(sigma: float, side: int, colours: int = 3) -> np.ndarray:
    noise = np.random.default_rng(1).standard_normal((side, side, colours), dtype=np.float32)
    return noise * np.ones(3, np.float32) * np.float32(sigma * LEVEL)


def detail(picture: np.ndarray, size: float, turned: float) -> tuple[np.ndarray, np.ndarray]:
    """(what the network's input lacks, what is kept of it) in the middle of a face that the network returns as it is."""
    middle = picture.shape[0] / 2
    turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    points = (template_points("gpen", SIZE) - SIZE / 2) * size @ turn.T + middle + 0.3  # so that no pixel of one lies on one of the other
    matrix = similarity(points, template_points("gpen", SIZE))
    crop = crop_face(picture, matrix, SIZE)
    box = reach(MASK, matrix, picture.shape)
    found = np.zeros_like(picture)
    found[box.top : box.bottom, box.left : box.right] = detail_of_face(picture, crop, crop, MASK, matrix, 1.0)
    inside = np.s_[int(middle) - 30 : int(middle) + 30, int(middle) - 30 : int(middle) + 30]
    return (picture - warp(crop, invert(matrix), picture.shape[:2], border="replicate"))[inside], found[inside]


def brought(of: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], picture: np.ndarray, noise: np.ndarray) -> float:
    """The share of the noise that comes back, of what the network's input lacks of it. of: (lacked, kept) of a picture."""
    (lacked, plus), (other, minus) = (of(picture + sign * noise) for sign in (1, -1))
    return power(plus - minus) / power(lacked - other)


@given(size=NEAR, turned=st.floats(-0.2, 0.2), sigma=st.floats(8, 20), colours=st.sampled_from([1, 3]))
@settings(max_examples=20, deadline=None)
def test_noise_does_not_come_back_where_pixels_are_as_large_as_the_networks(size: float, turned: float, sigma: float, colours: int):
    share = brought(lambda picture: detail(picture, size, turned), textured(200, 3), noise_of(sigma, 200, colours))
    assert share < (0.15 if colours == 3 else 0.3)


@pytest.mark.parametrize("size", [0.98, 1.0, 1.01, 1.04])
@pytest.mark.parametrize("turned", [0.0, 0.1])
def test_a_clean_face_keeps_all_of_its_detail_there(size: float, turned: float):
    for seed in (0, 1, 2, 3, 5):
        lacked, found = detail(textured(200, seed, variety=0.8), size, turned)
        assert power(found - lacked) < 0.01 * power(lacked)


def test_an_aligned_face_of_nearly_the_networks_size_leaves_out_its_noise():
    restorer = FaceRestorer(RestoreOptions(device="cpu", aligned=True), network=Mirror(SIZE))
    without = FaceRestorer(RestoreOptions(device="cpu", aligned=True, detail=0.0), network=Mirror(SIZE))
    side = round(1.05 * SIZE)

    def of(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = without(picture).image
        return picture - seen, restorer(picture).image - seen

    assert brought(of, textured(side, 3), noise_of(10, side, 1)) < 0.3


def near(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return detail(picture, 1.02, 0.05)


def test_colours_tell_noise_that_is_as_strong_as_the_skins_texture():
    skin = textured(200, 5, variety=1.3)
    assert brought(near, skin, noise_of(4, 200)) < 0.4
    assert brought(near, skin, noise_of(4, 200, 1)) > 0.8, "or else this skin does not need the colours"


def test_blown_highlights_do_not_hide_noise():
    picture = textured(200, 3)
    picture[60:80, 50:150] = 1.3
    assert brought(lambda one: near(np.clip(one, 0, 1)), picture, noise_of(12, 200, 1)) < 0.4


def test_noise_that_jpeg_thinned_out_is_left_out():
    assert brought(lambda one: near(as_jpeg(one, 80)), smooth(200), noise_of(12, 200)) < 0.7
