"""A small run on a device, once for every allocation of it: there memory runs out. (Once only, at some: test_card_trouble.py.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card
from test_fused import lively
from torch import Tensor

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces import Face
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.network import run
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.pictures import from_array
from gpen_core.restore.results import RestoreResult
from gpen_core.weights.architecture import Architecture

POINTS = np.array([[12, 14], [20, 14], [16, 18], [13, 22], [19, 22]], np.float32)
FACES = [Face((8.0, 8.0, 24.0, 26.0), POINTS, 0.99), Face((28.0, 8.0, 44.0, 26.0), POINTS + np.float32([20, 0]), 0.98)]
SMALLEST = Architecture(64, 1, 0.03125)
PICTURE = from_array(np.random.default_rng(1).random((32, 52, 3), np.float32))


class OnCpu(FusedGenerator):
    """The CPU's network; it need not compute the same faces for every allocation."""

    def __init__(self) -> None:
        super().__init__(lively(SMALLEST))
        self.known: dict[bytes, Tensor] = {}

    def forward(self, x: Tensor, **_: Any) -> Tensor:
        key = x.numpy().tobytes()
        if key not in self.known:
            self.known[key] = super().forward(x, tiled=True)
        return self.known[key]


def test_two_faces_are_restored_wherever_memory_runs_out(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    network, cpu = place(FusedGenerator(lively(SMALLEST)), NAME), place(OnCpu(), "cpu")
    held = card.alive
    monkeypatch.setattr(run, "_twin", lambda *_: cpu)
    weights = [tensor.cpu() for tensor in network.state_dict().values()]
    options = RestoreOptions(device=NAME, detail=0, colour_match=False)

    def restored() -> RestoreResult:
        restorer = FaceRestorer(options, network=network, detector=RetinaFaceMobile("cpu"))
        restorer._or_cpu = True  # as without a host
        return restorer(PICTURE, faces=FACES)

    wanted = restored()
    assert [face.status for face in wanted.faces] == ["restored"] * 2
    card.reset()
    restored()
    count = card.allocations
    assert count > 100
    for moment in range(count):
        with card.out_of_memory_at(moment, always_after=True):
            given = restored()
        assert [face.status for face in given.faces] == ["restored"] * 2, moment
        assert np.abs(given.image.pixels - wanted.image.pixels).max() < 2e-5, moment
        assert card.alive == held, moment
    after = network.state_dict().values()
    assert all(tensor.device.type == NAME and torch.equal(tensor.cpu(), before) for tensor, before in zip(after, weights, strict=True))


def test_faces_are_found_wherever_memory_runs_out(card: Card) -> None:
    small = np.random.default_rng(2).random((64, 64, 3), np.float32)
    first = RetinaFaceMobile(NAME)  # holds the weights on the device, so that each of the others need not bring them
    wanted, held = first.predict([small])[0], card.alive
    card.reset()
    first.predict([small])
    for moment in range(card.allocations):
        detector = RetinaFaceMobile(NAME)
        with card.out_of_memory_at(moment):
            given = detector.predict([small])[0]
        assert detector.device.type == "cpu"
        assert all(np.allclose(one, other, rtol=0, atol=1e-4) for one, other in zip(given, wanted, strict=True)), moment
        assert card.alive == held, moment
