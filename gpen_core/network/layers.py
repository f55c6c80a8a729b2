"""The fused generator's layers, made from those of the plain one; `fused` explains what is folded into them and why.

Inference only. Shapes as in `modules`: features (N, C, r, r) with r from 4 to S; strips (`tiles`) have fewer rows than columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import card, winograd
from .modules import EqualConv2d, EqualLinear, Generator, ModulatedConv2d, StyledConv, ToRGB, fir_kernel
from .ranges import Ranges, ranges_of, unit_factors

# Where a Winograd convolution is faster on CPUs, in float32: with fewer channels or larger maps its sums cost what its products save.
_WINOGRAD_OUTPUTS = 256
_WINOGRAD_SIDES = range(16, 129)

Ask = Callable[[], object]  # called now and then; an exception it raises ends the work

GAIN = math.sqrt(2)
SLOPE = 0.2


def frozen(tensor: Tensor, scale: float | Tensor = 1.0) -> nn.Parameter:
    """A scaled copy that moves and casts with the module and is never trained; channels_last if it has 4 dimensions.

    It is written straight to its final place: large temporary tensors would fragment the process's memory for good.
    """
    layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    result = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device, memory_format=layout)
    return nn.Parameter(torch.mul(tensor.detach(), scale, out=result), requires_grad=False)


def depthwise_fir(x: Tensor, kernel: Tensor, padding: tuple[int, int]) -> Tensor:
    """Applies the 4x4 low-pass filter to every channel. padding: zeros above and below, and at the sides."""
    done = card.kernel("low_pass", x, kernel, padding)
    if done is not None:
        return done
    return F.conv2d(x, kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4), padding=padding, groups=x.shape[1])


class Encoding(nn.Module):
    """One step of the encoder: (N, C, 2r, w) -> (N, C', r, w / 2); the first keeps the size (1x1)."""

    def __init__(self, conv: EqualConv2d, bias: Tensor, blurs: bool, factors: tuple[float, float] = (1.0, 1.0)) -> None:
        """factors: what the map that comes in and the one that goes out are multiplied by (`ranges`)."""
        super().__init__()
        self.weight = frozen(conv.weight, conv.scale * GAIN * (factors[1] / factors[0]))
        self.bias = frozen(bias, GAIN * factors[1])
        self.kernel = frozen(fir_kernel(1.0)) if blurs else None

    def forward(self, x: Tensor, rows: int = 2) -> Tensor:
        """rows: zero rows that the low-pass filter sees above and below; 0 if the caller has put the true neighbours there."""
        if self.kernel is None:
            y = F.conv2d(x, self.weight, self.bias)
        else:
            y = F.conv2d(depthwise_fir(x, self.kernel, (rows, 2)), self.weight, self.bias, stride=2)
        return F.leaky_relu_(y, SLOPE)


class Styled(nn.Module):
    """A modulated 3x3 convolution, its demodulation, the concatenated encoder feature, bias and activation."""

    def __init__(self, plain: StyledConv, side: int, units: Tensor, factor: float = 1.0, of_feature: float = 1.0) -> None:
        """side: side of the square input map. units: factors of the output channels' weights, which the demodulation takes back; factor,
        of_feature: what the map that goes out and the encoder's are multiplied by (all: `ranges`)."""
        super().__init__()
        conv = plain.conv
        weight = conv.weight[0]
        self.up = conv.blur is not None
        # Decided by the whole map's size, so that strips round as the whole map does.
        self.scales_weight = weight.numel() <= weight.shape[1] * side**2
        self.outputs = weight.shape[0]
        scale = conv.scale * units.view(-1, 1, 1, 1)
        self.weight = frozen(weight.transpose(0, 1), scale.transpose(0, 1)) if self.up else frozen(weight, scale)
        self.bias = frozen(plain.activate.bias, GAIN * factor)
        self.feature_weight = frozen(plain.noise.weight, GAIN * (factor / of_feature))
        self.kernel = frozen(fir_kernel(4.0)) if self.up else None
        self.can_transform = not self.up and self.outputs >= _WINOGRAD_OUTPUTS and side in _WINOGRAD_SIDES

    @property
    def transformed(self) -> bool:
        """Whether the weight is in Winograd form, (16, inputs, outputs); `place` decides."""
        return self.weight.dim() == 3

    def transform(self, wanted: bool) -> None:
        """Converts the weight to Winograd form, if that speeds up the layer, or back."""
        if wanted and self.can_transform and not self.transformed:
            self.weight = nn.Parameter(winograd.transform_weight(self.weight), requires_grad=False)
        elif not wanted and self.transformed:
            self.weight = frozen(winograd.restore_weight(self.weight))

    def modulated(self, x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """(activations, weight), with the modulation in whichever is smaller; a batch shares its weights, so there in the activations."""
        inputs = modulation.shape[1]
        # Transformed weights reach this in strips of small networks, or after a move without `place`.
        weight = winograd.restore_weight(self.weight) if self.transformed else self.weight
        scale = modulation.to(x.dtype)
        if x.shape[0] > 1 or not self.scales_weight:
            return x * scale.view(-1, inputs, 1, 1), weight
        return x, weight * scale.view((inputs, 1, 1, 1) if self.up else (1, inputs, 1, 1))

    def convolve(self, x: Tensor, modulation: Tensor) -> Tensor:
        """The convolution before demodulation: (N, inputs, h, w) -> (N, outputs, h, w), or twice the size."""
        if self.transformed and x.dtype == torch.float32 and x.device.type == "cpu":
            return winograd.convolve(x, self.weight, modulation)
        x, weight = self.modulated(x, modulation)
        if self.kernel is None:
            return F.conv2d(x, weight, padding=1)
        return depthwise_fir(F.conv_transpose2d(x, weight, stride=2), self.kernel, (1, 1))

    def finish(self, y: Tensor, demodulation: Tensor, feature: Tensor, room: Tensor | None = None) -> Tensor:
        """Demodulates, appends the encoder feature, adds bias and activates: (N, 2 * outputs, h, w). room: a tensor to write it into."""
        if y.dtype == torch.float16:
            demodulation = demodulation.clamp(max=65504)  # infinity, for channels of nothing, times nothing is no number
        both = card.kernel("finish", y, demodulation, feature, self.feature_weight, self.bias, SLOPE, room)
        if both is not None:
            return both
        n, c, height, width = y.shape
        both = room
        if both is None:
            both = torch.empty((n, 2 * c, height, width), dtype=y.dtype, device=y.device, memory_format=torch.channels_last)
        bias = self.bias.view(1, -1, 1, 1)
        factors = demodulation.to(y.dtype).view(-1, c, 1, 1), self.feature_weight.view(1, 1, 1, 1)
        if y.dtype != torch.float32 and y.device.type == "cpu":
            # On CPUs torch does not vectorise addcmul in half precision: it is seven times slower than this.
            torch.mul(y, factors[0], out=both[:, :c])
            torch.mul(feature, factors[1], out=both[:, c:])
            both.add_(bias)
        else:
            torch.addcmul(bias[:, :c], y, factors[0], out=both[:, :c])
            torch.addcmul(bias[:, c:], feature, factors[1], out=both[:, c:])
        return F.leaky_relu_(both, SLOPE)


class Painting(nn.Module):
    """Features to a picture: a 1x1 convolution with modulated weights, added to the enlarged picture of the level below."""

    def __init__(self, plain: ToRGB, factor: float = 1.0) -> None:
        """factor: of the weight, which the modulation takes back (`ranges`)."""
        super().__init__()
        self.weight = frozen(plain.conv.weight[0, :, :, 0, 0], plain.conv.scale * factor)
        self.bias = frozen(plain.bias.view(-1))
        self.kernel = frozen(fir_kernel(4.0)) if plain.upsample is not None else None

    def paint(self, x: Tensor, modulation: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 3, h, w), without the level below; in float32, so that the sum over levels is not rounded at each."""
        weight = self.weight.float() * modulation[:, None, :]
        if x.dtype != torch.float16:
            return self._convolve(x, weight, self.bias)
        # Nothing demodulates here: a large style would overflow.
        largest = weight.abs().amax(dim=(1, 2), keepdim=True).clamp_min(1e-8)
        return self._convolve(x, weight / largest, None).mul_(largest.unsqueeze(3)).add_(self.bias.float().view(1, 3, 1, 1))

    @staticmethod
    def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """weight: (N, 3, C), one for each picture."""
        if x.shape[0] == 1:
            return F.conv2d(x, weight[0, :, :, None, None].to(x.dtype), bias).float()
        weight = weight.reshape(-1, x.shape[1], 1, 1).to(x.dtype)
        n, c, height, width = x.shape
        y = F.conv2d(x.reshape(1, n * c, height, width), weight, None if bias is None else bias.repeat(n), groups=n)
        return y.view(n, 3, height, width).float()

    def enlarge(self, below: Tensor, padding: tuple[int, int] = (1, 1)) -> Tensor:
        """Doubles the size. padding: conv_transpose2d's, cut off above and below, and at the sides."""
        kernel = cast(Tensor, self.kernel).to(below.dtype).expand(below.shape[1], 1, 4, 4)
        return F.conv_transpose2d(below, kernel, stride=2, padding=padding, groups=below.shape[1])

    def forward(self, x: Tensor, modulation: Tensor, below: Tensor | None) -> Tensor:
        y = self.paint(x, modulation)
        return y if below is None else y.add_(self.enlarge(below))


class Styles(nn.Module):
    """Computes every layer's modulation and demodulation from the encoder's last feature, in float32."""

    def __init__(self, plain: Generator, ranges: Ranges, units: list[Tensor], energies: list[Tensor]) -> None:
        super().__init__()
        decoder = plain.generator
        linears = [cast(EqualLinear, plain.final_linear[0]), *cast("list[EqualLinear]", list(decoder.style)[1:])]
        styled = [decoder.conv1, *cast("list[StyledConv]", list(decoder.convs))]
        painted = [decoder.to_rgb1, *cast("list[ToRGB]", list(decoder.to_rgbs))]
        self.count = len(styled)
        convs: list[ModulatedConv2d] = [*(layer.conv for layer in styled), *(layer.conv for layer in painted)]
        self.inputs = [conv.weight.shape[2] for conv in convs]
        scales = [linear.scale * GAIN for linear in linears]
        scales[0] /= ranges.encoder[-1]
        self.weights = nn.ParameterList([frozen(linear.weight, scale) for linear, scale in zip(linears, scales, strict=True)])
        self.biases = nn.ParameterList([frozen(linear.bias, linear.learning_rate * GAIN) for linear in linears])
        # What maps were multiplied by, the demodulation and the painting take back.
        backs = [1.0] * len(styled) + [1 / (a * b) for a, b in zip(ranges.styled[::2], ranges.painted, strict=True)]
        linears = [conv.modulation for conv in convs]
        self.weight = frozen(torch.cat([one.weight * (one.scale * back) for one, back in zip(linears, backs, strict=True)]))
        self.bias = frozen(torch.cat([one.bias * (one.learning_rate * back) for one, back in zip(linears, backs, strict=True)]))
        self.ratios = [after / before for before, after in pairwise([ranges.constant, *ranges.styled])]
        self.energies = nn.ParameterList([frozen(energy, unit.square()[:, None]) for energy, unit in zip(energies, units, strict=True)])
        self.epsilons = nn.ParameterList([frozen(unit.square(), 1e-8) for unit in units])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # Half precision would cost accuracy here and save little time: follow the device, never the dtype.
        def moved(tensor: Tensor) -> Tensor:
            # Ask with an empty tensor, so that no value is rounded by a smaller dtype.
            return tensor.to(device=fn(tensor.new_empty(0)).device)

        return cast(Any, super())._apply(moved)

    def forward(self, deepest: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """(modulations (N, inputs), demodulations (N, outputs), modulations of ToRGB), a tensor per layer. deepest: (N, C, 4, 4)."""
        # The official code flattens NCHW; reshape() does that in any memory layout.
        style = deepest.reshape(deepest.shape[0], -1).float()
        style = F.leaky_relu_(F.linear(style, self.weights[0], self.biases[0]), SLOPE)
        style = style * torch.rsqrt(style.square().mean(dim=1, keepdim=True) + 1e-8)
        for weight, bias in zip(list(self.weights)[1:], list(self.biases)[1:], strict=True):
            style = F.leaky_relu_(F.linear(style, weight, bias), SLOPE)
        every = torch.split(F.linear(style, self.weight, self.bias), self.inputs, dim=1)
        modulations: list[Tensor] = []
        demodulations: list[Tensor] = []
        for modulation, energy, least, ratio in zip(every[: self.count], self.energies, self.epsilons, self.ratios, strict=True):
            largest = modulation.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
            modulations.append(modulation / largest)
            demodulations.append(torch.rsqrt(modulation.square() @ energy.t() + least) * (largest * (GAIN * ratio)))
        return modulations, demodulations, list(every[self.count :])


class Layers(nn.Module):
    """All layers of a generator, computed on whole maps. Built from a plain one, whose weights it copies."""

    def __init__(self, plain: Generator) -> None:
        super().__init__()
        self.architecture = plain.architecture
        ranges = ranges_of(plain)
        self.encodings = nn.ModuleList()
        for n, factors in enumerate(pairwise([1.0, *ranges.encoder])):
            block = list(cast(Any, plain.get_submodule(f"ecd{n}"))[0])
            self.encodings.append(Encoding(block[-2], block[-1].bias, len(block) == 3, factors))
        decoder = plain.generator
        layers = [decoder.conv1, *cast("list[StyledConv]", list(decoder.convs))]
        energies = [(layer.conv.weight[0].detach() * layer.conv.scale).square_().sum(dim=(2, 3)) for layer in layers]
        units = [unit_factors(energy) for energy in energies]
        self.styles = Styles(plain, ranges, units, energies)
        self.constant = frozen(decoder.input.input, ranges.constant)
        # Layers 2k + 1 and 2k + 2 make the level of 8 * 2^k pixels; the first of them starts from half of that.
        self.styled = nn.ModuleList(
            Styled(layer, 4 << n // 2, units[n], ranges.styled[n], ranges.encoder[-1 - (n + 1) // 2]) for n, layer in enumerate(layers)
        )
        painted = [decoder.to_rgb1, *cast("list[ToRGB]", list(decoder.to_rgbs))]
        self.paintings = nn.ModuleList([Painting(layer, factor) for layer, factor in zip(painted, ranges.painted, strict=True)])

    @property
    def size(self) -> int:
        """Side of the square picture in and out, in pixels."""
        return self.architecture.size

    def whole(self, x: Tensor, ask: Ask | None = None) -> Tensor:
        """Computes everything at once: (N, 3, S, S), in channels_last, in and out. The result is float32."""
        features = [self.encodings[0](x)]
        for encoding in list(self.encodings)[1:]:
            if ask:
                ask()
            features.append(encoding(features[-1]))
        return Decoding(self, features[-1]).whole(features, ask)[1]


class Decoding:
    """The decoder for one batch: matches layers with their modulations."""

    def __init__(self, layers: Layers, deepest: Tensor) -> None:
        self._layers = layers
        self.modulations, self.demodulations, self.paints = layers.styles(deepest)

    def styled(self, layer: int) -> tuple[Styled, Tensor, Tensor]:
        """(layer, modulation, demodulation)."""
        return cast(Styled, self._layers.styled[layer]), self.modulations[layer], self.demodulations[layer]

    def painting(self, level: int) -> tuple[Painting, Tensor]:
        """(layer, modulation)."""
        return cast(Painting, self._layers.paintings[level]), self.paints[level]

    def whole(self, features: list[Tensor], ask: Ask | None = None) -> tuple[Tensor, Tensor]:
        """(features, picture). features: the encoder's, from the largest resolution down to 4; the list is emptied to free memory."""
        feature = features.pop()
        x = self._layers.constant.expand(feature.shape[0], -1, -1, -1)
        layer, modulation, demodulation = self.styled(0)
        x = layer.finish(layer.convolve(x, modulation), demodulation, feature)
        picture: Tensor | None = None
        level = 0
        while True:
            if ask:
                ask()
            painting, modulation = self.painting(level)
            picture = cast(Tensor, painting(x, modulation, picture))
            if not features:
                return x, picture
            feature = features.pop()
            for n in (2 * level + 1, 2 * level + 2):
                layer, modulation, demodulation = self.styled(n)
                y = layer.convolve(x, modulation)
                room = None if layer.up else x  # as large as the result, and no longer needed
                del x  # these maps take most of the memory
                x = layer.finish(y, demodulation, feature, room)
                del y, room
            level += 1
