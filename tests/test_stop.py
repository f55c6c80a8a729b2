"""Stop reaches a face while the network works on it: a 2048 face takes seconds on a processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpen_core import FaceRestorer, Progress, RestoreOptions
from gpen_core.faces.face import Face
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator
from gpen_core.network.run import run_network
from gpen_core.steps.align import template_points
from gpen_core.weights.architecture import Architecture

SIZE = 128


class HostInterrupt(Exception):
    """A host's own word for it."""


class Impatient(Progress):
    """Says stop from the n-th time on that it is asked after a face was begun; raises instead where `error` is given."""

    def __init__(self, after: int, error: Exception | None = None) -> None:
        self.after, self.error = after, error
        self.begun = False
        self.asked = 0

    def report(self, done: int, total: int, what: str, preview: np.ndarray | None = None) -> None:
        self.begun = self.begun or what.startswith("face ")

    def stop(self) -> bool:
        self.asked += self.begun
        if self.asked < self.after:
            return False
        if self.error is not None:
            raise self.error
        return True


@pytest.fixture(scope="module")
def network() -> FusedGenerator:
    torch.manual_seed(0)
    return FusedGenerator(Generator(Architecture(SIZE, 1, 0.125)).eval())


def restore(network: FusedGenerator, progress: Progress, **options: object) -> tuple[np.ndarray, object]:
    picture = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    face = Face((40, 40, 160, 180), (template_points("gpen", 512) / 512 * 200).astype(np.float32), 0.95)
    restorer = FaceRestorer(RestoreOptions(device="cpu", **options), network=network, progress=progress)
    return picture, restorer(picture, faces=None if options.get("aligned") else [face, face])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("after", [1, 4, 8])
def test_a_face_is_left_as_it_was_when_the_user_stops_within_it(network: FusedGenerator, aligned: bool, after: int):
    progress = Impatient(after)
    progress.begun = aligned
    picture, result = restore(network, progress, aligned=aligned)
    assert result.stopped and {face.status for face in result.faces} == {"stopped"}
    np.testing.assert_array_equal(result.image, picture)
    assert not result.mask.any()
    assert progress.asked <= after + 2


def test_the_network_asks_at_every_resolution_and_before_every_strip(network: FusedGenerator):
    asked: list[int] = []
    face = np.random.default_rng(1).random((SIZE, SIZE, 3), dtype=np.float32)
    whole = run_network(network, face, tiled=False, ask=lambda: asked.append(0))
    assert len(asked) >= 2 * 5
    at_once = len(asked)
    strips = run_network(network, face, tiled=True, ask=lambda: asked.append(0))
    assert len(asked) - at_once >= at_once // 2 + SIZE // 64
    np.testing.assert_allclose(strips, whole, atol=2e-5)


def test_a_hosts_interrupt_passes_and_the_network_is_as_it_was(network: FusedGenerator):
    with pytest.raises(HostInterrupt):
        restore(network, Impatient(4, HostInterrupt()))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    _, result = restore(network, Progress())
    assert [face.status for face in result.faces] == ["restored", "restored"]
