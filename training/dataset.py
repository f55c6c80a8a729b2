"""Training pairs of degraded and original faces, made on the fly."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from training.degrade import Damage, faded, random_damage, spoil
from training.faces import FaceFile
from training.plan import Plan


class SpoiltFaces(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Item n is (degraded, original, mask), the same for the same seed and n in every process."""

    def __init__(self, faces: list[FaceFile], pixels: NDArray[Any], plan: Plan, first: int) -> None:
        kept = [n for n, face in enumerate(faces) if not face.held_out]
        self.painted = [n for n in kept if faces[n].watermark]
        self.photos = [n for n in kept if not faces[n].watermark]
        self.faces, self.pixels, self.plan, self.first = faces, pixels, plan, first

    def __len__(self) -> int:
        return max(0, self.plan.pictures - self.first)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng((self.plan.seed, self.first + index))
        photo = (rng.random() < self.plan.photo_share and self.photos) or not self.painted
        n = int(rng.choice(self.photos if photo else self.painted))
        good = np.array(self.pixels[n])
        mask = np.ones(good.shape[:2], np.float32)
        if box := self.faces[n].watermark:
            x0, y0, x1, y1 = (round(v * self.plan.size / 256) for v in box)
            mask[y0:y1, x0:x1] = 0
        if rng.random() < 0.5:
            good, mask = good[:, ::-1], mask[:, ::-1]
        if rng.random() < 0.15:
            good = good.mean(axis=2, keepdims=True).round().astype(np.uint8).repeat(3, axis=2)  # old photographs
        elif rng.random() < 0.1:
            good = faded(good, rng)  # old prints; they stay faded, because this network must not change colours
        good = np.ascontiguousarray(good)
        damage = Damage() if rng.random() < self.plan.clean_share else random_damage(rng)
        damage = dataclasses.replace(damage, webp=rng.random() < 0.2)
        bad = spoil(good, damage, rng)
        return to_tensor(bad), to_tensor(good), torch.as_tensor(np.ascontiguousarray(mask))[None]


def to_tensor(picture: NDArray[Any]) -> torch.Tensor:
    """(S, S, 3) uint8 RGB -> (3, S, S) float32 in -1..1, as the official code normalises."""
    return torch.as_tensor(np.array(picture)).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


def to_pixels(pictures: torch.Tensor) -> NDArray[Any]:
    """(N, 3, S, S) in -1..1 -> (N, S, S, 3) uint8 RGB."""
    return ((pictures.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
