"""Placing a network on a device. Only this module prepares weights for a device."""

from __future__ import annotations

from typing import TypeVar

import torch

from .fused import Network
from .layers import Styled

N = TypeVar("N", bound=Network)


def place(network: N, device: str | torch.device, dtype: torch.dtype | None = None, *, waits_on: str | torch.device | None = None) -> N:
    """Moves a network to a device, casts it (None: keeps its dtype) and gives its weights the fastest form there. Returns the network.

    waits_on: device it stays on until a host such as ComfyUI moves it to `device` with `.to()`.
    """
    device = torch.device(device)
    dtype = dtype or next(network.parameters()).dtype
    layers = [layer for layer in network.modules() if isinstance(layer, Styled)]
    winograd = device.type == "cpu" and dtype == torch.float32
    # Hosts load in inference mode, but tensors made there cannot be used once moved outside it.
    with torch.inference_mode(False), torch.no_grad():
        if not winograd:
            for layer in layers:
                layer.transform(False)  # before the cast, so that it rounds the plain weights
        network.to(waits_on or device, dtype)
        if winograd:
            for layer in layers:
                layer.transform(True)
    return network
