"""Measures all figures of docs/performance.md, one part after another:

    python -m benchmarks [--no-network] [--no-memory] [--no-startup] [--no-picture] [--no-folder] [--no-growth]
                         [--sizes 256 512] [--rounds 5] [--peers onnxruntime openvino] [--pictures 200] [--plots FOLDER]

Each part is also a module that runs separately: benchmarks.network and so on. benchmarks.detection measures face detection; it needs
pictures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import folder, network

ROOT = Path(__file__).resolve().parents[1]


def speed(arguments: argparse.Namespace) -> None:
    network.print_table(arguments)


def memory(arguments: argparse.Namespace) -> None:
    from benchmarks import memory

    memory.print_table(arguments.sizes)


def picture(arguments: argparse.Namespace) -> None:
    run_module("picture", "--rounds", str(arguments.rounds))


def startup(arguments: argparse.Namespace) -> None:
    run_module("startup", "--rounds", str(arguments.rounds))


def run_module(name: str, *arguments: str) -> None:
    """Runs a benchmark in a separate process, unaffected by the others."""
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], cwd=ROOT, check=True)  # noqa: S603


def throughput(arguments: argparse.Namespace) -> None:
    folder.print_table(arguments.pictures, 512, arguments.suffix)


def growth(arguments: argparse.Namespace) -> None:
    from benchmarks import growth

    growth.print_tables(plots=arguments.plots)


PARTS: dict[str, tuple[str, Callable[[argparse.Namespace], None]]] = {
    "network": ("The network", speed),
    "memory": ("Memory of the network", memory),
    "startup": ("Start-up", startup),
    "picture": ("The whole picture", picture),
    "folder": ("A folder of pictures", throughput),
    "growth": ("Growth", growth),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory, all of it.")
    network.add_options(parser)
    folder.add_options(parser)
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="also draw growth-*.png there (needs matplotlib)")
    for part, (title, _) in PARTS.items():
        parser.add_argument(f"--no-{part}", action="store_true", help=f"leave out: {title[0].lower()}{title[1:]}")
    arguments = parser.parse_args()
    for part, (title, run) in PARTS.items():
        if not getattr(arguments, f"no_{part}"):
            print(f"\n## {title}\n", flush=True)
            run(arguments)


if __name__ == "__main__":
    main()
