"""Colour match and fidelity: nothing changes when nothing should, and nothing runs away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.errors import SettingsError
from gpen_core.steps.tone import MAX_GAIN, MAX_SHIFT, keep_low_frequencies, match_colour


def portrait(size: int, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture with fine grain, 0.2..0.8."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size)) / size
    waves = [0.5 + 0.15 * np.sin(2 * np.pi * (a * x + b * y) + c) for a, b, c in rng.random((3, 3)) * [2, 2, 6]]
    return (np.stack(waves, axis=2) + 0.05 * (rng.random((size, size, 3)) - 0.5)).astype(np.float32)


def ones(size: int) -> np.ndarray:
    return np.ones((size, size), np.float32)


def test_equal_faces_stay():
    face = portrait(256)
    np.testing.assert_allclose(match_colour(face, face, ones(256)), face, atol=1e-6)
    np.testing.assert_allclose(keep_low_frequencies(face, face, 1.0), face, atol=1e-6)


def test_a_tint_is_taken_back():
    face = portrait(256)
    tinted = np.clip((face - 0.5) * 0.9 + 0.5 + np.float32([0.08, -0.03, -0.06]), 0, 1)
    np.testing.assert_allclose(match_colour(tinted, face, ones(256)), face, atol=0.01)


def test_only_the_mask_is_measured():
    face, other = portrait(128), portrait(128)
    other[:, 64:] = 0
    mask = ones(128)
    mask[:, 60:] = 0
    np.testing.assert_allclose(match_colour(face, other, mask), face, atol=0.01)


def test_an_empty_mask_changes_nothing():
    face = portrait(64)
    np.testing.assert_array_equal(match_colour(face, 1 - face, 0 * ones(64)), face)


def test_restored_detail_does_not_count_as_contrast():
    flat, detailed = np.full((256, 256, 3), 0.5, np.float32), np.full((256, 256, 3), 0.5, np.float32)
    detailed[::2] += 0.2
    detailed[1::2] -= 0.2
    np.testing.assert_allclose(match_colour(detailed, flat, ones(256)), detailed, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(a=st.integers(0, 50), b=st.integers(0, 50), contrast=st.floats(0, 3), size=st.sampled_from([16, 64, 100]))
def test_bounds(a, b, contrast, size):
    restored, original = portrait(size, a), np.clip((portrait(size, b) - 0.5) * np.float32(contrast) + 0.5, 0, 1)
    kept = restored.copy(), original.copy()
    out = match_colour(restored, original, ones(size))
    assert out.dtype == np.float32 and out.min() >= 0 and out.max() <= 1
    # One pixel against another: never further apart than the gain allows; the whole: never moved beyond the shift.
    assert np.linalg.norm(out[0, 0] - out[-1, -1]) <= MAX_GAIN * np.linalg.norm(restored[0, 0] - restored[-1, -1]) + 1e-5
    assert np.abs(out.mean(axis=(0, 1)) - restored.mean(axis=(0, 1))).max() <= MAX_SHIFT * np.sqrt(3) + 1e-5
    np.testing.assert_array_equal(kept, (restored, original))


@pytest.mark.parametrize("size", [64, 256, 600, 1024])
def test_fidelity(size):
    restored, original = portrait(size, 1), portrait(size, 2)
    kept = restored.copy(), original.copy()
    np.testing.assert_array_equal(keep_low_frequencies(restored, original, 0.0), restored)
    half, whole = (keep_low_frequencies(restored, original, amount) for amount in (0.5, 1.0))
    np.testing.assert_array_equal(kept, (restored, original))
    np.testing.assert_allclose(half, (restored + whole) / 2, atol=1e-5)
    block = size // 8
    coarse = [p[: 8 * block, : 8 * block].reshape(8, block, 8, block, 3).mean(axis=(1, 3))[1:-1, 1:-1] for p in (whole, original)]
    assert np.abs(coarse[0] - coarse[1]).max() < 0.02  # the original's tone
    rough = [np.diff(p, axis=1) for p in (whole, restored)]
    assert np.corrcoef(rough[0].ravel(), rough[1].ravel())[0, 1] > (0.97 if size > 64 else 0.8)  # the restored grain
    assert whole.min() >= 0 and whole.max() <= 1 and whole.dtype == np.float32


@pytest.mark.parametrize("amount", [-0.01, 1.01, float("nan")])
def test_fidelity_out_of_range(amount):
    with pytest.raises(SettingsError):
        keep_low_frequencies(portrait(16), portrait(16), amount)


def test_results_stay_between_black_and_white():
    dark, bright = np.zeros((64, 64, 3), np.float32), np.ones((64, 64, 3), np.float32)
    spot = dark.copy()
    spot[32, 32] = 1
    for out in (keep_low_frequencies(spot, bright, 1.0), keep_low_frequencies(1 - spot, dark, 1.0), match_colour(spot, bright, ones(64))):
        assert out.min() >= 0 and out.max() <= 1


def test_a_fine_pattern_of_the_mask_is_measured_whole():
    """Sampled in place of averaged, the mask would miss the columns where the face is."""
    face, other = portrait(512), portrait(512)
    other[:, ::8] += np.float32(0.2)
    mask = np.zeros((512, 512), np.float32)
    mask[:, 1::8] = 1
    assert np.abs(match_colour(face, other, mask) - face).max() > 0.01
