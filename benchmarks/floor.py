"""What a graphics card has to move and to compute for one face, and how fast it could be at best. A model: nothing is measured.

    python -m benchmarks.floor [--sizes 256 512 1024 2048] [--type float16]

The network runs on torch's "meta" device, where tensors have shapes and no numbers, and what every operation reads and writes is added up:
as it runs, and with the experimental Triton kernels. The floor is the larger of two times: to move the weights and every map once, and to
compute the products of the convolutions and linear layers. Takes seconds anywhere.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.network import SHAPES, architecture
from gpen_core.network import card
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator

# Name, memory bandwidth in bytes a second, operations a second with tensors of half precision summed in float32, without sparsity; from
# NVIDIA: "GeForce RTX 3060" product page (192 bits at 15 Gbit/s; its 101 "AI" TFLOPS are with sparsity and sums in half precision:
# a quarter); "Ada GPU Architecture" white paper, appendix A; "H200 Tensor Core GPU" datasheet (1979 TFLOPS with sparsity: half).
CARDS = (("RTX 3060", 360e9, 25.4e12), ("RTX 4090", 1008e9, 165.2e12), ("H200", 4.8e12, 989.5e12))
# Published by VisoMaster for its GPEN in float16 with Triton kernels and CUDA graphs on an RTX 4090, milliseconds.
PEER = {256: 1.34, 512: 6.03, 1024: 10.65, 2048: 21.0}


@dataclass
class Sums:
    """bytes: read and written. operations: multiplications and additions of dense products. calls: kernels started, about."""

    bytes: int = 0
    operations: int = 0
    calls: int = 0
    by_name: dict[str, int] = field(default_factory=lambda: {})

    def add(self, name: str, tensors: Iterable[Any], operations: int = 0) -> None:
        moved = sum(held(tensor) for tensor in tensors if isinstance(tensor, Tensor))
        self.bytes += moved
        self.operations += operations
        self.calls += 1
        self.by_name[name] = self.by_name.get(name, 0) + moved


def held(tensor: Tensor) -> int:
    """Bytes of a tensor; what is only repeated by its strides counts once."""
    return math.prod(side for side, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride) * tensor.element_size()


class Counting(TorchDispatchMode):
    """Adds up what passes through torch."""

    def __init__(self, sums: Sums) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.sums = sums

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and not name.startswith(("empty", "new_empty", "detach", "_unsafe_view")):
            self.sums.add(name, [*tree_leaves(args), *tree_leaves(result)], products(name, args, result))
        return result


def products(name: str, args: Any, result: Any) -> int:
    if name == "convolution":
        x, weight, transposed, groups = args[0], args[1], args[6], args[8]
        # Depthwise filters are no matrix products; they wait for memory anyway.
        return 2 * (x if transposed else result).numel() * weight[0].numel() if groups == 1 else 0
    if name in ("mm", "addmm"):
        return 2 * args[-2].numel() * args[-1].shape[-1]
    return 0


def fused(size: int, dtype: torch.dtype) -> FusedGenerator:
    with torch.device("meta"), torch.no_grad():
        return FusedGenerator(Generator(architecture(size))).to(dtype)


def counted(network: FusedGenerator, dtype: torch.dtype, kernels: bool) -> Sums:
    """One face through the network. kernels: the two steps that Triton does in one pass each count as that."""
    sums = Sums()

    def kernel(name: str, x: Tensor, *rest: Any) -> Tensor | None:
        if not kernels:
            return None
        if name == "low_pass":
            height, width = (side + 2 * more - 3 for side, more in zip(x.shape[2:], rest[1], strict=True))
            shape = (*x.shape[:2], height, width)
        else:
            shape = (x.shape[0], 2 * x.shape[1], *x.shape[2:])
        result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        sums.add(name, [x, *rest[:4], result] if name == "finish" else [x, rest[0], result])
        return result

    picture = torch.empty(1, 3, network.size, network.size, dtype=dtype, device="meta").contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), patch.object(card, "kernel", kernel), Counting(sums):
        network.whole(picture)
    return sums


def once(network: FusedGenerator, dtype: torch.dtype) -> int:
    """Bytes of the weights and of every map that a layer makes, each once; pictures are in float32 but the one that comes in."""
    shape = network.architecture
    features = sum(shape.channels(side) * side**2 for side in shape.resolutions)
    # A feature of the encoder; two results of the decoder, twice as wide, of which the smallest size has one.
    maps = features + 4 * features - 2 * shape.channels(4) * 16 + 3 * shape.size**2
    pictures = sum(3 * side**2 for side in shape.resolutions) * 4
    return sum(held(one) for one in network.parameters()) + maps * (torch.finfo(dtype).bits // 8) + pictures


def print_table(sizes: list[int], dtype: torch.dtype) -> None:
    names = [name for name, _, _ in CARDS]
    head = ["size", "operations, 10^9", "moved as it runs, MB", "with the kernels, MB", "weights and maps once, MB"]
    head += [f"floor, {name}, ms" for name in names] + [f"memory as it runs / with the kernels, {name}, ms" for name in names]
    head += ["VisoMaster, RTX 4090, ms", "times the floor"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for size in sizes:
        network = fused(size, dtype)
        now, then, least = counted(network, dtype, False), counted(network, dtype, True), once(network, dtype)
        floors = [1000 * max(least / bandwidth, now.operations / rate) for _, bandwidth, rate in CARDS]
        moving = [f"{1000 * now.bytes / bandwidth:.2f} / {1000 * then.bytes / bandwidth:.2f}" for _, bandwidth, _ in CARDS]
        cells = [str(size), f"{now.operations / 1e9:.0f}", *(f"{moved / 1e6:.0f}" for moved in (now.bytes, then.bytes, least))]
        cells += [*(f"{floor:.2f}" for floor in floors), *moving, f"{PEER[size]}", f"{PEER[size] / floors[names.index('RTX 4090')]:.1f}"]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="What a graphics card has to do for a face: a model, not a measurement.")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--type", default="float16", choices=["float16", "bfloat16", "float32"])
    arguments = parser.parse_args()
    if arguments.type == "float32":
        print("(The cards' operations a second below are those of half precision.)\n")
    print_table(arguments.sizes, getattr(torch, arguments.type))


if __name__ == "__main__":
    main()
