# pyright: basic, reportMissingImports=false, reportIndexIssue=false
# ruff: noqa: ANN001, ANN201 (what a kernel is given has Triton's types)
"""Two steps of the network in Triton, each several passes over a map in one. Only `card` imports this module, on demand.

They read and write maps in channels_last, compute in float32 and round once. `layers` has the plain forms for comparison:
`python -m benchmarks.kernels` compares the results on the CPU, and compiles the kernels for cards that are absent.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WARPS = 4
TILE = 1024  # results that a program computes at once: eight per thread


@triton.jit
def finish_kernel(y, feature, demodulation, weight, bias, out, pixels, channels,
                  SLOPE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr):  # fmt: skip
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)[:, None]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    item = tl.program_id(2).to(tl.int64)  # a batch of large maps has more values than 32 bits can count
    known = channel < channels
    inside = (pixel < pixels) & known
    source = item * pixels * channels + pixel * channels + channel
    into = out + item * pixels * channels * 2 + pixel * (2 * channels) + channel
    styled = tl.load(y + source, mask=inside, other=0).to(tl.float32)
    styled *= tl.load(demodulation + item * channels + channel, mask=known, other=0).to(tl.float32)
    styled += tl.load(bias + channel, mask=known, other=0).to(tl.float32)
    tl.store(into, tl.where(styled < 0, styled * SLOPE, styled), mask=inside)
    encoded = tl.load(feature + source, mask=inside, other=0).to(tl.float32)
    encoded *= tl.load(weight).to(tl.float32)
    encoded += tl.load(bias + channels + channel, mask=known, other=0).to(tl.float32)
    tl.store(into + channels, tl.where(encoded < 0, encoded * SLOPE, encoded), mask=inside)


@triton.jit
def low_pass_kernel(x, kernel, out, height, width, rows, columns, channels, above, left,
                    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr):  # fmt: skip
    blocks = tl.cdiv(channels, CHANNELS)
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    channel = (tl.program_id(2) % blocks) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    item = (tl.program_id(2) // blocks).to(tl.int64)
    top = tl.program_id(1) * ROWS
    corner = tl.load(kernel).to(tl.float32)  # of the 4x4 kernel, whose other values are 3 and 9 times this
    first = tl.zeros((COLUMNS, CHANNELS), tl.float32)  # the three rows before, filtered horizontally
    second = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    third = tl.zeros((COLUMNS, CHANNELS), tl.float32)
    for step in range(ROWS + 3):
        row = top + step - above
        line = x + (item * height + row) * width * channels + channel
        # Compare with a number, because the interpreter cannot broadcast a scalar bool.
        there = channel < tl.where((row >= 0) & (row < height), channels, 0)
        fourth = tl.zeros((COLUMNS, CHANNELS), tl.float32)
        for tap in tl.static_range(4):
            at = column + (tap - left)
            value = tl.load(line + at * channels, mask=there & (at >= 0) & (at < width), other=0).to(tl.float32)
            fourth += value * (3.0 if tap == 1 or tap == 2 else 1.0)
        done = top + step - 3
        into = out + (item * rows + done) * columns * channels + column * channels + channel
        inside = (column < columns) & (channel < tl.where((done >= top) & (done < rows), channels, 0))
        tl.store(into, (first + third * 3.0 + second * 3.0 + fourth) * corner, mask=inside)
        first = second
        second = third
        third = fourth


def block(channels: int) -> tuple[int, int]:
    """(pixels, channels) of one tile: powers of two."""
    across = min(64, triton.next_power_of_2(channels))
    return TILE // across, across


def finish(y: Tensor, demodulation: Tensor, feature: Tensor, weight: Tensor, bias: Tensor, slope: float, room: Tensor | None) -> Tensor:
    """`Styled.finish` in one pass. demodulation: (N, C). room: overwritten with the result."""
    y, feature = (part.contiguous(memory_format=torch.channels_last) for part in (y, feature))
    n, c, height, width = y.shape
    both = room
    if both is None or not both.is_contiguous(memory_format=torch.channels_last):
        both = torch.empty((n, 2 * c, height, width), dtype=y.dtype, device=y.device, memory_format=torch.channels_last)
    places, across = block(c)
    grid = triton.cdiv(height * width, places), triton.cdiv(c, across), n
    with torch.cuda.device_of(y):
        finish_kernel[grid](
            *(y, feature, demodulation.contiguous(), weight, bias, both, height * width, c),
            SLOPE=slope, PIXELS=places, CHANNELS=across, num_warps=WARPS,
        )  # fmt: skip
    return both


def low_pass(x: Tensor, kernel: Tensor, padding: tuple[int, int]) -> Tensor:
    """`depthwise_fir` in one pass."""
    x = x.contiguous(memory_format=torch.channels_last)
    n, c, height, width = x.shape
    rows, columns = height + 2 * padding[0] - 3, width + 2 * padding[1] - 3
    out = torch.empty((n, c, rows, columns), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    places, across = block(c)
    lines = 16  # of the result; each tile reads three more
    grid = triton.cdiv(columns, places), triton.cdiv(rows, lines), n * triton.cdiv(c, across)
    with torch.cuda.device_of(x):
        low_pass_kernel[grid](
            *(x, kernel, out, height, width, rows, columns, c, *padding),
            ROWS=lines, COLUMNS=places, CHANNELS=across, num_warps=WARPS,
        )  # fmt: skip
    return out
