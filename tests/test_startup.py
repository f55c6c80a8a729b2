"""What must not happen on the way to the first picture: imports that take seconds, weights held twice, copies of the picture per face."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces.face import Face
from gpen_core.network.build import build_fused
from gpen_core.network.modules import Generator
from gpen_core.steps.align import template_points
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.catalog import EMBEDDED_FOLDER

ROOT = Path(__file__).resolve().parents[1]


def imported_by(code: str) -> set[str]:
    """Names of all modules after the code ran in a fresh Python."""
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout.split())


def test_the_import_of_the_core_brings_nothing_heavy() -> None:
    assert not imported_by("import gpen_core") & {"torch", "numpy", "cv2", "PIL"}
    assert "torch" not in imported_by("from gpen_core import RestoreOptions, Catalog, Face, read_picture")


def test_building_the_network_does_not_import_torchs_compiler() -> None:
    weights = next(EMBEDDED_FOLDER.glob("*.safetensors"))
    before = imported_by("import torch, safetensors")
    after = imported_by(f"from gpen_core import load_network; load_network({str(weights)!r})")
    assert "torch" in after
    # "torch._dynamo" brings sympy and hundreds more: over a second, and over a hundred MiB.
    assert not {name for name in after - before if name.split(".")[0] == "sympy" or name.startswith("torch._dynamo")}


def test_the_network_keeps_nothing_of_the_file() -> None:
    """A tensor of the file that is kept would be in memory beside what the network made of it."""
    plain = Generator(Architecture(64, 1, 0.125))
    state = {key: value.clone() for key, value in plain.state_dict().items()}
    network = build_fused(state)
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    expected = network(x)
    for tensor in state.values():
        tensor.fill_(torch.nan)
    assert bool(torch.isfinite(expected).all()) and torch.equal(network(x), expected)


class Unchanged(torch.nn.Module):
    """A network that gives back what it gets."""

    size = 64

    def __init__(self) -> None:
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def peak_of_a_call(picture: np.ndarray, count: int) -> int:
    """The most bytes of arrays that were alive at once, over those before."""
    points = template_points("gpen", 60)
    shifts = [(80 * (n % 10), 80 * (n // 10)) for n in range(count)]
    faces = [Face((x, y, x + 60.0, y + 60.0), np.add(points, (x, y)).astype(np.float32), 1.0) for x, y in shifts]
    restorer = FaceRestorer(RestoreOptions(colour_match=True), network=Unchanged(), detector=SimpleNamespace(name="none"))  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        result = restorer(picture, faces=faces)
        assert [face.status for face in result.faces] == ["restored"] * count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_faces_cost_no_copies_of_the_picture() -> None:
    picture = np.full((1200, 1600, 3), 0.5, np.float32)
    one, many = peak_of_a_call(picture, 1), peak_of_a_call(picture, 40)
    assert one >= picture.nbytes  # the result itself: what is counted are arrays indeed
    # Crops and restored faces are handed back: 2 * 40 * 64 * 64 * 3 numbers. Nothing of the picture's size comes with them.
    assert many - one < 2 * 40 * 64 * 64 * 3 * 4 + picture.nbytes // 20
