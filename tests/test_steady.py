"""The filter over time that steadies restored faces: it averages what stayed the same, and nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.steps.steady import Neighbour, guide_of, steadied

SIZE = 64
STILL = np.full((SIZE, SIZE, 3), 0.5, np.float32)


def noisy(seed: int, level: float = 0.1) -> np.ndarray:
    return (0.5 + level * np.random.default_rng(seed).standard_normal((SIZE, SIZE, 3))).astype(np.float32)


def neighbours(count: int, crop: np.ndarray = STILL) -> list[Neighbour]:
    return [Neighbour(1 + n // 2, noisy(n), guide_of(crop)) for n in range(count)]


def test_what_the_network_made_anew_in_every_frame_is_averaged() -> None:
    made = noisy(99)
    calm = steadied(made, guide_of(STILL), neighbours(8), 1.0)
    assert np.std(calm - STILL) < 0.5 * np.std(made - STILL) and calm.dtype == np.float32


def test_where_the_face_itself_changed_nothing_is_taken_from_other_frames() -> None:
    other = STILL.copy()
    other[:, : SIZE // 2] += 0.15  # 38 grey levels
    made = noisy(99)
    calm = steadied(made, guide_of(STILL), neighbours(8, other), 1.0)
    assert np.abs(calm - made)[:, : SIZE // 2 - 8].max() < 1e-4, "no trailing"
    assert np.abs(calm - made)[:, SIZE // 2 + 8 :].mean() > 0.03, "the other half is still averaged"


def test_another_light_all_over_the_face_is_a_change() -> None:
    made = noisy(99)
    assert np.abs(steadied(made, guide_of(STILL), neighbours(8, STILL + np.float32(0.2)), 1.0) - made).max() < 1e-3


def test_noise_of_the_input_is_no_change() -> None:
    made, crops = noisy(99), [noisy(1000 + n, 0.04) for n in range(9)]  # 10 grey levels
    near = [Neighbour(1 + n // 2, noisy(n), guide_of(crops[n])) for n in range(8)]
    assert np.std(steadied(made, guide_of(crops[8]), near, 1.0) - STILL) < 0.5 * np.std(made - STILL)


def test_alone_or_without_strength_a_face_is_itself() -> None:
    made = noisy(99)
    assert steadied(made, guide_of(STILL), [], 1.0) is made
    assert steadied(made, guide_of(STILL), neighbours(4), 0.0) is made
    larger = [Neighbour(1, np.zeros((2 * SIZE, 2 * SIZE, 3), np.float32), guide_of(STILL))]
    assert steadied(made, guide_of(STILL), larger, 1.0) is made, "of another network"


@settings(max_examples=20, deadline=None)
@given(strength=st.floats(0, 1), seed=st.integers(0, 1000), count=st.integers(1, 8), order=st.randoms(use_true_random=False))
def test_it_is_a_mean_linear_in_the_strength_and_the_same_in_both_directions(strength: float, seed: int, count: int, order) -> None:  # type: ignore[no-untyped-def]
    made, near = noisy(seed + 5000), [Neighbour(1 + n // 2, noisy(n), guide_of(noisy(n + 50, 0.02))) for n in range(count)]
    guide, before = guide_of(STILL), made.copy()
    whole = steadied(made, guide, near, 1.0)
    assert np.array_equal(made, before)
    every = np.stack([made, *(one.made for one in near)])
    assert (whole >= every.min(axis=0) - 1e-5).all() and (whole <= every.max(axis=0) + 1e-5).all()
    assert np.abs(steadied(made, guide, near, strength) - (made + np.float32(strength) * (whole - made))).max() < 1e-5
    order.shuffle(near)
    assert np.abs(steadied(made, guide, near, 1.0) - whole).max() < 1e-5
