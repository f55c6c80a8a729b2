"""A state dict to a generator: the plain form, or the one that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..weights.architecture import Architecture

if TYPE_CHECKING:
    from torch import Tensor

    from .fused import FusedGenerator
    from .modules import Generator


def build_network(state: Mapping[str, Tensor]) -> Generator:
    """The plain generator from an official state dict (FIR kernels may be missing), in float32 on the CPU. Raises WeightsError.

    It is for training and for comparisons; what runs is build_fused(). float32 tensors of the state dict may become its own.
    """
    import torch

    from .modules import Generator

    architecture = Architecture.from_shapes({key: tuple(tensor.shape) for key, tensor in state.items()})
    # On "meta" no time goes into random weights that are overwritten at once.
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
    """The generator as it runs, from an official state dict, in float32 on the CPU. `place` brings it to a device. Raises WeightsError."""
    import torch

    from .fused import FusedGenerator

    plain = build_network(state)
    # Hosts load in inference mode; what is made there could not be used again once it was moved outside of it.
    with torch.inference_mode(False), torch.no_grad():
        return FusedGenerator(plain).eval()
