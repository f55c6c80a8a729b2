"""GPEN's other tasks: colourise a face, fill holes in it, make one from a segmentation.

Each takes and returns a Picture. Source: official `face_colorization.py`, `face_inpainting.py`, `segmentation2face.py` by behaviour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from ..errors import PictureError
from ..network.run import run_network
from ..pictures import Picture
from ..pixels import Pixels

if TYPE_CHECKING:
    from ..network.fused import Network


def colorize(picture: Picture, network: Network, *, or_cpu: bool = False) -> Picture:
    """Colourises a black-and-white face (weights GPEN-Colorization-1024). The picture is an aligned face or a portrait.

    A picture of exactly the network's size is replaced by the network's output; any other keeps its luma and takes the
    output's chroma (YUV, as in the official code).
    """
    luma = _yuv(picture.pixels)[..., 0]
    grey = np.repeat(luma[..., None], 3, axis=2)
    coloured = run_network(network, _resized(grey, (network.size, network.size)), or_cpu=or_cpu)
    if picture.pixels.shape[:2] != (network.size, network.size):
        chroma = _yuv(_resized(coloured, (picture.width, picture.height)))
        chroma[..., 0] = luma
        coloured = np.clip(cast(Pixels, cv2.cvtColor(chroma, cv2.COLOR_YUV2RGB)), 0, 1)
    return picture.in_colour().with_pixels(coloured)


def inpaint(picture: Picture, network: Network, hole: Pixels | None = None, *, or_cpu: bool = False) -> Picture:
    """Fills the holes in a face (weights GPEN-Inpainting-1024).

    hole: (H, W) float32 0..1, 1 where to fill; all other pixels stay bit-identical. Without it, white areas are the holes
    and the network's whole output is returned, as in the official code. Raises PictureError if hole has another size.
    """
    pixels = picture.pixels
    if hole is not None:
        if hole.shape != pixels.shape[:2]:
            raise PictureError(f"the hole mask is {hole.shape[1]}x{hole.shape[0]} pixels, the picture {picture.width}x{picture.height}")
        # Hide every pixel that the hole touches, even partly, from the network.
        pixels = np.where(hole[..., None] > 0, np.float32(1), pixels)
    made = run_network(network, _resized(pixels, (network.size, network.size)), or_cpu=or_cpu)
    filled = _resized(made, (picture.width, picture.height))
    if hole is not None:
        blend = picture.pixels + (filled - picture.pixels) * hole[..., None]
        filled = np.where(hole[..., None] > 0, np.clip(blend, 0, 1), picture.pixels)
    return picture.in_colour().with_pixels(filled)


def segmentation_to_face(picture: Picture, network: Network, *, or_cpu: bool = False) -> Picture:
    """Makes a face from a picture of its segmentation (weights GPEN-Seg2face-512), at the network's size. Drops alpha."""
    made = run_network(network, _resized(picture.pixels, (network.size, network.size)), centred=False, or_cpu=or_cpu)
    coloured = picture.in_colour()
    return Picture(made, None, coloured.form)


def _yuv(pixels: Pixels) -> Pixels:
    return cast(Pixels, cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV))


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Pixels resized to (width, height): area average when shrinking, else bilinear; the same array if the size fits."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    shrinks = size[0] < pixels.shape[1] or size[1] < pixels.shape[0]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.float32)
