"""Powers of two that keep the network's maps near 1, folded into its weights on loading, so that float16 does not overflow.

float16 ends at 65504, and nothing limits what weights make of a picture on the way. A map may be scaled freely where the next layers take
it back: the activation is leaky and linear on either side, convolutions are linear, and demodulation removes any factor of its weights.
Powers of two change no digit, so float32 and bfloat16 give bit for bit what they gave; ordinary weights get factors of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from .modules import EqualConv2d, Generator, StyledConv, ToRGB

_PICTURE = 0.6  # root mean square of a picture in -1..1
_ORDINARY = 16.0  # maps between this and its inverse stay: their peaks are a hundred times as large, which leaves room for 40


@dataclass(frozen=True)
class Ranges:
    """What every map is multiplied by: encoder: from the picture's size down to 4; constant; styled: of each styled layer, in order.
    painted: the same of the weights that make pictures of the maps, which the modulation takes back."""

    encoder: list[float]
    constant: float
    styled: list[float]
    painted: list[float]


@torch.no_grad()
def ranges_of(plain: Generator) -> Ranges:
    """Estimates how large each map becomes, and chooses its factor."""
    count = len(plain.architecture.resolutions)
    decoder = plain.generator
    if decoder.input.input.is_meta:  # shapes without numbers
        return Ranges([1.0] * count, 1.0, [1.0] * (2 * count - 1), [1.0] * count)
    level, maps = _PICTURE, list[float]()
    for n in range(count):
        block = list(cast(Any, plain.get_submodule(f"ecd{n}"))[0])
        level = math.hypot(level * _gain(block[-2]), _rms(block[-1].bias))
        maps.append(level)
    constant = level = _rms(decoder.input.input)
    styled: list[float] = []
    for n, layer in enumerate([decoder.conv1, *cast("list[StyledConv]", list(decoder.convs))]):
        feature = maps[count - 1 - (n + 1) // 2]
        # Demodulated, a convolution's result is as large as what comes in.
        level = max(level, abs(float(layer.noise.weight)) * feature, _rms(layer.activate.bias))
        styled.append(level)
    painted = [_rms(layer.conv.weight) for layer in (decoder.to_rgb1, *cast("list[ToRGB]", list(decoder.to_rgbs)))]
    encoder, styled, painted = ([_factor(one) for one in several] for several in (maps, styled, painted))
    return Ranges(encoder, _factor(constant), styled, painted)


def unit_factors(energy: Tensor) -> Tensor:
    """Powers of two, one for each output channel, that bring a weight near 1; 1 for channels of nothing.

    energy: (outputs, inputs), the sums of its squares, scaled by the fan-in.
    """
    exponent = torch.log2(energy.sum(dim=1)).div(-2).round().clamp(-60, 60)
    return torch.exp2(torch.where((exponent.abs() > 2) & energy.any(dim=1), exponent, 0.0))


def _gain(conv: EqualConv2d) -> float:
    """How much larger the result is than what comes in: of noise or of even areas, whichever is more."""
    even = conv.weight.sum(dim=(2, 3))
    even = even.sum(dim=1).square() if even.shape[1] == 3 else even.square().sum(dim=1)  # the colours of a picture are alike
    noise = conv.weight.square().sum(dim=(1, 2, 3))
    return conv.scale * math.sqrt(max(float(even.mean()), float(noise.mean())))


def _rms(tensor: Tensor) -> float:
    return float(tensor.square().mean().sqrt())


def _factor(level: float) -> float:
    if not math.isfinite(level) or 1 / _ORDINARY <= level <= _ORDINARY or level <= 0:
        return 1.0
    return 2.0 ** -max(-60, min(60, round(math.log2(level))))
