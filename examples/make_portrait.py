"""Makes examples/portrait.png: a NASA portrait, shrunk and degraded like an old, small picture from the web.

    python examples/make_portrait.py

Needs scikit-image (which contains the photograph; nothing is downloaded), OpenCV and Pillow. Every run gives the same result.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage import data

HERE = Path(__file__).resolve().parent
SIDE = 320  # pixels of the finished picture
BLUR = 0.9  # sigma, in pixels of that picture
NOISE = 3.0  # sigma, of 255
QUALITY = 45  # of the JPEG


def spoil(photograph: np.ndarray) -> np.ndarray:
    """Makes the photograph, (H, W, 3) uint8, small, soft, noisy and blocky."""
    small = cv2.resize(photograph, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), BLUR).astype(np.float32)
    noisy = soft + np.random.default_rng(2048).normal(0, NOISE, soft.shape)
    pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    kept, blocky = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not kept:
        raise RuntimeError("OpenCV cannot write JPEG")
    return cv2.cvtColor(cv2.imdecode(blocky, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def main() -> None:
    """Writes the picture next to this file."""
    target = HERE / "portrait.png"
    Image.fromarray(spoil(data.astronaut())).save(target, optimize=True)


if __name__ == "__main__":
    main()
