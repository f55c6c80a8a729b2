"""Keeping a picture's brightness, exactly, while its colours change."""

from __future__ import annotations

import numpy as np

from ..pixels import Pixels

_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601, as in the official code's YUV


def luma_of(pixels: Pixels) -> Pixels:
    """(H, W) Rec. 601 luma of (H, W, 3)."""
    return pixels @ _WEIGHTS


def with_luma(pixels: Pixels, luma: Pixels) -> Pixels:
    """The colours of `pixels` at another brightness: (H, W, 3). luma: (H, W).

    Clipping a colour that does not exist at that brightness would change the brightness. It gets paler instead, in the same hue.
    """
    colour = pixels - luma_of(pixels)[..., None]
    # How far black and white, or an overshoot of the picture's own, let the strongest channel go.
    above, below = np.maximum(1 - luma, 0), np.maximum(luma, 0)
    most, least = colour.max(axis=2), -colour.min(axis=2)
    fits = np.minimum(above / np.maximum(most, 1e-12), below / np.maximum(least, 1e-12))
    made = luma[..., None] + colour * np.minimum(fits, 1)[..., None]
    return np.clip(made, np.minimum(luma, 0)[..., None], np.maximum(luma, 1)[..., None]).astype(np.float32)  # of rounding errors
