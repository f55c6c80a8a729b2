"""Example Picture: a face for the example workflows, which must run before the user has uploaded anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .load import CATEGORY
from .tensors import from_arrays

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
PICTURES = ("portrait", "pair", "clip")
FRAMES = 8  # of the clip
PAIR = slice(62, 222)  # the portrait's columns with the head; two of these make a square picture
WINDOW = 256  # side of the part of the portrait that each frame of the clip shows


class ExamplePicture:
    TITLE = "Example Picture (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "A small, soft, noisy portrait with JPEG blocks to try the nodes with. Replace this node with Load Image to use your own picture. "
        "NASA portrait of the astronaut Eileen Collins, public domain."
    )
    SEARCH_ALIASES = ("gpen", "sample image", "test picture")
    FUNCTION = "give"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("One picture, or the frames of the clip.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        what = "portrait: one face. pair: the portrait beside its mirror image, two faces. clip: the frames of a pan across the portrait."
        return {"required": {"picture": (list(PICTURES), {"default": PICTURES[0], "tooltip": what})}}

    def give(self, picture: str) -> tuple[Any]:
        import numpy as np
        from PIL import Image

        with Image.open(PORTRAIT) as opened:
            portrait = np.asarray(opened.convert("RGB"), np.float32) / np.float32(255)
        return (from_arrays(_frames(portrait, picture)),)


def _frames(portrait: NDArray[np.float32], picture: str) -> list[NDArray[np.float32]]:
    import numpy as np

    if picture == "pair":
        part = portrait[:, PAIR]
        return [np.concatenate([part, part[:, ::-1]], axis=1)]
    if picture == "clip":
        starts = [round(n * (portrait.shape[1] - WINDOW) / (FRAMES - 1)) for n in range(FRAMES)]
        return [portrait[:WINDOW, start : start + WINDOW] for start in starts]
    return [portrait]
