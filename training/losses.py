"""Pixel losses. Pictures are (N, 3, S, S) in -1..1; masks (N, 1, S, S), 0 where pixels are ignored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pixel_loss(y: Tensor, target: Tensor, mask: Tensor, scales: int = 4) -> Tensor:
    """L1 of pixels and of their horizontal and vertical differences, at several scales; coarse scales preserve tone and shape."""
    loss = torch.zeros((), device=y.device)
    error = (y - target) * mask
    for _ in range(scales):
        loss = loss + error.abs().mean()
        across = (error[..., :, 1:] - error[..., :, :-1]).abs().mean()
        down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
        loss = loss + 0.5 * (across + down)
        error = F.avg_pool2d(error, 2)
    return loss / scales


def psnr_loss(y: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean over pictures of the logarithm of their squared error: negated PSNR (NAFNet, ECCV 2022).

    Slightly and heavily degraded pictures count equally. The floor, 46 dB, keeps undamaged pictures from dominating a step.
    """
    squares = ((y - target) * mask).square().sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3))).clamp_min(1)
    return (squares + 1e-4).log().mean()


def sharpness(y: Tensor, target: Tensor) -> Tensor:
    """Gradient energy (mean absolute difference of neighbours) of the green channel over the target's; ideally 1.0."""

    def energy(picture: Tensor) -> Tensor:
        green = picture[:, 1]
        return (green[:, :, 1:] - green[:, :, :-1]).abs().mean() + (green[:, 1:] - green[:, :-1]).abs().mean()

    return energy(y) / energy(target).clamp_min(1e-6)
