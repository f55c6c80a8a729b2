"""The engine with the host's device being the emulated card: what goes there, what comes back, and that nothing stays."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card

LITE = "GPEN-BFR-256-lite"


@pytest.fixture
def carded(host: Any, card: Card, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host whose device is the card. `before`: bytes there without this extension; `rooms`: how it was asked to make room."""
    host.opts.face_restoration_model, host.opts.gpen_model, host.opts.gpen_look_closer = "GPEN", LITE, False
    monkeypatch.setattr(host.module("devices"), "get_device_for", lambda task: torch.device(NAME))
    # A processor with bfloat16 would load the weights anew in that form; the card computes in float32.
    monkeypatch.setattr("gpen_core.runtime.computes_bf16", lambda: False)
    ours, host.rooms = host.ours("host"), []
    real = ours.make_room
    monkeypatch.setattr(ours, "make_room", lambda everything=False: host.rooms.append(everything) or real(everything))
    gc.collect()
    host.before = card.alive
    return host


def test_it_restores_there_and_leaves_when_it_is_sent_away(carded: Any, card: Card, portrait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = carded.restore_faces(portrait)
    network = carded.ours("engine").ENGINE._network
    held = card.alive - carded.before
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {NAME} and held > 10**6
    assert (carded.restore_faces(portrait) == first).all() and card.alive - carded.before == held, "the second picture takes no more"
    carded.module("shared").face_restorers[0].send_model_to("cpu")
    assert card.alive == carded.before, "neither the network nor the detector stays"
    assert {tensor.device.type for tensor in (*network.parameters(), *network.buffers())} == {"cpu"}
    carded.opts.face_restoration_unload = True
    assert (carded.restore_faces(portrait) == first).all() and card.alive == carded.before
    monkeypatch.setattr(carded.module("devices"), "get_device_for", lambda task: torch.device("cpu"))
    assert np.abs(carded.restore_faces(portrait).astype(int) - first).max() <= 1, "as on the CPU"
    assert carded.ours("engine").ENGINE._network is network and not carded.reported


@pytest.mark.parametrize("moment", [3, 500])  # while the weights come, while a face is restored
def test_out_of_memory_once_it_asks_the_host_for_all_the_room(carded: Any, card: Card, portrait: Any, moment: int) -> None:
    wanted = carded.restore_faces(portrait)
    carded.module("shared").face_restorers[0].send_model_to("cpu")
    carded.rooms.clear()
    other = torch.zeros(1000, device=NAME)  # the host's own, which it gives up when all the room is asked for
    rooms, failing = carded.rooms, card.allocations + moment

    def full(number: int) -> bool:
        return number >= failing and True not in rooms

    card.fail_allocation = full
    assert (carded.restore_faces(portrait) == wanted).all()
    assert rooms == [False, True] and not carded.reported
    carded.module("shared").face_restorers[0].send_model_to("cpu")
    assert card.alive == carded.before + other.numel() * 4


def test_out_of_memory_for_good_the_picture_stays_and_nothing_is_left(carded: Any, card: Card, portrait: Any) -> None:
    with card.out_of_memory_at(40, always_after=True):
        assert (carded.restore_faces(portrait) == portrait).all()
    assert carded.rooms == [False, True]
    (said,) = carded.reported
    assert f"not enough memory on {NAME}" in said and "choose a smaller model" in said
    gc.collect()
    assert card.alive == carded.before


def test_a_lost_device_is_a_sentence_and_the_picture_stays(carded: Any, card: Card, portrait: Any) -> None:
    carded.restore_faces(portrait)
    carded.rooms.clear()
    with card.failing(lambda: RuntimeError("CUDA error: unspecified launch failure"), after=20):
        assert (carded.restore_faces(portrait) == portrait).all()
    (said,) = carded.reported
    assert "stopped working" in said and carded.rooms == [False], "more room would not help"
