"""The emulated card itself: that it refuses, counts and fails as it says. Every other test_card_*.py leans on it."""

from __future__ import annotations

import gc

import pytest
import torch
from emulated_card import NAME, Card
from torch import nn
from torch.nn import functional as F

from gpen_core.runtime import is_out_of_memory, pick_device


def test_tensors_say_that_they_are_there_and_hold_the_processors_numbers(card: Card) -> None:
    x = torch.arange(6.0).reshape(2, 3)
    there = x.to(NAME)
    assert there.device == torch.device(NAME, 0) and pick_device(NAME).type == NAME
    assert torch.equal((there * 2 + 1).cpu(), x * 2 + 1)
    assert torch.equal(torch.tensor([1.5], device=NAME).cpu(), torch.tensor([1.5]))
    for made in (torch.zeros(2, device=NAME), torch.empty(2, device=NAME), there.new_zeros(2), torch.full((2,), 3.0, device=NAME)):
        assert made.device.type == NAME
    image = torch.empty((1, 3, 4, 5), device=NAME, memory_format=torch.channels_last)
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_tensors_of_two_devices_are_refused(card: Card) -> None:
    x = torch.ones(2)
    there = x.to(NAME)
    for work in (lambda: there + x, lambda: x.add_(there), lambda: torch.cat([x, there]), lambda: F.linear(there[None], torch.ones(2, 2))):
        with pytest.raises(RuntimeError, match="same device"):
            work()
    assert torch.equal((there * torch.tensor(3.0)).cpu(), x * 3), "a single number of the processor is welcome, as on CUDA"
    with pytest.raises((RuntimeError, TypeError)):
        there.numpy()


def test_views_share_memory_with_what_they_look_into(card: Card) -> None:
    x = torch.zeros(2, 3).to(NAME)
    x[:, 1].add_(1)
    torch.mul(torch.ones(2).to(NAME), 5.0, out=x[:, 2])
    assert x.cpu().tolist() == [[0, 1, 5], [0, 1, 5]]


@pytest.mark.parametrize("inference", [False, True])
def test_copies_and_synchronisations_are_counted(card: Card, inference: bool) -> None:
    with torch.inference_mode(inference):
        x = torch.ones(4).to(NAME)
        assert (card.uploads, card.uploaded, card.downloads, card.syncs) == (1, 16, 0, 0)
        y = (x * 2).float().contiguous()
        assert (card.uploads, card.downloads, card.syncs) == (1, 0, 0)
        assert bool((y > 1).all()) and float(y[0]) == 2 and y.sum().item() == 8
        assert card.syncs == 3
        y.nonzero()
        assert card.syncs == 4
        x.copy_(torch.zeros(4))
        y.cpu()
        assert (card.uploads, card.downloads, card.downloaded, card.syncs) == (2, 1, 16, 4)


def test_bytes_alive_are_those_of_what_is_still_held(card: Card) -> None:
    before = card.alive
    x = torch.ones(1000).to(NAME)
    view = x[:10]
    assert card.alive - before == 4000
    del x
    assert card.alive - before == 4000, "a view holds all of it"
    view = view + 1
    assert card.alive - before == 40 and card.peak - before == 4040
    del view
    assert card.alive == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modules_move_there_and_back(card: Card, dtype: torch.dtype) -> None:
    before = card.alive
    layer = nn.Conv2d(2, 3, 3).requires_grad_(False)
    x = torch.randn(1, 2, 8, 8)
    expected = layer(x)
    layer.to(NAME, dtype)
    assert isinstance(layer.weight, nn.Parameter) and layer.weight.device.type == NAME and layer.weight.dtype is dtype
    assert (layer(x.to(NAME, dtype)).float().cpu() - expected).abs().max() < 0.03
    layer.float().to("cpu")
    assert type(layer.weight) is nn.Parameter and layer.weight.dtype is torch.float32
    gc.collect()
    assert card.alive == before


def test_it_runs_out_of_memory_when_told(card: Card) -> None:
    before = card.alive
    with card.out_of_memory_at(1), pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory") as caught:
        for _ in range(2):
            torch.zeros(3, device=NAME)
    assert is_out_of_memory(caught.value)
    card.capacity = before + 100
    assert torch.zeros(25, device=NAME).numel() == 25
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(26, device=NAME)
    card.reset()
    del caught
    assert torch.zeros(26, device=NAME).numel() == 26
    gc.collect()
    assert card.alive == before


def test_it_is_lost_when_told(card: Card) -> None:
    x = torch.ones(2).to(NAME)
    with card.failing(lambda: RuntimeError("CUDA error: unspecified launch failure"), after=1):
        y = x + 1
        for work in (lambda: y + 1, lambda: y.cpu()):
            with pytest.raises(RuntimeError, match="unspecified"):
                work()
    assert y.cpu().tolist() == [2, 2]
