"""Small GPEN weight files for the tests: real names and shapes, few channels."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from gpen_core.errors import WeightsError
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.catalog import Catalog, WeightFile
from gpen_core.weights.checkpoint import read_state_dict

MIB = 1 << 20


def tiny_state(narrow: float = 1 / 32, seed: int = 0, size: int = 64) -> dict[str, torch.Tensor]:
    """The state dict of a GPEN generator with 512 * narrow channels (16: about 150 kB)."""
    generator = torch.Generator().manual_seed(seed)
    shapes = Architecture(size, 2, narrow, style_dim=8, n_mlp=2).state_shapes()
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def tiny_entry(name: str, narrow: float, task="restore", **more) -> WeightFile:
    more = {"urls": (), "channel_multiplier": 2, "size": 64, "template": "gpen", **more}
    return WeightFile(name=name, filename=f"{name}.pth", task=task, narrow=narrow, **more)


def tiny_catalog(**more_of_2048) -> Catalog:
    """A catalogue with the real names, but with tiny networks that differ in `narrow`."""
    return Catalog(
        [
            tiny_entry("GPEN-BFR-256", 1 / 64),
            tiny_entry("GPEN-BFR-512", 2 / 64, size=128),
            tiny_entry("GPEN-BFR-1024", 3 / 64, size=256),
            tiny_entry("GPEN-BFR-2048", 4 / 64, **more_of_2048),
            tiny_entry("GPEN-Inpainting-1024", 3 / 64, task="inpaint", size=256),
        ]
    )


def refusal(path: Path, read=read_state_dict, most: int = 40 * MIB) -> str:
    """The message with which a file is rejected. Fails if reading takes more than `most` bytes of memory."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1200 and path.name in text
    return text


def zipped(path: Path, pickled: bytes, **parts: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, data in parts.items():
            archive.writestr(f"a/data/{name}", data)
    return path
