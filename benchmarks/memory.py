"""Measures a whole process's peak memory for one face, in a fresh process for each row:

    python -m benchmarks.memory [--sizes 2048]

The figure is the peak resident set of a Python process that imports the core, loads random weights of the official shape from a
.safetensors file and restores one aligned face. (On Windows and macOS: the nearest figure that the system reports.)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.network import SHAPES

CHILD = """
import sys
import numpy as np
import torch
from gpen_core.network.load import load_network
from gpen_core.network.run import run_network
path, dtype, tiled = sys.argv[1:]
network = load_network(path, dtype=getattr(torch, dtype))
run_network(network, np.random.default_rng(1).random((network.size, network.size, 3), np.float32), tiled=tiled == "strips")
try:
    # Not ru_maxrss on Linux: it begins with what the process had that started this one.
    with open("/proc/self/status") as lines:
        peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
except OSError:
    peak = None
try:
    import resource
    peak = peak or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
except ImportError:
    import psutil
    peak = peak or psutil.Process().memory_info().peak_wset
print(peak)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures a whole process's peak memory for one face.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048], choices=list(SHAPES))
    print_table(parser.parse_args().sizes)


def print_table(sizes: list[int]) -> None:
    print("| size | numbers | how | peak of the process, GiB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder) / f"GPEN-random-{size}.safetensors"
            make = "import sys; from benchmarks.network import random_generator; from safetensors.torch import save_file; "
            make += "save_file({k: v.contiguous() for k, v in random_generator(int(sys.argv[1])).state_dict().items()}, sys.argv[2])"
            subprocess.run([sys.executable, "-c", make, str(size), str(path)], check=True)  # noqa: S603
            for dtype in ("float32", "bfloat16"):
                for how in ("whole", "strips"):
                    command = [sys.executable, "-c", CHILD, str(path), dtype, how]
                    peak = int(subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout)  # noqa: S603
                    print(f"| {size} | {dtype} | {how} | {peak / 2**30:.2f} |", flush=True)


if __name__ == "__main__":
    main()
