"""Templates, similarity and crops: the official numbers, and that nothing shifts, aliases or goes black."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.errors import GpenError, SettingsError
from gpen_core.steps.align import (
    TEMPLATES,
    AlignmentError,
    crop_face,
    invert,
    rescale_matrix,
    scale_of,
    similarity,
    template_points,
    transform,
    warp,
)


@pytest.fixture(scope="module")
def golden(golden_folder):
    with np.load(golden_folder / "prepost_part.npz") as data:
        return dict(data)


def turned(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[c, -s, x], [s, c, y]])


similarities = st.builds(turned, st.floats(0.05, 20), st.floats(-180, 180), st.floats(-3000, 3000), st.floats(-3000, 3000))


@pytest.mark.parametrize("size", [256, 512, 1024, 2048])
def test_gpen_template_is_the_official_one(golden, size):
    np.testing.assert_allclose(template_points("gpen", size), golden[f"ref5_{size}"], atol=1e-5)


def test_ffhq_template():
    published = [[192.98, 239.95], [318.90, 240.19], [256.63, 314.02], [201.26, 371.41], [313.09, 371.15]]
    np.testing.assert_allclose(template_points("ffhq", 512), published, atol=0.006)
    np.testing.assert_allclose(template_points("ffhq", 2048), 4 * template_points("ffhq", 512))


def test_unknown_template():
    with pytest.raises(SettingsError, match="ffhq, gpen"):
        template_points("arcface", 512)


@pytest.mark.parametrize("size", [256, 512, 1024])
@pytest.mark.parametrize("face", "ABC")
def test_transforms_are_the_official_ones(golden, face, size):
    matrix = similarity(golden[f"pts_{face}"], template_points("gpen", size))
    np.testing.assert_allclose(matrix, golden[f"tfm_{face}_{size}"], rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(invert(matrix), golden[f"tfminv_{face}_{size}"], rtol=1e-6, atol=1e-4)
    if f"scale_{face}_{size}" in golden:
        assert scale_of(matrix) == pytest.approx(float(golden[f"scale_{face}_{size}"]), rel=1e-6)


@pytest.mark.parametrize("face", "AB")
def test_crops_are_the_official_ones(golden, recipe, face):
    picture = recipe.make_image(1024, seed=77).astype(np.float32) / 255  # found by its 8x8 grid of colours; BGR like the golden crops
    matrix = similarity(golden[f"pts_{face}"], template_points("gpen", 256))
    crop = warp(picture, matrix, (256, 256), border="constant", antialias=False) * 255
    error = np.abs(crop - golden[f"crop_{face}_256"])
    assert (error <= 1).mean() >= 0.999
    assert error.max() <= 6


@given(matrix=similarities, name=st.sampled_from(sorted(TEMPLATES)))
def test_similarity_recovers_a_similarity(matrix, name):
    points = template_points(name, 512)
    found = similarity(transform(points, matrix), points)
    np.testing.assert_allclose(found[:, :2] @ matrix[:, :2], np.eye(2), atol=1e-6)
    np.testing.assert_allclose(transform(transform(points, matrix), found), points, atol=1e-5)


@given(matrix=similarities, noise=st.lists(st.floats(-20, 20), min_size=10, max_size=10))
def test_similarity_is_the_best_and_never_mirrors(matrix, noise):
    points = template_points("ffhq", 512)
    source = transform(points + np.reshape(noise, (5, 2)), matrix)
    found = similarity(source, points)
    assert found[0, 0] == pytest.approx(found[1, 1]) and found[0, 1] == pytest.approx(-found[1, 0])  # no reflection
    best = np.square(transform(source, found) - points).sum()
    for change in np.eye(4) * 1e-3:
        c, s = found[0, 0] * (1 + change[0]), found[1, 0] + found[0, 0] * change[1]
        other = np.array([[c, -s, found[0, 2] + change[2]], [s, c, found[1, 2] + change[3]]])
        assert np.square(transform(source, other) - points).sum() >= best - 1e-6


@given(matrix=similarities, points=st.lists(st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000)), min_size=1, max_size=5))
def test_invert_inverts(matrix, points):
    np.testing.assert_allclose(transform(transform(points, matrix), invert(matrix)), points, atol=1e-6)


@pytest.mark.parametrize(
    "points",
    [
        np.full((5, 2), 37.0),
        np.stack([np.arange(5.0), 2 * np.arange(5.0)], axis=1),
        np.stack([np.arange(5.0) * 100, 1e-3 * np.arange(5.0) ** 2], axis=1),
        np.full((5, 2), np.nan),
        np.zeros((4, 2)),
        template_points("gpen", 512) * [-1, 1],
        template_points("ffhq", 512)[[4, 1, 2, 3, 0]],
    ],
    ids=["one spot", "one line", "nearly one line", "nan", "four points", "mirrored", "mixed up"],
)
def test_degenerate_landmarks_are_refused(points):
    with pytest.raises(AlignmentError) as caught:
        similarity(points, template_points("gpen", 512))
    assert isinstance(caught.value, GpenError)


def test_a_matrix_without_inverse_is_refused():
    with pytest.raises(AlignmentError):
        invert(np.zeros((2, 3)))


def test_crop_by_whole_pixels_is_exact_and_leaves_the_picture_alone():
    picture = np.random.default_rng(0).random((60, 80, 3), np.float32)
    before = picture.copy()
    crop = crop_face(picture, [[1, 0, -10], [0, 1, -20]], 32)
    np.testing.assert_array_equal(crop, picture[20:52, 10:42])
    np.testing.assert_array_equal(picture, before)
    assert crop.dtype == np.float32


def test_antialiasing_changes_nothing_where_the_crop_enlarges():
    picture = np.random.default_rng(0).random((60, 80, 3), np.float32)
    matrix = turned(3.0, 20, -20, -30)
    np.testing.assert_array_equal(crop_face(picture, matrix, 64), warp(picture, matrix, (64, 64), border="reflect", antialias=False))


@pytest.mark.parametrize("shrink", [2.0, 3.3, 4.0, 8.0, 9.7])
@pytest.mark.parametrize("degrees", [0, 17])
def test_a_checkerboard_shrinks_to_grey(shrink, degrees):
    picture = np.repeat(np.indices((700, 700)).sum(axis=0)[..., None] % 2, 3, axis=2).astype(np.float32)
    matrix = turned(1 / shrink, degrees, 5.3, -4.1)
    centre = transform([[350, 350]], matrix)[0]
    matrix[:, 2] -= centre - 24
    crop = crop_face(picture, matrix, 48)
    assert np.abs(crop - 0.5).max() < 0.02
    assert np.abs(warp(picture, matrix, (48, 48), border="reflect", antialias=False) - 0.5).max() > 0.1  # what it saves us from


@pytest.mark.parametrize("shrink", [2.5, 5.0, 8.0])
def test_a_zone_plate_shrinks_without_moire(shrink):
    """Rings finer than the crop's pixels must vanish into grey instead of coming back as coarse rings."""
    size = 800
    y, x = np.indices((size, size)) - size / 2
    rings = 0.5 + 0.5 * np.cos(np.pi / size * (x * x + y * y))  # frequency r / size: reaches 0.5 cycles a pixel at r = 400
    picture = np.repeat(rings[..., None], 3, axis=2).astype(np.float32)
    side = int(size / shrink)
    crop = crop_face(picture, [[1 / shrink, 0, 0], [0, 1 / shrink, 0]], side)[..., 0]
    v, u = np.indices((side, side)) - side / 2
    too_fine = np.hypot(u, v) * shrink / size * shrink > 1.0  # above the sampling frequency of the crop
    too_fine &= (np.abs(u) < side * 0.45) & (np.abs(v) < side * 0.45)
    if too_fine.any():
        assert np.abs(crop[too_fine] - 0.5).max() < 0.08


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.45, 0.9, 1.0, 2.7])
def test_a_gradient_stays_where_it_is(scale):
    """No half-pixel shift, whatever the filter: a straight ramp is read at exactly the right place."""
    y, x = np.indices((600, 600), np.float32) / 600
    picture = np.stack([x, y, 0.5 * (x + y)], axis=2).astype(np.float32)
    matrix = turned(scale, 30, 0, 0)
    matrix[:, 2] -= transform([[300, 300]], matrix)[0] - 16
    crop = crop_face(picture, matrix, 32)
    where = transform(np.indices((32, 32))[::-1].reshape(2, -1).T, invert(matrix)).reshape(32, 32, 2) / 600
    safe = (where > 0.15).all(axis=2) & (where < 0.85).all(axis=2)
    assert np.abs(crop[..., :2] - where)[safe].max() < 0.02 * max(1, 1 / scale) / 600  # 0.02 pixels: OpenCV 4 counts in 1/32


def test_borders():
    picture = np.full((100, 100, 3), 0.8, np.float32)
    beyond = turned(0.5, 10, -10, 30)
    np.testing.assert_allclose(crop_face(picture, beyond, 64), 0.8, atol=1e-5)
    official = warp(picture, beyond, (64, 64), border="constant", antialias=False)
    assert official.min() == 0.0 and official.max() == pytest.approx(0.8)


@pytest.mark.parametrize("shape", [(1, 1), (8, 2000), (2000, 8), (3, 5)])
@pytest.mark.parametrize("scale", [0.02, 1.0, 40.0])
def test_tiny_and_long_pictures(shape, scale):
    picture = np.random.default_rng(1).random((*shape, 3), np.float32)
    for matrix in (turned(scale, 40, 3, 3), turned(scale, 0, -5000, 9000)):
        crop = crop_face(picture, matrix, 64)
        assert crop.shape == (64, 64, 3) and np.isfinite(crop).all() and crop.min() >= 0 and crop.max() <= 1 + 1e-6


def test_pictures_beyond_opencvs_short_coordinates():
    picture = np.zeros((8, 40000, 3), np.float32)
    picture[:, 39000:] = 1
    assert crop_face(picture, [[1, 0, -39500], [0, 1, 0]], 8).min() == 1.0


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.3, 6), matrix=similarities)
def test_rescale_matrix_follows_the_enlarged_picture(factor, matrix):
    old, new = (300, 400), (round(300 * factor), round(400 * factor))
    rescaled = rescale_matrix(matrix, old, new)
    # Pixel edges: the corner (-0.5, -0.5) stays, the far corner moves with the size.
    for a, b in (((-0.5, -0.5), (-0.5, -0.5)), ((399.5, 299.5), (new[1] - 0.5, new[0] - 0.5))):
        np.testing.assert_allclose(transform([a], matrix), transform([b], rescaled), atol=1e-6, rtol=1e-9)


@given(yaw=st.floats(-90, 90), pitch=st.floats(-60, 60), roll=st.floats(-180, 180), name=st.sampled_from(sorted(TEMPLATES)))
def test_a_head_seen_from_any_side_can_be_aligned(yaw, pitch, roll, name):
    """Five points of a head in space, millimetres: to the right, down, towards who looks."""
    head = np.array([[-32, -34, -24], [32, -34, -24], [0, 4, 12], [-25, 36, -16], [25, 36, -16]], float)
    y, p = np.radians(yaw), np.radians(pitch)
    head = head @ np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    head = head @ np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    similarity(transform(head[:, :2], turned(1, roll, 0, 0)), template_points(name, 512))


@pytest.mark.parametrize("order", [(0, 2, 1, 4, 3), (0, 3, 2, 4, 1), (2, 3, 1, 4, 0), (4, 1, 2, 0, 3)])
def test_landmarks_that_no_head_can_have_are_refused(order):
    with pytest.raises(AlignmentError, match="not arranged like a face"):
        similarity(template_points("gpen", 512)[list(order)], template_points("gpen", 512))
