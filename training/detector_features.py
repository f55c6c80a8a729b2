"""Losses from the embedded face detector: its features and its landmarks, differentiable.

RetinaFace mobile0.25 (Deng et al., CVPR 2020) knows what eyes, noses and mouths look like. Its features on the restored face should match
those on the original (a perceptual loss whose weights need no download), and so should its landmarks.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from gpen_core.faces.onnx_network import OnnxNetwork
from gpen_core.faces.retinaface import EMBEDDED, MEAN

# The outputs of these blocks: 4, 8, 16 and 32 pixels per cell; then the inputs of the heads.
FEATURES = ("stage1.2.1.2/", "stage1.5.1.2/", "stage2.5.1.2/", "stage3.1.1.2/", "ssh2/Relu", "ssh3/Relu")


class Seen(NamedTuple):
    """The detector's output: feature maps; for all anchors, landmarks (N, A, 10) in anchor sides and confidence (N, A)."""

    features: list[Tensor]
    landmarks: Tensor
    sureness: Tensor


class DetectorFeatures(OnnxNetwork):
    """RetinaFace mobile0.25: (N, 3, S, S) RGB in -1..1, S a multiple of 32 -> Seen."""

    def __init__(self, file: Path = EMBEDDED) -> None:
        super().__init__(file)

    def forward(self, x: Tensor) -> Seen:
        mean = torch.tensor(MEAN, device=x.device).view(1, 3, 1, 1)
        heads: dict[str, list[Tensor]] = {"landmark_head": [], "class_head": []}
        features: list[Tensor] = []
        for op, name, y in self.values((x.flip(1) + 1) * 127.5 - mean):
            if op in ("LeakyRelu", "Relu") and any(part in name for part in FEATURES):
                features.append(y)
            for head, grids in heads.items():
                if name.startswith(f"/{head}"):
                    grids.append(y.permute(0, 2, 3, 1).reshape(y.shape[0], -1, 10 if head == "landmark_head" else 2))
        sureness = torch.cat(heads["class_head"], dim=1).softmax(dim=2)[..., 1]
        return Seen(features, torch.cat(heads["landmark_head"], dim=1), sureness)


def perceptual_loss(seen: Seen, true: Seen) -> Tensor:
    """Mean absolute difference of the features, each map relative to its mean magnitude."""
    losses = [(a - b).abs().mean() / b.abs().mean().clamp_min(1e-3) for a, b in zip(seen.features, true.features, strict=True)]
    return torch.stack(losses).mean()


def landmark_loss(seen: Seen, true: Seen) -> Tensor:
    """Mean difference of landmarks, in anchor sides, and of confidence, where the detector is confident of a face in the original."""
    weight = true.sureness * (true.sureness > 0.5)
    apart = (seen.landmarks - true.landmarks).abs().mean(dim=2)
    sure = (seen.sureness - true.sureness).abs()
    return ((apart + sure) * weight).sum() / weight.sum().clamp_min(1.0)
