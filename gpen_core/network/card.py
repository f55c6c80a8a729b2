"""What should run faster on graphics cards and has never been measured on one: Triton kernels and CUDA graphs. Off by default.

GPEN_CARD=experimental in the environment turns all of it on, and nothing else does. The plain form runs wherever something here fails.
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
MOST_GRAPHS = 4  # of one network: each holds memory, and who asks for more shapes than that does not ask twice for each

_failed: set[str] = set()  # kernels that do not run here


def wanted(x: Tensor) -> bool:
    """Whether the experiments are on for a tensor: the one switch."""
    return x.is_cuda and os.environ.get(SWITCH, "").strip().lower() == "experimental"


def kernel(name: str, x: Tensor, *rest: object) -> Tensor | None:
    """The result of `kernels.<name>(x, ...)`; None where the plain form has to compute it."""
    if not wanted(x) or name in _failed:
        return None
    try:
        return getattr(importlib.import_module(f"{__package__}.kernels"), name)(x, *rest)
    except Exception as error:  # no Triton, no C compiler for it, a card it does not know: it raises whatever it likes
        if is_out_of_memory(error):
            raise
        _failed.add(name)
        log.warning("%s: the Triton kernel '%s' cannot run here (%s); the plain form is used", SWITCH, name, _first_line(error))
        return None


class Graphs:
    """The CUDA graphs of one network whose weights stay where they are: one for each shape and type of its input, made when it comes twice.

    A graph reads the weights where they lay when it was made: whoever moves them makes a new object.
    """

    def __init__(self) -> None:
        self._seen: set[Any] = set()
        self._recorded: dict[Any, tuple[Any, Tensor, Tensor]] = {}  # (graph, its input, its output)
        self._lock = threading.Lock()  # one at a time writes a graph's input
        self._off = False

    def __reduce__(self) -> Any:
        return Graphs, ()  # copies of a network have weights of their own

    def drop(self) -> None:
        """Gives their memory back, and makes no others: for where memory is short."""
        with self._lock:
            self._give_up()

    def run(self, compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor | None:
        """compute(x) by way of a graph; None where it has to be computed eagerly. compute: depends on x alone, and asks nobody."""
        if self._off or not wanted(x) or not _may_record(x):
            return None
        key = (x.shape, x.dtype, x.device)
        with self._lock:
            if key not in self._recorded and (key not in self._seen or len(self._recorded) >= MOST_GRAPHS):
                self._seen.add(key)  # the eager run chooses and compiles what the recording then finds ready
                return None
            try:
                if key not in self._recorded:
                    self._recorded[key] = _record(compute, x)
                graph, still, result = self._recorded[key]
                still.copy_(x)
                graph.replay()
                return result.clone()
            except Exception as error:  # whatever it is, the eager form meets it again, or not
                self._give_up()
                log.warning("%s: no CUDA graph here (%s); the network runs without", SWITCH, _first_line(error))
                return None

    def _give_up(self) -> None:
        self._off = True
        self._recorded.clear()


def _may_record(x: Tensor) -> bool:
    """Not with an allocator that graphs do not get on with, and on the default stream only: others have an order of their own."""
    if torch.cuda.get_allocator_backend() == "cudaMallocAsync":
        return False
    return torch.cuda.current_stream(x.device) == torch.cuda.default_stream(x.device)


def _record(compute: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Any, Tensor, Tensor]:
    # What is made in inference mode could not be written outside of it.
    with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
        still = x.clone()
        beside: Any = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # once more on another stream, as torch wants it before a recording
            compute(still)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        # thread_local: what a host's other threads do meanwhile does not end it. (torch 2.0 cannot: there it ends here.)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = compute(still)
        return graph, still, result


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error).strip() else type(error).__name__
