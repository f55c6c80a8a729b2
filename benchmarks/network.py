"""Compares the network's speed with the official computation and with other runtimes, interleaved in one process:

    python -m benchmarks.network [--sizes 256 512] [--rounds 5] [--peers onnxruntime openvino] [--device cpu]

Weights are random: speed does not depend on them. "official" is tests/official_like.py, which follows the official code step by step.
Every row's result is first compared with the plain form. Figures: median seconds per face, the speed-up over the official form, and our
speed-up over that row, in float32 and in bfloat16. Peers must be installed (and onnx, to export to them); the table shows their versions.
"""

from __future__ import annotations

import argparse
import importlib
import io
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.weights.architecture import Architecture
from tests.official_like import OfficialLike

SHAPES = {256: (1, 0.5), 512: (2, 1.0), 1024: (2, 1.0), 2048: (2, 1.0)}
TRIALS = {64: (2, 0.125), 128: (2, 0.25)}  # not official: to try a benchmark out in seconds
Runner = Callable[[Tensor], Tensor]


def architecture(size: int) -> Architecture:
    return Architecture(size, *(SHAPES | TRIALS)[size])


def random_generator(size: int) -> Generator:
    """A generator of the official shape in which every feature affects the result."""
    torch.default_generator.manual_seed(size)
    network = Generator(architecture(size)).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("noise.weight"):
            parameter.fill_(0.1)
    return network.use_channels_last()


def official(plain: Generator) -> OfficialLike:
    """The official form of the network with the same weights."""
    state = plain.state_dict()
    levels = plain.size.bit_length() - 3
    channels = [state["generator.conv1.conv.weight"].shape[1]]
    channels += [state[f"generator.convs.{2 * n}.conv.weight"].shape[1] for n in range(levels)]
    network = OfficialLike(channels)
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def exported(network: OfficialLike, size: int) -> bytes:
    """An ONNX file of the official form, including its weights."""
    buffer = io.BytesIO()
    onnx: Any = torch.onnx  # its stubs allow only files on disk
    weight = next(network.parameters())
    onnx.export(network, (weight.new_zeros(1, 3, size, size),), buffer, opset_version=17, dynamo=False, input_names=["x"])
    return buffer.getvalue()


def onnxruntime_runner(model: bytes) -> tuple[str, Runner]:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=onnxruntime.get_available_providers())
    return f"onnxruntime {onnxruntime.__version__}", lambda x: torch.as_tensor(session.run(None, {"x": x.numpy()})[0])


def openvino_runners(model: bytes) -> list[tuple[str, Runner]]:
    openvino: Any = importlib.import_module("openvino")
    core = openvino.Core()
    read = core.read_model(model)
    version = openvino.__version__.split("-")[0]
    runners: list[tuple[str, Runner]] = []
    for precision in ("f32", "bf16"):
        compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"})
        runners.append((f"OpenVINO {version} {precision}", lambda x, compiled=compiled: torch.as_tensor(compiled(x.numpy())[0].copy())))
    return runners


def runners(size: int, device: torch.device, peers: list[str], precisions: list[torch.dtype]) -> dict[str, Runner]:
    plain = random_generator(size)
    slow = official(plain)
    table: dict[str, Runner] = {"official, float32": slow.to(device), "plain, float32": plain.to(device)}
    for dtype in precisions:
        fused = place(FusedGenerator(plain), device, dtype)
        name = f"ours, {str(dtype).removeprefix('torch.')}"
        table[name] = lambda x, fused=fused, dtype=dtype: fused(x.to(dtype)).float()
        if size >= 512:  # shows the gain from strips of rows, the default on CPUs
            table[f"{name}, not in strips"] = lambda x, fused=fused, dtype=dtype: fused(x.to(dtype), tiled=False).float()
        if dtype == torch.float32 and device.type == "cpu":
            table[f"{name}, without Winograd"] = FusedGenerator(plain)
    if peers:
        model = exported(slow.cpu(), size)
        slow.to(device)
        if "onnxruntime" in peers:
            name, runner = onnxruntime_runner(model)
            table[name] = runner
        if "openvino" in peers:
            table |= dict(openvino_runners(model))
    return table


def measure(table: dict[str, Runner], x: Tensor, rounds: int) -> dict[str, tuple[float, float]]:
    """{name: (median seconds, largest difference from the plain form)}. Runs each once to warm up, then all in turn."""
    expected = table["plain, float32"](x).float().cpu()
    apart = {name: float((runner(x).float().cpu() - expected).abs().max()) for name, runner in table.items()}
    seconds: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds):
        for name, runner in table.items():
            started = time.perf_counter()
            runner(x)
            if x.is_cuda:
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: (statistics.median(times), apart[name]) for name, times in seconds.items()}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=[], choices=["onnxruntime", "openvino"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16", "float16"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the network's speed with the official form and other runtimes.")
    add_options(parser)
    print_table(parser.parse_args())


def print_table(arguments: argparse.Namespace) -> None:
    """Prints the table. arguments: sizes, rounds, peers, device, precisions, as in add_options."""
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor()}, {torch.get_num_threads()} threads"
    print(f"{where}; torch {torch.__version__}, Python {platform.python_version()}; {arguments.rounds} rounds\n")
    ours = [f"ours, {name}" for name in arguments.precisions]
    head = ["size", "form", "median s", "faster than official", *(f"{name}, is faster by" for name in ours), "apart from plain at most"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for size in arguments.sizes:
        x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1)).clamp(-1, 1).to(device)
        precisions = [getattr(torch, name) for name in arguments.precisions]
        # Built outside inference mode, because tensors made in it cannot be cast outside it, as `place` does.
        table = runners(size, device, arguments.peers, precisions)
        with torch.inference_mode():
            figures = measure(table, x, arguments.rounds)
        base = figures["official, float32"][0]
        for name, (median, apart) in figures.items():
            ratios = [f"{median / figures[one][0]:.2f}" for one in ours]
            print(f"| {size} | {name} | {median:.4f} | {base / median:.2f} | {' | '.join(ratios)} | {apart:.1e} |", flush=True)


if __name__ == "__main__":
    main()
