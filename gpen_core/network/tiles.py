"""Computing the largest resolutions in strips of rows: the same result (to float32 rounding) in a fraction of the memory.

Up to some resolution everything is computed at once; above it, only the rows needed at the moment exist.
A strip of the picture asks the level below for its rows and a few neighbours, that level asks the next, and the encoder features are
recomputed from the picture's rows. Zero padding occurs only at the picture's real border, so there are no seams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .layers import Ask, Decoding, Encoding, Layers, depthwise_fir

if TYPE_CHECKING:
    from collections.abc import Iterator

# Sides of the largest maps that are computed at once (half the picture at most).
FAST = 512
SPARING = 256  # a seventh slower at 2048, but the process needs a tenth less memory
STRIP_BYTES = 256  # per column of the result: 64 rows of float32; about eight neighbouring rows are computed twice


def run_in_strips(layers: Layers, x: Tensor, *, whole: int | None = None, strip: int | None = None, ask: Ask | None = None) -> Tensor:
    """Returns what `layers.whole(x)` does. x: (N, 3, S, S) in channels_last. whole: the largest resolution computed at once.

    strip: rows of the result computed at once. ask: called before each strip; an exception it raises ends the work.
    """
    size = layers.size
    whole = whole or min(FAST, size // 2)
    strip = strip or STRIP_BYTES // x.element_size()
    if size <= whole:
        return layers.whole(x, ask)
    encoder = _Encoder(layers, x)
    first: list[Tensor] = []
    for a, b in spans(whole, max(1, strip * whole // size)):
        if ask:
            ask()
        first.append(encoder.rows(whole, a, b))
    features = [torch.cat(first, dim=2)]
    del first
    features[0] = features[0].contiguous(memory_format=torch.channels_last)
    for encoding in list(layers.encodings)[encoder.level(whole) + 1 :]:
        features.append(encoding(features[-1]))
    decoding = Decoding(layers, features[-1])
    decoder = _Decoder(decoding, encoder, whole, *decoding.whole(features, ask))
    result = torch.empty_like(x, dtype=torch.float32)
    for a, b in spans(size, strip):
        if ask:
            ask()
        result[:, :, a:b] = decoder.rows(size, a, b)[1]
    return result


def spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    """(first, end) of the strips of one side."""
    return ((first, min(first + step, length)) for first in range(0, length, step))


def padded(x: Tensor, above: int, below: int) -> Tensor:
    """Adds zero rows above and below; negative numbers cut rows off."""
    return F.pad(x, (0, 0, above, below)) if above or below else x


def rows_of(x: Tensor, first: int, end: int) -> Tensor:
    """Rows first to end of a map, without a copy.

    With the strides of a map of its own, even where they count for nothing, in a batch of one: torch 2.0 computes wrong numbers (its
    transposed convolutions on processors take that stride for the size).
    """
    rows = x[:, :, first:end]
    if len(x) > 1 or not rows.is_contiguous(memory_format=torch.channels_last):
        return rows
    _, channels, height, width = rows.shape
    return rows.as_strided(rows.shape, (channels * height * width, 1, channels * width, channels))


class _Encoder:
    """Rows of the encoder features, computed from the picture on demand."""

    def __init__(self, layers: Layers, picture: Tensor) -> None:
        self._layers, self._picture = layers, picture

    def level(self, resolution: int) -> int:
        return (self._layers.size // resolution).bit_length() - 1

    def rows(self, resolution: int, first: int, end: int) -> Tensor:
        """Rows first to end of the feature at that resolution, (N, C, end - first, resolution)."""
        level = self.level(resolution)
        encoding = cast(Encoding, self._layers.encodings[level])
        if level == 0:
            return encoding(self._picture[:, :, first:end].contiguous(memory_format=torch.channels_last))
        # Row i of the result sees rows 2i to 2i + 2 of the filtered map, whose row m sees m - 2 to m + 1.
        a, b = 2 * first - 2, 2 * end + 2
        inside = max(a, 0), min(b, 2 * resolution)
        x = padded(self.rows(2 * resolution, *inside), inside[0] - a, b - inside[1])
        return encoding(x, rows=0)


class _Decoder:
    """Rows of the decoder's features and of the picture, computed on demand."""

    def __init__(self, decoding: Decoding, encoder: _Encoder, whole: int, x: Tensor, picture: Tensor) -> None:
        self._decoding, self._encoder, self._whole, self._x, self._picture = decoding, encoder, whole, x, picture

    def rows(self, resolution: int, first: int, end: int) -> tuple[Tensor, Tensor]:
        """(features, picture), rows first to end of that resolution."""
        if resolution == self._whole:
            return rows_of(self._x, first, end), rows_of(self._picture, first, end)
        half = resolution // 2
        level = half.bit_length() - 2  # 8 pixels are level 1
        # The second convolution needs one more row on either side.
        a, b = max(first - 1, 0), min(end + 1, resolution)
        # Row i of the first one sees rows i - 1 to i + 2 of the transposed convolution, whose row t sees (t - 2) / 2 to t / 2.
        low, high = max((a - 1) // 2 - 1, 0), min((b + 1) // 2 + 1, half)
        x, below = self.rows(half, low, high)
        feature = self._encoder.rows(resolution, a, b)

        layer, modulation, demodulation = self._decoding.styled(2 * level - 1)
        x, weight = layer.modulated(x, modulation)
        y = F.conv_transpose2d(x, weight, stride=2)
        # Rows a - 1 to b + 2 of it; its first row here is 2 * low, and it has 2 * half + 1 in all.
        y = padded(y, 2 * low - (a - 1), (b + 2) - (2 * high + 1))
        y = depthwise_fir(y.contiguous(memory_format=torch.channels_last), cast(Tensor, layer.kernel), (0, 1))
        x = layer.finish(y, demodulation, feature)

        layer, modulation, demodulation = self._decoding.styled(2 * level)
        x, weight = layer.modulated(padded(x, a - (first - 1), (end + 1) - b), modulation)
        y = F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, padding=(0, 1))
        x = layer.finish(y, demodulation, feature[:, :, first - a : first - a + end - first])

        painting, modulation = self._decoding.painting(level)
        # Row i of the enlarged picture is row i + 1 of the transposed convolution, whose first row here is 2 * low.
        enlarged = padded(painting.enlarge(below, (0, 1)), 2 * low - (first + 1), (end + 1) - (2 * high + 2))
        return x, painting.paint(x, modulation).add_(enlarged)
