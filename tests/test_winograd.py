"""Winograd convolutions against the direct ones, and the fused generator's use of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from gpen_core.network import winograd
from gpen_core.network.fused import FusedGenerator, Styled
from gpen_core.network.modules import Generator
from gpen_core.weights.architecture import Architecture


def case(n: int, channels: int, outputs: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(height * width + channels)
    x = torch.randn(n, channels, height, width).contiguous(memory_format=torch.channels_last)
    return x, torch.randn(outputs, channels, 3, 3) / (9 * channels) ** 0.5, torch.rand(n, channels) + 0.5


@pytest.mark.parametrize(
    ("n", "channels", "outputs", "height", "width"),
    [(1, 3, 5, 2, 2), (1, 8, 4, 4, 6), (2, 16, 8, 16, 16), (1, 4, 4, 34, 64), (1, 64, 32, 64, 64), (3, 2, 1, 10, 256), (1, 1, 1, 2, 600)],
)
def test_it_is_the_direct_convolution(n: int, channels: int, outputs: int, height: int, width: int) -> None:
    x, weight, scale = case(n, channels, outputs, height, width)
    exact = F.conv2d(x.double() * scale.double()[..., None, None], weight.double(), padding=1)
    result = winograd.convolve(x, winograd.transform_weight(weight), scale)
    assert result.shape == exact.shape
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert (result - exact).abs().max() < 4e-6


def test_many_channels_are_summed_more_exactly_than_directly() -> None:
    x, weight, scale = case(1, 1024, 64, 32, 32)
    exact = F.conv2d(x.double() * scale.double()[..., None, None], weight.double(), padding=1)
    direct = F.conv2d(x * scale[..., None, None], weight, padding=1)
    result = winograd.convolve(x, winograd.transform_weight(weight), scale)
    assert (result - exact).abs().max() < (direct - exact).abs().max()


def test_the_weight_comes_back() -> None:
    weight = torch.randn(7, 5, 3, 3)
    assert (winograd.restore_weight(winograd.transform_weight(weight)) - weight).abs().max() < 1e-6


@pytest.fixture(scope="module")
def plain() -> Generator:
    torch.manual_seed(3)
    # As wide as the official ones, so that the layers of 16, 32 and 64 pixels qualify.
    return Generator(Architecture(64, 2, 1.0)).eval().requires_grad_(False)


def used(network: FusedGenerator) -> list[bool]:
    return [layer.transformed for layer in network.styled if isinstance(layer, Styled)]


def test_the_fused_generator_uses_it_and_agrees(plain: Generator) -> None:
    network = FusedGenerator(plain).eval()
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert not any(used(network))
    with torch.inference_mode():
        expected = plain(x)
        for batch in (x[:1], x):
            assert (network(batch) - expected[: len(batch)]).abs().max() < 2e-5
    assert sum(used(network)) == 3
    # In strips even of these layers, which are otherwise computed whole.
    from gpen_core.network.tiles import run_in_strips

    with torch.inference_mode():
        y = run_in_strips(network, x[:1].contiguous(memory_format=torch.channels_last), whole=8, strip=6)
    assert (y - expected[:1]).abs().max() < 2e-5


def test_moved_and_cast_it_has_its_weights_again(plain: Generator) -> None:
    network = FusedGenerator(plain).eval()
    fresh = copy.deepcopy(network)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        first = network(x)
        network.to(torch.bfloat16)
        assert not any(used(network))
        half = network(x.to(torch.bfloat16))
        assert (half - fresh.to(torch.bfloat16)(x.to(torch.bfloat16))).abs().max() < 0.03
        assert not any(used(network))
    again = copy.deepcopy(FusedGenerator(plain)).eval()
    again(x)
    again.to("cpu")
    assert not any(used(again))
    assert (again(x) - first).abs().max() < 1e-5


def test_no_network_holds_a_layer_twice(plain: Generator) -> None:
    network = FusedGenerator(plain).eval()
    before = sum(p.numel() for p in network.parameters())
    changed = [layer.weight.numel() for layer in network.styled if isinstance(layer, Styled) and layer.can_transform]
    network(torch.zeros(1, 3, 64, 64))
    assert sum(p.numel() for p in network.parameters()) == before + sum(round(count * 7 / 9) for count in changed)
