"""Run by each environment's Python: how far it is from the golden data, what it makes of two pictures, and whether that is always the same.

    python -m tests.matrix.measure FILE.npz

Deviations are in grey levels (of 255). The network's golden outputs span -1..1, so their deviation counts times 127.5.
"""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from gpen_core import FaceRestorer, RestoreOptions, load_network  # noqa: E402
from gpen_core.network import run  # noqa: E402
from gpen_core.network.fused import FusedGenerator  # noqa: E402
from gpen_core.network.modules import Generator  # noqa: E402
from gpen_core.pictures import read_picture  # noqa: E402
from gpen_core.steps.align import template_points, warp  # noqa: E402
from gpen_core.weights.architecture import Architecture  # noqa: E402
from tests.matrix.names import absent  # noqa: E402

Pixels = NDArray[np.float32]
GOLDEN = ROOT / "tests" / "golden"
LITE = "GPEN-BFR-256-lite"
CASES = {
    "64n0.125": Architecture(64, 2, 0.125),
    "64n0.25": Architecture(64, 2, 0.25),
    "128n0.25": Architecture(128, 2, 0.25),
    "256": Architecture(256, 1, 0.5),
}


def main(target: Path) -> None:
    figures: dict[str, float] = {**golden(), **always_the_same()}
    pictures = {f"picture {name}": made for name, made in restored().items()}
    facts = {name: version(name) for name in ("torch", "numpy", "opencv-python-headless", "Pillow", "safetensors", "filelock", "tqdm")}
    facts["python"] = platform.python_version()
    np.savez_compressed(target, figures=np.array([list(figures), [repr(x) for x in figures.values()]]),
                        facts=np.array([list(facts), list(facts.values())]), absent=np.array(sorted(absent())), **pictures)  # fmt: skip


def golden() -> dict[str, float]:
    """The largest deviation from the official code's results, in tests/golden."""
    recipe, worst = _recipe(), {"plain network": 0.0, "network that runs": 0.0}
    for name, architecture in CASES.items():
        state = recipe.make_state_dict(recipe.gpen_shapes(architecture.size, architecture.channel_multiplier, architecture.narrow))
        plain = Generator(architecture)
        plain.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in state.items()})
        x, full = torch.from_numpy(recipe.make_input(architecture.size)), np.load(GOLDEN / f"net_{name}.npz")["full"]
        with torch.inference_mode():
            for form, network in (("plain network", plain.eval()), ("network that runs", FusedGenerator(plain))):
                worst[form] = max(worst[form], float(np.abs(network(x).numpy() - full).max()) * 127.5)
    return {f"golden: {form}": deviation for form, deviation in worst.items()} | {"golden: crops": _crops(recipe)}


def _crops(recipe: ModuleType) -> float:
    """The mean deviation of the official crops, which are rounded to whole grey levels."""
    from gpen_core.steps.align import similarity

    picture, apart = recipe.make_image(1024, seed=77).astype(np.float32) / 255, []
    with np.load(GOLDEN / "prepost_part.npz") as data:
        for face in "AB":
            matrix = similarity(data[f"pts_{face}"], template_points("gpen", 256))
            crop = warp(picture, matrix, (256, 256), border="constant", antialias=False) * 255
            apart.append(float(np.abs(crop - data[f"crop_{face}_256"]).mean()))
    return max(apart)


def group() -> Pixels:
    """Eight portraits, the same bits whatever is installed: whole pixels are moved and nothing is computed but a product."""
    portrait = read_picture(ROOT / "examples" / "portrait.png").pixels[:240, 20:260]
    dark, grey = portrait * np.float32(0.5), np.repeat(portrait[..., 1:2], 3, 2)
    row = [portrait, portrait[:, ::-1], dark, grey]
    return np.ascontiguousarray(np.concatenate([np.concatenate(row, 1), np.concatenate([one[:, ::-1] for one in row[::-1]], 1)], 0))


def restored() -> dict[str, Pixels]:
    """Whole pictures, with everything that the defaults do but the network in float32."""
    portrait = read_picture(ROOT / "examples" / "portrait.png").pixels
    return {
        "portrait": _restore(portrait, output_size="native"),
        "group": _restore(group()),
        "group, look": _restore(group(), colour_match=True, fidelity=0.7, output_size="factor", factor=1.5),
    }


def _restore(picture: Pixels, **options: Any) -> Pixels:
    restorer = FaceRestorer(RestoreOptions(model=LITE, device="cpu", precision="fp32", **options))
    result = restorer(picture)
    if not all(face.status == "restored" for face in result.faces) or not result.faces:
        raise SystemExit(f"faces: {[face.status for face in result.faces]}")
    return np.asarray(result.image, np.float32)


def always_the_same() -> dict[str, float]:
    """How far results are apart that should be one: again, on other numbers of threads, in batches, in strips."""
    picture, network = group(), load_network(LITE)
    once = _restore(picture)
    figures = {"same: again": _apart(_restore(picture), once)}
    with _threads(2):
        figures["same: 2 threads"] = _apart(_restore(picture), once)
    with _threads(4):
        figures["same: 4 threads"] = _apart(_restore(picture), once)
    faces = [np.ascontiguousarray(picture[:240, x : x + 240]).repeat(2, 0).repeat(2, 1)[:256, :256] for x in (0, 240, 480, 720)]
    alone = [run.run_network(network, face, tiled=False) for face in faces]
    together = run.run_pictures(network, faces, tiled=False)
    strips = [run.run_network(network, face, tiled=True) for face in faces]
    figures["same: a batch"] = max(_apart(*pair) for pair in zip(together, alone))  # noqa: B905 - they are as many
    figures["same: strips"] = max(_apart(*pair) for pair in zip(strips, alone))  # noqa: B905
    return figures


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _apart(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(np.float64) - other).max()) * 255


def _recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpen_golden_recipe", GOLDEN / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(Path(sys.argv[1]))
