"""Converts FACES to and from SEGS, the type of the Impact Pack's detectors and detailers.

SEGS: ((height, width), [SEG...]), of one picture. A SEG has the part of the picture that it is about (crop_region), a mask of that part
(cropped_mask), a box (bbox) in pixels of the picture, and what a detector says of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..gpen_core.errors import SettingsError
from .convert_faces import Box, faces_in_boxes_of
from .faces import FACES, checked
from .inputs import option_inputs
from .load import CATEGORY
from .report import REPORT_TIP
from .tensors import frames_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..gpen_core.faces.face import Face

SEGS = "SEGS"


class SEG(NamedTuple):
    """As the Impact Pack's: other packs ask for these names."""

    cropped_image: Any
    cropped_mask: NDArray[np.float32]
    confidence: float
    crop_region: list[int]
    bbox: list[int]
    label: str
    control_net_wrapper: Any = None


class FacesToSegs:
    TITLE = "Faces to SEGS (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = "Converts the faces of one picture to SEGS, for the Impact Pack's detailers and other nodes that take SEGS."
    SEARCH_ALIASES = ("gpen", "segs", "impact pack", "detailer")
    FUNCTION = "convert"
    RETURN_TYPES = (SEGS, "INT")
    RETURN_NAMES = ("segs", "count")
    OUTPUT_TOOLTIPS = ("One SEG per face, in the order of the faces, labelled face.", "The number of faces.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        shape = "face: the soft shape used for pasting. box: the face box."
        factor = "How large the part of the picture around a face is, as a multiple of the face box. Detailers work on this part."
        return {
            "required": {
                "faces": (FACES, {"tooltip": "Of one picture, from Detect Faces or Restore Faces."}),
                "shape": (["face", "box"], {"default": "face", "tooltip": shape}),
                **option_inputs(("feather",)),
                "crop_factor": ("FLOAT", {"default": 3.0, "min": 1.0, "max": 10.0, "step": 0.1, "tooltip": factor}),
            }
        }

    def convert(self, faces: Any, shape: str, feather: float, crop_factor: float) -> tuple[Any, int]:
        from ..gpen_core.restore.pieces import boxes_mask, faces_mask

        where = checked(faces)
        if len(where.frames) != 1:
            raise SettingsError(f"SEGS are of one picture, and these faces are of {len(where.frames)}: give the pictures one by one.")
        size = (where.height, where.width)
        segs: list[SEG] = []
        for face in where.frames[0]:
            mask = boxes_mask([face], size) if shape == "box" else faces_mask([face], size, where.template or "gpen", feather=feather)
            x0, y0, x1, y1 = region = _region(face, size, crop_factor)
            segs.append(SEG(None, mask[y0:y1, x0:x1].copy(), face.score, region, [round(value) for value in face.box], "face"))
        return (size, segs), len(segs)


class FacesFromSegs:
    TITLE = "Faces from SEGS (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds the face in each SEG that another pack's detector found. GPEN needs the positions of the eyes, nose and mouth as well."
    )
    SEARCH_ALIASES = ("gpen", "segs", "impact pack", "ultralytics")
    FUNCTION = "convert"
    RETURN_TYPES = (FACES, "INT", "STRING")
    RETURN_NAMES = ("faces", "count", "report")
    OUTPUT_TOOLTIPS = ("The faces, in the order of their SEGS.", "The number of SEGS that contain a face.", REPORT_TIP)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The picture in which the SEGS were found."}),
                "segs": (SEGS, {"tooltip": "From a detector of the Impact Pack or another pack."}),
                **option_inputs(("detector", "threshold")),
            }
        }

    def convert(self, image: torch.Tensor, segs: Any, detector: str, threshold: float) -> dict[str, Any]:
        frames = frames_of(image)
        (height, width), found = _of_segs(segs)
        # Without SEGS the size says nothing: the Impact Pack's Empty SEGS has none.
        if frames.shape[0] != 1 or (found and (height, width) != tuple(frames.shape[1:3])):
            raise SettingsError(
                f"These SEGS are of one picture of {width}x{height} pixels; the image is {frames.shape[0]} of "
                f"{frames.shape[2]}x{frames.shape[1]}: connect the picture in which they were found."
            )
        return faces_in_boxes_of(frames, [found], detector, threshold)


def _region(face: Face, size: tuple[int, int], factor: float) -> list[int]:
    """[left, top, right, bottom] of the part around a face, within the picture."""
    (x0, y0, x1, y1), (height, width) = face.box, size
    across, down = face.width * (factor - 1) / 2, face.height * (factor - 1) / 2
    left, top = max(0, min(round(x0 - across), width - 1)), max(0, min(round(y0 - down), height - 1))
    return [left, top, max(left + 1, min(round(x1 + across), width)), max(top + 1, min(round(y1 + down), height))]


def _of_segs(value: Any) -> tuple[tuple[int, int], list[Box]]:
    """The picture's (height, width) and the boxes of any pack's SEGS. Raises SettingsError."""
    try:
        shape, segs = value
        height, width = (int(number) for number in tuple(shape)[:2])
        boxes = [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in (seg.bbox for seg in segs)]
    except (TypeError, ValueError, AttributeError) as error:
        raise SettingsError("segs must be SEGS: the size of a picture, and a list of what was found in it, each with its box.") from error
    return (height, width), boxes
