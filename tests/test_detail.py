"""The setting `detail`: sharp faces stay sharp, and degradation does not come back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.errors import SettingsError
from gpen_core.faces.face import Face
from gpen_core.pictures import from_array
from gpen_core.restore.pieces import crop_faces, paste_faces
from gpen_core.steps.align import crop_face, template_points
from gpen_core.steps.detail import detail_of_face, kept_detail
from gpen_core.steps.mask import landmark_mask

SIZE = 64
LEVEL = 1 / 255


class Mirror(torch.nn.Module):
    """A network that returns its input, so that any loss comes from pasting."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        self.size = size
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight


def textured(side: int, seed: int = 0, variety: float = 1.6) -> np.ndarray:
    """(side, side, 3) float32: hair and skin as far as statistics go: patches of fine texture whose strengths differ (log-normally)."""
    rng = np.random.default_rng(seed)
    fine = rng.standard_normal((side, side, 1), dtype=np.float32) * np.ones(3, np.float32)
    strength = cv2.GaussianBlur(rng.standard_normal((side, side), dtype=np.float32), (0, 0), side / 12)
    strength = np.exp(variety * strength / strength.std())[..., None]
    coarse = cv2.GaussianBlur(rng.standard_normal((side, side, 3), dtype=np.float32), (0, 0), side / 10)
    return np.clip(0.5 + 0.1 * coarse / coarse.std() + 0.015 * strength * fine, 0, 1).astype(np.float32)


def smooth(side: int) -> np.ndarray:
    """(side, side, 3) float32: a cheek: light that falls off slowly."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    return np.dstack([0.4 + 0.3 * x, 0.3 + 0.3 * y, 0.5 - 0.2 * x * y]).astype(np.float32)


def face_in(side: int) -> Face:
    points = template_points("gpen", 512) / 512 * side
    return Face((0.2 * side, 0.2 * side, 0.8 * side, 0.9 * side), points.astype(np.float32), 0.95)


def restored(picture: np.ndarray, network: torch.nn.Module | None = None, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """(picture, mask) of a face that fills the picture."""
    restorer = FaceRestorer(RestoreOptions(device="cpu", **options), network=network or Mirror())
    result = restorer(picture, faces=[face_in(picture.shape[0])])
    assert [face.status for face in result.faces] == ["restored"]
    return result.image, result.mask


def sharpness(picture: np.ndarray, mask: np.ndarray) -> float:
    return float(np.abs(np.diff(picture, axis=1))[mask[:, 1:] > 0.5].mean())


def as_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpg", np.rint(picture * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32) / 255


def kept(picture: np.ndarray, size: float = 2.0, amount: float = 1.0, change: np.ndarray | float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(residual, what is kept of it) where a network saw the picture `size` times smaller and changed it by `change`."""
    seen = cv2.GaussianBlur(picture, (0, 0), 0.6 * size)
    found = kept_detail(picture, seen, seen + np.float32(change), np.ones(picture.shape[:2], np.float32), size, amount)
    assert found is not None
    return picture - seen, found


def power(x: np.ndarray) -> float:
    return float(np.square(x).mean())


@given(side=st.integers(3 * SIZE, 6 * SIZE), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_a_sharp_face_that_the_network_leaves_alone_stays_as_it_was(side: int, seed: int):
    picture = textured(side, seed)
    with_, mask = restored(picture)
    without, _ = restored(picture, detail=0.0)
    assert sharpness(with_, mask) > 0.9 * sharpness(picture, mask)
    assert sharpness(without, mask) < 0.6 * sharpness(picture, mask)
    assert np.abs(with_ - picture).mean() < 0.1 * np.abs(without - picture).mean()


def test_the_same_face_pasted_in_pieces_keeps_the_same_detail():
    picture = textured(200)
    whole, mask = restored(picture)
    faces, crops = crop_faces(picture, [face_in(200)], "gpen", SIZE)
    result = paste_faces(from_array(picture), faces, crops, "gpen", RestoreOptions())
    np.testing.assert_array_equal(result.image.pixels, whole)
    np.testing.assert_array_equal(result.mask, mask)


def test_an_aligned_face_larger_than_the_network_keeps_its_detail():
    picture = textured(3 * SIZE)
    restorer = FaceRestorer(RestoreOptions(device="cpu", aligned=True), network=Mirror())
    everywhere = np.ones(picture.shape[:2], np.float32)
    assert sharpness(restorer(picture).image, everywhere) > 0.97 * sharpness(picture, everywhere)


def test_an_enlarged_picture_keeps_the_detail_in_its_place():
    picture = textured(200)
    large, mask = restored(picture, output_size="factor", factor=2.0)
    plain = FaceRestorer(RestoreOptions(device="cpu", output_size="factor", factor=2.0), network=Mirror())(picture, faces=[]).image
    without, _ = restored(picture, output_size="factor", factor=2.0, detail=0.0)
    here = mask > 0.5
    assert np.abs(large - plain)[here].mean() < 0.2 * np.abs(without - plain)[here].mean()


def test_detail_in_between_is_in_between():
    picture = textured(200)
    (none, _), (half, _), (all_, _) = (restored(picture, detail=amount) for amount in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, (none + all_) / 2, atol=0.5 * LEVEL)


def test_nothing_outside_the_mask_changes_and_nothing_leaves_the_range():
    picture = np.where(textured(200) > 0.5, 1.0, 0.0).astype(np.float32)
    image, mask = restored(picture)
    np.testing.assert_array_equal(image[mask == 0], picture[mask == 0])
    assert image.min() >= 0 and image.max() <= 1


@pytest.mark.parametrize("sigma", [5, 12, 25])
def test_noise_is_left_out(sigma: int):
    noise = np.random.default_rng(1).standard_normal((256, 256, 3), dtype=np.float32) * np.float32(sigma * LEVEL)
    residual, found = kept(smooth(256) + noise)
    assert power(found) < 0.1 * power(residual)


def test_even_fine_skin_is_not_taken_for_noise():
    residual, found = kept(textured(256, variety=0.35))
    assert power(found) > 0.9 * power(residual)


def test_detail_stronger_than_the_noise_is_kept():
    noise = np.random.default_rng(1).standard_normal((256, 256, 3), dtype=np.float32) * np.float32(5 * LEVEL)
    lash = np.zeros((256, 256, 3), np.float32)
    lash[100:104, 40:220] = -0.4
    residual, found = kept(smooth(256) + noise + lash)
    line = np.s_[98:106, 60:200]
    assert power(found[line]) > 0.8 * power(residual[line])


@pytest.mark.parametrize("quality", [20, 35, 60])
@pytest.mark.parametrize("shift", [(0, 0), (3, 5)])
def test_jpeg_blocks_are_left_out_wherever_they_begin(quality: int, shift: tuple[int, int]):
    grain = np.random.default_rng(2).standard_normal((264, 264, 3), dtype=np.float32)
    soft = smooth(264) + 0.05 * cv2.GaussianBlur(grain, (0, 0), 3)
    picture = as_jpeg(soft, quality)[shift[0] :, shift[1] :]
    residual, found = kept(np.ascontiguousarray(picture))
    assert power(found) < 0.15 * power(residual)


def test_what_the_network_took_away_does_not_come_back():
    picture = textured(256)
    _, all_ = kept(picture)
    scratch = np.zeros_like(picture)
    scratch[:, 128::4] = 1.0
    _, found = kept(picture, change=scratch)
    assert power(found[:, 160:]) < 0.2 * power(all_[:, 160:])
    assert power(found[:, :96]) > 0.9 * power(all_[:, :96])


def test_a_face_smaller_than_the_network_is_all_new():
    picture = textured(40)
    face = face_in(24)
    small = dict(device="cpu", output_size="keep")
    with_, without = (FaceRestorer(RestoreOptions(**small, detail=d), network=Mirror())(picture, faces=[face]).image for d in (1.0, 0.0))
    np.testing.assert_array_equal(with_, without)


def test_amounts_out_of_range_are_refused():
    picture = textured(64)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        kept(picture, amount=1.5)
    with pytest.raises(SettingsError, match="detail"):
        RestoreOptions(detail=-0.1)


@given(height=st.integers(1, 40), width=st.integers(1, 40), x=st.floats(-60, 60), y=st.floats(-60, 60), scale=st.floats(0.05, 3))
@settings(max_examples=60, deadline=None)
def test_any_place_and_size_gives_detail_for_the_rectangle_that_is_pasted(height: int, width: int, x: float, y: float, scale: float):
    from gpen_core.steps.paste import Compositor, reach

    picture = textured(40)[:height, :width]
    matrix = np.array([[scale, 0.0, x], [0.0, scale, y]])
    mask = landmark_mask(template_points("gpen", SIZE), SIZE)
    crop = crop_face(picture, matrix, SIZE)
    found = detail_of_face(picture, crop, crop, mask, matrix, 1.0)
    box = reach(mask, matrix, picture.shape)
    assert found is None or found.shape == (box.bottom - box.top, box.right - box.left, 3)
    Compositor(picture).add(crop, mask, matrix, detail=found)
