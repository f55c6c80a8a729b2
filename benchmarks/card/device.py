"""The device that is measured: waiting for it, its memory, what it is and how fast it copies and multiplies."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar

import torch

from benchmarks.card.report import attempt
from benchmarks.network import processor

T = TypeVar("T")
MIB = 1 << 20
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGEST_COPY = 1 << 30  # bytes
LARGEST_MATMUL = 16384  # rows and columns


class Device:
    """A torch device with the same questions for all: CUDA and ROCm, XPU, MPS, the CPU and others."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_card = device.type != "cpu"
        self._module: Any = getattr(torch, device.type, None) if self.is_card else None

    def wait(self) -> None:
        """Returns when all work that was given to the device is done."""
        if not self.is_card:
            return
        synchronize = getattr(self._module, "synchronize", None)
        if synchronize is None:
            torch.zeros(1, device=self.device).cpu()  # DirectML: a copy down waits for all before it
        elif self.device.type == "mps":
            synchronize()
        else:
            synchronize(self.device)

    def clean(self, libraries: bool = False) -> None:
        """Frees what nothing uses there. libraries: the workspaces of CUDA's libraries too; graphs that are alive may use them."""
        if not self.is_card:
            return
        gc.collect()
        self.wait()
        if libraries and self.device.type == "cuda":
            getattr(getattr(torch, "_C"), "_cuda_clearCublasWorkspaces", lambda: None)()  # noqa: B009  # private, in most versions
        getattr(self._module, "empty_cache", lambda: None)()

    def allocated(self) -> int | None:
        """Bytes of the tensors there; None if the device does not tell."""
        for name in ("memory_allocated", "current_allocated_memory"):
            ask = getattr(self._module, name, None)
            if ask is not None:
                return int(ask() if self.device.type == "mps" else ask(self.device))
        return None

    def with_peak(self, call: Callable[[], T]) -> tuple[T, int | None]:
        """(the call's result, the most bytes that it held at once beside what was there before; None if the device does not tell)."""
        reset, ask = (getattr(self._module, name, None) for name in ("reset_peak_memory_stats", "max_memory_allocated"))
        before = self.allocated()
        if reset is None or ask is None or before is None:
            return call(), None
        self.wait()
        reset(self.device)
        result = call()
        self.wait()
        return result, int(ask(self.device)) - before

    def seconds(self, call: Callable[[], object]) -> float:
        self.wait()
        started = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - started

    def free(self) -> int | None:
        """Free bytes; None if the device does not tell."""
        ask = getattr(self._module, "mem_get_info", None)
        return None if ask is None else int(ask(self.device)[0])


def facts(device: Device) -> dict[str, str]:
    """What a reader must know of the machine. What cannot be found out says why."""
    cuda: Any = torch.cuda
    there, is_cuda = device.device, device.device.type == "cuda"
    about: dict[str, Callable[[], object]] = {"device": lambda: there}
    if is_cuda:
        about |= {
            "name": lambda: cuda.get_device_name(there),
            "compute capability": lambda: ".".join(map(str, cuda.get_device_capability(there))),
            "memory": lambda: f"{cuda.get_device_properties(there).total_memory / 2**30:.1f} GiB",
            "driver": driver,
            "CUDA": lambda: torch.version.cuda or f"ROCm {getattr(torch.version, 'hip', '')}",
            "cuDNN": torch.backends.cudnn.version,
            "TF32 in convolutions": lambda: said(torch.backends.cudnn.allow_tf32),
            "TF32 in other products": lambda: said(torch.backends.cuda.matmul.allow_tf32),
            "allocator": cuda.get_allocator_backend,
        }
    else:
        name = processor() if there.type == "cpu" else there.type
        about |= {"name": lambda: name, "compute capability": lambda: "none", "driver": lambda: "none"}
    about["torch"] = lambda: torch.__version__
    for package in ("triton", "onnxruntime-gpu", "onnxruntime", "tensorrt", "av", "opencv-python", "opencv-python-headless"):
        about[package] = lambda package=package: version_of(package)
    about |= {"Python": platform.python_version, "system": platform.platform}
    about |= {"processor": lambda: f"{processor()}, {torch.get_num_threads()} threads"}
    about["GPEN_CARD"] = lambda: os.environ.get("GPEN_CARD") or "not set"
    found = {name: attempt(ask) for name, ask in about.items()}
    return {name: failure or str(value) for name, (value, failure) in found.items()}


def said(flag: bool | str) -> str:
    return "on" if flag else "off"


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", timeout=20)  # noqa: S603
        return done.stdout.strip().splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "not told by nvidia-smi"


def bandwidth(device: Device, enough: float = 0.01) -> tuple[float, int]:
    """(bytes read and written a second, bytes copied): the best of several large copies. A copy larger than the caches says most.

    enough: seconds that a copy should take; copies grow until they do, or until the memory they may use ends.
    """
    most = min(LARGEST_COPY, (device.free() or 8 * LARGEST_COPY) // 8)
    size = 4 * MIB
    while True:
        source = torch.zeros(size, dtype=torch.uint8, device=device.device)
        target = torch.empty_like(source)
        device.seconds(lambda: target.copy_(source))  # noqa: B023
        best = min(device.seconds(lambda: target.copy_(source)) for _ in range(10))  # noqa: B023
        if best >= enough or 2 * size > most:
            return 2 * size / best, size
        size *= 2


def throughput(device: Device, dtype: torch.dtype, enough: float = 0.02) -> tuple[float, int]:
    """(operations a second, side of the matrices): the best of several products of large square matrices, as torch is set."""
    side = 256
    while True:
        one = torch.full((side, side), 0.01, dtype=dtype, device=device.device)
        other = one.t().contiguous()
        first = device.seconds(lambda: one @ other)  # noqa: B023
        best = first if first > 1 else min(device.seconds(lambda: one @ other) for _ in range(10))  # noqa: B023
        if best >= enough or 2 * side > LARGEST_MATMUL:
            return 2 * side**3 / best, side
        side *= 2
