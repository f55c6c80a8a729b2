from __future__ import annotations

import torch

cpu = torch.device("cpu")
collected = 0
asked: list[str] = []


def get_device_for(task: str) -> torch.device:
    asked.append(task)
    return cpu


def torch_gc() -> None:
    global collected
    collected += 1
