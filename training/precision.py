"""Where training computes in bfloat16."""

from __future__ import annotations

import torch

from gpen_core.runtime import computes_bf16
from training.plan import Plan


def mixed(plan: Plan, device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 if the plan asks for it and the device supports it. Without hardware support it would be many times slower."""
    return torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16 and (device.type != "cpu" or computes_bf16()))
