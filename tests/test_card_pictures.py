"""Whole pictures with the network on a device: finding faces, restoring, enlarging, the tasks; and large networks without numbers."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card
from test_fused import LITE, lively
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch

from gpen_core import FaceRestorer, RestoreOptions, runtime
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.pictures import from_array, read_picture
from gpen_core.restore.whole_picture import colorize, inpaint, segmentation_to_face
from gpen_core.steps import background
from gpen_core.weights.architecture import Architecture

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return read_picture(EXAMPLE).pixels


def test_the_detector_finds_the_same_faces(card: Card, portrait: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    small = np.ascontiguousarray(portrait[::2, ::2])
    detector = RetinaFaceMobile(NAME)
    (there,), (here,) = detector.detect(small, 0.5), RetinaFaceMobile("cpu").detect(small, 0.5)
    assert np.abs(there.landmarks - here.landmarks).max() < 1e-3 and abs(there.score - here.score) < 1e-4
    card.reset()
    detector.detect(small, 0.5)
    assert (card.uploads, card.downloads, card.syncs) == (1, 1, 0)
    assert not caplog.text


def test_a_picture_is_restored_as_on_the_processor(card: Card, portrait: np.ndarray) -> None:
    results = {}
    for device in ("cpu", NAME):
        restorer = FaceRestorer(RestoreOptions(model=LITE, device=device, precision="fp32", look_closer=False))
        results[device] = restorer(portrait)
        if device == NAME:
            assert next(restorer.loaded_network.parameters()).device.type == NAME
            held = card.alive
            card.reset()
            restorer(portrait, faces=[face.face for face in results[device].faces])
            assert (card.uploads, card.downloads, card.syncs) == (1, 1, 0) and card.alive == held
        del restorer
    assert [face.status for face in results[NAME].faces] == ["restored"]
    assert np.abs(results[NAME].image - results["cpu"].image).max() < 2e-3


@pytest.mark.parametrize("task", [colorize, inpaint, segmentation_to_face])
def test_the_tasks_are_those_of_the_processor(card: Card, task: Callable[..., Any]) -> None:
    plain = lively(Architecture(64, 2, 0.125))
    picture = from_array(np.random.default_rng(2).random((64, 64, 3), np.float32))
    there = task(picture, place(FusedGenerator(plain), NAME)).pixels
    assert np.abs(there - task(picture, FusedGenerator(plain)).pixels).max() < 2e-5


class Twice(nn.Module):
    """A stand-in for Real-ESRGAN."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest") * self.weight


def test_the_background_is_enlarged_there_in_tiles_that_fit(card: Card) -> None:
    upscaler = background.RealEsrgan(Twice().to(NAME), 2, torch.device(NAME), tile=128)
    pixels = np.random.default_rng(3).random((150, 130, 3), np.float32)
    wanted = np.repeat(np.repeat(pixels, 2, 0), 2, 1)
    before = card.alive
    card.reset()
    assert np.allclose(upscaler(pixels), wanted, atol=1e-6)
    assert card.uploads == card.downloads and card.syncs == 0
    with card.out_of_memory_at(1):
        assert np.allclose(upscaler(pixels), wanted, atol=1e-6)
    gc.collect()
    assert card.alive == before


# --- without numbers --------------------------------------------------------------------------------------------------------------------
aten = torch.ops.aten


class OnCuda(TorchFunctionMode):
    """A torch without CUDA refuses to make tensors there, even fake ones: makes them on "meta" and lets them say that they are there."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.made = fake, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda":
            self.made += 1
            with no_dispatch():
                return self.there(func(*args, **{**kwargs, "device": "meta"}))
        # These choose the device before they look at whose tensor it is, and there is none; the operations behind them do not.
        if func is Tensor.contiguous:
            form = kwargs.get("memory_format", torch.contiguous_format)
            return args[0] if args[0].is_contiguous(memory_format=form) else aten.clone(args[0], memory_format=form)
        if func is Tensor.float or (func is Tensor.to and len(args) == 2 and isinstance(args[1], torch.dtype)):
            dtype = torch.float32 if func is Tensor.float else args[1]
            return args[0] if args[0].dtype is dtype else aten._to_copy(args[0], dtype=dtype)
        if func is Tensor.__getitem__:
            return self.part(*args)
        if func is Tensor.__setitem__:
            return aten.copy_(self.part(*args[:2]), args[2])
        return func(*args, **kwargs)

    def part(self, x: Tensor, index: Any) -> Tensor:
        dim = 0
        for one in index if isinstance(index, tuple) else (index,):
            if one is None:
                x = aten.unsqueeze(x, dim)
            elif isinstance(one, int):
                x, dim = aten.select(x, dim, one), dim - 1
            elif one != slice(None):
                assert one.step is None
                x = aten.slice(x, dim, one.start or 0, x.shape[dim] if one.stop is None else one.stop)
            dim += 1
        return x

    def there(self, tensor: Tensor) -> Tensor:
        return FakeTensor(self.fake, tensor, torch.device("cuda", 0))


SHAPES = [(256, 1, 0.5), (512, 2, 1), (1024, 2, 1), (2048, 2, 1)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape[0]))


def hollow(size: int, multiplier: float, narrow: float, dtype: torch.dtype) -> tuple[FusedGenerator, Tensor]:
    with torch.device("meta"):
        plain = Generator(Architecture(size, multiplier, narrow)).eval().requires_grad_(False)
        return FusedGenerator(plain).to(dtype), torch.empty(2, 3, size, size, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@EVERY_SHAPE
def test_every_size_passes_on_meta(shape: tuple[int, float, float], dtype: torch.dtype) -> None:
    network, x = hollow(*shape, dtype)
    y = network(x)
    assert y.shape == x.shape and y.dtype is torch.float32 and y.device.type == "meta"


@pytest.mark.parametrize(
    ("shape", "dtype", "tiled"),
    [
        *((shape, dtype, False) for shape in SHAPES for dtype in (torch.float32, torch.float16)),
        (SHAPES[0], torch.bfloat16, False),
        *((shape, torch.float16, True) for shape in (*SHAPES[:2], SHAPES[3])),
    ],
    ids=str,
)
def test_every_size_passes_on_cuda_without_numbers(shape: tuple[int, float, float], dtype: torch.dtype, tiled: bool) -> None:
    """Fake tensors refuse two devices, and operations that must know a number."""
    network, x = hollow(*shape, dtype)
    fake = FakeTensorMode(allow_non_fake_inputs=False)
    mode = OnCuda(fake)
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            module._parameters[name] = cast(Any, mode.there(parameter.detach()))
    x = mode.there(x)
    with fake, mode:
        y = network(x, tiled=tiled)
    assert y.shape == x.shape and y.dtype is torch.float32 and y.device == torch.device("cuda", 0) and mode.made


def test_the_detector_is_exact_on_cards(card: Card, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """On cards that compute bfloat16 as well: which faces are found must not depend on them."""
    monkeypatch.setattr(runtime, "_card_computes_bf16", lambda *_: True)
    large = np.ascontiguousarray(np.tile(portrait, (3, 3, 1))[:540, :540])
    said = RetinaFaceMobile(NAME).predict([large])[0]
    assert np.abs(said.scores - RetinaFaceMobile("cpu").predict([large])[0].scores).max() < 1e-4
