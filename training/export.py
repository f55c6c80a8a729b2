"""Exports a trained generator as the embedded weights: fp16 safetensors in the official state-dict layout.

python -m training.export runs/lite256 gpen_core/weights/embedded/GPEN-BFR-256-lite.safetensors
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save

from gpen_core.weights.architecture import Architecture
from training.plan import Plan


def export(run: Path, target: Path, half: bool = True) -> str:
    """Writes a run's moving average; returns the file's sha256. Keeps the FIR kernels, so that any GPEN tool can load it."""
    plan = Plan(**json.loads((run / "plan.json").read_text(encoding="utf-8")))
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    architecture = Architecture(plan.size, plan.channel_multiplier, plan.narrow)
    tensors = {key: state["average"][key].contiguous() for key in architecture.state_shapes()}
    if half:
        tensors = {key: tensor.to(torch.float16) for key, tensor in tensors.items()}
    about = {"name": target.stem, "template": "ffhq", "pictures": str(state["seen"]), "minutes": f"{state['minutes']:.1f}"}
    data = save(tensors, metadata=about)
    target.parent.mkdir(parents=True, exist_ok=True)
    sha256 = hashlib.sha256(data).hexdigest()
    # The catalogue has the same facts and checks the file against them.
    facts = {
        "sha256": sha256,
        "bytes": len(data),
        "parameters": sum(tensor.numel() for key, tensor in tensors.items() if not key.endswith(".kernel")),
        "narrow": plan.narrow,
        "channel_multiplier": plan.channel_multiplier,
    }
    for path, content in ((target, data), (target.with_suffix(".json"), (json.dumps(facts, indent=2) + "\n").encode("utf-8"))):
        part = path.with_name(path.name + ".part")
        part.write_bytes(content)
        part.replace(path)
    return sha256


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes a trained generator as safetensors.")
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--float32", action="store_true", help="keep float32 (twice the size)")
    arguments = parser.parse_args()
    sha256 = export(arguments.run, arguments.target, half=not arguments.float32)
    print(f"{arguments.target}: {arguments.target.stat().st_size} bytes, sha256 {sha256}")


if __name__ == "__main__":
    main()
