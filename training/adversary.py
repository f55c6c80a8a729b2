"""The adversarial part of training: the discriminator's gradient on a picture, and its own training steps.

Its weight is adaptive (as in VQGAN, Esser et al., CVPR 2021): its gradient on the picture is scaled to a share of the pixel losses'
gradient. With a target sharpness, that share rises while restored pictures are softer, and falls while they are sharper.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.discriminator import Discriminator, discriminator_loss, feature_matching, generator_loss, r1_penalty
from training.losses import sharpness
from training.plan import Plan
from training.precision import mixed

SHARE_RANGE = (0.05, 2.0)  # above it, the face no longer resembles the person
STEERING = 0.005  # how fast the share follows the sharpness, per step


class Adversary:
    """The discriminator, its optimiser, and its share of the gradient."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        torch.default_generator.manual_seed(plan.seed + 1)
        self.crop = min(plan.crop, plan.size)
        network: Any = Discriminator(self.crop, plan.discriminator_top)  # Any: torch's stubs lack a module's memory_format
        self.network: Discriminator = network.to(device, memory_format=torch.channels_last)
        # Lazy regularisation (StyleGAN2, appendix B): R1 is computed only in some steps, so rate and betas are adjusted.
        part = plan.r1_every / (plan.r1_every + 1)
        self.optimiser: Any = torch.optim.Adam(self.network.parameters(), lr=plan.discriminator_rate * part, betas=(0.0, 0.99**part))
        self.share, self.steps = plan.adversarial, 0

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "share": self.share,
            "steps": self.steps,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.share, self.steps = state["share"], state["steps"]

    def pull(self, y: Tensor, shown: Tensor, good: Tensor, others: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The gradient on y, scaled to `share` times the length of `others`, and figures for the log.

        y: restored (N, 3, S, S); shown: y as the discriminator sees it, a function of y; good: the originals.
        """
        area = self._crop(y.shape[-1])
        self.network.requires_grad_(False)
        with mixed(self.plan, self.device):
            verdicts, features = self.network(layout(shown[area]))
            with torch.no_grad():
                _, wanted = self.network(layout(good[area]))
        verdict, apart = generator_loss(verdicts), feature_matching(features, wanted)
        (gradient,) = torch.autograd.grad(verdict + self.plan.feature_matching * apart, y)
        self.network.requires_grad_(True)
        scale = self.share * float(length(others) / length(gradient).clamp_min(1e-12))
        if self.plan.sharpness > 0:
            softer = 1.0 if float(sharpness(shown.detach(), good)) < self.plan.sharpness else -1.0
            self.share = float(np.clip(self.share * np.exp(STEERING * softer), *SHARE_RANGE))
        told = {"verdict": float(verdict.detach()), "features": float(apart.detach()), "share": self.share}
        return gradient * scale, told

    def learn(self, fake: Tensor, real: Tensor) -> dict[str, float]:
        """Trains the discriminator for one step on restored and original pictures. Returns figures for the log."""
        area = self._crop(real.shape[-1])
        fake, real = layout(fake[area]), layout(real[area])
        with mixed(self.plan, self.device):
            true, false = self.network(real)[0], self.network(fake)[0]
        loss = discriminator_loss(true, false)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.steps % self.plan.r1_every == 0:
            few = real[: max(1, len(real) // 2)]  # half the batch, because the penalty is the most expensive part
            torch.autograd.backward(self.plan.r1 / 2 * self.plan.r1_every * r1_penalty(self.network, few))
        self.optimiser.step()
        self.steps += 1
        apart = [float(a.detach().mean() - b.detach().mean()) for a, b in zip(true, false, strict=True)]
        return {"discriminator": float(loss.detach()), "apart_patch": apart[0], "apart_whole": apart[-1]}

    def _crop(self, size: int) -> tuple[slice, slice, slice, slice]:
        """The same square in all pictures of a batch, random for each step but reproducible when a run resumes."""
        rng = np.random.default_rng((self.plan.seed, self.steps))
        top, left = rng.integers(0, size - self.crop + 1, 2).tolist()
        everything = slice(None)
        return everything, everything, slice(top, top + self.crop), slice(left, left + self.crop)


def length(x: Tensor) -> Tensor:
    return x.square().sum().sqrt()


def layout(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
