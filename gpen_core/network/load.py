"""Weights on disk to a network that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime import pick_device
from .architecture import Architecture

if TYPE_CHECKING:
    import torch
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
    """The generator as it runs, from an official state dict, in float32 on the CPU. Raises WeightsError."""
    import torch

    from .fused import FusedGenerator

    plain = build_network(state)
    # Hosts load in inference mode; what is made there could not be used again once it was moved outside of it.
    with torch.inference_mode(False), torch.no_grad():
        return FusedGenerator(plain).eval()


def load_network(
    path_or_name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    models_dir: Path | None = None,
    extra_folders: Sequence[Path] = (),
) -> FusedGenerator:
    """A GPEN generator, ready to run: `y = network(x)` with x (N, 3, S, S), RGB in -1..1, and y of the same shape.

    path_or_name: a .pth, .safetensors or .onnx file, a catalogue name (fetched where missing), or "auto".
    dtype: float32 where None; x must have it too. The size, channel multiplier and narrow are read off the tensors.
    Raises WeightsError (wrong or damaged file), WeightsMissingError (not on disk and not to be had) or SettingsError.
    """
    import torch

    from ..weights.checkpoint import read_generator
    from ..weights.files import resolve

    where = pick_device(device)
    found = resolve(path_or_name, models_dir, extra_folders=extra_folders)
    return build_fused(read_generator(found.path)).to(device=where, dtype=dtype or torch.float32)
