"""Initial weights for training: a generator that returns its input, so that training can only improve on it.

The first encoder layer carries +RGB and -RGB through its two leaky ReLUs (its own and the one after the concatenation),
the last to_rgb reads them back, and all other to_rgb weights start at zero.
"""

from __future__ import annotations

import math

import torch

from gpen_core.network.modules import FeatureWeight, Generator, ToRGB
from gpen_core.weights.architecture import Architecture


def identity_generator(architecture: Architecture, seed: int) -> Generator:
    """A random generator whose output is its input, to float32 rounding."""
    torch.default_generator.manual_seed(seed)
    network = Generator(architecture)
    for module in network.modules():
        if isinstance(module, FeatureWeight):
            module.weight.data.fill_(1.0)
        elif isinstance(module, ToRGB):
            module.conv.weight.data.zero_()
            module.conv.modulation.weight.data.zero_()
    first = network.get_submodule("ecd0.0.0")
    weight = first.get_parameter("weight").data
    top = architecture.channels(architecture.size)
    weight[:6] = 0
    last = network.get_submodule(f"generator.to_rgbs.{len(architecture.resolutions) - 2}.conv")
    read = last.get_parameter("weight").data
    # act(act(v)) is 2v above zero and 0.08v below, so both signs together give 2.08v; the scales undo the equalised learning rate.
    gain = math.sqrt(2 * top) / 2.08
    for channel in range(3):
        for offset, sign in ((0, 1.0), (3, -1.0)):
            weight[channel + offset, channel] = sign * math.sqrt(3)
            read[0, channel, top + channel + offset] = sign * gain
    return network
