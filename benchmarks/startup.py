"""Measures the time until the first picture: imports, reading weights, building the network, first run; each row in fresh processes.

    python -m benchmarks.startup [--size 2048] [--rounds 3] [--onnx]

Weights are random, of the official shape, in each supported format: .safetensors, .pth as torch.save writes it now and as it did before
torch 1.6, and with --onnx an export (needs the package onnx). The files were just written, so they come from the system's cache; "plain
reading" is the time for the same bytes without decoding. Figures are medians in seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import torch as safetensors_torch

from benchmarks.network import SHAPES, exported, official, random_generator

IMPORTS = {
    "import gpen_core": "",
    "and its reading and writing of pictures": "gpen_core.read_picture",
    "and torch": "import torch",
    "and all that restores a face": "gpen_core.FaceRestorer",
}
IMPORT = "import time; started = time.perf_counter(); import gpen_core\n{}\nprint(time.perf_counter() - started)"
FIRST = """
import json, sys, time
import numpy as np
import torch
from gpen_core.network.build import build_fused
from gpen_core.network.place import place
from gpen_core.network.run import run_network
from gpen_core.weights.checkpoint import read_generator

def clock(step, function):
    started = time.perf_counter()
    result = function()
    seconds[step] = time.perf_counter() - started
    return result

def read():
    state = read_generator(sys.argv[1])
    return state, sum(float(tensor.flatten()[::256].sum()) for tensor in state.values())  # a number of every page

def plain():
    with open(sys.argv[1], "rb") as file:
        return len(file.read())

seconds = {}
clock("plain reading", plain)
state, _ = clock("read", read)
network = clock("build", lambda: place(build_fused(state), "cpu"))
del state
x = np.zeros((network.size, network.size, 3), np.float32)
clock("first run", lambda: run_network(network, x))
clock("second run", lambda: run_network(network, x))
print(json.dumps(seconds))
"""
STEPS = ("plain reading", "read", "build", "first run", "second run")


def fresh(code: str, *arguments: str) -> str:
    """Runs code in a new Python process. Returns its output."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout  # noqa: S603


def write_weights(folder: Path, size: int, onnx: bool) -> dict[str, Path]:
    """Writes the same weights in every format."""
    plain = random_generator(size)
    state = {key: tensor.contiguous() for key, tensor in plain.state_dict().items()}
    paths = {name: folder / f"GPEN-{number}{Path(name).suffix}" for number, name in enumerate((".safetensors", ".pth", "old.pth"))}
    cast(Any, safetensors_torch).save_file(state, paths[".safetensors"])
    torch.save(state, paths[".pth"])
    torch.save({"g_ema": state}, paths["old.pth"], _use_new_zipfile_serialization=False)
    if onnx:
        paths[".onnx"] = folder / "GPEN.onnx"
        paths[".onnx"].write_bytes(exported(official(plain), size))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the seconds until the first picture.")
    parser.add_argument("--size", type=int, default=2048, choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--onnx", action="store_true")
    arguments = parser.parse_args()
    print("| import | seconds |\n|---|---|")
    for name, code in IMPORTS.items():
        median = statistics.median(float(fresh(IMPORT.format(code))) for _ in range(arguments.rounds))
        print(f"| {name} | {median:.3f} |", flush=True)
    print(f"\n| weights of size {arguments.size} | {' | '.join(STEPS)} |\n{'|---' * (len(STEPS) + 1)}|")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write_weights(Path(folder), arguments.size, arguments.onnx).items():
            runs = [json.loads(fresh(FIRST, str(path))) for _ in range(arguments.rounds)]
            medians = [statistics.median(run[step] for run in runs) for step in STEPS]
            print(f"| {name} | {' | '.join(f'{median:.2f}' for median in medians)} |", flush=True)


if __name__ == "__main__":
    main()
