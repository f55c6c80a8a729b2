"""The plain generator against the official outputs."""

from __future__ import annotations

import ast
import zlib
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from gpen_core.errors import WeightsError
from gpen_core.network import modules
from gpen_core.network.modules import Generator
from gpen_core.weights.architecture import Architecture

CASES = {
    "64n0.125": Architecture(64, 2, 0.125),
    "64n0.25": Architecture(64, 2, 0.25),
    "128n0.25": Architecture(128, 2, 0.25),
    "256": Architecture(256, 1, 0.5),
}


def seeded(recipe: ModuleType, architecture: Architecture) -> Generator:
    state = recipe.make_state_dict(recipe.gpen_shapes(architecture.size, architecture.channel_multiplier, architecture.narrow))
    network = Generator(architecture)
    network.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, strict=True)
    return network.eval()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_golden_output(golden_folder: Path, recipe: ModuleType, case: str, layout: torch.memory_format) -> None:
    golden = np.load(golden_folder / f"net_{case}.npz")
    network = seeded(recipe, CASES[case])
    if layout is torch.channels_last:
        network.use_channels_last()
    x = recipe.make_input(CASES[case].size)
    assert zlib.crc32(x.tobytes()) == int(golden["input_crc"])
    with torch.inference_mode():
        y = network(torch.from_numpy(x).contiguous(memory_format=layout)).numpy()
        features = network.encode(torch.from_numpy(x))
        latent = network.final_linear(features[-1].reshape(1, -1))
        style = network.generator.style(latent)
    assert np.abs(latent.numpy() - golden["final_linear"]).max() <= 2e-5
    assert np.abs(style.numpy() - golden["style"]).max() <= 2e-5
    assert y.shape == golden["full"].shape
    assert np.abs(y - golden["full"]).max() <= 2e-5


@pytest.mark.parametrize(
    "architecture",
    [*CASES.values(), Architecture(512, 2, 1), Architecture(1024, 2, 1), Architecture(2048, 2, 1), Architecture(256, 1, 0.25)],
)
def test_shapes_are_the_official_ones(recipe: ModuleType, architecture: Architecture) -> None:
    official = recipe.gpen_shapes(architecture.size, architecture.channel_multiplier, architecture.narrow)
    assert list(architecture.state_shapes().items()) == [(key, tuple(shape)) for key, shape in official.items()]
    assert Architecture.from_shapes(official) == architecture
    without_kernels = {key: shape for key, shape in official.items() if not key.endswith(".kernel")}
    assert Architecture.from_shapes(without_kernels) == architecture


def test_a_batch_is_its_pictures_one_by_one(recipe: ModuleType) -> None:
    network = seeded(recipe, CASES["64n0.125"])
    pictures = torch.from_numpy(np.concatenate([recipe.make_input(64, seed) for seed in (1, 2, 3)]))
    with torch.inference_mode():
        together = network(pictures)
        alone = torch.cat([network(picture[None]) for picture in pictures])
    assert (together - alone).abs().max() <= 2e-6


def test_wrong_shapes_are_refused(recipe: ModuleType) -> None:
    shapes = recipe.gpen_shapes(64, 2, 0.125)
    with pytest.raises(WeightsError, match="missing"):
        Architecture.from_shapes({key: shape for key, shape in shapes.items() if key != "generator.convs.3.activate.bias"})
    with pytest.raises(WeightsError, match="does not belong"):
        Architecture.from_shapes({**shapes, "surplus.weight": (3, 3)})
    with pytest.raises(WeightsError, match="has the shape"):
        Architecture.from_shapes({**shapes, "generator.to_rgb1.conv.weight": (1, 3, 8, 1, 1)})
    with pytest.raises(WeightsError, match="equal input and output sizes"):
        Architecture.from_shapes(recipe.gpen_shapes(128, 2, 0.25, in_size=64))
    with pytest.raises(WeightsError, match="4096"):
        Architecture(4096)


def test_no_module_of_the_network_needs_one_that_needs_it() -> None:
    """Imports within functions and for types count as well."""
    folder = Path(modules.__file__).parent
    needs: dict[str, set[str]] = {}
    for path in folder.glob("*.py"):
        relative = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom) and node.level == 1]
        needs[path.stem] = {name for node in relative for name in ([node.module] if node.module else [alias.name for alias in node.names])}
    assert "layers" in needs["tiles"] and "tiles" in needs["fused"]
    list(TopologicalSorter(needs).static_order())  # CycleError says which
