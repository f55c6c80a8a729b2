"""3x3 convolutions with 16 multiplications for 4 results instead of 36: F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016.

In float32 it is more accurate than the direct sum, which adds up nine times as many products at once (tests/test_winograd.py). The
larger F(4x4, 3x3) is less accurate than the direct sum.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TILES = 256  # of 2x2 results computed at once: intermediate values then stay in the CPU's caches


def transform_weight(weight: Tensor) -> Tensor:
    """Converts a weight: (O, C, 3, 3) -> (16, C, O), 16 / 9 as many numbers. Needs no large temporary tensors."""
    outputs, channels = weight.shape[:2]
    result = weight.new_empty((4, 4, channels, outputs))
    for column, into in enumerate((result[:, 0], result[:, 1], result[:, 3])):
        for row, part in zip((0, 1, 3), weight[..., column].unbind(2), strict=True):
            into[row] = part.t()
        _combine(into)
    for row in result:
        _combine(row)
    return result.flatten(0, 1)


def restore_weight(transformed: Tensor) -> Tensor:
    """Converts a weight back: (16, C, O) -> (O, C, 3, 3), to float32 rounding."""
    rows = [_separated(transformed[4 * n : 4 * n + 4].unbind(0)) for n in range(4)]
    return torch.stack(_separated([torch.stack(row) for row in rows])).permute(3, 2, 0, 1)


def _combine(parts: Tensor) -> None:
    """Turns the three taps in parts 0, 1 and 3 into the four factors in parts 0 to 3, along one axis (G g)."""
    torch.add(parts[0], parts[3], out=parts[2]).sub_(parts[1]).div_(2)
    parts[1].add_(parts[2])


def _separated(parts: tuple[Tensor, ...] | list[Tensor]) -> list[Tensor]:
    return [parts[0], parts[1] - parts[2], parts[3]]


def convolve(x: Tensor, transformed: Tensor, scale: Tensor) -> Tensor:
    """Convolves with stride 1 and zero padding.

    x: (N, C, H, W), H and W even. transformed: (16, C, O). scale: (N or 1, C), multiplied into x. Returns (N, O, H, W) in channels_last.
    """
    n, channels, height, width = x.shape
    result = torch.empty((n, height, width, transformed.shape[2]), dtype=x.dtype, device=x.device)
    rows = min(height // 2, max(1, 2 * _TILES // width))
    workspace = _Workspace(x, transformed, rows)
    for item, into, factors in zip(x.permute(0, 2, 3, 1), result, scale.expand(n, channels), strict=True):
        for top in range(0, height, 2 * rows):
            workspace.convolve_rows(item, factors, top, into[top : top + 2 * rows])
    return result.permute(0, 3, 1, 2)


class _Workspace:
    """Memory for the rows of tiles being computed, reused for the next rows."""

    def __init__(self, x: Tensor, transformed: Tensor, rows: int) -> None:
        channels, width, outputs = x.shape[1], x.shape[3], transformed.shape[2]
        self.weight, self.rows = transformed, rows
        self.padded = x.new_zeros((2 * rows + 2, width + 2, channels))  # the columns at the sides stay zero
        self.half_way = x.new_empty((4, rows, width + 2, channels))
        self.tiles = x.new_zeros((4, 4, rows, width // 2, channels))
        self.products = x.new_empty((16, rows * (width // 2), outputs))
        self.summed = x.new_empty((2, 4, rows, width // 2, outputs))

    def convolve_rows(self, item: Tensor, factors: Tensor, top: int, into: Tensor) -> None:
        """item: (H, W, C), a whole map. into: (h, W, O), the results from row `top` on; h at most twice self.rows."""
        height, width = into.shape[0], into.shape[1]
        rows, across = height // 2, width // 2
        first, last = max(0, top - 1), min(item.shape[0], top + height + 1)
        padded = self.padded[: height + 2]
        if top == 0:
            padded[0].zero_()
        if last < top + height + 1:
            padded[-1].zero_()
        torch.mul(item[first:last], factors, out=padded[first - top + 1 : last - top + 1, 1:-1])
        half_way, tiles, summed = self.half_way[:, :rows], self.tiles[:, :, :rows], self.summed[:, :, :rows]
        _differences([padded[k : k + height : 2] for k in range(4)], half_way)
        _differences([half_way[:, :, k : k + width : 2] for k in range(4)], tiles.transpose(0, 1))
        # Multiply all rows of the workspace, even if only some are filled: the memory stays contiguous.
        products = torch.bmm(self.tiles.flatten(2, 3).flatten(0, 1), self.weight, out=self.products)
        squares = products.view(4, 4, self.rows, across, -1)[:, :, :rows]
        _sums(squares, summed)
        _sums(summed.transpose(0, 1), into.view(rows, 2, across, 2, -1).permute(3, 1, 0, 2, 4))


def _differences(d: list[Tensor], out: Tensor) -> None:
    """Four neighbours of every tile along one axis -> the inputs of the products (B^T d)."""
    torch.sub(d[0], d[2], out=out[0])
    torch.add(d[1], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(d[1], d[3], out=out[3])


def _sums(m: Tensor, out: Tensor) -> None:
    """Four products -> the two results of every tile along one axis (A^T m)."""
    torch.add(m[0], m[1], out=out[0]).add_(m[2])
    torch.sub(m[1], m[2], out=out[1]).sub_(m[3])
