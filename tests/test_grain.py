"""The noise of a face between two frames: noise is told from texture, which is there again in the next frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from test_detail import Mirror, face_in, textured

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.restore import grain
from gpen_core.restore.grain import SIDE, Sample, least, noise_between, sample_of
from gpen_core.steps.align import Matrix, similarity, template_points
from gpen_core.steps.detail import bands_of, local_energy

LEVEL = 1 / 255


def skin(side: int, seed: int = 0) -> np.ndarray:
    """Texture that is about as strong everywhere, so that noise passes for detail on it, and wrinkles that can be followed."""
    blobs = np.random.default_rng(seed).standard_normal((side // 6, side // 6, 1), dtype=np.float32)
    return textured(side, seed, variety=0.5) + 0.08 * cv2.resize(blobs, (side, side), interpolation=cv2.INTER_CUBIC)[..., None]


TEXTURE = skin(260)


def frame(number: int, sigma: float, picture: np.ndarray = TEXTURE) -> tuple[np.ndarray, Matrix]:
    """(frame, picture to network): moved by part of a pixel and turned a little, with noise of its own."""
    angle = 0.004 * number
    turned = np.array([[np.cos(angle), -np.sin(angle), 0.37 * number], [np.sin(angle), np.cos(angle), 0.21 * number]])
    moved = cv2.warpAffine(picture, turned, picture.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    noise = np.random.default_rng(number).standard_normal(moved.shape, dtype=np.float32) * np.float32(sigma * LEVEL)
    points = face_in(picture.shape[0]).landmarks @ turned[:, :2].T + turned[:, 2]
    return moved + noise, similarity(points, template_points("gpen", 128))


def sample(number: int, sigma: float, picture: np.ndarray = TEXTURE) -> Sample:
    found = sample_of(*frame(number, sigma, picture), 128)
    assert found is not None and found.pixels.shape == (SIDE, SIDE, 3)
    return found


def energies(one: Sample) -> list[np.ndarray]:
    """The mean energy of each band of what the network lacks."""
    residual = grain._lacked(one.pixels, one.matrix)
    bands, _ = bands_of(residual, np.ones(residual.shape[:2], np.float32), 2)
    return [local_energy(band)[16:-16, 16:-16].mean(axis=(0, 1)) for band in bands]


@pytest.mark.parametrize("sigma", [3, 8, 16])
def test_noise_is_found_on_texture_as_strong_as_it(sigma: float):
    found = noise_between(sample(0, sigma), sample(1, sigma))
    assert found is not None
    noise = np.random.default_rng(9).standard_normal((SIDE, SIDE, 3), dtype=np.float32) * np.float32(sigma * LEVEL)
    true = energies(Sample(noise, sample(0, 0).matrix))
    assert all((0.25 * right < one).all() and (one < 1.1 * right).all() for one, right in zip(found[:1], true[:1], strict=True))


def test_clean_texture_that_moves_has_none():
    for number in (0, 1, 5):
        found = noise_between(sample(number, 0), sample(number + 1, 0))
        assert found is not None and not np.any(found), "so that no detail is lost"


def test_a_part_that_moves_on_its_own_is_no_noise():
    other = TEXTURE.copy()
    other[120:] = skin(260, seed=5)[120:]
    found = noise_between(sample(0, 0), sample(1, 0, other))
    assert found is not None and (found[0] <= 0.02 * energies(sample(0, 0))[0]).all()


def test_landmarks_that_tremble_do_not_matter():
    still = noise_between(sample(0, 6), sample(1, 6))
    one = sample(1, 6)
    trembling = Sample(one.pixels, np.column_stack([one.matrix[:, :2], one.matrix[:, 2] + (1.3, -1.1)]))
    assert still is not None
    assert noise_between(sample(0, 6), trembling)[0] == pytest.approx(still[0], rel=0.1)


def test_where_nothing_can_be_followed_nothing_is_said():
    flat = np.full_like(TEXTURE, 0.5)
    assert noise_between(sample(0, 0, flat), sample(1, 0, flat)) is None


def test_of_a_face_that_bends_nothing_is_said():
    y, x = np.mgrid[:260, :260].astype(np.float32)
    bent = cv2.remap(TEXTURE, x + 1.5 * np.sin(y / 8), y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    assert noise_between(sample(0, 0), sample(1, 0, bent)) is None


def test_small_faces_have_no_sample():
    picture, matrix = frame(0, 0)
    assert sample_of(picture, np.column_stack([matrix[:, :2] * 6, matrix[:, 2]]), 128) is None  # all new
    assert sample_of(picture[:70], matrix, 128) is None


def test_of_two_noises_the_smaller_counts():
    one, other = [np.float32([1, 5, 2]), np.float32([1, 1, 1])], [np.float32([3, 2, 2])]
    assert [list(energy) for energy in least(one, other)] == [[1, 2, 2]]
    assert least(None, other) is other and least(one, None) is one and least(None, None) is None


def middles(frames: list[np.ndarray], **options: float) -> np.ndarray:
    """The middle of the face in each frame, by a network that changes nothing and has about the picture's resolution."""
    of = FaceRestorer(RestoreOptions(device="cpu", **options), network=Mirror(192))
    results = list(of.sequence(frames, faces=[[face_in(200)]] * len(frames)))
    return np.stack([result.image[60:140, 60:140] for result in results])


def noisy(still: np.ndarray, count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [still + rng.standard_normal(still.shape, dtype=np.float32) * np.float32(6 * LEVEL) for _ in range(count)]


def test_noise_that_passes_for_detail_flickers_less_in_a_sequence(monkeypatch):
    still = skin(200)
    monkeypatch.setattr("gpen_core.steps.detail.lost_noise", lambda *given: None)  # with it, a single picture tells this noise too
    calm = middles(noisy(still))
    monkeypatch.setattr("gpen_core.restore.sequence.noise_between", lambda one, other: None)
    before = middles(noisy(still))
    assert np.abs(np.diff(calm, axis=0)).mean() < 0.6 * np.abs(np.diff(before, axis=0)).mean()
    assert np.square(calm - still[60:140, 60:140]).mean() < 0.6 * np.square(before - still[60:140, 60:140]).mean()


def test_a_clean_sequence_keeps_all_of_its_detail():
    clean = [skin(200)] * 4
    np.testing.assert_array_equal(middles(clean), middles(clean, steady=0.0))


@pytest.mark.parametrize("lost", [None, 0, 4])
def test_frames_know_their_noise_from_one_side_or_both_and_as_far_as_they_are_steadied(monkeypatch, lost):
    """lost: a frame without a face."""
    told: dict[float, list] = {}

    def detail(*given: object) -> None:
        told[steady].append(given[-1])

    monkeypatch.setattr("gpen_core.restore.compose.detail_of_face", detail)
    frames = noisy(skin(200))
    faces = [[] if number == lost else [face_in(200)] for number in range(5)]
    for steady in (1.0, 0.5):
        told[steady] = []
        list(FaceRestorer(RestoreOptions(device="cpu", steady=steady), network=Mirror()).sequence(frames, faces=faces))
    assert len(told[1.0]) == 5 - (lost is not None)
    for whole, half in zip(*told.values(), strict=True):
        assert (half[0] > 0).all() and whole[0] == pytest.approx(2 * half[0], rel=0.2)
