"""GPEN's other tasks on a picture that is one aligned face: colourise it, fill holes in it, make one from a segmentation.

Each takes and returns a Picture. Source: official `face_colorization.py`, `face_inpainting.py`, `segmentation2face.py` by behaviour.
`tasks` does the first two in whole photographs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from ..errors import PictureError
from ..network.run import Ask, run_network
from ..pictures import Picture
from ..pixels import Pixels
from ..steps.hole import joined, strokes, white_areas
from ..steps.luma import luma_of, with_luma
from ..steps.mask import DEFAULT_FEATHER

if TYPE_CHECKING:
    from ..network.fused import Network


def colorize(picture: Picture, network: Network, *, official: bool = False, or_cpu: bool = False, ask: Ask | None = None) -> Picture:
    """Colourises a black-and-white face (weights GPEN-Colorization-1024). The picture is an aligned face or a portrait.

    It keeps its luma and takes the network's colours. official: as the official code does it: a picture of exactly the network's size is
    replaced by the network's output, and in any other, colours too strong for their luma are clipped, which changes it. ask: as for
    run_network().
    """
    side = (network.size, network.size)
    luma = _yuv(picture.pixels)[..., 0] if official else luma_of(picture.pixels)
    grey = np.repeat(luma[..., None], 3, axis=2)
    coloured = run_network(network, _resized(grey, side, official), ask=ask, or_cpu=or_cpu)
    fitted = _resized(coloured, (picture.width, picture.height), official)
    if not official:
        fitted = with_luma(fitted, luma)
    elif (picture.width, picture.height) != side:
        chroma = _yuv(fitted)
        chroma[..., 0] = luma
        fitted = np.clip(cast(Pixels, cv2.cvtColor(chroma, cv2.COLOR_YUV2RGB)), 0, 1)
    return picture.in_colour().with_pixels(fitted)


def inpaint(
    picture: Picture,
    network: Network,
    hole: Pixels | None = None,
    *,
    official: bool = False,
    feather: float = DEFAULT_FEATHER,
    or_cpu: bool = False,
    ask: Ask | None = None,
) -> Picture:
    """Fills the holes in a face (weights GPEN-Inpainting-1024).

    hole: (H, W) float32 0..1, 1 where to fill; None: what is painted white. All other pixels stay bit-identical. feather: how far the
    holes' borders reach into them, 0..1 (steps.hole.joined). official: returns the network's whole output, as the official code does,
    resized to the picture. Raises PictureError if hole has another size.
    """
    pixels, side = picture.pixels, (network.size, network.size)
    check_hole(hole, picture)
    if hole is None and not official:
        hole = strokes(white_areas(pixels), min(picture.width, picture.height)).astype(np.float32)
        if not hole.any():
            return picture
    painted = painted_white(pixels, hole)
    made = run_network(network, _resized(painted, side, official), ask=ask, or_cpu=or_cpu)
    if official or hole is None:
        return picture.in_colour().with_pixels(_resized(made, (picture.width, picture.height), official))
    made = joined(made, _resized(painted, side), _resized(hole, side), feather)
    filled = like_its_surroundings(_resized(made, (picture.width, picture.height)), pixels[hole == 0])
    blend = pixels * (1 - hole[..., None]) + filled * hole[..., None]  # exact at 1, so that nothing hidden shows
    return picture.with_pixels(np.where(hole[..., None] > 0, np.clip(blend, 0, 1), pixels))


def segmentation_to_face(picture: Picture, network: Network, *, or_cpu: bool = False) -> Picture:
    """Makes a face from a picture of its segmentation (weights GPEN-Seg2face-512), at the network's size. Drops alpha."""
    made = run_network(network, _resized(picture.pixels, (network.size, network.size)), centred=False, or_cpu=or_cpu)
    coloured = picture.in_colour()
    return Picture(made, None, coloured.form)


def check_hole(hole: Pixels | None, picture: Picture) -> None:
    """Raises PictureError if the hole's mask has another size than the picture."""
    if hole is not None and hole.shape != picture.pixels.shape[:2]:
        raise PictureError(f"the hole mask is {hole.shape[1]}x{hole.shape[0]} pixels, the picture {picture.width}x{picture.height}")


def painted_white(pixels: Pixels, hole: Pixels | None) -> Pixels:
    """The picture as the network wants it: white in the holes, and in every pixel that a hole touches, even partly."""
    return pixels if hole is None else np.where(hole[..., None] > 0, np.float32(1), pixels)


def like_its_surroundings(filled: Pixels, known: Pixels) -> Pixels:
    """What fills a hole, (H, W, 3), without colours if the known pixels, (N, 3), have none."""
    if len(known) == 0 or not np.array_equal(known[:, :2], known[:, 1:]):
        return filled
    return np.repeat(luma_of(filled)[..., None], 3, axis=2)


def _yuv(pixels: Pixels) -> Pixels:
    return cast(Pixels, cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV))


def _resized(pixels: Pixels, size: tuple[int, int], official: bool = False) -> Pixels:
    """Pixels resized to (width, height), the same array if the size fits: bilinear, but area average when shrinking, unless official."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    shrinks = not official and (size[0] < pixels.shape[1] or size[1] < pixels.shape[0])
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.float32)
