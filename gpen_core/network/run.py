"""A network on one picture, with the guard against values that are not numbers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GpenError

if TYPE_CHECKING:
    from .modules import Generator

log = logging.getLogger(__name__)


def run_network(network: Generator, picture: NDArray[np.float32], *, centred: bool = True) -> NDArray[np.float32]:
    """The network on one picture: (S, S, 3) float32 RGB 0..1 in and out.

    centred: pass -1..1 through the network, as all tasks do but segmentation-to-face (0..1).
    Half precision can overflow: values that are not numbers are computed again in float32; if they stay, GpenError.
    """
    import torch

    parameter = next(network.parameters())
    dtype = parameter.dtype
    x = torch.as_tensor(np.ascontiguousarray(picture.transpose(2, 0, 1)[None])).to(parameter.device)
    x = (x * 2 - 1 if centred else x).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        y = network(x.to(dtype)).float()
        if not bool(torch.isfinite(y).all()) and dtype != torch.float32:
            log.warning("the network overflowed in %s; this face is computed again in float32", str(dtype).removeprefix("torch."))
            try:
                y = network.float()(x)
            finally:
                network.to(dtype)
        if not bool(torch.isfinite(y).all()):
            raise GpenError("the network gave values that are not numbers")
        y = (y[0] * 0.5 + 0.5 if centred else y[0]).clamp(0, 1)
        return np.ascontiguousarray(y.permute(1, 2, 0).cpu().numpy(), np.float32)
