"""Lets the package index's torchvision, which on Linux is built for CUDA, be imported beside a torch for the CPU.

Its compiled part cannot be loaded there, and what that would have declared is missing at import ("operator torchvision::nms does not
exist"). Only the declarations are made good: nothing that the tests run computes with torchvision. host.py copies this file into the
environment of the tests, which imports it at its start. torch itself is imported no sooner than torchvision is: ComfyUI wants to be the
first.
"""

from __future__ import annotations

import contextlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

kept: list[Any] = []  # what is declared ends with the object


class BeforeTorchvision:
    """Sees to the declarations the first time that torchvision is looked for, and finds nothing itself."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        found = PathFinder.find_spec(name) if name == "torchvision" else None
        if found is None or found.origin is None:
            return
        sys.meta_path.remove(self)
        import torch

        with contextlib.suppress(OSError):  # as where torch and torchvision are of one build
            for compiled in Path(found.origin).parent.glob("_C.*"):
                torch.ops.load_library(compiled)
        if not hasattr(torch.ops.torchvision, "nms"):
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            kept.append(library)


sys.meta_path.insert(0, BeforeTorchvision())  # type: ignore[arg-type]
