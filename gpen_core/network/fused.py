"""The GPEN generator as it runs: the same function as `modules.Generator` with everything folded that does not depend on the picture.

Against the plain form (equal to it within 2e-5 in float32):
- scales, gains and the factor sqrt(2) of the activation are multiplied into weights and biases once, at load;
- modulation and demodulation are computed for all layers at once, in float32 whatever the weights are, and the modulation is brought to at
  most 1 before it meets activations, so that half precision has room (Karras et al., StyleGAN2-ADA, NeurIPS 2020, section B);
- 3x3 convolutions of many channels take fewer multiplications on processors (`winograd`), where `place` has given their weights that form;
- a layer's result and the encoder's feature are written straight into the two halves of their concatenation;
- `tiles` computes the largest resolutions in strips of rows where memory is short.

Inference only. Shapes as in `modules`: pictures (N, 3, S, S), RGB in -1..1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import tiles
from .layers import Ask, Layers
from .modules import Generator


class FusedGenerator(Layers):
    """GPEN for inference. Built from a plain Generator, whose weights it copies.

    `place` brings it to a device. Moved or cast as any module (`.to()`, `.half()`) it computes the same, and may take longer.
    """

    @torch.no_grad()
    def forward(self, x: Tensor, tiled: bool | None = None, ask: Ask | None = None) -> Tensor:
        """x: (N, 3, S, S), RGB in -1..1, in the weights' type.

        tiled: the large resolutions in strips, for a third to half of the memory; None: some of them, where that is faster, on CPUs.
        ask: called from time to time; what it raises ends the work (a 2048 face takes seconds on a CPU).

        Returns float32 whatever the weights are.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        # A whole map is fresh memory from the system, page by page, and larger than any cache; a strip is neither. Where it pays was
        # measured: benchmarks.network prints both.
        faster = x.device.type == "cpu" and self.size >= (512 if x.dtype == torch.float32 else 1024)
        if tiled or (tiled is None and faster):
            return tiles.run_in_strips(self, x, whole=min(tiles.SPARING if tiled else tiles.FAST, self.size // 2), ask=ask)
        return self.whole(x, ask)


# Either form, for what only runs one.
Network = Generator | FusedGenerator
