"""Small GPEN weight files for the tests: real names and shapes, few channels."""

from __future__ import annotations

import torch

from gpen_core.catalog import Catalog, WeightFile
from gpen_core.network.architecture import Architecture


def tiny_state(narrow: float = 1 / 32, seed: int = 0, size: int = 64) -> dict[str, torch.Tensor]:
    """The state dict of a GPEN generator with 512 * narrow channels (16: about 150 kB)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = Architecture(size, 2, narrow, style_dim=8, n_mlp=2).state_shapes()
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def tiny_entry(name: str, narrow: float, task="restore", **more) -> WeightFile:
    more = {"urls": (), "channel_multiplier": 2, "size": 64, "template": "gpen", **more}
    return WeightFile(name=name, filename=f"{name}.pth", task=task, narrow=narrow, **more)


def tiny_catalog(**more_of_2048) -> Catalog:
    """A catalogue with the real names, whose networks are tiny and told apart by `narrow`."""
    return Catalog(
        [
            tiny_entry("GPEN-BFR-256", 1 / 64),
            tiny_entry("GPEN-BFR-512", 2 / 64, size=128),
            tiny_entry("GPEN-BFR-1024", 3 / 64, size=256),
            tiny_entry("GPEN-BFR-2048", 4 / 64, **more_of_2048),
            tiny_entry("GPEN-Inpainting-1024", 3 / 64, task="inpaint", size=256),
        ]
    )
