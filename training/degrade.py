"""Degrades good faces realistically: blur, downscaling, noise, JPEG; deterministic for a seed.

Model (GPEN, CVPR 2021, equation 2; GFPGAN, CVPR 2021, equation 7): y = jpeg(((x * blur) shrunk + noise)), enlarged again.
Pictures are (S, S, 3) uint8 RGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.faces import unpacked


@dataclass(frozen=True)
class Damage:
    """One way to degrade a picture. blur: sigma in pixels; shrink: factor; noise: sigma in grey levels; jpeg: quality or 0 for none.

    webp: `jpeg` is the quality for WebP instead, which smears rather than making blocks.
    """

    shrink: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    webp: bool = False
    aspect: float = 1.0  # the blur's second axis over its first
    angle: float = 0.0  # of the blur's first axis, radians
    motion: int = 0  # length of a motion blur in pixels
    grey_noise: bool = False
    enlarge: int = cv2.INTER_LINEAR


# The fixed damage for evaluation, from barely visible to barely recognisable (at size 256).
MILD = Damage(shrink=2, jpeg=80)
MEDIUM = Damage(shrink=4, blur=2, noise=5, jpeg=60)
STRONG = Damage(shrink=6, blur=4, noise=10, jpeg=40)
FIXED = {"mild": MILD, "medium": MEDIUM, "strong": STRONG}


def random_damage(rng: np.random.Generator) -> Damage:
    """Random damage for training, from mild to more than strong."""
    strength = rng.uniform(0.2, 1.0)  # one strength for all kinds: real pictures are degraded in several ways at once

    def spread(top: float) -> float:
        return top * strength * rng.uniform(0.4, 1.0)

    return Damage(
        shrink=float(math.exp(rng.uniform(0.2, 1.0) * math.log(8) * (0.35 + 0.65 * strength))),
        blur=spread(4.5) if rng.random() < 0.75 else 0.0,
        aspect=rng.uniform(0.4, 1.0) if rng.random() < 0.4 else 1.0,
        angle=rng.uniform(0, math.pi),
        motion=int(rng.integers(3, 13)) if rng.random() < 0.06 else 0,
        noise=spread(14.0) if rng.random() < 0.7 else 0.0,
        grey_noise=rng.random() < 0.4,
        jpeg=int(rng.uniform(95 - 60 * strength, 98)) if rng.random() < 0.8 else 0,
        enlarge=cv2.INTER_LINEAR if rng.random() < 0.75 else cv2.INTER_CUBIC,
    )


def blur_kernel(sigma: float, aspect: float, angle: float) -> NDArray[Any]:
    """Anisotropic Gaussian, (k, k) float64 with sum 1."""
    reach = max(1, math.ceil(3 * sigma))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = -x * math.sin(angle) + y * math.cos(angle)
    kernel = np.exp(-0.5 * ((along / sigma) ** 2 + (across / (sigma * aspect)) ** 2))
    return kernel / kernel.sum()


def motion_kernel(length: int, angle: float) -> NDArray[Any]:
    """A line of the given length, (k, k) float64 with sum 1."""
    side = length | 1
    kernel = np.zeros((side, side), np.float32)
    centre = side // 2
    reach = (length - 1) / 2
    tip = (math.cos(angle) * reach, math.sin(angle) * reach)
    start, end = ((round(centre + sign * tip[0]), round(centre + sign * tip[1])) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return (kernel / kernel.sum()).astype(np.float64)


def packed_and_unpacked(picture: NDArray[Any], quality: int, *, webp: bool = False) -> NDArray[np.uint8]:
    """The picture, (H, W, 3) uint8 RGB, encoded as JPEG or WebP at that quality and decoded again."""
    suffix, setting = (".webp", cv2.IMWRITE_WEBP_QUALITY) if webp else (".jpg", cv2.IMWRITE_JPEG_QUALITY)
    done, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [setting, quality])
    if not done:
        raise RuntimeError(f"OpenCV could not write a {suffix} picture")
    return unpacked(data)


def faded(picture: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """The picture like an old print: less contrast, lifted blacks, a cast towards yellow and red. (S, S, 3) uint8."""
    contrast, lift = rng.uniform(0.55, 0.95), rng.uniform(0, 40)
    cast = np.array([rng.uniform(0.95, 1.05), rng.uniform(0.9, 1.0), rng.uniform(0.7, 1.0)])
    return np.clip(np.rint((picture * contrast + lift) * cast), 0, 255).astype(np.uint8)


def spoil(picture: NDArray[Any], damage: Damage, rng: np.random.Generator) -> NDArray[Any]:
    """The degraded picture, (S, S, 3) uint8, at its original size."""
    size = picture.shape[0]
    y = picture
    if damage.motion:
        y = cv2.filter2D(y, -1, motion_kernel(damage.motion, damage.angle), borderType=cv2.BORDER_REFLECT_101)
    if damage.blur > 0.1:
        if damage.aspect == 1.0:
            y = cv2.GaussianBlur(y, (0, 0), damage.blur, borderType=cv2.BORDER_REFLECT_101)
        else:
            y = cv2.filter2D(y, -1, blur_kernel(damage.blur, damage.aspect, damage.angle), borderType=cv2.BORDER_REFLECT_101)
    small = max(16, round(size / damage.shrink))
    if small != size:
        y = cv2.resize(y, (small, small), interpolation=cv2.INTER_AREA)
    if damage.noise > 0:
        channels = 1 if damage.grey_noise else 3
        noise = rng.standard_normal((small, small, channels), dtype=np.float32) * np.float32(damage.noise)
        y = np.clip(np.rint(y.astype(np.float32) + noise), 0, 255).astype(np.uint8)
    if damage.jpeg:
        y = packed_and_unpacked(y, damage.jpeg, webp=damage.webp)
    if small != size:
        y = cv2.resize(y, (size, size), interpolation=damage.enlarge)
    return y
