"""Winograd convolutions against the direct ones, and the fused generator's use of them."""

from __future__ import annotations

import pytest
import torch
from half_help import HALVES
from torch import Tensor
from torch.nn import functional as F

from gpen_core.network import winograd
from gpen_core.network.build import build_fused
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.layers import Styled
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.network.tiles import run_in_strips
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
    # The narrowest whose layers of 16, 32 and 64 pixels qualify.
    return Generator(Architecture(64, 2, 0.5)).eval().requires_grad_(False)


def used(network: FusedGenerator) -> int:
    return sum(layer.transformed for layer in network.modules() if isinstance(layer, Styled))


def fused(plain: Generator) -> FusedGenerator:
    return FusedGenerator(plain).eval()


X = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(4)) * 2 - 1


def test_a_placed_generator_uses_it_and_agrees(plain: Generator) -> None:
    network = fused(plain)
    assert not used(network)
    assert place(network, "cpu") is network and used(network) == 3
    with torch.inference_mode():
        expected = plain(X)
        for batch in (X[:1], X):
            assert (network(batch) - expected[: len(batch)]).abs().max() < 2e-5
        # In strips even of these layers, which are otherwise computed whole.
        y = run_in_strips(network, X[:1].contiguous(memory_format=torch.channels_last), whole=8, strip=6)
    assert (y - expected[:1]).abs().max() < 2e-5


def test_only_a_processor_in_float32_is_given_it(plain: Generator) -> None:
    assert used(place(fused(plain), "cpu", torch.bfloat16)) == 0
    assert used(place(fused(plain), "cpu", torch.float16)) == 0
    assert used(place(fused(plain), "meta")) == 0
    waiting = place(fused(plain), "meta", waits_on="cpu")  # for a host that moves it
    assert used(waiting) == 0 and {parameter.device.type for parameter in waiting.parameters()} == {"cpu"}
    assert used(place(fused(plain), "cpu", waits_on="cpu")) == 3


def test_placed_anew_it_has_the_form_of_the_new_place(plain: Generator) -> None:
    network = place(fused(plain), "cpu")
    first, kept = network(X[:1]), [parameter.data_ptr() for parameter in network.parameters()]
    assert [parameter.data_ptr() for parameter in place(network, "cpu").parameters()] == kept, "nothing is made twice"
    half = place(network, "cpu", torch.bfloat16)
    weights = zip(half.parameters(), fused(plain).to(torch.bfloat16).parameters(), strict=True)
    assert used(half) == 0 and all((a.float() - b.float()).abs().max() <= 0.01 * b.float().abs().max() for a, b in weights)
    again = place(half, "cpu", torch.float32)
    assert used(again) == 3
    network = place(place(fused(plain), "cpu"), "meta", waits_on="cpu")
    assert used(network) == 0 and (network(X[:1]) - first).abs().max() < 2e-5
    assert {parameter.device.type for parameter in place(network, "meta").parameters()} == {"meta"}


@pytest.mark.parametrize("dtype", HALVES)
def test_a_layer_that_is_cast_rounds_little_more(plain: Generator, dtype: torch.dtype) -> None:
    """What the whole network is bound to then is in test_fused."""

    def layer(transformed: bool) -> Styled:
        layer = next(layer for layer in fused(plain).modules() if isinstance(layer, Styled) and layer.can_transform)
        layer.transform(transformed)
        return layer

    torch.manual_seed(6)
    x, modulation = torch.randn(1, 512, 16, 16), torch.rand(1, 512)
    exact = layer(False).double().convolve(x.double(), modulation)
    direct, cast = ((layer(form).to(dtype).convolve(x.to(dtype), modulation) - exact).abs() for form in (False, True))
    assert cast.mean() <= 2 * direct.mean() and cast.max() <= 2 * direct.max()


def test_cast_as_any_module_it_computes_the_same(plain: Generator) -> None:
    with torch.inference_mode():
        expected = plain(X[:1])
    network = place(fused(plain), "cpu").double()
    assert (network(X[:1].double()) - expected).abs().max() < 2e-5
    assert (network.float()(X[:1]) - expected).abs().max() < 2e-5


def test_moved_as_any_module_it_computes_as_well(plain: Generator) -> None:
    assert place(fused(plain), "cpu").to("meta")(X.to("meta")).shape == X.shape


def test_a_run_changes_no_weight(plain: Generator) -> None:
    for network in (place(fused(plain), "cpu"), fused(plain), place(fused(plain), "cpu").double()):
        before = [(parameter.data_ptr(), parameter.shape) for parameter in network.parameters()]
        network(X[:1].to(next(network.parameters()).dtype))
        assert [(parameter.data_ptr(), parameter.shape) for parameter in network.parameters()] == before


def test_placed_in_a_hosts_inference_mode_and_used_outside(plain: Generator) -> None:
    with torch.inference_mode():
        network = place(build_fused(plain.state_dict()), "cpu")
        network(X[:1])
    expected = network(X[:1])
    assert not any(parameter.is_inference() for parameter in network.parameters())
    with torch.inference_mode():
        place(network, "cpu", torch.bfloat16)
    assert not any(parameter.is_inference() for parameter in network.parameters())
    difference = (place(network, "cpu", torch.float32)(X[:1]) - expected).abs()
    assert difference.max() <= 0.03 and difference.mean() <= 0.004


def test_no_network_holds_a_layer_twice(plain: Generator) -> None:
    network = fused(plain)
    before = sum(p.numel() for p in network.parameters())
    changed = [layer.weight.numel() for layer in network.modules() if isinstance(layer, Styled) and layer.can_transform]
    place(network, "cpu")
    assert len(changed) == 3
    assert sum(p.numel() for p in network.parameters()) == before + sum(round(count * 7 / 9) for count in changed)
    assert sum(p.numel() for p in place(network, "cpu", torch.bfloat16).parameters()) == before
    assert not list(network.buffers())
