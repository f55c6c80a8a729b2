"""Speed, then memory, of the network:

    python -m benchmarks [--sizes 256 512] [--rounds 5] [--peers onnxruntime openvino] [--no-memory]

The same as benchmarks.network and then benchmarks.memory. Faces found are measured by benchmarks.detection, which needs pictures.
"""

from __future__ import annotations

import argparse

from benchmarks import memory, network


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory of the network.")
    network.add_options(parser)
    parser.add_argument("--no-memory", action="store_true", help="leave out the memory, which loads each size anew four times")
    arguments = parser.parse_args()
    network.print_table(arguments)
    if not arguments.no_memory:
        print()
        memory.print_table(arguments.sizes)


if __name__ == "__main__":
    main()
