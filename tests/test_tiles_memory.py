"""How much of the network's memory is alive at once, counted on tensors without data: any size, no computing."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator
from gpen_core.network.run import LIVE_MAPS
from gpen_core.weights.architecture import Architecture

MIB = 2**20


class Alive(TorchDispatchMode):
    """peak: the most bytes that results of operations took together."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.gone, key)
        return result

    def gone(self, key: int) -> None:
        self.now -= self.known.pop(key)


def peak(size: int, dtype: torch.dtype, tiled: bool, count: int = 1) -> int:
    with torch.device("meta"):
        network = FusedGenerator(Generator(Architecture(size))).to(dtype)
        x = torch.empty(count, 3, size, size, dtype=dtype)
    with Alive() as alive:
        network(x, tiled=tiled)
    return alive.peak


@pytest.fixture(autouse=True)
def _storages_are_told_apart() -> None:
    with Alive() as alive:
        kept = torch.empty(1000, device="meta") + 1
        del kept
        kept = torch.empty(1000, device="meta")
        assert kept.numel() == 1000
        told = alive.now == 4000  # torch 2.0 tells that it has ended while it is still there
    if not told or alive.peak != 8000:
        pytest.skip("this torch does not tell when a storage ends")


@pytest.mark.parametrize(
    ("dtype", "whole", "strips"), [(torch.float32, 1300, 450), (torch.bfloat16, 750, 300)], ids=["float32", "bfloat16"]
)
def test_the_largest_network_leaves_room_for_its_weights(dtype: torch.dtype, whole: int, strips: int) -> None:
    """MiB of feature maps that, with the weights and torch itself, stay within the process's 2.2 (bfloat16 1.4) and, in strips, 1.0 GiB."""
    assert 100 * MIB < peak(2048, dtype, tiled=True) <= strips * MIB
    assert 300 * MIB < peak(2048, dtype, tiled=False) <= whole * MIB


@pytest.mark.parametrize("size", [512, 1024, 2048])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_asked_of_free_memory_is_what_is_needed(size: int, count: int, dtype: torch.dtype) -> None:
    asked = LIVE_MAPS * Architecture(size).channels(size) * count * size**2 * torch.empty(0, dtype=dtype).element_size()
    needed = peak(size, dtype, tiled=False, count=count)
    assert needed <= asked <= 2.5 * needed
