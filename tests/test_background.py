"""Enlarging the rest of the picture: sizes and bounds, Lanczos, tiles without a seam, Real-ESRGAN by packages that may be missing."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.errors import FeatureMissingError, GpenError, SettingsError, WeightsError, WeightsMissingError
from gpen_core.progress import Progress, Stopped
from gpen_core.steps import background
from gpen_core.steps.background import (
    MAX_LONG_SIDE,
    MAX_PIXELS,
    MAX_SCALE,
    enlarge,
    in_tiles,
    largest_scale,
    load_realesrgan,
    output_scale,
    scaled_shape,
)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def matrix(scale: float) -> list[list[float]]:
    return [[0, -scale, 5], [scale, 0, 7]]


def test_scale_keep_and_factor():
    assert output_scale("keep", [matrix(9)], (100, 100)) == 1.0
    assert output_scale(2.5, [], (100, 100)) == 2.5
    assert output_scale(0.5, [], (100, 100)) == 0.5


def test_scale_native_is_that_of_the_smallest_face():
    assert output_scale("native", [matrix(1.5), matrix(3.25), matrix(0.2)], (1000, 1000)) == pytest.approx(3.25)
    assert output_scale("native", [matrix(0.2)], (1000, 1000)) == 1.0
    assert output_scale("native", [], (1000, 1000)) == 1.0


@given(height=st.integers(1, 40000), width=st.integers(1, 40000), face=st.floats(0.01, 100))
def test_scale_native_is_bounded(height, width, face):
    scale = output_scale("native", [matrix(face)], (height, width, 3))
    assert 1 <= scale <= MAX_SCALE
    h, w = scaled_shape((height, width), scale)
    if scale > 1:
        assert max(h, w) <= MAX_LONG_SIDE and h * w <= MAX_PIXELS * 1.001 + h + w


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), 8.5])
def test_a_factor_that_cannot_be_met(factor):
    with pytest.raises(SettingsError):
        output_scale(factor, [], (100, 100))


def test_a_factor_too_large_for_this_picture():
    with pytest.raises(SettingsError, match=r"at most 2\.00 times"):
        output_scale(4, [], (8192, 100))
    assert output_scale(1, [], (40000, 40000)) == 1.0 and largest_scale((40000, 40000)) == 1.0


def test_scale_1_is_a_copy():
    picture, alpha = noise(20, 30), noise(20, 30)[..., 0]
    result, result_alpha = enlarge(picture, 1.0, alpha=alpha, upscaler=lambda p: 1 / 0)
    np.testing.assert_array_equal(result, picture)
    np.testing.assert_array_equal(result_alpha, alpha)
    result[:] = 0
    assert picture.any()


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), scale=st.floats(0.3, 5))
def test_lanczos(height, width, scale):
    picture = (noise(height, width) > 0.5).astype(np.float32)
    before = picture.copy()
    result, alpha = enlarge(picture, scale, alpha=picture[..., 0].copy())
    assert result.shape == (*scaled_shape(picture.shape, scale), 3) and result.dtype == np.float32
    assert alpha is not None and alpha.shape == result.shape[:2]
    for p in (result, alpha):
        assert p.min() >= 0 and p.max() <= 1
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_allclose(enlarge(np.full_like(picture, 0.3), scale)[0], 0.3, atol=1e-5)


def test_lanczos_is_sharper_than_linear_and_not_shifted():
    x = np.indices((64, 64), np.float32)[1]
    picture = np.repeat((0.5 + 0.4 * np.sin(x))[..., None], 3, axis=2).astype(np.float32)
    result = enlarge(picture, 4)[0]
    where = (np.arange(256) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(result[128, 32:-32, 0], 0.5 + 0.4 * np.sin(where[32:-32]), atol=0.01)


def test_an_upscaler_of_any_factor_is_brought_to_size():
    picture = np.full((30, 40, 3), 0.25, np.float32)
    for factor in (1, 2, 4):
        result, alpha = enlarge(picture, 2.5, upscaler=lambda p, n=factor: np.repeat(np.repeat(p, n, 0), n, 1))
        assert result.shape == (75, 100, 3) and alpha is None
        np.testing.assert_allclose(result, 0.25, atol=1e-5)


@pytest.mark.parametrize("result", [np.zeros((4, 4)), np.full((60, 80, 3), np.nan), np.zeros((60, 80, 4))], ids=["grey", "nan", "alpha"])
def test_an_upscaler_that_fails(result):
    with pytest.raises(GpenError, match="lanczos"):
        enlarge(noise(30, 40), 2, upscaler=lambda p: result)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 150), width=st.integers(1, 150), factor=st.sampled_from([1, 2, 4]), tile=st.sampled_from([40, 64]),
    overlap=st.sampled_from([8, 16]),
)  # fmt: skip
def test_tiles_leave_no_seam(height, width, factor, tile, overlap):
    picture = noise(height, width)

    def upscale(p):
        assert max(p.shape[:2]) <= tile
        larger = np.repeat(np.repeat(p, factor, 0), factor, 1)
        # Garbage on the outermost pixels of a tile, as a network's padding leaves it, must not come through within the picture.
        if p.shape[0] < height and p.shape[1] < width:
            larger[:factor], larger[-factor:], larger[:, :factor], larger[:, -factor:] = 9, 9, 9, 9
        return larger

    result = in_tiles(picture, factor, upscale, tile=tile, overlap=overlap)
    inner = result[factor:-factor, factor:-factor]
    np.testing.assert_allclose(inner, np.repeat(np.repeat(picture, factor, 0), factor, 1)[factor:-factor, factor:-factor], atol=1e-5)


class Watch(Progress):
    """Counts what it is told; says stop, or raises, once it was told so often."""

    def __init__(self, most: int = 10**9, error: BaseException | None = None):
        self.seen: list[tuple[int, int]] = []
        self.most, self.error = most, error

    def report(self, done, total, what, preview=None):
        self.seen.append((done, total))
        if self.error is not None and len(self.seen) >= self.most:
            raise self.error

    def stop(self):
        return self.error is None and len(self.seen) >= self.most


def test_tiles_report_and_stop():
    calls = []

    def upscale(p):
        calls.append(1)
        return np.repeat(np.repeat(p, 2, 0), 2, 1)

    picture, watch = np.full((100, 100, 3), 0.5, np.float32), Watch()
    np.testing.assert_allclose(in_tiles(picture, 2, upscale, tile=40, overlap=8, progress=watch), 0.5, atol=1e-5)
    assert watch.seen == [(i, 9) for i in range(9)] and len(calls) == 9
    calls.clear()
    with pytest.raises(Stopped):
        in_tiles(picture, 2, upscale, tile=40, overlap=8, progress=Watch(2))
    assert len(calls) == 2
    # enlarge() gives back what it was given, with nothing done by halves.
    alpha = picture[..., 0] * 0.5
    result, result_alpha = enlarge(
        picture,
        2,
        alpha=alpha,
        upscaler=lambda p: in_tiles(p, 2, upscale, tile=40, overlap=8, progress=stopper),
        progress=(stopper := Watch(4)),
    )
    np.testing.assert_array_equal(result, picture)
    np.testing.assert_array_equal(result_alpha, alpha)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 30), scale=st.floats(1, 8), most=st.integers(0, 12))
def test_lanczos_in_strips_is_that_of_the_whole_picture_and_can_be_stopped(height, width, scale, most):
    picture = noise(height, width)
    result, _ = enlarge(picture, scale)
    tall, wide = scaled_shape(picture.shape, scale)
    whole = np.clip(cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_LANCZOS4), 0, 1)
    np.testing.assert_allclose(result, whole.reshape(result.shape), atol=3e-5)  # OpenCV keeps positions in float32
    watch = Watch(most)
    stopped, alpha = enlarge(picture, scale, alpha=picture[..., 0], progress=watch)
    assert len(watch.seen) <= most
    if watch.stop():
        assert stopped.shape[:2] in (picture.shape[:2], (tall, wide)) and alpha.shape == stopped.shape[:2]
        if stopped.shape == picture.shape:
            np.testing.assert_array_equal(stopped, picture)


def test_enlarging_asks_at_least_every_16_megapixels():
    watch = Watch()
    enlarge(np.zeros((1500, 40, 3), np.float32), 2, progress=watch)
    assert len(watch.seen) >= 3000 * MAX_LONG_SIDE / 16e6  # were it as wide as can be


def test_a_hosts_interrupt_passes_through_enlarging():
    class Interrupt(Exception):
        pass

    with pytest.raises(Interrupt):
        enlarge(noise(300, 20), 4, progress=Watch(3, Interrupt()))


# --- Real-ESRGAN: stand-ins of spandrel and basicsr ---------------------------------------------------------------------------------------

TINY_RRDBNET = '''
import torch
from torch import nn

class RRDBNet(nn.Module):
    """The names and shapes of the real one; enlarges by repeating pixels, times a weight."""
    def __init__(self, num_in_ch, num_out_ch, scale, num_feat, num_block, num_grow_ch):
        super().__init__()
        self.scale = scale
        self.conv_first = nn.Conv2d({4: 3, 2: 12, 1: 48}[scale], num_feat, 3)
        self.body = nn.ModuleList()
        for _ in range(num_block):
            block = nn.Module()
            block.rdb1 = nn.Module()
            block.rdb1.conv1 = nn.Conv2d(num_feat, num_grow_ch, 3)
            self.body.append(block)
    def forward(self, x):
        assert x.shape[2] % 4 == 0 and x.shape[3] % 4 == 0
        return torch.nn.functional.interpolate(x, scale_factor=self.scale, mode="nearest")
'''
TINY_SPANDREL = (
    TINY_RRDBNET
    + '''
class ModelLoader:
    """Reads the settings off the tensors, and refuses what it does not know."""
    def __init__(self, device):
        assert device == "cpu"
    def load_from_state_dict(self, state):
        if "conv_first.weight" not in state:
            raise KeyError("unsupported model")
        features, channels = state["conv_first.weight"].shape[:2]
        network = RRDBNet(3, 3, {3: 4, 12: 2, 48: 1}[channels], features, 3, 4)
        network.load_state_dict(state)
        return network
'''
)


@pytest.fixture(params=["spandrel", "basicsr"])
def stand_ins(request, tmp_path: Path, monkeypatch):
    """One of the two as a small fake, first on the path and nowhere afterwards; the other cannot be imported."""
    pytest.importorskip("torch")
    names = ("spandrel", "basicsr")
    files = {"spandrel/__init__.py": TINY_SPANDREL, "basicsr/__init__.py": "", "basicsr/archs/__init__.py": ""}
    files["basicsr/archs/rrdbnet_arch.py"] = TINY_RRDBNET
    for name, text in files.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if name.startswith(request.param) else "raise RuntimeError('operator torchvision::nms does not exist')")
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in names}
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in names]:
        del sys.modules[name]
    sys.modules.update(hidden)


def rrdb_state(scale: int):
    import torch

    channels = {4: 3, 2: 12, 1: 48}[scale]
    state = {"conv_first.weight": torch.ones(8, channels, 3, 3), "conv_first.bias": torch.zeros(8)}
    for i in range(3):
        state[f"body.{i}.rdb1.conv1.weight"] = torch.ones(4, 8, 3, 3)
        state[f"body.{i}.rdb1.conv1.bias"] = torch.zeros(4)
    return state


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("wrapped", [True, False])
def test_realesrgan_through_either_package(stand_ins, tmp_path, scale, wrapped):
    import torch

    torch.save({"params_ema": rrdb_state(scale)} if wrapped else rrdb_state(scale), tmp_path / "x.pth")
    upscaler = load_realesrgan(tmp_path / "x.pth", tile=40)
    assert upscaler.factor == scale
    picture = noise(51, 74)
    np.testing.assert_allclose(upscaler(picture), np.repeat(np.repeat(picture, scale, 0), scale, 1), atol=1e-6)
    assert enlarge(picture, 3, upscaler=upscaler)[0].shape == (153, 222, 3)


def test_realesrgan_of_another_shape(stand_ins, tmp_path):
    import torch

    for state in ({"conv_first.weight": torch.ones(8, 5, 3, 3)}, {"something": torch.ones(2)}, {**rrdb_state(4), "more": torch.ones(1)}):
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(WeightsError, match="Real-ESRGAN"):
            load_realesrgan(tmp_path / "x.pth")


def test_realesrgan_without_weights(tmp_path):
    pytest.importorskip("gpen_core.weights.checkpoint")
    with pytest.raises(WeightsMissingError, match="lanczos"):
        load_realesrgan(tmp_path / "RealESRGAN_x2plus.pth")


def test_realesrgan_without_packages(tmp_path, monkeypatch):
    """Only spandrel is spoken of: what is wrong with a basicsr, usually that it is too old for torchvision, nobody could mend."""
    torch = pytest.importorskip("torch")
    torch.save(rrdb_state(2), tmp_path / "x.pth")
    problems = {
        "spandrel": RuntimeError("operator torchvision::nms does not exist"),  # what a torchvision for another torch says
        "basicsr": ImportError("No module named 'torchvision.transforms.functional_tensor'"),
    }
    real = background.importlib.import_module

    def nothing(name, *rest):
        if problem := problems.get(name.split(".")[0]):
            raise problem
        return real(name, *rest)

    monkeypatch.setattr(background.importlib, "import_module", nothing)
    for ask in (background.need_realesrgan_package, lambda: load_realesrgan(tmp_path / "x.pth")):
        with pytest.raises(FeatureMissingError, match=r"spandrel.*nms.*lanczos") as told:
            ask()
        assert "basicsr" not in str(told.value) and "functional_tensor" not in str(told.value)


@pytest.mark.parametrize("words", ["CUDA error: out of memory", "not enough memory: you tried to allocate 8 bytes"])
def test_realesrgan_tries_smaller_tiles_in_any_words_for_too_little_memory(words):
    """torch.cuda.OutOfMemoryError is one class of several; is_out_of_memory() knows them."""
    torch = pytest.importorskip("torch")
    seen = []

    def network(x):
        seen.append(max(x.shape[2:]))
        if seen[-1] > 70:
            raise RuntimeError(words)
        return torch.nn.functional.interpolate(x, scale_factor=2)

    picture = noise(150, 200)
    larger = background.RealEsrgan(network, 2, "cpu", tile=128)(picture)
    assert larger.shape == (300, 400, 3) and seen[0] == 128 and max(seen[1:]) == 64
    assert np.abs(larger - picture.repeat(2, 0).repeat(2, 1)).max() < 1e-4

    def broken(x):
        raise RuntimeError("no kernel image is available")

    with pytest.raises(RuntimeError, match="no kernel image"):
        background.RealEsrgan(broken, 2, "cpu", tile=128)(picture)
