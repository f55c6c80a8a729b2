"""A GPEN generator that computes like the official one, so that exports contain the same operations: for tests of the ONNX reader.

Written from docs/gpen.md. Unlike gpen_core it scales weights in `forward`, computes a modulated convolution as a grouped convolution with
separate weights for each picture, and the low-pass filter as a depthwise convolution.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def fir(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    n, c, h, w = x.shape
    x = x.reshape(-1, h, 1, w, 1, 1)
    x = F.pad(x, [0, 0, 0, up - 1, 0, 0, 0, up - 1])
    x = x.reshape(-1, 1, h * up, w * up)
    x = F.pad(x, [pad[0], pad[1], pad[0], pad[1]])
    x = F.conv2d(x, torch.flip(kernel, [0, 1]).view(1, 1, 4, 4))
    return x.view(n, c, x.shape[2], x.shape[3])


class Fir(nn.Module):
    def __init__(self, up: int, pad: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.zeros(4, 4))
        self.up, self.pad = up, pad

    def forward(self, x: Tensor) -> Tensor:
        return fir(x, self.kernel, self.up, self.pad)


class Activate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias.view((1, -1) + (1,) * (x.ndim - 2)), 0.2) * math.sqrt(2)


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, activate: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.rate, self.activate = rate / math.sqrt(inputs), rate, activate

    def forward(self, x: Tensor) -> Tensor:
        if not self.activate:
            return F.linear(x, self.weight * self.scale, bias=self.bias * self.rate)
        x = F.linear(x, self.weight * self.scale)
        return F.leaky_relu(x + (self.bias * self.rate).view(1, -1), 0.2) * math.sqrt(2)


class PlainConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, side: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, side, side))
        self.scale, self.stride = 1 / math.sqrt(inputs * side * side), stride

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, stride=self.stride)


class PixelNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


class ModulatedConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, side: int, up: bool, demodulate: bool, style: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, outputs, inputs, side, side))
        if up:
            self.blur = Fir(1, (1, 1))
        self.modulation = Linear(style, inputs)
        self.inputs, self.outputs = inputs, outputs
        self.scale, self.up, self.demodulate, self.side = 1 / math.sqrt(inputs * side * side), up, demodulate, side

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        n, h, w = int(x.shape[0]), x.shape[2], x.shape[3]
        # Python numbers, not tensor sizes: the older exporter must know a convolution's kernel size.
        c, o, k = self.inputs, self.outputs, self.side
        weight = self.scale * self.weight * self.modulation(style).view(n, 1, c, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(n, o, 1, 1, 1)
        weight = weight.view(n * o, c, k, k)
        x = x.view(1, n * c, h, w)
        if self.up:
            weight = weight.view(n, o, c, k, k).transpose(1, 2).reshape(n * c, o, k, k)
            x = F.conv_transpose2d(x, weight, stride=2, padding=0, groups=n)
            return self.blur(x.view(n, o, x.shape[2], x.shape[3]))
        x = F.conv2d(x, weight, padding=k // 2, groups=n)
        return x.view(n, o, x.shape[2], x.shape[3])


class Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, feature: Tensor) -> Tensor:
        return torch.cat((x, self.weight * feature), dim=1)


class Styled(nn.Module):
    def __init__(self, inputs: int, outputs: int, up: bool, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, up, True, style)
        self.noise = Noise()
        self.activate = Activate(2 * outputs)

    def forward(self, x: Tensor, style: Tensor, feature: Tensor) -> Tensor:
        return self.activate(self.noise(self.conv(x, style), feature))


class ToRgb(nn.Module):
    def __init__(self, inputs: int, up: bool, style: int) -> None:
        super().__init__()
        if up:
            self.upsample = Fir(2, (2, 1))
        self.conv = ModulatedConv(inputs, 3, 1, False, False, style)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        x = self.conv(x, style) + self.bias
        return x if skip is None else x + self.upsample(skip)


class Start(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.zeros(1, channels, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.input.repeat(int(x.shape[0]), 1, 1, 1)


class Decoder(nn.Module):
    def __init__(self, channels: list[int], style: int, layers: int) -> None:
        super().__init__()
        self.style = nn.Sequential(PixelNorm(), *(Linear(style, style, 0.01, True) for _ in range(layers)))
        self.input = Start(channels[0])
        self.conv1 = Styled(channels[0], channels[0], False, style)
        self.to_rgb1 = ToRgb(2 * channels[0], False, style)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for below, c in pairwise(channels):
            self.convs += [Styled(2 * below, c, True, style), Styled(2 * c, c, False, style)]
            self.to_rgbs.append(ToRgb(2 * c, True, style))

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        w = self.style(latent)
        x = self.conv1(self.input(w), w, features[0])
        skip = self.to_rgb1(x, w)
        for i, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * i](x, w, features[i + 1])
            x = self.convs[2 * i + 1](x, w, features[i + 1])
            skip = to_rgb(x, w, skip)
        return skip


class OfficialLike(nn.Module):
    """The whole network. channels: of the feature maps at size 4, 8, ... style: length of the style. layers: of the mapping network."""

    def __init__(self, channels: list[int], style: int = 512, layers: int = 8) -> None:
        super().__init__()
        down = channels[::-1]
        self.ecd0 = nn.Sequential(nn.Sequential(PlainConv(3, down[0], 1, 1), Activate(down[0])))
        for i, (above, c) in enumerate(pairwise(down), 1):
            layer = nn.Sequential(Fir(1, (2, 2)), PlainConv(above, c, 3, 2), Activate(c))
            self.add_module(f"ecd{i}", nn.Sequential(layer))
        self.final_linear = nn.Sequential(Linear(channels[0] * 16, style, 1.0, True))
        self.generator = Decoder(channels, style, layers)
        self.levels = len(channels)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for i in range(self.levels):
            x = getattr(self, f"ecd{i}")(x)
            features.append(x)
        return self.generator(self.final_linear(x.view(x.shape[0], -1)), features[::-1])


def make(recipe, size: int = 64, channel_multiplier: float = 2, narrow: float = 0.125) -> tuple[OfficialLike, dict[str, Tensor]]:
    """Returns the network with the recipe's weights, and those weights."""
    arrays = recipe.make_state_dict(recipe.gpen_shapes(size, channel_multiplier, narrow))
    state = {key: torch.from_numpy(value) for key, value in arrays.items()}
    channels = [state["generator.conv1.conv.weight"].shape[1]]
    channels += [state[f"generator.convs.{2 * i}.conv.weight"].shape[1] for i in range(size.bit_length() - 3)]
    network = OfficialLike(channels)
    network.load_state_dict(state, strict=True)
    return network.eval(), state
