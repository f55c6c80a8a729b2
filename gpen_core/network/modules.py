"""The GPEN generator, plain and readable: the reference for testing faster forms, and the form that is trained.

Parameter names are those of the official state dict, so that official files load unchanged and ours load elsewhere.
Source: official `face_model/gpen_model.py` (FullGenerator), reimplemented by behaviour; paper: Yang et al., CVPR 2021,
section 3; StyleGAN2 (Karras et al., CVPR 2020) for the modulated convolution.

Shapes: pictures (N, 3, S, S), RGB in -1..1; features (N, C, r, r) with r from 4 to S; style vector (N, style_dim).
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..weights.architecture import Architecture

MAPPING_LEARNING_RATE = 0.01  # the mapping layers' weights and biases are stored 100 times larger than used


def activation(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance: sqrt(2) * leaky_relu(x, 0.2)."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def fir_kernel(gain: float) -> Tensor:
    """The separable low-pass filter [1, 3, 3, 1] as a 4x4 kernel with the given sum."""
    taps = (1.0, 3.0, 3.0, 1.0)
    return torch.tensor([[a * b / 64 * gain for b in taps] for a in taps])


def drawn(*shape: int) -> Tensor:
    """Normally distributed initial weights for training.

    On "meta", which is used for loading, nothing is drawn: torch would import its compiler for it, which takes longer
    than reading the weights and more memory than a small network.
    """
    numbers = torch.empty(shape)
    return numbers if numbers.is_meta else numbers.normal_()


def depthwise(kernel: Tensor, x: Tensor) -> Tensor:
    """The 4x4 kernel as the weight of a depthwise convolution of x, in x's dtype.

    One depthwise convolution replaces the official pad, reshape and single-channel convolution: about fifty times
    faster on a CPU in channels_last. The kernel is symmetric, so convolution and correlation are the same.
    """
    return kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class Blur(nn.Module):
    """FIR low-pass filter with zero padding on every side; (N, C, r, r) -> (N, C, r + 2 * padding - 3, ...)."""

    kernel: Tensor

    def __init__(self, padding: int, gain: float) -> None:
        super().__init__()
        self.padding = padding
        self.register_buffer("kernel", fir_kernel(gain))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, depthwise(self.kernel, x), padding=self.padding, groups=x.shape[1])


class Upsample(nn.Module):
    """Doubles the size by zero insertion and the FIR filter; (N, C, r, r) -> (N, C, 2r, 2r)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(4.0))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, depthwise(self.kernel, x), stride=2, padding=1, groups=x.shape[1])


class EqualConv2d(nn.Module):
    """Convolution without bias whose weight is scaled by 1 / sqrt(fan in) when used."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.scale = 1 / math.sqrt(inputs * kernel_size**2)
        self.weight = nn.Parameter(drawn(outputs, inputs, kernel_size, kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, stride=self.stride)


class EqualLinear(nn.Module):
    """Linear layer whose weight is scaled by learning_rate / sqrt(fan in) and whose bias by learning_rate when used."""

    def __init__(self, inputs: int, outputs: int, learning_rate: float = 1.0, bias: float = 0.0, activated: bool = False) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.activated = activated
        self.scale = learning_rate / math.sqrt(inputs)
        weight = drawn(outputs, inputs)
        self.weight = nn.Parameter(weight if weight.is_meta else weight / learning_rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.scale, self.bias * self.learning_rate)
        return activation(y) if self.activated else y


class BiasedActivation(nn.Module):
    """act(x + b), with one bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return activation(x + self.bias.view(1, -1, 1, 1))


class PixelNorm(nn.Module):
    """Divides each vector by its root mean square; (N, D) -> (N, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by the style and, if demodulated, whose output has unit variance.

    The official code scales a copy of the weights for every picture. Scaling the activations before and after one
    convolution gives the same sum and lets a batch share the weights.
    """

    def __init__(self, inputs: int, outputs: int, kernel_size: int, style_dim: int, demodulate: bool, up: bool) -> None:
        super().__init__()
        self.demodulate = demodulate
        self.padding = kernel_size // 2
        self.scale = 1 / math.sqrt(inputs * kernel_size**2)
        self.weight = nn.Parameter(drawn(1, outputs, inputs, kernel_size, kernel_size))
        self.blur = Blur(padding=1, gain=4.0) if up else None
        self.modulation = EqualLinear(style_dim, inputs, bias=1.0)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        modulation = cast(Tensor, self.modulation(style))
        weight = self.weight[0] * self.scale
        x = x * modulation[:, :, None, None].to(x.dtype)
        if self.blur is None:
            y = F.conv2d(x, weight, padding=self.padding)
        else:
            y = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        if not self.demodulate:
            return y
        energy = weight.float().square().sum(dim=(2, 3))
        demodulation = torch.rsqrt(modulation.float().square() @ energy.t() + 1e-8)
        return y * demodulation[:, :, None, None].to(y.dtype)


class FeatureWeight(nn.Module):
    """Scales the encoder feature by one weight. (StyleGAN2 has noise here, hence `noise` in the state dict.)"""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, feature: Tensor) -> Tensor:
        return self.weight * feature


class StyledConv(nn.Module):
    """Modulated convolution, then the encoder feature concatenated; (N, inputs, ...), E (N, C, r, r) -> (N, 2C, r, r)."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, 3, style_dim, demodulate=True, up=up)
        self.noise = FeatureWeight()
        self.activate = BiasedActivation(2 * outputs)

    def forward(self, x: Tensor, style: Tensor, feature: Tensor) -> Tensor:
        return self.activate(torch.cat([self.conv(x, style), self.noise(feature)], dim=1))


class ToRGB(nn.Module):
    """Features to a picture, added to the enlarged picture of the resolution below."""

    def __init__(self, inputs: int, style_dim: int, up: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample() if up else None
        self.conv = ModulatedConv2d(inputs, 3, 1, style_dim, demodulate=False, up=False)

    def forward(self, x: Tensor, style: Tensor, below: Tensor | None = None) -> Tensor:
        y = self.conv(x, style) + self.bias
        if below is None or self.upsample is None:
            return y
        return y + self.upsample(below)


class ConstantInput(nn.Module):
    """The learnt 4x4 map that the decoder starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(drawn(1, channels, 4, 4))


class Decoder(nn.Module):
    """The StyleGAN2 decoder: style vector and encoder features in, picture out."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        self.style = nn.Sequential(
            PixelNorm(),
            *(EqualLinear(a.style_dim, a.style_dim, MAPPING_LEARNING_RATE, activated=True) for _ in range(a.n_mlp)),
        )
        lowest = a.channels(4)
        self.input = ConstantInput(lowest)
        self.conv1 = StyledConv(lowest, lowest, a.style_dim)
        self.to_rgb1 = ToRGB(2 * lowest, a.style_dim, up=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        below = lowest
        for resolution in a.resolutions[1:]:
            outputs = a.channels(resolution)
            self.convs.append(StyledConv(2 * below, outputs, a.style_dim, up=True))
            self.convs.append(StyledConv(2 * outputs, outputs, a.style_dim))
            self.to_rgbs.append(ToRGB(2 * outputs, a.style_dim))
            below = outputs

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """latent: (N, style_dim). features: from 4 to S; the list is emptied from the front to free memory."""
        style = cast(Tensor, self.style(latent))
        feature = features.pop(0)
        x = self.conv1(self.input.input.expand(latent.shape[0], -1, -1, -1), style, feature)
        picture = self.to_rgb1(x, style)
        for n, to_rgb in enumerate(self.to_rgbs):
            feature = features.pop(0)
            x = self.convs[2 * n](x, style, feature)
            x = self.convs[2 * n + 1](x, style, feature)
            picture = to_rgb(x, style, picture)
        return picture


class Generator(nn.Module):
    """GPEN: encoder, style vector, decoder. (N, 3, S, S) RGB in -1..1 -> the same shape, not clamped.

    Segmentation-to-face weights take and return 0..1 instead. Weights start random: load a state dict before use.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.generator = Decoder(a)
        above = a.channels(a.size)
        # Numbered attributes rather than a list, because these are the official names.
        self.ecd0 = nn.Sequential(nn.Sequential(EqualConv2d(3, above, 1), BiasedActivation(above)))
        for n, resolution in enumerate(reversed(a.resolutions[:-1]), 1):
            outputs = a.channels(resolution)
            block = nn.Sequential(Blur(padding=2, gain=1.0), EqualConv2d(above, outputs, 3, stride=2), BiasedActivation(outputs))
            self.add_module(f"ecd{n}", nn.Sequential(block))
            above = outputs
        self.final_linear = nn.Sequential(EqualLinear(above * 16, a.style_dim, activated=True))

    @property
    def size(self) -> int:
        """Side of the square picture in and out, in pixels."""
        return self.architecture.size

    @staticmethod
    def kernels(architecture: Architecture) -> dict[str, Tensor]:
        """The FIR kernels of the official state dict: constants that a file may omit."""
        keys = [key for key in architecture.state_shapes() if key.endswith(".kernel")]
        return {key: fir_kernel(4.0 if key.startswith("generator.") else 1.0) for key in keys}

    def use_channels_last(self) -> Generator:
        """Stores all weights in channels_last, the faster layout on CPUs and for half precision on GPUs. Returns self."""
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            elif parameter.dim() == 5:  # (1, out, in, k, k): nn.Module.to() cannot do these
                parameter.data = parameter.data[0].contiguous(memory_format=torch.channels_last)[None]
        return self

    def encode(self, x: Tensor) -> list[Tensor]:
        """Encoder features from S down to 4."""
        features: list[Tensor] = []
        for n in range(len(self.architecture.resolutions)):
            x = self.get_submodule(f"ecd{n}")(x)
            features.append(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        features = self.encode(x)
        # The official code flattens NCHW; reshape() does that in any memory layout.
        latent = self.final_linear(features[-1].reshape(x.shape[0], -1))
        features.reverse()
        return self.generator(latent, features)
