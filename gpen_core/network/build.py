"""From a state dict to a generator: the plain form or the fused one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..weights.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from .fused import FusedGenerator
    from .modules import Generator


def build_network(state: Mapping[str, Tensor]) -> Generator:
    """Builds the plain generator from an official state dict (FIR kernels may be missing), in float32 on the CPU. Raises WeightsError.

    It is for training and comparisons; for inference use build_fused(). It may share float32 tensors with the state dict.
    """
    import torch

    from .modules import Generator

    architecture = Architecture.from_shapes({key: tuple(tensor.shape) for key, tensor in state.items()})
    # "meta" skips random weights, which would be overwritten anyway.
    with torch.device("meta"):
        network = Generator(architecture)
    whole = {key: tensor.detach().to(torch.float32) for key, tensor in state.items()}
    for key, kernel in Generator.kernels(architecture).items():
        whole.setdefault(key, kernel)
    try:
        network.load_state_dict(whole, strict=True, assign=True)  # no copy
    except TypeError:  # torch 2.0
        network.to_empty(device="cpu")
        network.load_state_dict(whole, strict=True)
    return network.eval().requires_grad_(False)


def build_fused(state: Mapping[str, Tensor]) -> FusedGenerator:
    """Builds the fused generator from an official state dict, in float32 on the CPU; `place` moves it. Raises WeightsError."""
    import torch

    from .fused import FusedGenerator

    plain = build_network(state)
    # Hosts load in inference mode, but tensors made there cannot be used once moved outside it.
    with torch.inference_mode(False), torch.no_grad():
        return FusedGenerator(plain).eval()
