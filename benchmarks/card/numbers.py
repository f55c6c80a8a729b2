"""Golden data: what the official code made of seed-made weights, against what comes out on the device, in every type."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.card.device import TYPES, Device
from benchmarks.card.network import EXPERIMENTAL, STRIPS, WARM_UPS, WHOLE, experimentally
from benchmarks.card.report import NO_TIME, Report, attempt, late
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.weights.architecture import Architecture

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
CASES = {
    "64n0.125": Architecture(64, 2, 0.125),
    "64n0.25": Architecture(64, 2, 0.25),
    "128n0.25": Architecture(128, 2, 0.25),
    "256": Architecture(256, 1, 0.5),
}


def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("gpen_golden_recipe", GOLDEN / "recipe.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(GOLDEN / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def without_tf32(device: Device) -> AbstractContextManager[Any]:
    """Within, convolutions of float32 on NVIDIA cards multiply in float32."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if device.device.type == "cuda" else nullcontext()


def runs(plain: Generator, device: Device, dtype: torch.dtype) -> dict[str, Callable[[Tensor], Tensor]]:
    there = place(deepcopy(plain), device.device, dtype)
    fused = place(FusedGenerator(plain), device.device, dtype)
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": there,
        WHOLE: lambda x: fused(x, tiled=False),
        STRIPS: lambda x: fused(x, tiled=True),
    }
    if device.device.type == "cuda":
        other = place(FusedGenerator(plain), device.device, dtype)  # strips end a network's graphs
        found[EXPERIMENTAL] = lambda x: [experimentally(lambda: other(x)) for _ in range(WARM_UPS)][-1]
    return found


def golden(device: Device, report: Report, sizes: list[int], types: list[str], end: float) -> None:
    note = "Against the official code's own results in float32, -1..1. On CUDA, float32 is measured as torch is set and without TF32."
    section = report.section(3, "Golden data", "weights", "type", "form", "largest difference", "mean difference", note=note)
    raw = report.raw.setdefault("golden", [])
    make = recipe()
    for case, architecture in CASES.items():
        if architecture.size > max(sizes):
            continue
        expected = torch.as_tensor(np.load(GOLDEN / f"net_{case}.npz")["full"])
        state = make.make_state_dict(make.gpen_shapes(architecture.size, architecture.channel_multiplier, architecture.narrow))
        plain = Generator(architecture).eval().requires_grad_(False)
        plain.load_state_dict({key: torch.as_tensor(np.array(value)) for key, value in state.items()}, strict=True)
        x = torch.as_tensor(make.make_input(architecture.size))
        for name in types:
            dtype = TYPES[name]
            if late(end):
                section.add(case, name, NO_TIME)
                continue
            forms, failure = attempt(lambda: runs(plain, device, dtype))  # noqa: B023
            if forms is None:
                section.add(case, name, failure)
                continue
            exact = name == "float32" and device.device.type == "cuda"
            for form, run in forms.items():
                for how in (name, f"{name}, without TF32") if exact else (name,):

                    def apart() -> tuple[float, float]:
                        with torch.inference_mode(), without_tf32(device) if how != name else nullcontext():  # noqa: B023
                            difference = (run(x.to(device.device, dtype)).float().cpu() - expected).abs()  # noqa: B023
                        return float(difference.max()), float(difference.mean())

                    found, failure = attempt(apart)
                    section.add(case, how, form, *([failure] if found is None else [f"{one:.1e}" for one in found]))
                    raw.append({"weights": case, "type": how, "form": form, "apart": found, "failure": failure})
