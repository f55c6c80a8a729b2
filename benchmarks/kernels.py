# pyright: basic, reportMissingImports=false, reportIndexIssue=false
"""The Triton kernels of gpen_core/network/kernels.py, as far as they can be checked without a graphics card (Linux; pip install triton):

    python -m benchmarks.kernels [--numbers]

First every number of the kernels, run by Triton's interpreter on the processor, is compared with the plain form in float32; then they are
compiled for cards that are not here, and a table shows the registers of each and what it spills, which has to be nothing. --numbers: only
the first.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gpen_core.network.modules import fir_kernel

TARGETS = (75, 80, 86, 89, 90, 120)  # Turing; A100; RTX 30; RTX 40; H100 and H200; RTX 50
TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
WIDTHS = (16, 64)  # channels of a tile: those of the largest maps, and of all that have more
SHAPES = ((2, 5, 7, 9), (1, 16, 18, 5), (1, 70, 3, 18), (1, 3, 5, 1))  # (N, C, h, w) of odd maps: more than one tile each way
# What the network filters with, (padding, sum of the kernel): encoder, its strips, decoder, its strips.
FILTERS = (((2, 2), 1.0), ((0, 2), 1.0), ((1, 1), 4.0), ((0, 1), 4.0))
# Of the larger of the number itself and 0.1. The interpreter cuts numbers to bfloat16 off, where cards round them.
BOUNDS = {"float32": 1e-5, "float16": 6e-4, "bfloat16": 8e-3}


def apart(result: Tensor, expected: Tensor) -> float:
    """How far numbers are from those expected, in parts of them; infinity where the shape differs."""
    if result.shape != expected.shape:
        return float("inf")
    return float(((result.float() - expected).abs() / expected.abs().clamp_min(0.1)).max()) if expected.numel() else 0.0


def checked() -> Iterator[tuple[str, str, float]]:
    """(kernel, type, furthest from the plain form in float32). Wants TRITON_INTERPRET=1 from before Triton's import, or a card."""
    from gpen_core.network import kernels

    device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
    torch.default_generator.manual_seed(3)
    for name in TYPES:
        dtype = getattr(torch, name)
        furthest = {"finish": 0.0, "low_pass": 0.0}
        for n, c, height, width in SHAPES if dtype == torch.float32 else SHAPES[:2]:  # the interpreter takes its time
            x, feature = (torch.randn(n, c, height, width).to(dtype).contiguous(memory_format=torch.channels_last) for _ in "ab")
            demodulation, weight, bias = torch.rand(n, c) + 0.5, torch.tensor([0.3]).to(dtype), torch.randn(2 * c).to(dtype)
            both = torch.cat([x.float() * demodulation.view(n, c, 1, 1), feature.float() * weight.float()], dim=1)
            expected = F.leaky_relu(both + bias.float().view(1, -1, 1, 1), 0.2)
            for room in (None, torch.full_like(expected, 9, dtype=dtype).contiguous(memory_format=torch.channels_last)):
                y, factors, encoded, scale, offset = (part.to(device) for part in (x, demodulation, feature, weight, bias))
                result = kernels.finish(y, factors, encoded, scale, offset, 0.2, None if room is None else room.to(device)).cpu()
                furthest["finish"] = max(furthest["finish"], apart(result, expected))
            for padding, gain in FILTERS:
                if min(height + 2 * padding[0], width + 2 * padding[1]) < 4:
                    continue
                kernel = fir_kernel(gain)
                expected = F.conv2d(x.float(), kernel.expand(c, 1, 4, 4), padding=padding, groups=c)
                result = kernels.low_pass(x.to(device), kernel.to(device, dtype), padding).cpu()
                furthest["low_pass"] = max(furthest["low_pass"], apart(result, expected))
        yield from ((kernel, name, value) for kernel, value in furthest.items())


def compiled(types: Sequence[str] = tuple(TYPES), widths: Sequence[int] = WIDTHS) -> Iterator[list[str]]:
    """[kernel, type, channels of a tile, then for each of TARGETS "registers / bytes spilled"]; compiled for it, run nowhere."""
    from gpen_core.network import kernels

    for kernel in (kernels.finish_kernel, kernels.low_pass_kernel):
        for name in types:
            for width in widths:
                cells = [machine_code(kernel, TYPES[name], width, target) for target in TARGETS]
                yield [kernel.fn.__name__.removesuffix("_kernel"), name, str(width), *(f"{used} / {spilled}" for used, spilled in cells)]


def machine_code(kernel: Any, number: str, width: int, target: int) -> tuple[int, int]:
    """(registers of a thread, bytes that it spills) of one kernel on one target."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from gpen_core.network import kernels

    places = kernels.TILE // width
    chosen = {"SLOPE": 0.2, "PIXELS": places, "CHANNELS": width, "ROWS": 16, "COLUMNS": places}
    names = kernel.arg_names
    constants = {(place,): chosen[one] for place, one in enumerate(names) if one in chosen}
    pointers = {one: f"*{number}" for one in ("y", "x", "feature", "weight", "kernel", "bias", "out")} | {"demodulation": "*fp32"}
    signature = {one: "constexpr" if one in chosen else pointers.get(one, "i32") for one in names}
    # What holds when they run: memory begins at multiples of 16 bytes, and channels are multiples of 16.
    even = {(place,): [["tt.divisibility", 16]] for place, one in enumerate(names) if one in pointers or one == "channels"}
    source = ASTSource(kernel, signature, constants, even)
    code = triton.compile(source, target=GPUTarget("cuda", target, 32), options={"num_warps": kernels.WARPS})
    tool = Path(str(triton.__file__)).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(code.asm["cubin"])
        said = subprocess.run([tool, "--dump-resource-usage", file], check=True, capture_output=True, encoding="utf-8").stdout  # noqa: S603
    used = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", said)}
    return used["REG"], used["STACK"] + used["LOCAL"]


def print_numbers() -> bool:
    good = True
    print(f"| kernel | numbers | furthest from the plain form | at most |\n{'|---' * 4}|")
    for kernel, name, value in checked():
        good = good and value <= BOUNDS[name]
        print(f"| {kernel} | {name} | {value:.1e} | {BOUNDS[name]:.1e} |", flush=True)
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks the Triton kernels without a graphics card.")
    parser.add_argument("--numbers", action="store_true", help="only compare the numbers")
    if parser.parse_args().numbers:
        sys.exit(0 if print_numbers() else "a kernel is further from the plain form than it may be")
    # The interpreter is chosen when Triton is imported, so the numbers have a process of their own.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-m", "benchmarks.kernels", "--numbers"], check=False, env=environment)
    print("\nRegisters of a thread / bytes spilled:\n")
    print(f"| kernel | numbers | channels of a tile | {' | '.join(f'sm_{target}' for target in TARGETS)} |\n{'|---' * (3 + len(TARGETS))}|")
    spilled = False
    for row in compiled():
        print(f"| {' | '.join(row)} |", flush=True)
        spilled = spilled or not all(cell.endswith(" / 0") for cell in row[3:])
    sys.exit(1 if done.returncode or spilled else 0)


if __name__ == "__main__":
    main()
