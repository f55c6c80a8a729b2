"""Nodes for GPEN's other tasks: colourising, inpainting, and faces from segmentation maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..gpen_core.weights.catalog import Task
from .host import Bar
from .inputs import of_a_face
from .load import CATEGORY
from .model import GPEN_MODEL, GpenModel, Session, default_model, fingerprint_unless_linked
from .tensors import frames_of, from_arrays, to_array

if TYPE_CHECKING:
    import torch

    from ..gpen_core.pictures import Picture


class _OfAFace:
    """Base of the three nodes: runs a model for one task on every picture of a batch."""

    TASK: Task
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)

    @classmethod
    def IS_CHANGED(cls, **values: Any) -> str:
        return fingerprint_unless_linked(cls.TASK, values)

    def _each(self, image: torch.Tensor, model: GpenModel | None, work: Callable[[int, Picture, Any], Picture]) -> tuple[Any]:
        from ..gpen_core.pictures import from_array
        from ..gpen_core.pictures import to_array as picture_array

        frames = frames_of(image)
        model = (model or default_model(self.TASK)).made_for(self.TASK)
        session, bar = Session(model), Bar(frames.shape[0])
        done: list[Any] = []
        for number, frame in enumerate(frames):
            picture = from_array(to_array(frame))
            result = session.run(lambda number=number, picture=picture: work(number, picture, model.network))
            done.append(picture_array(result))
            bar.step(result.pixels)
        return (from_arrays(done),)


class ColorizeFace(_OfAFace):
    TASK: Task = "colorize"
    TITLE = "Colorize Face (GPEN)"
    DESCRIPTION = (
        "Colourises a black-and-white face or portrait; its brightness does not change. For photographs use Colorize Faces in Photo. "
        "Needs GPEN-Colorization-1024."
    )
    SEARCH_ALIASES = ("gpen", "colorization", "black and white")
    OUTPUT_TOOLTIPS = ("The pictures in colour.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"image": ("IMAGE", {"tooltip": "Black-and-white faces, preferably cropped with Crop Faces."})},
            "optional": {
                "model": (GPEN_MODEL, {"tooltip": "A colourising model. Not connected: GPEN-Colorization-1024."}),
                **of_a_face("colorize"),
            },
        }

    def run(self, image: torch.Tensor, model: GpenModel | None = None, official: bool = False) -> tuple[Any]:
        from ..gpen_core.restore.whole_picture import colorize

        return self._each(image, model, lambda _number, picture, network: colorize(picture, network, official=official))


class InpaintFace(_OfAFace):
    TASK: Task = "inpaint"
    TITLE = "Inpaint Face (GPEN)"
    DESCRIPTION = (
        "Fills the missing parts of a face: the white area of the mask, or whatever is painted white. For photographs use Inpaint Faces in "
        "Photo. Needs GPEN-Inpainting-1024."
    )
    SEARCH_ALIASES = ("gpen", "inpainting", "fill holes")
    OUTPUT_TOOLTIPS = ("The pictures with the missing parts filled. All other pixels stay bit-identical, unless Official is on.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"image": ("IMAGE", {"tooltip": "Faces, preferably cropped with Crop Faces."})},
            "optional": {
                "mask": ("MASK", {"tooltip": "White where to fill. Not connected: fills what is painted white in the picture."}),
                "model": (GPEN_MODEL, {"tooltip": "An inpainting model. Not connected: GPEN-Inpainting-1024."}),
                **of_a_face("inpaint"),
            },
        }

    def run(
        self, image: torch.Tensor, mask: Any = None, model: GpenModel | None = None, official: bool = False, feather: float = 0.5
    ) -> tuple[Any]:
        from ..gpen_core.restore.whole_picture import inpaint
        from .tensors import where_to_look

        frames = frames_of(image)
        holes = where_to_look(mask, frames.shape[0], frames.shape[1], frames.shape[2])
        how: Any = {"official": official, "feather": feather}
        return self._each(frames, model, lambda number, picture, network: inpaint(picture, network, holes[number], **how))


class SegmentationToFace(_OfAFace):
    TASK: Task = "seg2face"
    TITLE = "Segmentation to Face (GPEN)"
    DESCRIPTION = "Generates a face from a segmentation map. Needs GPEN-Seg2face-512; the result is 512x512."
    SEARCH_ALIASES = ("gpen", "seg2face", "segmentation")
    OUTPUT_TOOLTIPS = ("The generated faces.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"image": ("IMAGE", {"tooltip": "Segmentation maps in the CelebAMask-HQ colours that GPEN's authors use."})},
            "optional": {"model": (GPEN_MODEL, {"tooltip": "A segmentation-to-face model. Not connected: GPEN-Seg2face-512."})},
        }

    def run(self, image: torch.Tensor, model: GpenModel | None = None) -> tuple[Any]:
        from ..gpen_core.restore.whole_picture import segmentation_to_face

        return self._each(image, model, lambda _number, picture, network: segmentation_to_face(picture, network))
