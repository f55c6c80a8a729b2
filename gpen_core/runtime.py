"""Device and number type. No global torch flag is ever set here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import SettingsError

if TYPE_CHECKING:
    import torch


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """A torch device from its name; `auto` is the first accelerator torch has, else the CPU. Raises SettingsError."""
    import torch

    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if torch.cuda.is_available():  # ROCm builds answer here as well
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        xpu = getattr(torch, "xpu", None)
        return torch.device("xpu") if xpu is not None and xpu.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError, by device and version
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"the device {name!r} cannot be used here ({reason}); use auto or cpu") from error
    return device


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The network's number type. `auto` is float32 until a faster one is shown to be as good on that device."""
    import torch

    if precision == "auto":
        return torch.float32
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in types:
        raise SettingsError(f"precision is one of auto, {', '.join(types)}; {precision!r} is not")
    return types[precision]
