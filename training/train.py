"""Trains a GPEN generator on FFHQ-aligned faces.

    python -m training.train --config training/configs/lite256.yaml --data DATA --run runs/lite256

Resumes automatically if RUN contains a checkpoint. Ends after --pictures or --minutes of training, whichever comes first.
Export: `python -m training.export`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gpen_core.network.modules import Generator
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.checkpoint import read_generator
from training.adversary import Adversary
from training.compiled import compiled, own_folder
from training.dataset import SpoiltFaces, to_pixels, to_tensor
from training.degrade import random_damage, spoil
from training.detector_features import DetectorFeatures, landmark_loss, perceptual_loss
from training.faces import FaceFile, decoded, list_faces
from training.losses import pixel_loss, psnr_loss, sharpness
from training.plan import Plan, add_options, read_plan
from training.precision import mixed
from training.start import identity_generator


class Trainer:
    """The network, its moving average, the discriminator if used, and their optimisers, saved and resumed together."""

    def __init__(self, plan: Plan, run: Path, device: torch.device) -> None:
        self.plan, self.run, self.device = plan, run, device
        self.compiled_code = own_folder(run) if plan.compile else None
        architecture = Architecture(plan.size, plan.channel_multiplier, plan.narrow)
        network = identity_generator(architecture, plan.seed)
        if plan.start and not self.checkpoint.is_file():
            network.load_state_dict(starting_weights(Path(plan.start), architecture))
        self.network = network.to(device).use_channels_last()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser: Any = torch.optim.Adam(self.network.parameters(), lr=plan.learning_rate, betas=(0.9, 0.99))
        self.adversary = Adversary(plan, device) if plan.adversarial > 0 else None
        wants_detector = plan.perceptual_weight > 0 or plan.landmark_weight > 0
        self.detector = DetectorFeatures().to(device) if wants_detector else None
        self.seen, self.minutes = 0, 0.0
        if self.checkpoint.is_file():
            # Our own file, but weights_only is safer anyway.
            state = torch.load(self.checkpoint, map_location=device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.adversary is not None and "adversary" in state:
                self.adversary.load_state(state["adversary"])
            self.seen, self.minutes = state["seen"], state["minutes"]

    @property
    def checkpoint(self) -> Path:
        return self.run / "checkpoint.pt"

    @property
    def done(self) -> float:
        """The finished part of the run, 0 to 1."""
        return min(1.0, max(self.seen / self.plan.pictures, self.minutes / self.plan.minutes))

    def save(self) -> None:
        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "seen": self.seen,
            "minutes": self.minutes,
        }
        if self.adversary is not None:
            state["adversary"] = self.adversary.state()
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def train(self, faces: list[FaceFile], pixels: NDArray[Any]) -> None:
        """Trains until the plan is complete, writing checkpoint.pt, log.jsonl and samples/ into the run's folder."""
        plan = self.plan
        data = SpoiltFaces(faces, pixels, plan, self.seen)
        loader = DataLoader(data, batch_size=plan.batch, num_workers=plan.workers, drop_last=True, persistent_workers=False)
        network = cast(Generator, compiled(self.network, self.compiled_code, self._try)) if plan.compile else self.network
        samples = sample_pairs(faces, pixels, plan)
        lately: dict[str, list[float]] = defaultdict(list)
        saved, logged, clock = self.seen, self.seen, time.monotonic()
        with (self.run / "log.jsonl").open("a", encoding="utf-8") as log:
            for batch in loader:
                if self.done >= 1.0:
                    break
                rate = self._set_rate()
                bad, good, mask = (t.to(self.device).contiguous(memory_format=torch.channels_last) for t in batch)
                for name, value in self._step(network, bad, good, mask).items():
                    lately[name].append(value)
                self.seen += plan.batch
                decay = min(plan.ema, 1 - 1 / (1 + self.seen / plan.batch / 10))
                follow(self.average, self.network, 1 - decay)
                now = time.monotonic()
                self.minutes += (now - clock) / 60
                clock = now
                if self.seen - logged >= plan.log_every:
                    means = {name: round(float(np.mean(values)), 5) for name, values in lately.items()}
                    print(json.dumps({"seen": self.seen, "minutes": round(self.minutes, 2), "rate": rate, **means}), file=log, flush=True)
                    lately.clear()
                    logged = self.seen
                if self.seen - saved >= plan.save_every:
                    self.save()
                    saved = self.seen
                if plan.sheet_every and self.seen // plan.sheet_every != (self.seen - plan.batch) // plan.sheet_every:
                    self._write_sheet(*samples)
        self.save()

    def _set_rate(self) -> float:
        plan = self.plan
        warm = min(1.0, (self.seen + plan.batch) / plan.warm_up)
        rate = plan.learning_rate * warm * (0.5 * (1 + math.cos(math.pi * self.done)) if plan.falling else 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _try(self, network: nn.Module) -> None:
        """One forward and backward pass like those of `_step`, which changes nothing."""
        plan = self.plan
        empty = torch.zeros(plan.batch, 3, plan.size, plan.size, device=self.device).contiguous(memory_format=torch.channels_last)
        with mixed(plan, self.device):
            output = network(empty)
        output.backward(torch.zeros_like(output))
        self.optimiser.zero_grad(set_to_none=True)

    def _step(self, network: Generator, bad: Tensor, good: Tensor, mask: Tensor) -> dict[str, float]:
        """One step of the network and of the discriminator; returns figures for the log."""
        plan = self.plan
        with mixed(plan, self.device):
            output = network(bad)
        # The losses' gradients are added up on the picture, so the network needs only one backward pass.
        y: Tensor = output.detach().float().requires_grad_(True)
        loss = pixel_loss(y, good, mask) + plan.psnr_weight * psnr_loss(y, good, mask)
        # The losses must not see a watermark, so the original replaces it in the restored picture.
        shown = y * mask + good * (1 - mask)
        told = {"loss": float(loss.detach())}
        (pull,) = torch.autograd.grad(loss, y)
        others = pull  # the adversary's share is relative to these losses, so the result stays close to the original
        if self.detector is not None:
            with torch.no_grad():
                true = self.detector(good)
            seen = self.detector(shown)
            apart, misplaced = perceptual_loss(seen, true), landmark_loss(seen, true)
            told |= {"perceptual": float(apart.detach()), "landmarks": float(misplaced.detach())}
            judged = plan.perceptual_weight * apart + plan.landmark_weight * misplaced
            (more,) = torch.autograd.grad(judged, y, retain_graph=self.adversary is not None)
            pull = pull + more
        if self.adversary is not None:
            more, verdict = self.adversary.pull(y, shown, good, others)
            pull = pull + more
            told |= verdict
        self.optimiser.zero_grad(set_to_none=True)
        output.backward(pull.to(output.dtype))
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        if self.adversary is not None:
            told |= self.adversary.learn(shown.detach(), good)
        return told | {"sharpness": float(sharpness(shown.detach(), good))}

    def _write_sheet(self, bad: Tensor, good: NDArray[Any]) -> None:
        with torch.inference_mode():
            restored = to_pixels(self.average(bad.to(self.device)))
        columns = [np.concatenate(part) for part in (to_pixels(bad), restored, good)]
        done, data = cv2.imencode(".jpg", cv2.cvtColor(np.concatenate(columns, axis=1), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        if done:
            path = self.run / "samples" / f"{self.seen:07d}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data.tobytes())


@torch.no_grad()  # otherwise the average's autograd graph would grow with every step
def follow(average: nn.Module, network: nn.Module, part: float) -> None:
    """Moves the average's weights towards the network's by the given fraction."""
    for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, part)


def sample_pairs(faces: list[FaceFile], pixels: NDArray[Any], plan: Plan, count: int = 6) -> tuple[Tensor, NDArray[Any]]:
    """Held-out faces for the sheets: (degraded (N, 3, S, S), original (N, S, S, 3)); photographs first, then painted ones."""
    kept_out = sorted((n for n, face in enumerate(faces) if face.held_out), key=lambda n: (faces[n].watermark is not None, n))
    photos = sum(faces[n].watermark is None for n in kept_out)
    half = min(photos, count // 2)
    chosen = [*kept_out[:photos][:: max(1, photos // max(1, half))][:half], *kept_out[photos:]][:count]
    chosen = chosen or list(range(min(count, len(faces))))  # with few faces, as in a trial, none is held out
    good = np.stack([np.array(pixels[n]) for n in chosen])
    rngs = [np.random.default_rng((plan.seed, 10**9 + n)) for n in range(len(chosen))]
    return torch.stack([to_tensor(spoil(face, random_damage(rng), rng)) for face, rng in zip(good, rngs, strict=True)]), good


def starting_weights(source: Path, architecture: Architecture) -> dict[str, Tensor]:
    """The state dict of a run's moving average or of a weight file, with missing FIR kernels filled in."""
    if source.is_dir():
        state: dict[str, Tensor] = torch.load(source / "checkpoint.pt", map_location="cpu", weights_only=True)["average"]
    else:
        state = read_generator(source)
    return Generator.kernels(architecture) | {key: tensor.float() for key, tensor in state.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Trains a GPEN generator on FFHQ-aligned faces.")
    parser.add_argument("--data", type=Path, required=True, help="folder with zip files named faces-*.zip, or with pictures")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint and log; an existing run is resumed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add_options(parser)
    arguments = vars(parser.parse_args())
    plan = read_plan(arguments)
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
