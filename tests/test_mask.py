"""Masks: the official numbers for ParseNet's, and no straight edge in any."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.errors import FeatureMissingError, SettingsError, WeightsMissingError
from gpen_core.steps import mask as masks
from gpen_core.steps.align import template_points
from gpen_core.steps.mask import FACE_CLASSES, clip_to_picture, landmark_mask, load_parsenet, parsing_mask, soften_classes

points = st.lists(st.tuples(st.floats(-100, 400), st.floats(-100, 400)), min_size=5, max_size=5)


def border_of(mask: np.ndarray) -> np.ndarray:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


@settings(max_examples=60, deadline=None)
@given(landmarks=points, feather=st.floats(0, 1), size=st.sampled_from([16, 64, 257]))
def test_landmark_masks_are_masks(landmarks, feather, size):
    mask = landmark_mask(landmarks, size, feather=feather)
    assert mask.shape == (size, size) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    assert (border_of(mask) == 0).all()


@pytest.mark.parametrize("name", ["gpen", "ffhq"])
@pytest.mark.parametrize("size", [128, 512, 1024])
def test_landmark_mask_covers_the_face_and_not_the_crop(name, size):
    landmarks = template_points(name, size)
    mask = landmark_mask(landmarks, size)
    for x, y in landmarks:
        assert mask[round(y), round(x)] > 0.99
    assert 0.15 < mask.mean() < 0.5
    assert (mask[: size // 20] == 0).all() and (mask[:, : size // 10] == 0).all()
    small = landmark_mask(template_points(name, 128), 128)
    assert np.abs(mask[:: size // 128, :: size // 128] - small).max() < 0.05  # the same shape at every size


def test_feather_widens_the_edge():
    landmarks = template_points("ffhq", 512)
    soft = [((m > 0) & (m < 1)).sum() for m in (landmark_mask(landmarks, 512, feather=f) for f in (0, 0.25, 0.5, 1))]
    assert soft == sorted(soft) and soft[0] < 3000 < 30000 < soft[-1]


@pytest.mark.parametrize("feather", [-0.1, 1.1, float("nan")])
def test_feather_out_of_range(feather):
    with pytest.raises(SettingsError):
        landmark_mask(template_points("ffhq", 64), 64, feather=feather)
    with pytest.raises(SettingsError):
        soften_classes(np.zeros((512, 512), np.uint8), 64, feather=feather)


def test_parsing_mask_is_the_official_one(golden_folder):
    """The golden mask is that of a filled ellipse of face classes, every fourth pixel of it."""
    with np.load(golden_folder / "prepost_part.npz") as golden:
        expected = golden["parse_mask_post_512"]
        rectangle = golden["rect_mask_512"]
    y, x = np.indices((512, 512))
    classes = np.where(((x - 256) / 190) ** 2 + ((y - 270) / 240) ** 2 <= 1, 1, 0)
    ours = soften_classes(classes, 512)[::4, ::4]
    assert np.abs(ours - expected).max() < 3e-4  # what is under 1/4096 is cut to 0
    # The rectangle (26..486, as cv2.rectangle draws it) is blurred in the same way.
    square = np.zeros((512, 512), np.float32)
    square[26:487, 26:487] = 1
    np.testing.assert_allclose(masks.blur_twice(square, 4.0)[::4, ::4], rectangle, atol=1e-6)


def test_parsing_classes():
    """Background, hat and cloth are left out, all else is face."""
    assert set(range(19)) - set(FACE_CLASSES) == {0, 14, 18}
    for number in range(19):
        assert soften_classes(np.full((512, 512), number), 512)[256, 256] == pytest.approx(float(number in FACE_CLASSES))


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
@pytest.mark.parametrize("feather", [0.0, 0.5, 1.0])
def test_parsing_masks_are_masks(size, feather):
    seen = []

    def parser(face):
        seen.append(face)
        return np.ones((512, 512), np.uint8)

    face = np.full((size, size, 3), 0.5, np.float32)
    mask = parsing_mask(parser, face, size, feather=feather)
    assert seen[0].shape == (512, 512, 3) and seen[0].dtype == np.float32
    assert mask.shape == (size, size) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1 and (border_of(mask) == 0).all()


def test_a_parser_that_returns_something_else():
    with pytest.raises(ValueError, match="512x512"):
        parsing_mask(lambda face: np.ones((128, 128), np.uint8), np.zeros((64, 64, 3), np.float32), 64)


def test_clip_to_picture():
    mask = np.ones((64, 64), np.float32)
    clipped = clip_to_picture(mask, [[1, 0, 10], [0, 1, 20]], (30, 100))
    assert (mask == 1).all()
    assert (clipped[20:50, 10:] == 1).all()  # hard at the picture's own border
    assert (clipped[:20] == 0).all() and (clipped[50:] == 0).all() and (clipped[:, :10] == 0).all()


def test_parsenet_without_weights(tmp_path):
    with pytest.raises(WeightsMissingError, match=r"parsing_parsenet\.pth"):
        load_parsenet([tmp_path])


def test_parsenet_without_facexlib(tmp_path, monkeypatch):
    (tmp_path / "parsing_parsenet.pth").write_bytes(b"x")
    monkeypatch.setattr(masks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FeatureMissingError, match="facexlib"):
        load_parsenet(tmp_path)


def test_parsenet_runs_where_facexlib_is(tmp_path):
    """With random weights: written by torch, read by our reader, run, without importing facexlib as a whole."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("gpen_core.weights.checkpoint")
    try:
        module = masks._facexlib_parsenet()
    except FeatureMissingError:
        pytest.skip("needs facexlib, which is optional: pip install --no-deps facexlib")
    torch.manual_seed(0)
    network = module.ParseNet(in_size=512, out_size=512, parsing_ch=19)
    torch.save(network.state_dict(), tmp_path / "parsing_parsenet.pth")
    known = "facexlib" in sys.modules
    parser = load_parsenet([tmp_path / "nothing here", tmp_path])
    assert ("facexlib" in sys.modules) == known
    face = np.random.default_rng(0).random((512, 512, 3), np.float32)
    classes = parser(face)
    x = torch.from_numpy(face.transpose(2, 0, 1)[None].copy()) * 2 - 1
    with torch.no_grad():
        expected = network.eval()(x)[0][0].argmax(0).numpy()
    assert classes.shape == (512, 512) and (classes == expected).mean() > 0.999
    assert parsing_mask(parser, face, 64).shape == (64, 64)


def test_parsenet_is_taken_out_of_facexlib_alone_and_once(tmp_path, monkeypatch):
    """Every clone: a stand-in for the package, whose own import would fail as the real one's does beside many a torchvision."""
    folder = tmp_path / "facexlib" / "parsing"
    folder.mkdir(parents=True)
    (tmp_path / "facexlib" / "__init__.py").write_text("raise ImportError('no torchvision')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "facexlib", raising=False)
    monkeypatch.delitem(sys.modules, "gpen_core._facexlib_parsenet", raising=False)
    with pytest.raises(FeatureMissingError, match="facexlib"):  # a package without that file
        masks.need_parsing_package()
    (folder / "parsenet.py").write_text("class ParseNet:\n    made = 'here'\n", encoding="utf-8")
    module = masks._facexlib_parsenet()
    assert module.ParseNet.made == "here" and masks._facexlib_parsenet() is module and "facexlib" not in sys.modules
    monkeypatch.delitem(sys.modules, "gpen_core._facexlib_parsenet")
