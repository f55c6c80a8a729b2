"""Pixel losses. Pictures are (N, 3, S, S) in -1..1; masks (N, 1, S, S), 0 where a picture must not be looked at."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_loss(y: Tensor, target: Tensor, mask: Tensor, scales: int = 4) -> Tensor:
    """L1 of pixels and of their horizontal and vertical differences, at several scales. The coarser ones keep tone and shape."""
    loss = torch.zeros((), device=y.device)
    error = (y - target) * mask
    for _ in range(scales):
        loss = loss + error.abs().mean()
        across = (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
        down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        loss = loss + 0.5 * (across + down)
        error = F.avg_pool2d(error, 2)
    return loss / scales
