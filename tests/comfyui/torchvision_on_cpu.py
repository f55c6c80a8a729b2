"""Lets the package index's torchvision, which is built for CUDA, be imported beside a torch for the CPU.

Its compiled part cannot be loaded there, and what it would have declared is missing at import ("operator torchvision::nms does not
exist"). host.py copies this file into the environment of the tests, which imports it at its start. torch itself is imported no sooner
than torchvision is: ComfyUI wants to be the first.
"""

from __future__ import annotations

import sys
from typing import Any

LIBRARY = "_torchvision_on_cpu"  # kept in sys: what is declared ends with the object


class BeforeTorchvision:
    """Declares the two operators the first time that torchvision is looked for, and finds nothing itself."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            library: Any = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.impl("nms", suppress, "CPU")
            setattr(sys, LIBRARY, library)


def suppress(boxes: Any, scores: Any, most: float) -> Any:
    """The boxes, by falling score, that share no more than `most` with a better one."""
    import torch

    left, top, right, bottom = boxes.unbind(1)
    area = (right - left) * (bottom - top)
    order, kept = scores.argsort(descending=True), []
    while order.numel():
        best, others = order[0], order[1:]
        kept.append(best)
        width = (torch.minimum(right[best], right[others]) - torch.maximum(left[best], left[others])).clamp(min=0)
        height = (torch.minimum(bottom[best], bottom[others]) - torch.maximum(top[best], top[others])).clamp(min=0)
        both = width * height
        order = others[both / (area[best] + area[others] - both) <= most]
    return torch.stack(kept) if kept else scores.new_zeros(0, dtype=torch.long)


sys.meta_path.insert(0, BeforeTorchvision())  # type: ignore[arg-type]
