"""Pasting: exact where nothing changes, official where faces overlap, without seam, shift or aliasing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.errors import GpenError, SettingsError
from gpen_core.steps.align import crop_face, invert, scale_of, template_points, transform, warp
from gpen_core.steps.mask import landmark_mask
from gpen_core.steps.paste import Compositor


def smooth_picture(height: int, width: int) -> np.ndarray:
    y, x = np.indices((height, width), np.float32)
    waves = [0.5 + 0.3 * np.sin(x / a + c) * np.cos(y / b) for a, b, c in ((40, 60, 0), (50, 45, 1), (70, 38, 2))]
    return np.stack(waves, axis=2).astype(np.float32)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def placed(scale: float, degrees: float, x: float, y: float, size: int) -> np.ndarray:
    """The matrix that carries (x, y) of the picture to the middle of the crop."""
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    matrix = np.array([[c, -s, 0.0], [s, c, 0.0]])
    matrix[:, 2] = (size - 1) / 2 - transform([[x, y]], matrix)[0]
    return matrix


def face_mask(size: int) -> np.ndarray:
    return landmark_mask(template_points("ffhq", size), size)


def compose_official(base: np.ndarray, faces: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The official rule over whole pictures: faces is a list of (face, mask) in the picture's own frame."""
    full, full_mask = np.zeros_like(base), np.zeros(base.shape[:2], np.float32)
    for face, mask in faces:
        wins = mask > full_mask
        full_mask[wins] = mask[wins]
        full[wins] = face[wins]
    return base * (1 - full_mask[..., None]) + full * full_mask[..., None]


placements = st.builds(placed, st.floats(0.2, 6), st.floats(-180, 180), st.floats(-60, 260), st.floats(-60, 220), st.just(96))


@settings(max_examples=40, deadline=None)
@given(matrices=st.lists(placements, min_size=1, max_size=4), strength=st.floats(0, 1))
def test_untouched_pixels_are_bit_identical(matrices, strength):
    picture = noise(160, 200)
    before = picture.copy()
    compositor = Compositor(picture)
    touched = np.zeros((160, 200), bool)
    for i, matrix in enumerate(matrices):
        restored, mask = noise(96, 96, i), face_mask(96)
        kept = restored.copy(), mask.copy(), matrix.copy()
        box = compositor.add(restored, mask, matrix, strength=strength)
        touched[box.top : box.bottom, box.left : box.right] = True
        for a, b in zip(kept, (restored, mask, matrix), strict=True):
            np.testing.assert_array_equal(a, b)
    result, mask = compositor.result()
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(result[mask == 0], picture[mask == 0])
    assert not mask[~touched].any()
    assert mask.min() >= 0 and mask.max() <= 1 + 1e-6 and result.min() >= 0 and result.max() <= 1 + 1e-6
    assert result.dtype == np.float32 and mask.dtype == np.float32


@settings(max_examples=20, deadline=None)
@given(matrix=placements)
def test_strength_0_is_the_identity(matrix):
    picture = noise(160, 200)
    compositor = Compositor(picture)
    compositor.add(noise(96, 96, 1), face_mask(96), matrix, strength=0.0)
    np.testing.assert_array_equal(compositor.result()[0], picture)


def test_no_face_is_the_identity():
    picture = noise(30, 40)
    np.testing.assert_array_equal(Compositor(picture).result()[0], picture)


@settings(max_examples=20, deadline=None)
@given(matrix=placements, strength=st.floats(0, 1))
def test_strength_is_linear(matrix, strength):
    picture, face, mask = noise(160, 200), noise(96, 96, 1), face_mask(96)
    one, some = Compositor(picture), Compositor(picture)
    one.add(face, mask, matrix)
    some.add(face, mask, matrix, strength=strength)
    np.testing.assert_allclose(some.result()[0], picture + (one.result()[0] - picture) * strength, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(matrices=st.lists(placements, min_size=2, max_size=4))
def test_overlaps_are_composed_as_the_official_code_does(matrices):
    picture = noise(160, 200)
    faces, compositor = [], Compositor(picture)
    for i, matrix in enumerate(matrices):
        restored, mask = noise(96, 96, i + 1), face_mask(96)
        compositor.add(restored, mask, matrix)
        back = invert(matrix)
        faces.append(
            (
                warp(restored, back, (160, 200), border="replicate"),
                warp(mask, back, (160, 200), border="constant"),
            )
        )
    # OpenCV 4 counts positions in 1/32 pixels: a rectangle's own frame rounds them a little differently from the full one.
    difference = np.abs(compositor.result()[0] - compose_official(picture, faces))
    assert np.quantile(difference, 0.999) < 0.06 and difference.mean() < 2e-3


def test_larger_mask_wins_and_ties_keep_the_earlier():
    picture = np.zeros((40, 40, 3), np.float32)
    red, green = np.zeros((40, 40, 3), np.float32), np.zeros((40, 40, 3), np.float32)
    red[..., 0], green[..., 1] = 1, 1
    left = np.tile(np.linspace(1, 0, 40, dtype=np.float32), (40, 1))
    right, same = left[:, ::-1].copy(), np.eye(2, 3)
    for first, second in (((red, left), (green, right)), ((green, right), (red, left))):  # no tie: the order does not matter
        compositor = Compositor(picture)
        compositor.add(*first, same)
        compositor.add(*second, same)
        result, mask = compositor.result()
        np.testing.assert_array_equal(mask, np.maximum(left, right))
        np.testing.assert_array_equal(result, np.where((left > right)[..., None], red, green) * mask[..., None])
    for first, second in ((red, green), (green, red)):
        compositor = Compositor(picture)
        compositor.add(first, left, same)
        compositor.add(second, left, same)
        np.testing.assert_array_equal(compositor.result()[0], first * left[..., None])


@settings(max_examples=25, deadline=None)
@given(a=placements, b=placements)
def test_order_matters_only_for_ties(a, b):
    picture, faces = noise(160, 200), ((noise(96, 96, 1), face_mask(96), a), (noise(96, 96, 2), face_mask(96), b))
    masks, results = [], []
    for order in (faces, faces[::-1]):
        compositor = Compositor(picture)
        for face in order:
            compositor.add(*face)
        results.append(compositor.result()[0])
        masks.append(compositor.result()[1])
    np.testing.assert_array_equal(*masks)
    alone = []
    for face in faces:
        compositor = Compositor(picture)
        compositor.add(*face)
        alone.append(compositor.result()[1])
    differs = (results[0] != results[1]).any(axis=2)
    assert (alone[0][differs] == alone[1][differs]).all()


@settings(max_examples=30, deadline=None)
@given(matrix=placements, face=st.floats(0, 1), around=st.floats(0, 1))
def test_a_face_of_one_colour_leaves_no_halo(matrix, face, around):
    picture = np.full((160, 200, 3), around, np.float32)
    compositor = Compositor(picture)
    compositor.add(np.full((96, 96, 3), face, np.float32), face_mask(96), matrix)
    result = compositor.result()[0]
    assert result.min() >= min(face, around) - 1e-5 and result.max() <= max(face, around) + 1e-5


def test_a_mask_up_to_the_crops_edge_draws_no_dark_rim():
    picture = np.full((120, 120, 3), 0.7, np.float32)
    for scale in (0.5, 1.0, 3.0):
        compositor = Compositor(picture)
        compositor.add(np.full((96, 96, 3), 0.7, np.float32), np.ones((96, 96), np.float32), placed(scale, 25, 60, 60, 96))
        np.testing.assert_allclose(compositor.result()[0], 0.7, atol=1e-5)


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.8, 1.0, 1.3, 2.0, 3.7, 8.0])
@pytest.mark.parametrize("degrees", [0, 31, 180])
def test_identity_restoration_shifts_nothing(scale, degrees):
    """A crop of the picture pasted back changes a smooth picture by less than one of 255 levels, at every scale."""
    picture = smooth_picture(900, 960)  # the crop lies inside: at a mirrored border even a smooth picture has a kink
    size = 256
    matrix = placed(scale, degrees, 481.3, 449.6, size)
    compositor = Compositor(picture)
    crop = crop_face(picture, matrix, size)
    compositor.add(crop, face_mask(size), matrix)
    result, mask = compositor.result()
    inside = mask > 0
    assert inside.sum() > 100
    error = (result - picture)[inside]
    assert np.abs(error).max() < 1 / 255
    assert np.abs(error.mean()) < 2e-4


@pytest.mark.parametrize("scale", [2.5, 8.0, 13.65])
def test_a_large_crop_shrinks_to_grey_when_pasted(scale):
    """2048 pixels of finest checkerboard into a face of 150: grey, not aliased, not oversharpened."""
    size = 1024
    board = np.repeat(np.indices((size, size)).sum(axis=0)[..., None] % 2, 3, axis=2).astype(np.float32)
    picture = np.full((500, 500, 3), 0.5, np.float32)
    matrix = placed(scale, 13, 250, 250, size)
    compositor = Compositor(picture)
    compositor.add(board, face_mask(size), matrix)
    assert np.abs(compositor.result()[0] - 0.5).max() < 0.02
    plain = warp(board, invert(matrix), (500, 500), border="replicate", antialias=False)  # as the official code reads it
    assert np.abs(plain - 0.5)[compositor.result()[1] > 0.5].max() > 0.1


@pytest.mark.parametrize("x, y", [(0, 0), (199, 80), (100, 159)])
def test_a_face_cut_by_the_border_is_pasted_up_to_it(x, y):
    picture = np.zeros((160, 200, 3), np.float32)
    compositor = Compositor(picture)
    compositor.add(np.ones((96, 96, 3), np.float32), face_mask(96), placed(1.0, 0, x, y, 96))
    assert compositor.result()[0][y, x].min() > 0.99


def test_a_face_outside_or_an_empty_mask_does_nothing():
    picture, compositor = noise(40, 50), Compositor(noise(40, 50))
    for mask, matrix in ((face_mask(96), placed(1, 0, 900, 900, 96)), (0 * face_mask(96), placed(1, 0, 20, 20, 96))):
        box = compositor.add(noise(96, 96, 1), mask, matrix)
        assert box.right <= box.left or box.bottom <= box.top
    np.testing.assert_array_equal(compositor.result()[0], picture)


def test_1x1_and_long_pictures():
    for shape in ((1, 1), (8, 2000)):
        compositor = Compositor(noise(*shape))
        compositor.add(noise(64, 64, 1), face_mask(64), placed(0.7, 10, shape[1] / 2, shape[0] / 2, 64))
        assert np.isfinite(compositor.result()[0]).all()


def test_bad_calls():
    compositor, matrix = Compositor(noise(60, 60)), placed(1, 0, 30, 30, 32)
    with pytest.raises(SettingsError):
        compositor.add(noise(32, 32), face_mask(32), matrix, strength=1.5)
    with pytest.raises(ValueError, match="differ in size"):
        compositor.add(noise(32, 32), face_mask(64), matrix)
    broken = noise(32, 32)
    broken[3, 4, 1] = np.nan
    with pytest.raises(GpenError, match="invalid values"):
        compositor.add(broken, face_mask(32), matrix)
    np.testing.assert_array_equal(compositor.result()[0], noise(60, 60))


def test_the_box_holds_the_whole_mask():
    """Nothing of a mask is cut off by the rectangle, also when the prefilter spreads it."""
    for scale in (0.3, 1.0, 5.0, 16.0):
        matrix = placed(scale, 40, 100, 80, 256)
        compositor = Compositor(np.zeros((160, 200, 3), np.float32))
        mask = np.zeros((256, 256), np.float32)
        mask[60:200, 60:200] = 1
        compositor.add(np.ones((256, 256, 3), np.float32), mask, matrix)
        whole = warp(mask, invert(matrix), (160, 200), border="constant")
        assert compositor.result()[1].sum() == pytest.approx(whole.sum(), rel=2e-3)
        assert scale_of(matrix) == pytest.approx(scale)
