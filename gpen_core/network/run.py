"""A network on pictures, with the guards: values that are not numbers, too little memory."""

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

# Numbers that are alive at once, in feature maps of the full size and its least width (a test counts them).
LIVE_MAPS = 8


Ask = Callable[[], object]


def run_network(network: Network, picture: Pixels, *, centred: bool = True, tiled: bool | None = None, ask: Ask | None = None) -> Pixels:
    """The network on one picture: (S, S, 3) float32 RGB 0..1 in and out. See run_pictures()."""
    return run_pictures(network, [picture], centred=centred, tiled=tiled, ask=ask)[0]


def run_pictures(
    network: Network, pictures: Sequence[Pixels], *, centred: bool = True, tiled: bool | None = None, ask: Ask | None = None
) -> list[Pixels]:
    """The network on pictures of its size: (S, S, 3) float32 RGB 0..1 in and out.

    centred: pass -1..1 through the network, as all tasks do but segmentation-to-face (0..1). tiled: compute large resolutions in strips,
    for a third of the memory (same result to rounding); None: where free memory asks for it, and where it is faster (on CPUs). ask: called
    from time to time while the network works; what it raises ends that.
    Half precision can overflow: values that are not numbers are computed again in float32; if they stay, GpenError. Where memory does not
    suffice, it is tried once more, face by face and in strips; then the device's own error is raised.
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
    # Out here the error, and with it what its frames hold, is gone.
    return torch.cat([network(one, tiled=True, **asking) for one in torch.split(x, 1)])


def _wants_strips(network: Network, batch: int, parameter: torch.nn.Parameter) -> bool:
    from .fused import FusedGenerator

    if not isinstance(network, FusedGenerator):
        return False
    free = free_memory(parameter.device)
    pixels = batch * network.size**2
    return free is not None and free < LIVE_MAPS * network.architecture.channels(network.size) * pixels * parameter.element_size()
