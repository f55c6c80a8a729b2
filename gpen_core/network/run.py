"""Running a network on pictures, guarded against invalid values (NaN) and too little memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import GpenError
from ..pixels import Pixels
from ..runtime import free_memory, is_out_of_memory

if TYPE_CHECKING:
    import torch

    from .fused import Network

log = logging.getLogger(__name__)

# Peak memory, in feature maps of the full size with the fewest channels (a test counts them).
LIVE_MAPS = 8


Ask = Callable[[], object]


def run_network(network: Network, picture: Pixels, *, centred: bool = True, tiled: bool | None = None, ask: Ask | None = None) -> Pixels:
    """Runs the network on one picture: (S, S, 3) float32 RGB 0..1 in and out. See run_pictures()."""
    return run_pictures(network, [picture], centred=centred, tiled=tiled, ask=ask)[0]


def run_pictures(
    network: Network, pictures: Sequence[Pixels], *, centred: bool = True, tiled: bool | None = None, ask: Ask | None = None
) -> list[Pixels]:
    """Runs the network on pictures of its size: (S, S, 3) float32 RGB 0..1 in and out.

    centred: give the network -1..1, as all tasks need except segmentation-to-face (0..1). tiled: compute large resolutions in strips,
    with a third of the memory (same result up to rounding); None: if memory is short, or on CPUs where it is faster. ask: called now and
    then while the network runs; an exception it raises ends the run.
    Half precision can overflow: invalid values (NaN) are recomputed in float32; if they remain, raises GpenError. If memory runs out, it
    tries once more, one face at a time in strips; then the device's own error is raised.
    """
    import torch

    parameter = next(network.parameters())
    dtype, device = parameter.dtype, parameter.device
    x = torch.as_tensor(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))).to(device)
    x = (x * 2 - 1 if centred else x).contiguous(memory_format=torch.channels_last)
    strips = tiled
    if strips is None and _wants_strips(network, x.shape[0], parameter):
        strips = True
    with torch.inference_mode():
        y = _run(network, x.to(dtype), strips, ask).float()
        if dtype != torch.float32 and not bool(torch.isfinite(y).all()):
            log.warning("the network overflowed in %s; recomputing this face in float32", str(dtype).removeprefix("torch."))
            try:
                y = _run(network.float(), x, strips, ask)
            finally:
                network.to(dtype)
        if not bool(torch.isfinite(y).all()):
            raise GpenError("the network returned invalid values (NaN)")
        y = (y * 0.5 + 0.5 if centred else y).clamp(0, 1)
        return list(np.ascontiguousarray(y.permute(0, 2, 3, 1).cpu().numpy(), np.float32))


def _run(network: Network, x: torch.Tensor, strips: bool | None, ask: Ask | None) -> torch.Tensor:
    import torch

    from .fused import FusedGenerator

    if not isinstance(network, FusedGenerator):
        return network(x)
    asking = {} if ask is None else {"ask": ask}
    try:
        return network(x, tiled=strips, **asking)
    except Exception as error:
        if not is_out_of_memory(error) or (strips and len(x) == 1):
            raise
        log.warning("not enough memory on %s; trying again with one face at a time, in strips", x.device)
    # Outside the except block, so that the error no longer keeps tensors alive.
    return torch.cat([network(one, tiled=True, **asking) for one in torch.split(x, 1)])


def _wants_strips(network: Network, batch: int, parameter: torch.nn.Parameter) -> bool:
    from .fused import FusedGenerator

    if not isinstance(network, FusedGenerator):
        return False
    free = free_memory(parameter.device)
    pixels = batch * network.size**2
    return free is not None and free < LIVE_MAPS * network.architecture.channels(network.size) * pixels * parameter.element_size()
