"""Converts FACES to and from other types: MASK, and boxes in pixels: other packs' BBOX, ComfyUI's own BOUNDING_BOX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ..gpen_core.errors import SettingsError
from .detectors import detector
from .faces import FACES, checked, faces_of
from .host import Bar
from .inputs import option_inputs
from .load import CATEGORY
from .report import REPORT_TIP, shown
from .tensors import frames_of, from_arrays, to_array

if TYPE_CHECKING:
    import torch

    from ..gpen_core.faces.face import Face

BOUNDING_BOX = "BOUNDING_BOX"  # of ComfyUI's own nodes (0.8 has it): dicts, which need no form
FORMS = ("x, y, width, height", "left, top, right, bottom")
SIDES = ("x", "y", "width", "height")  # of a box that is a dict
Box = tuple[float, float, float, float]  # left, top, right, bottom
_FORM_TIP = "Order of the numbers in a box. KJNodes and most others use x, y, width, height."


class FacesToMask:
    TITLE = "Faces to Mask (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = "Makes a mask of the faces, for inpainting and detailers: the soft shape used for pasting, or their boxes."
    SEARCH_ALIASES = ("gpen", "face mask")
    FUNCTION = "convert"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)
    OUTPUT_TOOLTIPS = ("White where the faces are, one mask per picture.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        grow = "For boxes: how far to extend each side, as a fraction of the box's width or height."
        return {
            "required": {
                "faces": (FACES, {"tooltip": "From Detect Faces or Restore Faces."}),
                "shape": (["face", "box"], {"default": "face", "tooltip": "face: the soft shape used for pasting. box: the face box."}),
                **option_inputs(("feather",)),
                "grow": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 2.0, "step": 0.05, "tooltip": grow}),
            }
        }

    def convert(self, faces: Any, shape: str, feather: float, grow: float) -> tuple[Any]:
        from ..gpen_core.restore.pieces import boxes_mask, faces_mask

        where = checked(faces)
        size = (where.height, where.width)
        if shape == "box":
            return (from_arrays([boxes_mask(frame, size, grow=grow) for frame in where.frames]),)
        return (from_arrays([faces_mask(frame, size, where.template or "gpen", feather=feather) for frame in where.frames]),)


class FacesToBoxes:
    TITLE = "Faces to BBOX (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = "Converts faces to boxes, for other nodes that take BBOX or BOUNDING_BOX."
    SEARCH_ALIASES = ("gpen", "bounding box", "bbox")
    FUNCTION = "convert"
    RETURN_TYPES = ("BBOX", "INT", BOUNDING_BOX)
    RETURN_NAMES = ("bboxes", "count", "bounding_boxes")
    OUTPUT_TOOLTIPS = (
        "One box per face, in whole pixels, in the order of the faces. For a batch of several pictures, one list of boxes per picture.",
        "The number of boxes.",
        "The same boxes for ComfyUI's own nodes: one list of boxes per picture.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "faces": (FACES, {"tooltip": "From Detect Faces or Restore Faces."}),
                "form": (list(FORMS), {"default": FORMS[0], "tooltip": _FORM_TIP}),
            }
        }

    def convert(self, faces: Any, form: str) -> tuple[list[Any], int, list[list[dict[str, Any]]]]:
        where = checked(faces)
        lists = [[_written(face, form) for face in frame] for frame in where.frames]
        # Other packs' nodes take a plain list for a single picture.
        return lists[0] if len(lists) == 1 else lists, len(where), [[_named(face) for face in frame] for frame in where.frames]


class FacesFromBoxes:
    TITLE = "Faces from BBOX (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = "Finds the face in each box from another node. GPEN needs the positions of the eyes, nose and mouth as well."
    SEARCH_ALIASES = ("gpen", "bounding box", "bbox")
    FUNCTION = "convert"
    RETURN_TYPES = (FACES, "INT", "STRING")
    RETURN_NAMES = ("faces", "count", "report")
    OUTPUT_TOOLTIPS = ("The faces, in the order of their boxes.", "The number of boxes that contain a face.", REPORT_TIP)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        many = "Boxes in pixels. For a batch: one list of boxes per picture, or a single list that is used for every picture."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures in which the boxes were found."}),
                "bboxes": (f"BBOX,{BOUNDING_BOX}", {"tooltip": many}),
                "form": (list(FORMS), {"default": FORMS[0], "tooltip": _FORM_TIP}),
                **option_inputs(("detector", "threshold")),
            }
        }

    def convert(self, image: torch.Tensor, bboxes: Any, form: str, **settings: Any) -> dict[str, Any]:
        frames = frames_of(image)
        return faces_in_boxes_of(frames, _boxes(bboxes, frames.shape[0], form), settings["detector"], settings["threshold"])


def faces_in_boxes_of(frames: torch.Tensor, per_frame: Sequence[Sequence[Box]], name: str, threshold: float) -> dict[str, Any]:
    """A node's return value: FACES, their number and the report. per_frame: the boxes of each picture. name: of the detector."""
    from ..gpen_core.restore.pieces import faces_in_boxes

    bar = Bar(frames.shape[0])
    finder = detector(name)
    found: list[list[Face]] = []
    for frame, boxes in zip(frames, per_frame, strict=True):
        found.append(faces_in_boxes(to_array(frame)[..., :3], boxes, finder, threshold, progress=bar))
        bar.step()
    faces = faces_of(frames, found)
    total, count = sum(map(len, per_frame)), len(faces)
    lines = [f"{count} of {total} boxes contain a face", "" if count == total else f"(threshold {threshold:g})"]
    return shown([" ".join(line for line in lines if line)], (faces, count))


def _named(face: Face) -> dict[str, Any]:
    """A box as ComfyUI's own detectors give it."""
    return {**dict(zip(SIDES, _written(face, FORMS[0]), strict=True)), "label": "face", "score": float(face.score)}


def _written(face: Face, form: str) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (round(value) for value in face.box)
    return (x0, y0, x1 - x0, y1 - y0) if form == FORMS[0] else (x0, y0, x1, y1)


def _boxes(value: Any, frames: int, form: str) -> list[list[Box]]:
    """Any pack's BBOX as lists of (left, top, right, bottom), one list per frame. Raises SettingsError."""
    items = _plain(value, form)
    if _is_box(items):
        items = [items]
    if all(_is_box(item) for item in items):
        lists = [items] * frames
    elif len(items) == frames and all(_is_boxes(item) for item in items):
        lists = items
    else:
        raise SettingsError(f"bboxes must be a list of boxes (four numbers each), or one such list for each of the {frames} picture(s).")
    boxes = [[tuple(float(number) for number in box[:4]) for box in one] for one in lists]
    if form == FORMS[1]:
        return [[(a, b, c, d) for a, b, c, d in one] for one in boxes]
    return [[(x, y, x + w, y + h) for x, y, w, h in one] for one in boxes]


def _plain(value: Any, form: str) -> Any:
    """Tensors, arrays and tuples as lists, and so {"x", "y", "width", "height"}, whose numbers are named: in the order of the form."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        named = cast("dict[Any, Any]", value)
        if not set(named) >= set(SIDES):
            return named
        x, y, width, height = (named[name] for name in SIDES)
        return [x, y, width, height] if form == FORMS[0] else [x, y, x + width, y + height]
    if isinstance(value, (list, tuple)):
        return [_plain(item, form) for item in cast("Sequence[Any]", value)]
    return value


def _is_box(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    numbers = cast("list[Any]", value)[:4]
    return len(numbers) == 4 and all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers)


def _is_boxes(value: Any) -> bool:
    return isinstance(value, list) and all(_is_box(box) for box in cast("list[Any]", value))
