"""Detectors, ParseNet and Real-ESRGAN on a device: out of memory they go on with the CPU, and a lost device is a sentence."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card
from torch import Tensor, nn
from torch.nn import functional as F

from gpen_core.errors import DeviceError, MemoryShortError
from gpen_core.faces import make_detector
from gpen_core.faces.facexlib_detector import WEIGHTS
from gpen_core.steps import background, mask

LOST = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported"
Work = Callable[[], Any]


class Parsing(nn.Module):
    """A stand-in for ParseNet: 19 classes from the colour of each pixel."""

    def __init__(self, **_: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 19, 1)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.head(x),)


class Twice(nn.Module):
    """A stand-in for Real-ESRGAN."""

    seen: ClassVar[list[tuple[str, int]]] = []  # device and side of each tile

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        Twice.seen.append((x.device.type, x.shape[2]))
        return F.interpolate(x, scale_factor=2.0, mode="nearest") * self.weight


class FacexlibRetinaFace(nn.Module):
    """A stand-in for facexlib's: keeps its device and its mean colour beside its weights, as that does."""

    def __init__(self, network_name: str, half: bool, device: Any) -> None:
        super().__init__()
        self.device, self.mean_tensor = device, torch.tensor([[[[104.0]], [[117.0]], [[123.0]]]], device=device)
        self.head = nn.Conv2d(3, 1, 1)
        self.to(device)

    def detect_faces(self, image: np.ndarray, threshold: float, nms: float) -> np.ndarray:
        x = torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).to(self.device) - self.mean_tensor
        return self.head(x).mean(dim=(2, 3)).cpu().numpy().repeat(15, axis=1)


def weights(module: nn.Module) -> dict[str, Tensor]:
    torch.default_generator.manual_seed(3)
    return {name: torch.randn_like(tensor) for name, tensor in module.state_dict().items()}


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[str], Work]]:
    """For each step: loads it for a device; what is returned uses it."""
    torch.save(weights(Parsing()), tmp_path / mask.PARSENET_FILES[0])
    monkeypatch.setattr(mask, "_facexlib_parsenet", lambda: types.SimpleNamespace(ParseNet=Parsing))
    torch.save(weights(Twice()), tmp_path / "twice.pth")
    monkeypatch.setattr(background, "_rrdb_settings", lambda *_: {"scale": 2})
    monkeypatch.setattr(background, "_maker", lambda: lambda *_: Twice())
    torch.save(weights(FacexlibRetinaFace("", False, "cpu")), tmp_path / WEIGHTS)
    for name in ("facexlib", "facexlib.detection", "facexlib.detection.retinaface"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["facexlib.detection.retinaface"], "RetinaFace", FacexlibRetinaFace, raising=False)
    picture, small = (np.random.default_rng(1).random((side, side, 3), np.float32) for side in (140, 64))

    def detecting(name: str, device: str) -> Work:
        detector = make_detector(name, device=device, weights_folders=[tmp_path])
        return lambda: [[face.score, *face.landmarks.ravel()] for face in detector.detect(small, 0.001)]

    def parsing(device: str) -> Work:
        parser = mask.load_parsenet(tmp_path, device)
        return lambda: parser(small)

    def enlarging(device: str) -> Work:
        upscaler = background.load_realesrgan(tmp_path / "twice.pth", device, tile=128)
        return lambda: upscaler(picture[:130])

    return {
        "ParseNet": parsing,
        "Real-ESRGAN": enlarging,
        "finding faces": lambda device: detecting("retinaface-mobile", device),
        "retinaface-r50": lambda device: detecting("retinaface-r50", device),
    }


STEPS = pytest.mark.parametrize("name", ["ParseNet", "Real-ESRGAN", "finding faces", "retinaface-r50"])


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return lines


@STEPS
def test_out_of_memory_it_goes_on_with_the_cpu(
    card: Card, steps: dict[str, Callable[[str], Work]], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = np.asarray(steps[name]("cpu")())
    assert expected.size
    gc.collect()
    before = card.alive
    use = steps[name](NAME)
    assert np.allclose(use(), expected, atol=1e-3)
    card.reset()
    use()
    count = card.allocations
    assert count, "it runs there"
    what = "finding faces" if name.startswith("retinaface") else name
    last = f"not enough memory on {NAME} for {what}; continuing on the CPU"
    for moment in {0, 1, count // 2, count - 1}:
        use = steps[name](NAME)
        with card.out_of_memory_at(moment, always_after=True):
            assert np.allclose(use(), expected, atol=1e-3)
            lines = said(caplog)
            assert lines[-1] == last and (len(lines) == 1 or lines[0].endswith("trying again in tiles of 64 pixels")), lines
            assert np.allclose(use(), expected, atol=1e-3) and not said(caplog), "from now on there"
        assert card.alive == before, "nothing is left"
    with card.out_of_memory_at(0, always_after=True):
        assert np.allclose(steps[name](NAME)(), expected, atol=1e-3)
    assert said(caplog) == [last] and card.alive == before, "its weights do not fit"


@STEPS
def test_without_memory_anywhere_it_says_so(
    card: Card, steps: dict[str, Callable[[str], Work]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = steps[name](NAME)
    use()

    def short(*_: Any, **__: Any) -> Any:
        raise MemoryError("std::bad_alloc")

    for function in ("conv2d", "interpolate"):
        monkeypatch.setattr(F, function, short)
    monkeypatch.setattr(nn.Conv2d, "forward", short)
    with pytest.raises(MemoryShortError, match=r"not enough memory for .*: close other programs"):
        use()


@STEPS
def test_a_lost_device_is_a_sentence(card: Card, steps: dict[str, Callable[[str], Work]], name: str) -> None:
    use = steps[name](NAME)
    use()
    with card.failing(lambda: RuntimeError(LOST), after=2), pytest.raises(DeviceError, match="stopped working") as caught:
        use()
    assert "\n" not in str(caught.value)
    with card.failing(lambda: RuntimeError(LOST)), pytest.raises(DeviceError, match="stopped working"):
        steps[name](NAME)()


def test_smaller_tiles_come_first_and_stay(card: Card, steps: dict[str, Callable[[str], Work]], caplog: pytest.LogCaptureFixture) -> None:
    expected = steps["Real-ESRGAN"]("cpu")()
    use = steps["Real-ESRGAN"](NAME)
    card.capacity = card.alive + 5 * 4 * 3 * 100**2  # for more than a tile of 64, twice as large, and less than one of 128
    assert np.allclose(use(), expected, atol=1e-6)
    assert said(caplog) == [f"not enough memory on {NAME} for Real-ESRGAN; trying again in tiles of 64 pixels"]
    Twice.seen.clear()
    assert np.allclose(use(), expected, atol=1e-6) and not said(caplog)
    assert {place for place, _ in Twice.seen} == {NAME} and max(side for _, side in Twice.seen) == 64
    with card.out_of_memory_at(0, always_after=True):
        Twice.seen.clear()
        use()
    assert max(side for place, side in Twice.seen if place == "cpu") == 128, "the CPU has room for larger ones"


def test_a_detector_leaves_the_device_with_its_last_user(card: Card) -> None:
    before = card.alive
    one, other = (make_detector("retinaface-mobile", device=NAME) for _ in range(2))
    small = np.zeros((64, 64, 3), np.float32)
    one.detect(small, 0.9)
    held = card.alive - before
    other.detect(small, 0.9)
    assert card.alive - before == held > 10**6, "its weights are there once"
    del one
    gc.collect()
    assert card.alive - before == held
    del other
    gc.collect()
    assert card.alive == before
