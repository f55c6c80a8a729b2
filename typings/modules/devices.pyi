import torch

device: torch.device

def torch_gc() -> None: ...
