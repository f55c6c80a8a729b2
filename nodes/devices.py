"""Where a model runs: Load GPEN Model's setting "device", in the words that ComfyUI's own nodes use (default, cpu, gpu:0, gpu:1...)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DEFAULT = "default"
CPU = "cpu"


def device_choices() -> list[str]:
    """The words for this machine: one for each graphics card where there are several."""
    try:
        cards = _cards()
    except ImportError:  # outside ComfyUI, where help pages are written
        cards = []
    return [DEFAULT, CPU, *(f"gpu:{number}" for number in range(len(cards)) if len(cards) > 1)]


def is_device(word: object) -> bool:
    """Whether a word names a device of this machine or of another one."""
    return word in (DEFAULT, CPU) or (isinstance(word, str) and re.fullmatch(r"gpu:\d{1,3}", word) is not None)


def find_device(word: str) -> tuple[torch.device, str | None]:
    """The device, and a line for the user if this machine does not have it and the default one takes its place."""
    import torch
    from comfy import model_management as host

    if word == CPU:
        return torch.device(CPU), None
    if word == DEFAULT:
        return host.get_torch_device(), None
    cards, number = _cards(), int(word.removeprefix("gpu:"))
    if number < len(cards):
        return cards[number], None
    return host.get_torch_device(), f"{word} is not in this machine: runs on the default device"


def _cards() -> list[torch.device]:
    """ComfyUI's devices. Versions that use only one do not unload models from others, so they offer none to choose from."""
    from comfy import model_management as host

    known = getattr(host, "get_all_torch_devices", None)
    return [host.get_torch_device()] if known is None else list(known())
