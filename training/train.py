"""Trains a GPEN generator on FFHQ-aligned faces.

    python -m training.train --data DATA --run runs/lite256

Resumes by itself where RUN holds a checkpoint. Ends when --pictures have been seen or --minutes of training are over,
whichever comes first; the learning rate falls to zero towards that end. Export: `python -m training.export`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from gpen_core.network.architecture import Architecture
from gpen_core.network.modules import Generator
from training.degrade import Damage, random_damage, spoil
from training.faces import FaceFile, decoded, list_faces
from training.losses import pixel_loss, psnr_loss
from training.start import identity_generator


@dataclass(frozen=True)
class Plan:
    """What is trained and how. Every field is a command-line option."""

    size: int = 256
    channel_multiplier: float = 1
    narrow: float = 0.25
    batch: int = 8
    pictures: int = 100_000
    minutes: float = 1e9
    learning_rate: float = 6e-3
    warm_up: int = 800  # pictures
    ema: float = 0.998
    psnr_weight: float = 0.04  # of psnr_loss beside pixel_loss
    clean_share: float = 0.04  # share of pictures that are not spoilt: what is good must stay as it is
    photo_share: float = 0.35  # share of photographs (all but the painterly data set) among the pictures drawn
    seed: int = 2048
    workers: int = 1
    bf16: bool = True
    compile: bool = True
    save_every: int = 4000  # pictures


class SpoiltFaces(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Item n is (spoilt, good, mask), the same for the same seed and n in every process."""

    def __init__(self, faces: list[FaceFile], pixels: np.ndarray, plan: Plan, first: int) -> None:
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
        good = np.ascontiguousarray(good)
        damage = Damage() if rng.random() < self.plan.clean_share else random_damage(rng)
        bad = spoil(good, damage, rng)
        return to_tensor(bad), to_tensor(good), torch.from_numpy(np.ascontiguousarray(mask))[None]


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """(S, S, 3) uint8 RGB -> (3, S, S) float32 in -1..1, as the official code normalises."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float().div_(127.5).sub_(1.0)


class Trainer:
    """Network, its moving average and the optimiser, saved and resumed together."""

    def __init__(self, plan: Plan, run: Path, device: torch.device) -> None:
        self.plan, self.run, self.device = plan, run, device
        architecture = Architecture(plan.size, plan.channel_multiplier, plan.narrow)
        self.network = identity_generator(architecture, plan.seed).to(device).use_channels_last()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99))
        self.seen, self.minutes = 0, 0.0
        if self.checkpoint.is_file():
            # Our own file, written below; weights_only all the same.
            state = torch.load(self.checkpoint, map_location=device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.seen, self.minutes = state["seen"], state["minutes"]

    @property
    def checkpoint(self) -> Path:
        return self.run / "checkpoint.pt"

    @property
    def done(self) -> float:
        """How much of the run is over, 0 to 1."""
        return min(1.0, max(self.seen / self.plan.pictures, self.minutes / self.plan.minutes))

    def save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "seen": self.seen,
            "minutes": self.minutes,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def train(self, faces: list[FaceFile], pixels: np.ndarray) -> None:
        """Trains until the plan is fulfilled, writing checkpoint.pt and log.jsonl into the run's folder."""
        plan = self.plan
        data = SpoiltFaces(faces, pixels, plan, self.seen)
        loader = DataLoader(data, batch_size=plan.batch, num_workers=plan.workers, drop_last=True, persistent_workers=False)
        network = cast(Generator, torch.compile(self.network)) if plan.compile else self.network
        lately: list[float] = []
        saved, logged, clock = self.seen, self.seen, time.monotonic()
        with (self.run / "log.jsonl").open("a", encoding="utf-8") as log:
            for bad, good, mask in loader:
                if self.done >= 1.0:
                    break
                warm = min(1.0, (self.seen + plan.batch) / plan.warm_up)
                rate = plan.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * self.done))
                for group in self.optimiser.param_groups:
                    group["lr"] = rate
                bad, good, mask = (t.to(self.device).contiguous(memory_format=torch.channels_last) for t in (bad, good, mask))
                with torch.autocast(self.device.type, torch.bfloat16, enabled=plan.bf16):
                    y = network(bad)
                loss = pixel_loss(y.float(), good, mask) + plan.psnr_weight * psnr_loss(y.float(), good, mask)
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                self.optimiser.step()
                self.seen += plan.batch
                decay = min(plan.ema, 1 - 1 / (1 + self.seen / plan.batch / 10))
                torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
                lately.append(float(loss.detach()))
                now = time.monotonic()
                self.minutes += (now - clock) / 60
                clock = now
                if self.seen - logged >= 400:
                    line = {"seen": self.seen, "minutes": round(self.minutes, 2), "rate": rate, "loss": round(float(np.mean(lately)), 5)}
                    print(json.dumps(line), file=log, flush=True)
                    lately, logged = [], self.seen
                if self.seen - saved >= plan.save_every:
                    self.save()
                    saved = self.seen
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a GPEN generator on FFHQ-aligned faces.")
    parser.add_argument("--data", type=Path, required=True, help="folder with zip files named faces-*.zip, or with pictures")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint and log; resumed where it exists")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for field in fields(Plan):
        kind = type(field.default)
        if kind is bool:
            parser.add_argument(f"--{field.name.replace('_', '-')}", action=argparse.BooleanOptionalAction, default=field.default)
        else:
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    arguments = vars(parser.parse_args())
    plan = Plan(**{field.name: arguments[field.name] for field in fields(Plan)})
    run: Path = arguments["run"]
    run.mkdir(parents=True, exist_ok=True)
    (run / "plan.json").write_text(json.dumps(asdict(plan), indent=2), encoding="utf-8")
    faces = list_faces(arguments["data"])
    pixels = decoded(faces, plan.size, run.parent / "cache")
    trainer = Trainer(plan, run, torch.device(arguments["device"]))
    print(f"{sum(not face.held_out for face in faces)} faces to train on, {trainer.seen} pictures seen so far")
    trainer.train(faces, pixels)
    print(f"{trainer.seen} pictures seen in {trainer.minutes:.1f} minutes: {trainer.checkpoint}")


if __name__ == "__main__":
    main()
