"""Bad luck on a card: too little memory at any moment, values that are no numbers, interrupts, a driver or card that does not compute."""

from __future__ import annotations

import gc
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card
from test_card_network import SMALL
from test_fused import face, lively

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.batch.run import exit_code, plan_outputs, run_batch, run_jobs
from gpen_core.errors import DeviceError, GpenError, MemoryShortError, SettingsError
from gpen_core.faces import Face
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.load import load_network
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.network.run import run_network, run_pictures
from gpen_core.pictures import from_array, write_picture
from gpen_core.progress import Stopped
from gpen_core.runtime import device_error, pick_device

LITE = "GPEN-BFR-256-lite"
LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"


@pytest.fixture(scope="module")
def plain() -> Generator:
    return lively(SMALL)


def state(network: FusedGenerator) -> list[tuple[str, torch.device, torch.dtype, torch.Tensor]]:
    return [(name, t.device, t.dtype, t.detach().cpu()) for name, t in (*network.named_parameters(), *network.named_buffers())]


def assert_same(network: FusedGenerator, before: list[tuple[str, torch.device, torch.dtype, torch.Tensor]]) -> None:
    for (name, device, dtype, numbers), now in zip(before, state(network), strict=True):
        assert now[:3] == (name, device, dtype) and torch.equal(numbers, now[3]), name


def allocations(card: Card, network: FusedGenerator, faces: list[np.ndarray], tiled: bool | None) -> int:
    card.reset()
    run_pictures(network, faces, tiled=tiled)
    return card.allocations


# --- memory -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_out_of_memory_once_at_any_moment_is_tried_again_in_strips(
    card: Card, plain: Generator, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    network = place(FusedGenerator(plain), NAME, dtype)
    faces = [face(1), face(2)]
    expected = run_pictures(network, faces)
    count = allocations(card, network, faces, None)
    gc.collect()
    before, kept = card.alive, state(network)
    for moment in (1, count // 2, count - 1):  # every moment: test_card_every_allocation.py
        caplog.clear()
        with card.out_of_memory_at(moment):
            given = run_pictures(network, faces)
        assert np.abs(np.stack(given) - np.stack(expected)).max() < (2e-5 if dtype is torch.float32 else 0.03), moment
        assert [record.getMessage() for record in caplog.records] == ["not enough memory for a batch; trying again with 1 at once"]
        caplog.clear()
        with card.out_of_memory_at(min(moment, count // 3)):
            assert np.abs(run_network(network, faces[0]) - expected[0]).max() < (2e-5 if dtype is torch.float32 else 0.03)
        assert [record.getMessage() for record in caplog.records] == [f"not enough memory on {NAME}:0; trying again in strips"]
        assert card.alive == before, "nothing is left of the attempt that failed"
    assert_same(network, kept)


@pytest.mark.parametrize("left", [1, 60, 200])  # allocations until there is no memory any more: in the first face, in the second
def test_the_cpu_is_the_last_way(card: Card, plain: Generator, left: int, caplog: pytest.LogCaptureFixture) -> None:
    network = place(FusedGenerator(plain), NAME, torch.float16)
    faces = [face(1), face(2)]
    expected = run_pictures(FusedGenerator(plain), faces)
    gc.collect()
    before, kept = card.alive, state(network)
    with card.out_of_memory_at(left, always_after=True):
        given = run_pictures(network, faces, or_cpu=True)
    assert np.abs(np.stack(given) - np.stack(expected)).max() < 0.03
    said = [record.getMessage() for record in caplog.records]
    wanted = ("trying again with 1 at once", "trying again in strips", "continuing on the CPU")
    assert [words in line for words, line in zip(wanted, said, strict=True)] == [True] * 3
    assert_same(network, kept)
    gc.collect()
    assert card.alive == before
    with card.out_of_memory_at(left, always_after=True), pytest.raises(torch.OutOfMemoryError):
        run_pictures(network, faces)  # hosts have memory of their own to free


def test_no_memory_anywhere_is_a_sentence(plain: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: FusedGenerator, x: torch.Tensor, tiled: bool | None = None) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(FusedGenerator, "forward", forward)
    with pytest.raises(MemoryShortError, match="not enough memory for this face: close other programs or choose"):
        run_network(FusedGenerator(plain), face(), or_cpu=True)


def test_weights_that_do_not_fit_stay_on_the_cpu(card: Card, caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()
    before = card.alive  # another test's network may still be there
    for moment in (0, 20):
        caplog.clear()
        with card.out_of_memory_at(moment, always_after=True):
            network = load_network(LITE, NAME, torch.float16, or_cpu=True)
        assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
        assert f"not enough memory on {NAME} for {LITE}; it runs on the CPU" in caplog.text
        gc.collect()
        assert card.alive <= before
    with card.out_of_memory_at(5), pytest.raises(torch.OutOfMemoryError):
        load_network(LITE, NAME)


# --- values that are no numbers, interrupts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [None, 3, 60, 200])
def test_the_retry_in_float32_never_touches_the_network(
    card: Card, plain: Generator, moment: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """moment: the retry's allocation that fails, among weights or maps."""
    wide = deepcopy(plain)
    fused = FusedGenerator(wide)
    fused.encodings[0].weight.fill_(6e4)  # fits float16, its sums do not
    network = place(fused, NAME, torch.float16)
    expected = run_network(place(deepcopy(fused), "cpu", torch.float32), face())
    gc.collect()
    before, kept = card.alive, state(network)
    count = card.allocations
    assert np.abs(run_network(network, face()) - expected).max() < 1e-3 and "recomputing this face in float32" in caplog.text
    first = (card.allocations - count) // 2
    if moment is not None:
        with card.out_of_memory_at(first + moment, always_after=True):
            assert np.abs(run_network(network, face(), or_cpu=True) - expected).max() < 1e-3
        with card.out_of_memory_at(first + moment, always_after=True), pytest.raises(torch.OutOfMemoryError):
            run_network(network, face())
    assert_same(network, kept)
    gc.collect()
    assert card.alive == before


def test_nothing_is_left_after_invalid_values_or_a_stop(card: Card, plain: Generator) -> None:
    broken = place(FusedGenerator(plain), NAME)
    broken.constant.fill_(float("nan"))
    before = card.alive
    with pytest.raises(GpenError, match="invalid values"):
        run_network(broken, face(), or_cpu=True)
    calls: list[int] = []

    def ask() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise Stopped

    with pytest.raises(Stopped):
        run_network(broken, face(), ask=ask)
    gc.collect()
    assert card.alive == before


# --- a device that does not compute -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("CUDA error: no kernel image is available for execution on the device", "install a torch that supports it"),
        ("HIP error: no kernel image is available for execution on the device", "install a torch that supports it"),
        ("The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver", "update the driver"),
        ("CUDA driver version is insufficient for CUDA runtime version", "update the driver"),
        (LOST, "stopped working"),
        ("CUDA error: an illegal memory access was encountered", "stopped working"),
        ("CUDA error: device-side assert triggered", "stopped working"),
        ("CUDA error: uncorrectable ECC error encountered", "stopped working"),
        ("level_zero backend failed with error: 20 (UR_RESULT_ERROR_DEVICE_LOST)", "stopped working"),
        ("The GPU device instance has been suspended. Use GetDeviceRemovedReason to determine the appropriate action.", "stopped working"),
    ],
)
def test_a_device_that_does_not_compute_gets_a_sentence(card: Card, plain: Generator, words: str, advice: str) -> None:
    network = place(FusedGenerator(plain), NAME)
    with card.failing(lambda: RuntimeError(words), after=9), pytest.raises(DeviceError) as caught:
        run_network(network, face(), or_cpu=True)
    text = str(caught.value)
    assert text.startswith(f"{NAME}:0: ") and advice in text and words.splitlines()[0] in text and "\n" not in text
    assert "device cpu" in text
    accelerator = type("AcceleratorError", (Exception,), {})
    assert device_error(accelerator(words), "cuda") is not None, "as torch 2.8 and later raise it"
    with card.failing(lambda: RuntimeError(words)), pytest.raises(SettingsError, match=advice):
        pick_device(NAME)
    with card.failing(lambda: RuntimeError(words), after=9), pytest.raises(DeviceError, match=advice):
        load_network(LITE, NAME)


@pytest.mark.parametrize("words", ["CUDA error: out of memory", "mat1 and mat2 shapes cannot be multiplied", ""])
def test_other_errors_are_no_lost_device(words: str) -> None:
    assert device_error(RuntimeError(words), "cuda") is None
    assert device_error(KeyError(LOST), "cuda") is None


class Everywhere:
    name = "everywhere"

    def detect(self, picture: np.ndarray, threshold: float) -> list[Face]:
        points = np.array([[24, 28], [40, 28], [32, 36], [26, 44], [38, 44]], np.float32)
        return [Face((16.0, 16.0, 48.0, 52.0), points, 0.99)]


def test_a_lost_device_ends_the_run_and_what_was_finished_stays(
    card: Card, plain: Generator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in "abcd":
        write_picture(from_array(np.full((64, 64, 3), 0.5, np.float32)), tmp_path / "in" / f"{name}.png")
    options = RestoreOptions(device=NAME, look_closer=False)
    restorer = FaceRestorer(options, network=place(FusedGenerator(plain), NAME), detector=Everywhere())
    jobs = plan_outputs([tmp_path / "in"], tmp_path / "out")
    card.fail_operation = lambda name: RuntimeError(LOST) if (tmp_path / "out" / "a.png").exists() else None
    results = list(run_batch(jobs, restorer))
    assert results[0].error is None and results[0].output == tmp_path / "out" / "a.png"
    assert len(results) < len(jobs) and exit_code(results) == 1
    assert isinstance(results[-1].failure, DeviceError) and "stopped working" in str(results[-1].error)
    assert [isinstance(result.failure, DeviceError) for result in results].count(True) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{'abcd'[n]}.png" for n in range(len(results) - 1)]
    assert caplog.text.count("the run ends here") == 1


def test_a_lost_device_ends_other_runs_too(tmp_path: Path) -> None:
    for name in "abc":
        write_picture(from_array(np.full((8, 8, 3), 0.5, np.float32)), tmp_path / "in" / f"{name}.png")

    def work(result: object, target: Path | None) -> None:
        raise RuntimeError(LOST)

    results = list(run_jobs(plan_outputs([tmp_path / "in"], tmp_path / "out"), work))
    assert len(results) == 1 and isinstance(results[0].failure, DeviceError) and exit_code(results) == 1


def test_one_face_without_memory_never_loses_the_picture(card: Card, plain: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = FaceRestorer(RestoreOptions(device=NAME), network=place(FusedGenerator(plain), NAME), detector=Everywhere())
    restorer._or_cpu = True
    monkeypatch.setattr("gpen_core.network.run._twin", lambda *_: (_ for _ in ()).throw(MemoryError()))
    picture = np.random.default_rng(1).random((64, 64, 3), np.float32)
    with card.out_of_memory_at(0, always_after=True):
        result = restorer(picture, faces=Everywhere().detect(picture, 0.5))
    assert result.faces[0].status == "failed" and "close other programs" in result.faces[0].reason
    assert np.array_equal(result.image, picture)
