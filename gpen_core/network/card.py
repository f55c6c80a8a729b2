"""Experiments to run faster on graphics cards, never measured on one: Triton kernels and CUDA graphs. Off by default.

Only GPEN_CARD=experimental in the environment turns them on. If one of them fails, the plain form runs.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..runtime import is_out_of_memory

log = logging.getLogger(__name__)

SWITCH = "GPEN_CARD"
MOST_GRAPHS = 4  # per network: each holds memory, and more shapes than this rarely come twice

_failed: set[str] = set()  # kernels that do not run here


def wanted(x: Tensor) -> bool:
    """Whether the experiments are on for a tensor."""
    return x.is_cuda and os.environ.get(SWITCH, "").strip().lower() == "experimental"


def kernel(name: str, x: Tensor, *rest: object) -> Tensor | None:
    """The result of `kernels.<name>(x, ...)`; None if the plain form must compute it."""
    if not wanted(x) or name in _failed:
        return None
    try:
        return getattr(importlib.import_module(f"{__package__}.kernels"), name)(x, *rest)
    except Exception as error:  # without Triton, its C compiler or a supported card, any class is raised
        if is_out_of_memory(error):
            raise
        _failed.add(name)
        log.warning("%s: the Triton kernel '%s' cannot run here (%s); the plain form is used", SWITCH, name, _first_line(error))
        return None


class Graphs:
    """The CUDA graphs of one network: one for each shape and dtype of its input, recorded when that comes for the second time.

    A graph reads the weights at the addresses they had when it was recorded. Make a new object after moving them.
    """

    def __init__(self) -> None:
        self._seen: set[Any] = set()
        self._recorded: dict[Any, tuple[Any, Tensor, Tensor]] = {}  # (graph, its input, its output)
        self._lock = threading.Lock()  # only one thread at a time may write a graph's input
        self._off = False

    def __reduce__(self) -> Any:
        return Graphs, ()  # a copied network has its own weights

    def drop(self) -> None:
        """Frees their memory and records no more, for when memory is short."""
        with self._lock:
            self._give_up()

    def run(self, compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
        """compute(x) through a graph; None if it must run eagerly. compute: depends only on x and never calls `ask`."""
        if self._off or not wanted(x) or not _may_record(x):
            return None
        key = (x.shape, x.dtype, x.device)
        with self._lock:
            if key not in self._recorded and (key not in self._seen or len(self._recorded) >= MOST_GRAPHS):
                self._seen.add(key)  # the eager run selects and compiles kernels before the recording
                return None
            try:
                if key not in self._recorded:
                    self._recorded[key] = _record(compute, x)
                graph, still, result = self._recorded[key]
                still.copy_(x)
                graph.replay()
                return result.clone()
            except Exception as error:  # if the cause is serious, the eager run raises it again
                self._give_up()
                log.warning("%s: cannot record a CUDA graph here (%s); the network runs without it", SWITCH, _first_line(error))
                return None

    def _give_up(self) -> None:
        self._off = True
        self._recorded.clear()


def _may_record(x: Tensor) -> bool:
    """False for an allocator that graphs do not work with, and off the default stream, where the order of work differs."""
    if torch.cuda.get_allocator_backend() == "cudaMallocAsync":
        return False
    return torch.cuda.current_stream(x.device) == torch.cuda.default_stream(x.device)


def _record(compute: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Any, Tensor, Tensor]:
    # Tensors made in inference mode cannot be written outside it.
    with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
        still = x.clone()
        beside: Any = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # a warm-up on another stream, as torch requires before recording
            compute(still)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # thread_local: a host's other threads cannot break the recording. (torch 2.0 lacks this argument, so recording fails here.)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = compute(still)
        return graph, still, result


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error).strip() else type(error).__name__
