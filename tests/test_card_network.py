"""The network on a device that is not the processor: numbers, mixed devices, copies and synchronisations, what is left there."""

from __future__ import annotations

import gc
from copy import deepcopy

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card
from test_fused import face, lively, picture
from torch import Tensor

from gpen_core.network.fused import FusedGenerator, Network
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.network.run import run_network, run_pictures
from gpen_core.weights.architecture import Architecture

TYPES = [torch.float32, torch.bfloat16, torch.float16]
SMALL = Architecture(64, 2, 0.125)


@pytest.fixture(scope="module")
def plain() -> Generator:
    return lively(SMALL)


def close(given: Tensor, wanted: Tensor, dtype: torch.dtype, room: float = 1) -> bool:
    """As near as the type allows, by the bounds that hold on the processor (room: times as much)."""
    difference = (given.float().cpu() - wanted).abs()
    largest, average = (2e-5, 2e-5) if dtype is torch.float32 else (0.03 * room, 0.004 * room)
    scale = max(1.0, float(wanted.abs().max()))  # these weights draw pictures of more than -1..1
    return bool(difference.max() <= largest * scale and difference.mean() <= average * scale)


@pytest.mark.parametrize(("dtype", "count"), [(torch.float32, 1), (torch.float32, 3), (torch.bfloat16, 1), (torch.float16, 3)])
@pytest.mark.parametrize("how", ["plain", "fused", "strips"])
def test_the_network_is_that_of_the_processor(card: Card, plain: Generator, how: str, count: int, dtype: torch.dtype) -> None:
    x = picture(64, count)
    expected = plain(x)
    before = card.alive
    network: Network = place(deepcopy(plain) if how == "plain" else FusedGenerator(plain), NAME, dtype)
    there = x.to(NAME, dtype)
    card.reset()
    with torch.inference_mode():
        y = network(there) if how == "plain" else network(there, tiled=how == "strips")
    assert (card.uploads, card.downloads, card.syncs) == (0, 0, 0), "the network makes nobody wait"
    assert y.device.type == NAME and y.dtype is (dtype if how == "plain" else torch.float32)
    assert close(y, expected, dtype, room=4 if how == "plain" else 1), "the plain form rounds the picture at every level"
    del y, there
    place(network, "cpu")
    gc.collect()
    assert card.alive == before


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("tiled", [None, True])
def test_pictures_go_up_once_and_come_down_once(card: Card, plain: Generator, dtype: torch.dtype, tiled: bool | None) -> None:
    faces = [face(seed) for seed in range(3)]
    expected = run_pictures(FusedGenerator(plain), faces)
    network = place(FusedGenerator(plain), NAME, dtype)
    before = card.alive
    card.reset()
    together = run_pictures(network, faces, tiled=tiled)
    assert (card.uploads, card.downloads) == (1, 1)
    assert card.uploaded == card.downloaded == 4 * sum(one.size for one in faces)
    assert card.syncs == 0, "invalid values are told by the picture itself"
    assert close(*(torch.from_numpy(np.stack(several)) * 2 - 1 for several in (together, expected)), dtype, room=4)
    assert card.alive == before
    assert np.abs(run_network(network, faces[1], tiled=tiled) - together[1]).max() <= (1e-5 if dtype is torch.float32 else 0.03)


def test_a_network_comes_back_as_it_went(card: Card, plain: Generator) -> None:
    network = place(FusedGenerator(plain), "cpu")
    expected = run_network(network, face())
    before = card.alive
    for _ in range(2):
        place(network, NAME)
        assert not any(layer.transformed for layer in network.styled), "Winograd's form is the processor's"
        assert {parameter.device.type for parameter in (*network.parameters(), *network.buffers())} == {NAME}
        run_network(network, face())
        place(network, "cpu")
    assert np.abs(run_network(network, face()) - expected).max() < 1e-6
    gc.collect()
    assert card.alive <= before


def test_moved_by_a_host_alone_it_computes_the_same(card: Card) -> None:
    """As ComfyUI does, with `.to()`: weights may then keep the processor's form."""
    network = place(FusedGenerator(lively(Architecture(64, 2, 0.5))), "cpu")
    assert any(layer.transformed for layer in network.styled)
    expected = run_network(network, face())
    network.to(NAME)
    assert np.abs(run_network(network, face()) - expected).max() < 2e-5
