"""Where training computes in bfloat16."""

from __future__ import annotations

import torch

from gpen_core.runtime import computes_bf16
from training.plan import Plan


def mixed(plan: Plan, device: torch.device) -> torch.autocast:
    """bfloat16 where the plan asks for it and the device has it. A processor without its instructions takes many times as long with it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16 and (device.type != "cpu" or computes_bf16()))
