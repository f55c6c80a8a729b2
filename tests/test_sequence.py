"""FaceRestorer.sequence(): frames that follow each other are steadied; pictures that do not, and what fails, stay as they were."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_faces_together import FLAT, Tinter, Told
from test_frames_together import FACE, TEN, THREE, Counted, restorer
from test_tracks import scene

from gpen_core import FaceRestorer
from gpen_core.errors import PictureError
from gpen_core.faces.face import Face
from gpen_core.pictures import from_array
from gpen_core.restore import sequence, tracks
from gpen_core.steps import steady
from gpen_core.steps.guards import KeptError

AHEAD = tracks.REACH + steady.REACH


def clip(count: int = 14, grain: float = 0.04, seed: int = 0) -> list[np.ndarray]:
    """A still scene, spoilt anew in every frame."""
    rng, still = np.random.default_rng(seed), scene(seed, (100, 112))
    return [np.clip(still + grain * rng.standard_normal(still.shape).astype(np.float32), 0, 1) for _ in range(count)]


def results(of: FaceRestorer, frames: Any, **more: Any) -> list[Any]:
    return list(of.sequence(frames, **more))


def images(of: FaceRestorer, frames: Any, **more: Any) -> np.ndarray:
    return np.stack([result.image for result in results(of, frames, **more)])


def flicker(frames: np.ndarray) -> float:
    inside = np.s_[:, 38:58, 38:58]  # of the face
    return float(np.abs(np.diff(frames[inside], axis=0)).mean())


def test_faces_flicker_less_the_more_they_are_steadied() -> None:
    frames = clip()
    none, half, all_ = (flicker(images(restorer(Tinter(), steady=value, detail=0.0), frames)) for value in (0.0, 0.5, 1.0))
    assert all_ < 0.35 * none and abs(half - (none + all_) / 2) < 0.15 * none


def test_nothing_but_faces_changes_and_their_mean_stays() -> None:
    frames = clip()
    calm = results(restorer(Tinter()), frames)
    assert all(np.array_equal(result.image[result.mask == 0], frame[result.mask == 0]) for result, frame in zip(calm, frames, strict=True))
    plain = np.stack([result.restored[0] for result in restorer(Tinter()).each(frames)])
    assert np.abs(np.stack([result.restored[0] for result in calm]).mean(axis=0) - plain.mean(axis=0)).max() < 0.03


def test_nearer_frames_count_more() -> None:
    asked = iter(range(10))

    def fifth(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([next(asked) == 4])

    there = [float(result.restored[0][5, 7, 1]) for result in results(restorer(Tinter(nan=fifth, value=1.0)), clip(10, 0.0))]
    assert there[4] > there[3] > there[2] > there[1] > there[9], "the last is more than four frames away"


@pytest.mark.parametrize("options", [{"steady": 0.0}, {"aligned": True}])
def test_without_it_all_is_as_one_by_one(options: dict[str, Any]) -> None:
    of = restorer(Tinter(), **options)
    for one, other in zip(results(of, clip(4)), of.each(clip(4)), strict=True):
        assert not isinstance(other, Exception) and np.array_equal(one.image, other.image)


@pytest.mark.parametrize("pictures", [TEN, [scene(n, (100, 112)) for n in range(6)]])
def test_unrelated_pictures_come_out_exactly_as_alone(pictures: list[np.ndarray]) -> None:
    of = restorer(Tinter())
    for one, picture in zip(results(of, pictures), pictures, strict=True):
        assert np.array_equal(one.image, of(picture).image)


def test_frames_before_a_cut_do_nothing_to_those_after_it() -> None:
    first, second = clip(8), [1 - 0.8 * frame for frame in clip(8, seed=1)]
    joined = images(restorer(Tinter()), [*first, *second])
    assert np.array_equal(joined[:8], images(restorer(Tinter()), first)) and np.array_equal(joined[8:], images(restorer(Tinter()), second))


def test_the_same_frames_give_the_same_again() -> None:
    of, frames = restorer(Tinter()), clip()
    assert np.array_equal(images(of, frames), images(of, iter(frames)))


def test_shared_batches_change_nothing(at_once: Any) -> None:
    frames = clip()
    expected = images(restorer(Tinter()), frames)
    at_once(4)
    network = Tinter()
    assert np.abs(images(restorer(network), frames) - expected).max() < 2e-5 and network.sizes == [4, 4, 4, 2]


class Blinking:
    """A detector that misses the face in some frames."""

    name = "blinking"

    def __init__(self, *missed: int) -> None:
        self.missed, self.asked = missed, 0

    def detect(self, picture: np.ndarray, threshold: float) -> list[Face]:
        self.asked += 1
        return [] if self.asked - 1 in self.missed else [FACE]


def blinking(*missed: int, **options: Any) -> FaceRestorer:
    of = restorer(Tinter(), **options)
    of._detector = Blinking(*missed)
    return of


def test_a_face_that_the_detector_missed_is_restored() -> None:
    for options, counts in (({}, [1] * 10), ({"max_faces": 1}, [1] * 10), ({"faces": "0"}, [t not in (4, 5) for t in range(10)])):
        made = results(blinking(4, 5, **options), clip(10))
        assert [len(result.faces) for result in made] == counts
    assert all(face.status == "restored" for result in results(blinking(4), clip(10)) for face in result.faces)


def test_of_given_faces_none_is_added() -> None:
    faces = [[FACE], [], THREE, [FLAT], [], [FACE], [FACE], [FACE]]
    made = results(restorer(Tinter()), clip(8), faces=faces)
    assert [len(result.faces) for result in made] == [len(chosen) for chosen in faces] and made[3].faces[0].status == "failed"


# --- trouble ------------------------------------------------------------------------------------------------------------------------------


def test_a_frame_that_fails_stays_alone() -> None:
    frames: list[Any] = clip()
    frames[5] = np.zeros((0, 4, 3))
    made = results(restorer(Tinter(), detail=0.0), frames)
    assert [isinstance(result, PictureError) for result in made] == [n == 5 for n in range(14)]
    del frames[5], made[5]
    assert flicker(np.stack([result.image for result in made])) < 0.35 * flicker(images(restorer(Tinter(), steady=0.0, detail=0.0), frames))


@pytest.mark.parametrize("reason", ["invalid", "guard"])
def test_a_new_face_that_failed_or_is_kept_out_is_in_no_mean(reason: str) -> None:
    frames = clip(10)
    asked = iter(range(10))

    def fifth(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([next(asked) == 4])

    class Strict:
        spare, find, recogniser, least, checked = False, None, None, 0.0, 0

        def share(self, *given: Any) -> float:
            return 1.0

        def check(self, crop: np.ndarray, made: np.ndarray, *given: Any) -> None:
            self.checked += 1
            if reason == "guard" and self.checked == 5:
                raise KeptError("another face")

    of = restorer(Tinter(nan=fifth, value=torch.nan if reason == "invalid" else 1e3), detail=0.0)
    of.prepare()
    of._guards = guards = Strict()  # type: ignore[assignment]
    made = results(of, frames)
    status = {"invalid": "failed", "guard": "kept"}[reason]
    assert [result.faces[0].status for result in made] == [status if n == 4 else "restored" for n in range(10)]
    plain = restorer(Tinter(), detail=0.0)
    assert np.array_equal(made[4].image, frames[4])
    assert all(
        np.abs(result.restored[0] - plain(frame).restored[0]).max() < 0.2
        for result, frame in zip(made, frames, strict=True)
        if result.restored
    )
    assert guards.checked == (10 if reason == "guard" else 9), "each new face once"


def test_an_error_while_reading_comes_after_the_frames_before_it() -> None:
    def damaged() -> Iterator[np.ndarray]:
        yield from clip(3)
        raise PictureError("cut")

    each = restorer(Tinter()).sequence(damaged())
    assert [next(each).faces[0].status for _ in range(3)] == ["restored"] * 3  # type: ignore[union-attr]
    with pytest.raises(PictureError, match="cut"):
        next(each)


def test_after_a_stop_no_other_frame_is_begun() -> None:
    network = Tinter()
    done: list[Any] = []
    for result in restorer(network).sequence(clip(20), stop=lambda: len(done) >= 3):
        done.append(result)
    assert len(done) == len(network.sizes) == 3 + steady.REACH and all(result.faces[0].status == "restored" for result in done)


def test_a_stop_of_the_restorer_leaves_the_rest_as_it_was() -> None:
    frames = clip(10)
    network = Tinter()
    made = results(restorer(network, Told(lambda said: len(network.sizes) >= 4)), frames)
    assert [result.stopped for result in made] == [False] * 4 + [True] * 6 and len(network.sizes) == 4
    assert all(np.array_equal(result.image, frame) for result, frame in zip(made[4:], frames[4:], strict=True))


# --- memory -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pixels", "most"), [(64_000_000, AHEAD + 1), (100 * 110 * 7, 7), (100 * 110, 1), (1, 1)])
def test_no_more_frames_are_held_than_it_looks_ahead(monkeypatch: pytest.MonkeyPatch, pixels: int, most: int) -> None:
    monkeypatch.setattr(sequence, "MOST_PIXELS", pixels)
    frames = Counted(40)
    done = held = 0
    for _ in restorer(Tinter()).sequence(frames):
        held = max(held, frames.taken - done)
        done += 1
        assert frames.alive() <= most + 1, "those that wait, and the one before"
    assert done == 40 and held == most


def test_frames_that_wait_are_held_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[np.ndarray]] = []

    def picture_of(given: Any) -> Any:
        picture = from_array(given)
        seen.append(weakref.ref(picture.pixels))
        return picture

    monkeypatch.setattr(sequence, "picture_of", picture_of)
    for _ in restorer(Tinter()).sequence([np.rint(frame * 255).astype(np.uint8) for frame in clip(20)]):
        assert sum(ref() is not None for ref in seen) <= 2, "in floats"


def test_of_large_faces_fewer_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(most: int) -> np.ndarray:
        monkeypatch.setattr(sequence, "MOST_FACE_PIXELS", most)
        return images(restorer(Tinter(), detail=0.0), clip())

    expected, some, alone = made(64**2 * 99), made(64**2 * 5), made(64**2)
    assert np.array_equal(expected, made(64**2 * 9)), "nine are enough"
    assert flicker(expected) < flicker(some) < flicker(alone)


def test_results_are_let_go() -> None:
    each: Any = restorer(Tinter()).sequence(clip())
    result = next(each)
    refs: Sequence[Any] = [weakref.ref(array) for array in (result.image, result.crops[0], result.restored[0])]
    del result
    assert not any(ref() is not None for ref in refs)
