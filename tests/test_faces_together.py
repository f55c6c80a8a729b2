"""Faces in batches, as on a device: the same faces, failures and stops as one by one. Batches are forced on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card
from test_fused import lively
from test_restorer import Finder, face_at, noise

from gpen_core import FaceRestorer, Progress, RestoreOptions, RestoreResult
from gpen_core.faces.face import Face
from gpen_core.network import run
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.weights.architecture import Architecture

SIZE = 64
EIGHT = [face_at(10 + 12 * (n % 4), 10 + 60 * (n // 4), 56) for n in range(8)]  # neighbours overlap
PICTURE = noise((140, 150, 3), np.float32)
FLAT = Face((0, 0, 20, 20), np.zeros((5, 2), np.float32), 0.9)  # its landmarks fit no template
NO_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")


class Tinter(torch.nn.Module):
    """Stands in for a network: mixes every picture with grey. sizes: of the batches it was asked for.

    room: larger batches run out of memory. nan: says of a batch in which of its pictures one value is not valid. value: that one.
    """

    def __init__(self, room: int = 100, nan: Callable[[torch.Tensor], torch.Tensor] | None = None, value: float = torch.nan) -> None:
        super().__init__()
        self.size, self.room, self.nan, self.value = SIZE, room, nan, value
        self.one = torch.nn.Parameter(torch.ones(1))
        self.sizes: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.room:
            raise NO_MEMORY
        y = x * 0.5
        if self.nan is not None:
            y[self.nan(x), 1, 5, 7] = self.value
        return y


@pytest.fixture(scope="module")
def small() -> FusedGenerator:
    return FusedGenerator(lively(Architecture(SIZE, 1, 1 / 16)))


class Told(Progress):
    """Keeps what it is told; says stop once `when` holds of that."""

    def __init__(self, when: Callable[[list[Any]], bool] = lambda said: False) -> None:
        self.said: list[tuple[int, int, str, bool]] = []
        self.when = when

    def report(self, done: int, total: int, what: str, preview: np.ndarray | None = None) -> None:
        self.said.append((done, total, what, preview is not None))

    def stop(self) -> bool:
        return self.when(self.said)


def restore(network: Any, faces: Sequence[Face] = EIGHT, progress: Progress | None = None, **options: Any) -> RestoreResult:
    given = RestoreOptions(device="cpu", **options)
    return FaceRestorer(given, network=network, detector=Finder([]), progress=progress)(PICTURE, faces=faces)


def same(one: RestoreResult, other: RestoreResult, within: float = 0.0) -> None:
    assert [(face.status, face.index) for face in one.faces] == [(face.status, face.index) for face in other.faces]
    for a, b in ((one.image, other.image), (one.mask, other.mask), (np.stack(one.crops), np.stack(other.crops))):
        np.testing.assert_allclose(a, b, atol=within, rtol=0)
    np.testing.assert_allclose(np.stack(one.restored), np.stack(other.restored), atol=within, rtol=0)


def test_the_faces_of_these_tests_overlap_so_their_order_counts() -> None:
    assert np.abs(restore(Tinter()).image - restore(Tinter(), EIGHT[::-1]).image).max() > 0.01


@pytest.mark.parametrize("options", [{}, {"colour_match": True, "fidelity": 0.5, "detail": 1.0, "output_size": "factor", "factor": 2.0}])
def test_a_batch_gives_the_faces_that_one_by_one_gives(
    small: FusedGenerator, at_once: Callable[[int], None], options: dict[str, Any]
) -> None:
    alone_told, told = Told(), Told()
    at_once(1)
    alone = restore(small, progress=alone_told, **options)
    at_once(3)
    same(restore(small, progress=told, **options), alone, 2e-5)
    assert told.said == alone_told.said


@pytest.mark.parametrize(("room", "sizes"), [(1, [1] * 8), (4, [4, 4]), (5, [5, 3]), (8, [8])])
def test_as_many_faces_at_once_as_there_is_room_for(at_once: Callable[[int], None], room: int, sizes: list[int]) -> None:
    network = Tinter()
    at_once(room)
    restore(network)
    assert network.sizes == sizes


def test_faces_that_fit_no_template_take_no_place_in_a_batch(at_once: Callable[[int], None]) -> None:
    faces = [FLAT, *EIGHT[:2], FLAT, *EIGHT[2:4], FLAT]
    alone = restore(Tinter(), faces)
    at_once(4)
    network = Tinter()
    same(restore(network, faces), alone)
    assert network.sizes == [4] and [face.status for face in alone.faces].count("failed") == 3


def test_processors_take_faces_one_by_one(small: FusedGenerator) -> None:
    network = Tinter()
    restore(network)
    assert network.sizes == [1] * 8 and run.batch_size(small) == 1


class Elsewhere(FusedGenerator):
    """A network without layers that is not on a processor."""

    def __init__(self, architecture: Architecture, dtype: torch.dtype) -> None:
        torch.nn.Module.__init__(self)
        self.architecture = architecture
        self.one = torch.nn.Parameter(torch.empty(1, device="meta", dtype=dtype))


@pytest.mark.parametrize(
    ("size", "dtype", "free", "expected"),
    [
        (256, torch.float32, 10**12, 8),
        (2048, torch.float32, 10**12, 4),
        (2048, torch.float32, 10 * 2**30, 2),  # 2 GiB each, and half of what is free
        (2048, torch.float16, 10 * 2**30, 4),
        (2048, torch.float32, 10**9, 1),
        (2048, torch.float32, None, 1),
        (512, torch.float32, None, 2),
        (256, torch.float32, None, 8),
    ],
)
def test_batches_by_free_memory(monkeypatch: pytest.MonkeyPatch, size: int, dtype: torch.dtype, free: int | None, expected: int) -> None:
    network = Elsewhere(Architecture(size, 1, 0.5) if size == 256 else Architecture(size), dtype)
    monkeypatch.setattr(run, "free_memory", lambda device: free)
    assert run.batch_size(network) == expected


@pytest.mark.parametrize(("room", "sizes"), [(3, [8, 4, 2, 2, 2, 2]), (1, [8, 4, 2, *[1] * 8]), (4, [8, 4, 4])])
def test_a_batch_without_room_is_halved_and_those_after_it_are_no_larger(
    at_once: Callable[[int], None], room: int, sizes: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    alone = restore(Tinter())
    at_once(8)
    network = Tinter(room)
    same(restore(network), alone)
    assert network.sizes == sizes and caplog.text.count("not enough memory for a batch") == sizes.index(sizes[-1])


def test_without_room_for_one_it_is_computed_in_strips(
    small: FusedGenerator, at_once: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, bool | None]] = []
    real = FusedGenerator.forward

    def forward(self: FusedGenerator, x: torch.Tensor, tiled: bool | None = None, **rest: Any) -> torch.Tensor:
        asked.append((len(x), tiled))
        if not tiled:
            raise NO_MEMORY
        return real(self, x, tiled, **rest)

    alone = restore(small, EIGHT[:3])
    monkeypatch.setattr(FusedGenerator, "forward", forward)
    at_once(2)
    same(restore(small, EIGHT[:3]), alone, 2e-5)
    assert asked == [(2, None), (1, None), (1, True), (1, None), (1, True), (1, None), (1, True)]


def darkest(x: torch.Tensor) -> torch.Tensor:
    """Which pictures of the batch are darker than the others."""
    return x.mean(dim=(1, 2, 3)) < -0.5


@pytest.mark.parametrize(("number", "value"), [(0, torch.nan), (2, torch.inf), (7, -torch.inf)])
def test_one_face_of_a_batch_that_is_invalid_fails_alone(
    at_once: Callable[[int], None], number: int, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    at_once(8)
    faces = [face_at(10 + 70 * n, 10, 56) for n in range(8)]
    picture = np.full((80, 600, 3), 0.6, np.float32)
    picture[:, 5 + 70 * number : 71 + 70 * number] = 0
    network = Tinter(nan=darkest, value=value)
    result = FaceRestorer(RestoreOptions(device="cpu"), network=cast(Any, network), detector=Finder([]))(picture, faces=faces)
    assert [face.status for face in result.faces] == ["failed" if n == number else "restored" for n in range(8)]
    assert "invalid values" in result.faces[number].reason and network.sizes == [8] and len(caplog.records) == 1
    assert len(result.restored) == 7 and np.isfinite(result.image).all()


def test_one_face_that_overflows_in_half_precision_is_computed_again_alone(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, torch.dtype]] = []

    def overflows(x: torch.Tensor) -> torch.Tensor:
        seen.append((len(x), x.dtype))
        return darkest(x.float()) & (x.dtype != torch.float32)

    network = Tinter(nan=overflows).to(torch.bfloat16)
    pictures = [np.full((SIZE, SIZE, 3), shade, np.float32) for shade in (0.5, 0.6, 0.1, 0.7)]
    with caplog.at_level(logging.WARNING):
        made = list(run.run_each(cast(Any, network), pictures, at_once=4))
    assert seen == [(4, torch.bfloat16), (1, torch.float32)] and len(caplog.records) == 1
    assert [round(float(cast(np.ndarray, one).mean()), 2) for one in made] == [0.5, 0.55, 0.3, 0.6]
    assert next(network.parameters()).dtype == torch.bfloat16


def test_a_stop_in_the_network_keeps_the_batches_before_it(small: FusedGenerator, at_once: Callable[[int], None]) -> None:
    at_once(3)
    whole = restore(small)
    stopped = restore(small, progress=Told(lambda said: any(done == 3 and "face 4" in what for done, _, what, _ in said)))
    assert stopped.stopped and [face.status for face in stopped.faces] == ["restored"] * 3 + ["stopped"] * 5
    assert "while" in stopped.faces[3].reason
    same_faces = [np.abs(a - b).max() for a, b in zip(stopped.restored, whole.restored, strict=False)]
    assert len(same_faces) == 3 and max(same_faces) == 0
    assert np.array_equal(stopped.image[stopped.mask == 0], PICTURE[stopped.mask == 0])


def test_a_stop_while_a_batch_is_pasted_keeps_all_of_it(at_once: Callable[[int], None]) -> None:
    at_once(4)
    progress = Told(lambda said: any(preview for *_, preview in said))
    result = restore(Tinter(), progress=progress)
    assert result.stopped and [face.status for face in result.faces] == ["restored"] * 4 + ["stopped"] * 4


def test_faces_are_cropped_when_their_batch_begins(at_once: Callable[[int], None]) -> None:
    taken: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for number in range(200):
            taken.append(number)
            yield np.zeros((SIZE, SIZE, 3), np.float32)

    at_once(4)
    making = run.run_each(cast(Any, Tinter()), pictures())
    for number in range(9):
        next(making)
        assert len(taken) == 4 * (number // 4 + 1)


# --- aligned faces ----------------------------------------------------------------------------------------------------------------------


def aligned(network: Any, progress: Progress | None = None, **options: Any) -> FaceRestorer:
    return FaceRestorer(RestoreOptions(device="cpu", aligned=True, **options), network=network, progress=progress)


@pytest.mark.parametrize("options", [{}, {"output_size": "factor", "factor": 2.0, "colour_match": True, "fidelity": 0.3}])
def test_aligned_faces_are_restored_together(small: FusedGenerator, at_once: Callable[[int], None], options: dict[str, Any]) -> None:
    pictures = [noise((50 + 10 * n, 60, 3), np.float32, seed=n) for n in range(5)]
    alone = [aligned(small, **options)(picture) for picture in pictures]
    at_once(3)
    for one, other in zip(aligned(small, **options).each_aligned(pictures), alone, strict=True):
        same(one, other, 2e-5)
    network = Tinter()
    assert len(list(aligned(network, **options).each_aligned(pictures))) == 5 and network.sizes == [3, 2]


def test_a_stop_among_aligned_faces_ends_with_a_result_that_says_so(at_once: Callable[[int], None]) -> None:
    at_once(2)
    pictures = [noise((SIZE, SIZE, 3), seed=n) for n in range(5)]
    results: list[RestoreResult] = []
    progress = Told(lambda said: len(results) == 2)
    for result in aligned(Tinter(), progress).each_aligned(pictures):
        results.append(result)
    assert [result.stopped for result in results] == [False, False, True]
    assert np.array_equal(results[2].image, pictures[2])


# --- on a device ------------------------------------------------------------------------------------------------------------------------


def test_on_a_device_a_batch_goes_up_once_and_comes_down_once(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = lively(Architecture(SIZE, 1, 1 / 16))
    alone = restore(FusedGenerator(plain))
    network = place(FusedGenerator(plain), NAME)
    needed = 8 * network.architecture.channels(SIZE) * SIZE**2 * 4
    monkeypatch.setattr(run, "free_memory", lambda device: 2 * 4 * needed + 1)  # half of it is for a batch
    before = card.alive
    card.reset()
    same(restore(network), alone, 2e-5)
    assert (card.uploads, card.downloads, card.syncs) == (2, 2, 0)
    assert card.uploaded == card.downloaded == 8 * SIZE**2 * 3 * 4
    assert card.alive == before


def test_on_a_device_that_runs_out_of_memory_all_faces_are_restored(
    card: Card, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "free_memory", lambda device: None)  # a device that cannot tell
    plain = lively(Architecture(SIZE, 1, 1 / 16))
    alone = restore(FusedGenerator(plain))
    network = place(FusedGenerator(plain), NAME)
    list(run.run_each(network, alone.crops, at_once=3))
    room = card.peak - card.alive
    card.reset()
    card.capacity = card.alive + room
    same(restore(network), alone, 2e-5)
    assert caplog.text.count("not enough memory for a batch") == 2, "8, 4, then 2 at once"
