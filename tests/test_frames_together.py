"""Faces of several pictures in common batches, as on a device: the results are those of one by one, and few pictures are held."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_faces_together import FLAT, NO_MEMORY, SIZE, Tinter, Told, darkest, same
from test_fused import lively
from test_restorer import Finder, face_at, noise

from gpen_core import FaceRestorer, Progress, RestoreOptions, RestoreResult
from gpen_core.errors import PictureError
from gpen_core.faces.face import Face
from gpen_core.network.fused import FusedGenerator
from gpen_core.pictures import Picture, from_array
from gpen_core.restore import together
from gpen_core.weights.architecture import Architecture

FACE = face_at(20, 20, 56)
THREE = [face_at(10 + 12 * n, 10 + 5 * n, 56) for n in range(3)]
TEN = [noise((100, 110, 3), np.float32, seed=n) for n in range(10)]


@pytest.fixture(scope="module")
def small() -> FusedGenerator:
    return FusedGenerator(lively(Architecture(SIZE, 1, 1 / 16)))


def restorer(network: Any, progress: Progress | None = None, finds: Sequence[Face] = (FACE,), **options: Any) -> FaceRestorer:
    given = RestoreOptions(device="cpu", look_closer=False, **options)
    return FaceRestorer(given, network=network, detector=Finder(finds), progress=progress)


def results(of: FaceRestorer, pictures: Iterable[Any] = TEN, faces: Iterable[Sequence[Face]] | None = None) -> list[Any]:
    return list(of.each(pictures, faces=faces))


def alone(of: FaceRestorer, pictures: Iterable[Any] = TEN, faces: Iterable[Sequence[Face] | None] | None = None) -> list[RestoreResult]:
    return [of(picture, faces=chosen) for picture, chosen in zip(pictures, faces or [None] * 99, strict=False)]


def all_same(some: Sequence[Any], others: Sequence[RestoreResult], within: float = 2e-5) -> None:
    for one, other in zip(some, others, strict=True):
        if other.crops:
            same(one, other, within)
        else:
            assert np.array_equal(one.image, other.image) and not one.crops
            assert [face.status for face in one.faces] == [face.status for face in other.faces]


# --- batches ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"colour_match": True, "fidelity": 0.5, "output_size": "factor", "factor": 1.5},
        {"aligned": True, "output_size": "factor", "factor": 1.5},
    ],
)
def test_pictures_come_out_as_one_by_one(small: FusedGenerator, at_once: Callable[[int], None], options: dict[str, Any]) -> None:
    alone_told, told = Told(), Told()
    expected = alone(restorer(small, alone_told, **options))
    at_once(4)
    all_same(results(restorer(small, told, **options)), expected)
    assert sorted(map(str, told.said)) == sorted(map(str, alone_told.said)), "faces of later pictures are looked for earlier"
    one, other = ([words for words in progress.said if words[2].startswith("face")] for progress in (told, alone_told))
    assert one == other, "progress goes on per face"


@pytest.mark.parametrize(("room", "sizes"), [(8, [8, 2]), (4, [4, 4, 2]), (2, [2] * 5), (1, [1] * 10)])
def test_faces_of_pictures_fill_batches(at_once: Callable[[int], None], room: int, sizes: list[int]) -> None:
    at_once(room)
    network = Tinter()
    assert [result.faces[0].status for result in results(restorer(network))] == ["restored"] * 10 and network.sizes == sizes


def test_batches_fill_up_whatever_number_of_faces_pictures_have(at_once: Callable[[int], None]) -> None:
    nine = [face_at(3 * n, 2 * n, 56) for n in range(9)]
    faces = [[FACE], [], THREE, [FLAT], [], [FLAT, *THREE, FLAT], nine, [], [FACE], [FACE]]
    expected = alone(restorer(Tinter()), TEN, faces)
    at_once(4)
    network = Tinter()
    all_same(results(restorer(network), TEN, faces), expected, 0)
    assert network.sizes == [4, 4, 4, 4, 2], "1 and 3; 3 and 1 of 9; the 8 left; 1 and 1"


def test_the_kind_of_each_picture_is_kept(at_once: Callable[[int], None]) -> None:
    at_once(8)
    given = [noise((100, 110, 4)), Image.fromarray(noise((90, 100, 3))), from_array(TEN[0]), noise((90, 100, 3), np.uint16)]
    for picture, result in zip(given, results(restorer(Tinter()), given), strict=True):
        assert type(result.image) is type(picture) and result.model and result.seconds > 0
        assert getattr(result.image, "dtype", None) == getattr(picture, "dtype", None)


# --- what is held -----------------------------------------------------------------------------------------------------------------------


class Counted:
    """Pictures that know how many of them were taken, and how many are still there."""

    def __init__(self, count: int, shape: tuple[int, ...] = (100, 110, 3)) -> None:
        self.count, self.shape, self.taken = count, shape, 0
        self.refs: list[weakref.ref[np.ndarray]] = []

    def __iter__(self) -> Iterator[Picture]:
        for _ in range(self.count):
            self.taken += 1
            yield self.made()

    def made(self) -> Picture:
        picture = from_array(np.full(self.shape, 0.5, np.float32))
        self.refs.append(weakref.ref(picture.pixels))
        return picture

    def alive(self) -> int:
        return sum(ref() is not None for ref in self.refs)


@pytest.mark.parametrize("one_by_one", ["a processor", "no face"])
def test_where_nothing_is_shared_no_picture_is_taken_early(at_once: Callable[[int], None], one_by_one: str) -> None:
    if one_by_one == "no face":
        at_once(8)
    pictures = Counted(5)
    each = restorer(Tinter(), finds=[FACE] if one_by_one == "a processor" else []).each(pictures)
    for number in range(5):
        next(each)
        assert pictures.taken == number + 1 and pictures.alive() <= 1


@pytest.mark.parametrize(("pixels", "most"), [(2**24, 8), (100 * 110 * 7 // 2, 3), (1, 1)])
def test_few_pictures_are_held(at_once: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, pixels: int, most: int) -> None:
    at_once(8)
    monkeypatch.setattr(together, "MOST_PIXELS", pixels)
    pictures = Counted(40)
    faces = [[FACE] if n % 10 == 0 else [] for n in range(40)]  # it would have to go far to fill a batch
    done = held = 0
    for _ in restorer(Tinter()).each(pictures, faces=faces):
        held = max(held, pictures.taken - done)
        done += 1
        assert pictures.alive() <= most + 1, "those not finished, and the one before"
    assert done == 40 and held == most


def test_results_are_let_go(at_once: Callable[[int], None]) -> None:
    at_once(2)
    seen: list[weakref.ref[np.ndarray]] = []

    def note(result: Any) -> None:
        assert len(seen) % 6 or not any(ref() is not None for ref in seen), "at the end of a batch nobody but the caller holds them"
        seen.extend(map(weakref.ref, (result.image, result.crops[0], result.restored[0])))

    assert len(list(map(note, restorer(Tinter()).each(TEN)))) == 10


def test_what_one_by_one_made_is_let_go() -> None:
    each = restorer(Tinter()).each(TEN)
    result: Any = next(each)
    refs = [weakref.ref(array) for array in (result.image, result.crops[0], result.restored[0])]
    del result
    assert not any(ref() is not None for ref in refs), "nor does the network's last batch hold them"


# --- trouble ----------------------------------------------------------------------------------------------------------------------------


def with_a_dark_one(number: int, count: int = 10) -> list[np.ndarray]:
    return [np.full((100, 110, 3), 0 if n == number else 0.6, np.float32) for n in range(count)]


@pytest.mark.parametrize("number", [0, 3, 9])
def test_one_invalid_face_fails_alone(at_once: Callable[[int], None], number: int) -> None:
    at_once(8)
    network = Tinter(nan=darkest)
    made = results(restorer(network), with_a_dark_one(number))
    assert [result.faces[0].status for result in made] == ["failed" if n == number else "restored" for n in range(10)]
    assert network.sizes == [8, 2]


class Fragile(Tinter):
    """Raises an error for a batch that holds a dark picture."""

    def __init__(self, error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(darkest(x).any()):
            self.sizes.append(-len(x))
            raise self.error()
        return super().forward(x)


@pytest.mark.parametrize("number", [0, 3, 9])
def test_an_error_of_the_network_stays_with_its_picture(at_once: Callable[[int], None], number: int) -> None:
    at_once(4)
    network = Fragile(lambda: RuntimeError("mat1 and mat2"))
    made = results(restorer(network), with_a_dark_one(number))
    assert isinstance(made[number], RuntimeError) and str(made[number]) == "mat1 and mat2"
    assert all(result.faces[0].status == "restored" for n, result in enumerate(made) if n != number)
    start = number // 4 * 4
    assert [size for size in network.sizes if size > 0] == [4] * (start // 4) + [1] * (min(4, 10 - start) - 1) + [
        min(4, 10 - n) for n in range(start + 4, 10, 4)
    ]


def test_without_memory_batches_are_halved(at_once: Callable[[int], None]) -> None:
    expected = alone(restorer(Tinter()))
    at_once(8)
    network = Tinter(room=3)
    all_same(results(restorer(network)), expected, 0)
    assert network.sizes == [8, 4, 2, 2, 2, 2, 2]


def test_what_one_picture_learnt_of_memory_holds_for_all_its_faces(at_once: Callable[[int], None]) -> None:
    at_once(4)
    network = Tinter(room=2)
    results(restorer(network), TEN[:1], [[face_at(3 * n, 2 * n, 56) for n in range(8)]])
    assert network.sizes == [4, 2, 2, 2, 2]


def test_memory_that_does_not_suffice_for_one_is_that_pictures_error(at_once: Callable[[int], None]) -> None:
    at_once(4)
    network = Fragile(lambda: NO_MEMORY)
    made = results(restorer(network), with_a_dark_one(5))
    assert made[5] is NO_MEMORY, "hosts that bring the network free memory themselves"
    assert network.sizes == [4, -4, -2, 1, -1, 1, 1, 2], "one face alone without memory is not tried again"
    assert all(result.faces[0].status == "restored" for n, result in enumerate(made) if n != 5)


def test_an_interrupt_of_the_host_passes_at_once(at_once: Callable[[int], None]) -> None:
    class Interrupt(Exception):
        pass

    at_once(4)
    each = restorer(Fragile(Interrupt)).each(with_a_dark_one(6))
    for _ in range(4):
        next(each)
    with pytest.raises(Interrupt):
        next(each)


def test_errors_of_pictures_come_in_their_place(at_once: Callable[[int], None]) -> None:
    at_once(8)
    given: list[Any] = [*TEN[:2], np.zeros((0, 4, 3)), *TEN[2:4]]
    network = Tinter()
    made = results(restorer(network), given)
    assert [isinstance(result, PictureError) for result in made] == [False, False, True, False, False] and network.sizes == [4]

    def damaged() -> Iterator[np.ndarray]:
        yield from TEN[:3]
        raise PictureError("cut")

    each = restorer(network).each(damaged())
    assert [next(each).faces[0].status for _ in range(3)] == ["restored"] * 3
    with pytest.raises(PictureError, match="cut"):
        next(each)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_picture_that_fails_while_it_is_composed_leaves_no_face_to_the_next(at_once: Callable[[int], None], failing: int) -> None:
    faces = [THREE] * 4
    expected = alone(restorer(Tinter()), TEN[:4], faces)
    at_once(8)
    of = restorer(Tinter(), mask="parsing")
    asked = []

    def parser(face: np.ndarray) -> np.ndarray:
        asked.append(1)
        if len(asked) == 4 + failing:  # in the second picture
            raise RuntimeError("no memory for ParseNet")
        return np.full((512, 512), 1, np.uint8)

    of._parser = parser
    made = results(of, TEN[:4], faces)
    assert [isinstance(result, RuntimeError) for result in made] == [False, True, False, False]
    for number in (0, 2, 3):
        assert np.array_equal(np.stack(made[number].restored), np.stack(expected[number].restored))


def test_a_face_that_cannot_be_cropped_fails_with_its_own_picture(at_once: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(8)
    from gpen_core.restore import compose

    real = compose.crop_face

    def crop(pixels: np.ndarray, *rest: Any) -> np.ndarray:
        if pixels[0, 0, 0] == 0:
            raise MemoryError
        return real(pixels, *rest)

    monkeypatch.setattr(compose, "crop_face", crop)
    made = results(restorer(Tinter()), with_a_dark_one(4))
    assert [type(result) for result in made] == [MemoryError if n == 4 else RestoreResult for n in range(10)]


# --- stops ------------------------------------------------------------------------------------------------------------------------------


def test_after_a_stop_all_that_is_made_is_pasted_and_nothing_else(at_once: Callable[[int], None]) -> None:
    at_once(4)
    network = Tinter()
    made = results(restorer(network, Told(lambda said: any(preview for *_, preview in said))), TEN, [[FACE]] * 10)
    assert [result.faces[0].status if result.faces else "" for result in made] == ["restored"] * 4 + ["stopped"] * 6
    assert [result.stopped for result in made] == [False] * 4 + [True] * 6 and network.sizes == [4]
    assert all(np.array_equal(result.image, picture) for result, picture in zip(made[4:], TEN[4:], strict=True))


def test_after_a_stop_no_other_picture_is_taken(at_once: Callable[[int], None]) -> None:
    at_once(4)
    taken: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for number, picture in enumerate(TEN):
            taken.append(number)
            yield picture

    made = restorer(Tinter(), Told(lambda said: len(taken) >= 3)).each(pictures(), faces=[[FACE]] * 10)
    next(made)
    assert taken == [0, 1, 2], "a fourth would have filled the batch"


def test_a_stop_in_the_network_says_of_each_face_where_it_was(small: FusedGenerator, at_once: Callable[[int], None]) -> None:
    at_once(4)
    asked = count()
    made = results(restorer(small, Told(lambda said: next(asked) >= 8)), TEN, [[FACE]] * 10)  # within the first batch
    assert [result.faces[0].status for result in made] == ["stopped"] * 10
    assert ["while" in result.faces[0].reason for result in made] == [True] + [False] * 9


def test_pictures_after_a_stop_that_ended_are_restored(small: FusedGenerator, at_once: Callable[[int], None]) -> None:
    expected = alone(restorer(small))
    at_once(4)
    asked = count()
    made = results(restorer(small, Told(lambda said: next(asked) == 8)), TEN, [[FACE]] * 10)  # once, in the first batch
    assert made[0].stopped and "while" in made[0].faces[0].reason
    all_same(made[1:], expected[1:])
