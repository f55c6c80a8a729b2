"""The StyleGAN2 discriminator (Karras et al., CVPR 2020, residual form), as in GPEN's training, and its losses.

One addition: besides the whole picture it judges every patch at every level, like patch discriminators (Isola et al., CVPR 2017), so that
a short training also learns texture.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpen_core.network.modules import BiasedActivation, Blur, EqualConv2d, EqualLinear

# Restored pictures lack fine detail, which is small in amplitude: the discriminator gets it separately, amplified.
DETAIL = 8.0


class Down(nn.Module):
    """Halves the size: a residual block of two convolutions. (N, inputs, r, r) -> (N, outputs, r/2, r/2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.blur = Blur(padding=2, gain=1.0)
        self.skip_blur = Blur(padding=1, gain=1.0)
        self.conv1 = EqualConv2d(inputs, inputs, 3)
        self.act1 = BiasedActivation(inputs)
        self.conv2 = EqualConv2d(inputs, outputs, 3, stride=2)
        self.act2 = BiasedActivation(outputs)
        self.skip = EqualConv2d(inputs, outputs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.conv1(F.pad(x, (1, 1, 1, 1))))
        y = self.act2(self.conv2(self.blur(y)))
        return (y + self.skip(self.skip_blur(x))) / math.sqrt(2)


class Discriminator(nn.Module):
    """(N, 3, S, S) in -1..1 -> how real each patch (N, 1, r, r) and each picture (N,) looks, and the features of every level.

    top: channels at full size; each halving of the size doubles them, up to `most`.
    """

    def __init__(self, size: int, top: int = 16, most: int = 192) -> None:
        super().__init__()
        self.read = EqualConv2d(6, top, 1)
        self.read_act = BiasedActivation(top)
        channels = [min(most, top * 2**n) for n in range(int(math.log2(size)) - 1)]
        self.blocks = nn.ModuleList(Down(a, b) for a, b in itertools.pairwise(channels))
        self.patches = nn.ModuleList(EqualConv2d(c, 1, 1) for c in channels[1:-1])
        last = channels[-1]
        self.last = EqualConv2d(last + 1, last, 3)  # one more channel: the minibatch standard deviation
        self.last_act = BiasedActivation(last)
        self.dense = EqualLinear(last * 16, last, activated=True)
        self.out = EqualLinear(last, 1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        x = self.read_act(self.read(torch.cat([x, DETAIL * (x - F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))], dim=1)))
        features: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            features.append(x)
        x = torch.cat([x, spread(x)], dim=1)
        x = self.last_act(self.last(F.pad(x, (1, 1, 1, 1))))
        verdicts = [patch(feature).float() for patch, feature in zip(self.patches, features, strict=False)]
        return [*verdicts, self.out(self.dense(x.flatten(1)))[:, 0].float()], features


def spread(x: Tensor, group: int = 4) -> Tensor:
    """Minibatch standard deviation (Karras et al., ICLR 2018, section 3) of groups of pictures: (N, C, 4, 4) -> (N, 1, 4, 4)."""
    n, _, height, width = x.shape
    group = next(g for g in range(min(group, n), 0, -1) if n % g == 0)
    y = x.float().reshape(group, n // group, *x.shape[1:])
    deviation = (y.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(n, 1, height, width).to(x.dtype)


def discriminator_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Logistic loss of the discriminator (Goodfellow et al. 2014), mean over its outputs."""
    return torch.stack([F.softplus(-a).mean() + F.softplus(b).mean() for a, b in zip(real, fake, strict=True)]).mean()


def generator_loss(fake: list[Tensor]) -> Tensor:
    """Non-saturating logistic loss of the generator, mean over the discriminator's outputs."""
    return torch.stack([F.softplus(-verdict).mean() for verdict in fake]).mean()


def r1_penalty(discriminator: Discriminator, real: Tensor) -> Tensor:
    """Mean squared gradient of the discriminator on real pictures (Mescheder et al., ICML 2018), in float32."""
    real = real.detach().requires_grad_(True)
    verdicts, _ = discriminator(real)
    total = torch.stack([verdict.reshape(len(real), -1).mean(dim=1).sum() for verdict in verdicts]).sum()
    (gradient,) = torch.autograd.grad(total, real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean absolute difference between the features of restored and original, each level normalised (Wang et al., CVPR 2018)."""
    losses = [(a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp_min(1e-3) for a, b in zip(fake, real, strict=True)]
    return torch.stack(losses).mean()
