"""The architecture of a GPEN generator, read from the shapes of its tensors. Imports nothing heavy.

Source: official `face_model/gpen_model.py` (FullGenerator); paper: Yang et al., CVPR 2021, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import WeightsError, shown

SMALLEST_SIZE = 64
LARGEST_SIZE = 2048
# The official networks have at most 512 channels, 512 style dimensions and 8 mapping layers; no GPEN goes far beyond that.
MOST_CHANNELS = 4096
MOST_LAYERS = 32

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """The five numbers that define a GPEN generator.

    size: side of the square input and output, in pixels (a power of two, 64 to 2048).
    channel_multiplier: factor on the channels at resolutions of 64 and above (official: 1 at size 256, otherwise 2).
    narrow: factor on all channels (official: 0.5 at size 256, otherwise 1).
    style_dim: length of the style vector w. n_mlp: number of mapping layers.
    """

    size: int
    channel_multiplier: float = 2
    narrow: float = 1
    style_dim: int = 512
    n_mlp: int = 8

    def __post_init__(self) -> None:
        power = SMALLEST_SIZE <= self.size <= LARGEST_SIZE and self.size & (self.size - 1) == 0
        if not power:
            raise WeightsError(f"a GPEN generator has a size of 64, 128, 256, 512, 1024 or 2048; this one would have {self.size}")
        channels = [self.channels(resolution) for resolution in self.resolutions]
        if not (1 <= self.style_dim <= MOST_CHANNELS and min(channels) >= 1 and max(channels) <= MOST_CHANNELS):
            raise WeightsError(
                f"a GPEN generator has 1 to {MOST_CHANNELS} channels in every layer and as many style dimensions; this one would have "
                f"{min(channels)} to {max(channels)} channels and {self.style_dim} style dimensions"
            )
        if self.n_mlp > MOST_LAYERS:
            raise WeightsError(f"a GPEN generator has at most {MOST_LAYERS} mapping layers; this one would have {self.n_mlp}")

    def channels(self, resolution: int) -> int:
        """Number of channels of the feature maps at a resolution (4, 8, ... size)."""
        if resolution <= 32:
            return int(512 * self.narrow)
        return int((16384 // resolution) * self.channel_multiplier * self.narrow)

    @property
    def resolutions(self) -> tuple[int, ...]:
        """All resolutions of the decoder, from 4 to size."""
        return tuple(2**k for k in range(2, int(math.log2(self.size)) + 1))

    def state_shapes(self) -> dict[str, Shape]:
        """Shapes of all tensors of the official state dict, in the official order, including the FIR kernels."""
        shapes: dict[str, Shape] = {}
        g = "generator."
        for i in range(1, self.n_mlp + 1):
            shapes[f"{g}style.{i}.weight"] = (self.style_dim, self.style_dim)
            shapes[f"{g}style.{i}.bias"] = (self.style_dim,)
        lowest = self.channels(4)
        shapes[f"{g}input.input"] = (1, lowest, 4, 4)

        def styled_conv(prefix: str, inputs: int, outputs: int, up: bool) -> None:
            shapes[f"{prefix}.conv.weight"] = (1, outputs, inputs, 3, 3)
            if up:
                shapes[f"{prefix}.conv.blur.kernel"] = (4, 4)
            shapes[f"{prefix}.conv.modulation.weight"] = (inputs, self.style_dim)
            shapes[f"{prefix}.conv.modulation.bias"] = (inputs,)
            shapes[f"{prefix}.noise.weight"] = (1,)
            shapes[f"{prefix}.activate.bias"] = (2 * outputs,)

        def to_rgb(prefix: str, inputs: int, up: bool) -> None:
            shapes[f"{prefix}.bias"] = (1, 3, 1, 1)
            if up:
                shapes[f"{prefix}.upsample.kernel"] = (4, 4)
            shapes[f"{prefix}.conv.weight"] = (1, 3, inputs, 1, 1)
            shapes[f"{prefix}.conv.modulation.weight"] = (inputs, self.style_dim)
            shapes[f"{prefix}.conv.modulation.bias"] = (inputs,)

        styled_conv(f"{g}conv1", lowest, lowest, up=False)
        to_rgb(f"{g}to_rgb1", 2 * lowest, up=False)
        below = lowest
        upper = self.resolutions[1:]
        for n, resolution in enumerate(upper):
            outputs = self.channels(resolution)
            styled_conv(f"{g}convs.{2 * n}", 2 * below, outputs, up=True)
            styled_conv(f"{g}convs.{2 * n + 1}", 2 * outputs, outputs, up=False)
            below = outputs
        for n, resolution in enumerate(upper):
            to_rgb(f"{g}to_rgbs.{n}", 2 * self.channels(resolution), up=True)
        above = self.channels(self.size)
        shapes["ecd0.0.0.weight"] = (above, 3, 1, 1)
        shapes["ecd0.0.1.bias"] = (above,)
        for n, resolution in enumerate(reversed(self.resolutions[:-1]), 1):
            outputs = self.channels(resolution)
            shapes[f"ecd{n}.0.0.kernel"] = (4, 4)
            shapes[f"ecd{n}.0.1.weight"] = (outputs, above, 3, 3)
            shapes[f"ecd{n}.0.2.bias"] = (outputs,)
            above = outputs
        shapes["final_linear.0.weight"] = (self.style_dim, lowest * 16)
        shapes["final_linear.0.bias"] = (self.style_dim,)
        return shapes

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, Shape]) -> Architecture:
        """Derives the architecture from tensor shapes (keys as in the official state dict; FIR kernels may be missing).

        Raises WeightsError, in one sentence, unless they are the shapes of one complete GPEN generator.
        """
        for key, sides in (("generator.input.input", 4), ("ecd0.0.0.weight", 4), ("final_linear.0.weight", 2)):
            if key not in shapes:
                raise WeightsError(f"the tensor '{key}' of a GPEN generator is missing")
            if len(shapes[key]) != sides or not all(1 <= side <= 16 * MOST_CHANNELS for side in shapes[key]):
                raise WeightsError(f"the tensor '{key}' has the shape {shown(tuple(shapes[key]))}, which no GPEN generator uses")
        encoder_blocks = sum(1 for key in shapes if key.startswith("ecd") and key.endswith(".weight"))
        decoder_blocks = sum(1 for key in shapes if key.startswith("generator.to_rgbs.") and key.endswith(".conv.weight"))
        n_mlp = sum(1 for key in shapes if key.startswith("generator.style.") and key.endswith(".weight"))
        if max(encoder_blocks, decoder_blocks) > 20:
            raise WeightsError(f"it has {encoder_blocks} encoder blocks; a GPEN generator has at most 10")
        if decoder_blocks + 2 != encoder_blocks + 1:
            raise WeightsError(
                f"the encoder takes {2 ** (encoder_blocks + 1)} pixels and the decoder gives {2 ** (decoder_blocks + 2)}; "
                "only GPEN generators with equal input and output sizes are supported"
            )
        size = 2 ** (encoder_blocks + 1)
        narrow = shapes["generator.input.input"][1] / 512
        top = shapes["ecd0.0.0.weight"][0]
        # The official code rounds channels down with int(...), so the multiplier comes from the widest map at 64 and above.
        at_64 = (shapes.get(f"ecd{int(math.log2(size)) - 6}.0.1.weight") or (top,))[0] if size > 64 else top
        architecture = cls(
            size=size,
            channel_multiplier=_plain(at_64 / (256 * narrow)),
            narrow=_plain(narrow),
            style_dim=shapes["final_linear.0.weight"][0],
            n_mlp=n_mlp,
        )
        wanted = architecture.state_shapes()
        for key, shape in wanted.items():
            if key not in shapes:
                if key.endswith(".kernel"):
                    continue
                raise WeightsError(f"the tensor '{key}' of a GPEN generator of size {size} is missing")
            if tuple(shapes[key]) != shape:
                raise WeightsError(
                    f"the tensor '{key}' has the shape {shown(tuple(shapes[key]))}; in a GPEN generator of size {size} (channel multiplier "
                    f"{architecture.channel_multiplier}, narrow {architecture.narrow}) it is {shape}"
                )
        unknown = [key for key in shapes if key not in wanted]
        if unknown:
            raise WeightsError(f"the tensor '{shown(unknown[0])}' does not belong to a GPEN generator of size {size}")
        return architecture


def _plain(value: float) -> float:
    """Turns 2.0 into 2 and keeps 0.5, because users see these numbers."""
    return int(value) if value == int(value) else value
