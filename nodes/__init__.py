"""ComfyUI nodes: thin adapters over gpen_core. Nothing heavy is imported before a node runs."""

from __future__ import annotations

from typing import Any

from .convert_faces import FacesFromBoxes, FacesToBoxes, FacesToMask
from .example import ExamplePicture
from .folders import register_folder
from .landmarks import FacesFromLandmarks
from .load import LoadModel
from .newer import entrypoint
from .packages import say_if_there_is_another_copy, say_what_is_missing, with_opencv
from .photo import ColorizeFacesInPhoto, InpaintFacesInPhoto
from .pieces import CropFaces, DetectFaces, PasteFaces, PreviewFaces, RestoreAlignedFaces
from .replaces import offer_replacements
from .restore import RestoreFaces
from .segs import FacesFromSegs, FacesToSegs
from .strengths import StrengthPerFace
from .tasks import ColorizeFace, InpaintFace, SegmentationToFace

# Saved workflows contain the keys, so they never change.
NODE_CLASS_MAPPINGS: dict[str, Any] = {
    "GPENLoadModel": LoadModel,
    "GPENRestoreFaces": RestoreFaces,
    "GPENDetectFaces": DetectFaces,
    "GPENPreviewFaces": PreviewFaces,
    "GPENCropFaces": CropFaces,
    "GPENRestoreAlignedFaces": RestoreAlignedFaces,
    "GPENPasteFaces": PasteFaces,
    "GPENFacesToMask": FacesToMask,
    "GPENFacesToBBox": FacesToBoxes,
    "GPENFacesFromBBox": FacesFromBoxes,
    "GPENColorizeFace": ColorizeFace,
    "GPENInpaintFace": InpaintFace,
    "GPENSegmentationToFace": SegmentationToFace,
    "GPENExamplePicture": ExamplePicture,
    "GPENColorizeFacesInPhoto": ColorizeFacesInPhoto,
    "GPENInpaintFacesInPhoto": InpaintFacesInPhoto,
    "GPENFacesToSEGS": FacesToSegs,
    "GPENFacesFromSEGS": FacesFromSegs,
    "GPENStrengthPerFace": StrengthPerFace,
    "GPENFacesFromLandmarks": FacesFromLandmarks,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {name: node.TITLE for name, node in NODE_CLASS_MAPPINGS.items()}

for _node in NODE_CLASS_MAPPINGS.values():
    setattr(_node, _node.FUNCTION, with_opencv(getattr(_node, _node.FUNCTION)))

register_folder()
offer_replacements(NODE_CLASS_MAPPINGS)
comfy_entrypoint = entrypoint(NODE_CLASS_MAPPINGS)
say_what_is_missing()
say_if_there_is_another_copy("GPENLoadModel")
