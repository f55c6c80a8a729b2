"""The GPEN generator for inference: the function of `modules.Generator` with everything that does not depend on the picture folded in.

Differences from the plain form (the results agree within 2e-5 in float32):
- scales, gains and the activation's factor sqrt(2) are multiplied into weights and biases once, on loading;
- modulation and demodulation are computed for all layers at once, always in float32, and the modulation is normalised to at most 1
  before it meets activations, so that half precision does not overflow (Karras et al., StyleGAN2-ADA, NeurIPS 2020, section B);
- powers of two keep every map near 1, for float16 (`ranges`);
- on CPUs, 3x3 convolutions of many channels need fewer multiplications (`winograd`) if `place` has transformed their weights;
- a layer's result and the encoder feature are written straight into the two halves of their concatenation;
- `tiles` computes the largest resolutions in strips of rows when memory is short.

Inference only. Shapes as in `modules`: pictures (N, 3, S, S), RGB in -1..1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from . import card, tiles
from .layers import Ask, Layers
from .modules import Generator


class FusedGenerator(Layers):
    """GPEN for inference. Built from a plain Generator, whose weights it copies.

    `place` moves it to a device. `.to()` and `.half()` work as on any module, but it may then run slower.
    """

    def __init__(self, plain: Generator) -> None:
        super().__init__(plain)
        self.graphs = card.Graphs()

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.graphs = card.Graphs()  # existing graphs read the weights at their old addresses
        return cast(Any, super())._apply(fn)

    @torch.no_grad()
    def forward(self, x: Tensor, tiled: bool | None = None, ask: Ask | None = None) -> Tensor:
        """Restores a batch of faces. x: (N, 3, S, S), RGB in -1..1, in the weights' dtype.

        tiled: True computes large resolutions in strips, with a third to half of the memory; None: some of them, on CPUs, if faster.
        ask: called now and then; an exception it raises ends the work (a 2048 face takes seconds on a CPU).

        Always returns float32.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        # A whole map exceeds every cache and needs fresh pages from the system; a strip does not. benchmarks.network measures both:
        # these sizes are where strips win.
        faster = x.device.type == "cpu" and self.size >= (512 if x.dtype == torch.float32 else 1024)
        if tiled or (tiled is None and faster):
            self.graphs.drop()  # strips are used when memory is short
            return tiles.run_in_strips(self, x, whole=min(tiles.SPARING if tiled else tiles.FAST, self.size // 2), ask=ask)
        done = self.graphs.run(self.whole, x)
        return self.whole(x, ask) if done is None else done


# Either form, for code that only runs it.
Network = Generator | FusedGenerator
