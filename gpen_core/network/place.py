"""A network on a device. What a device wants of the weights is made here, once, and nowhere else."""

from __future__ import annotations

from typing import TypeVar

import torch

from .fused import Network
from .layers import Styled

N = TypeVar("N", bound=Network)


def place(network: N, device: str | torch.device, dtype: torch.dtype | None = None, *, waits_on: str | torch.device | None = None) -> N:
    """Moves a network to a device and casts it (None: it keeps its type), its weights in the form that is fastest there. Returns itself.

    waits_on: where it stays until a host, as ComfyUI does, moves it to `device` by itself with `.to()`.
    """
    device = torch.device(device)
    dtype = dtype or next(network.parameters()).dtype
    layers = [layer for layer in network.modules() if isinstance(layer, Styled)]
    winograd = device.type == "cpu" and dtype == torch.float32
    # Hosts load in inference mode; what is made there could not be used again once it was moved outside of it.
    with torch.inference_mode(False), torch.no_grad():
        if not winograd:
            for layer in layers:
                layer.transform(False)  # before the cast, which then rounds the weights themselves
        network.to(waits_on or device, dtype)
        if winograd:
            for layer in layers:
                layer.transform(True)
    return network
