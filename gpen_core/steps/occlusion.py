"""What is in front of a face stays: hands, microphones, hair, rims of glasses.

Everything here gives a mask that is 1 where the face may be pasted and 0 where something else is seen, of which the crop of the original
picture decides. XSeg is the occlusion mask of DeepFaceLab, from the file that FaceFusion's users have. Without any file,
changed_beyond_reason() leaves out what the network painted over: coarse colour and structure that restoring a face does not change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError, WeightsMissingError
from ..pixels import Pixels
from ..weights.folders import find_file, how_to_get
from ..weights.onnx_file import OnnxFile
from .mask import DEFAULT_FEATHER, PARSING_SIGMA, PARSING_SIZE, Mask, blur_twice

log = logging.getLogger(__name__)
Occluder = Callable[[Pixels], Mask]  # (S, S, 3) crop -> (s, s), 1 where the face is seen; s is the occluder's own

# FaceFusion's and rope's names, the newest first; the last two are of FaceFusion's first releases.
XSEG_FILES = ("xseg_3.onnx", "xseg_2.onnx", "xseg_1.onnx", "dfl_xseg.onnx", "xseg.onnx", "face_occluder.onnx", "occluder.onnx")
ADDRESS = f"https://github.com/facefusion/facefusion-assets/releases/download/models-3.2.0/{XSEG_FILES[0]}"
XSEG_SIZE = 256
_SEES_A_FACE = 0.1  # if less of the face than this is seen, an occluder found no face at all (a drawing, an animal): it does not count

# Of the network's change. Measured in 128 x 128 pixels, blurred by 2: restoring spoilt portraits, even perfectly, changes nothing there
# by more than 0.07; a hand, a microphone or a rim that becomes skin changes 0.1 to 0.3 (benchmarks/occlusion.py).
_MEASURED_AT = 128
_BLUR = 2.0
BEYOND_REASON = 0.1  # of 0..1
_TIMES_USUAL = 8.0  # nor is a change beyond reason that is below this many times the face's median change
_EDGE = 0.5  # around what is beyond reason, what changed by this share of it belongs to it
_GROWN = 2.0  # at feather 1, what is left out grows by this


class XSeg:
    """XSeg from its .onnx file: a crop of any side in, (256, 256) 0..1 out. Runs on the CPU; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises WeightsError, which names the file, if it cannot be used."""
        self._network = OnnxFile(path, (1, XSEG_SIZE, XSEG_SIZE, 3), (1, XSEG_SIZE, XSEG_SIZE, 1))

    def __call__(self, crop: Pixels) -> Mask:
        bgr = np.clip(_resized(crop, XSEG_SIZE)[:, :, ::-1], 0.0, 1.0)  # XSeg was trained on OpenCV's pictures
        return np.clip(self._network(np.ascontiguousarray(bgr[None]))[0, :, :, 0], 0.0, 1.0)


def find_xseg(folders: Sequence[Path]) -> Path | None:
    """The file of XSeg in one of the folders, or None."""
    return find_file(XSEG_FILES, folders)


def load_xseg(folders: Sequence[Path]) -> XSeg:
    """Raises WeightsMissingError, which names files and folders, if there is none; WeightsError for a bad file."""
    path = find_xseg(folders)
    if path is None:
        raise WeightsMissingError(
            f"The occlusion mask xseg needs a file of FaceFusion: one of {', '.join(XSEG_FILES)}. "
            f"{how_to_get(XSEG_FILES[0], ADDRESS, folders)}, or set occlusion to change, which needs no file, or to off."
        )
    return XSeg(path)


def load_occluder(occlusion: str, folders: Sequence[Path]) -> XSeg | None:
    """XSeg, if the setting `occlusion` needs it. "auto" does without a file that is missing or bad. Raises what load_xseg() raises."""
    if occlusion == "xseg":
        return load_xseg(folders)
    if occlusion == "auto" and find_xseg(folders) is not None:
        try:
            return load_xseg(folders)
        except WeightsError as error:
            log.warning("the occlusion mask xseg is not used: %s", error)
    return None


def seen_by(occluder: Occluder, crop: Pixels, inside: Mask, *, feather: float = DEFAULT_FEATHER) -> Mask:
    """Where an occluder sees the face. crop: (S, S, 3), of the original. inside: (S, S), the face. feather: as of the mask.

    Returns (S, S) float32, 0..1. If the occluder sees hardly any face, it does not count and all is 1.
    """
    seen = occluder(crop)
    face = _resized(inside, seen.shape[0])
    if float((seen * face).sum()) < _SEES_A_FACE * float(face.sum()):
        return np.ones(inside.shape, np.float32)
    return _softened(seen, crop.shape[0], feather)


def changed_beyond_reason(crop: Pixels, restored: Pixels, inside: Mask, *, feather: float = DEFAULT_FEATHER) -> Mask:
    """0 where the network changed more than restoring a face does, 1 elsewhere.

    crop, restored: (S, S, 3), before and after. inside: (S, S), the face, 0 beyond the picture. feather: as of the mask.
    Returns (S, S) float32, 0..1. A tint of the whole face does not count.
    """
    size, everything = crop.shape[0], np.ones(inside.shape, np.float32)
    near = _resized(inside, _MEASURED_AT)
    face = near > 0.25
    if not face.any():
        return everything
    # What a network invents beyond the picture's border must not be blurred into the face.
    known = (near > 0).astype(np.float32)
    change = (_resized(restored, _MEASURED_AT) - _resized(crop, _MEASURED_AT)) * known[..., None]
    change = cv2.GaussianBlur(change, (0, 0), _BLUR) / np.maximum(cv2.GaussianBlur(known, (0, 0), _BLUR), np.float32(0.1))[..., None]
    far = np.sqrt(np.square(change - np.median(change[face], axis=0)).mean(axis=2))
    limit = max(BEYOND_REASON, _TIMES_USUAL * float(np.median(far[face])))
    beyond = (far > limit) & face
    if not beyond.any():
        return everything
    parts: NDArray[np.int32] = np.asarray(cv2.connectedComponents((far > _EDGE * limit).astype(np.uint8))[1], np.int32)
    out = np.isin(parts, np.unique(parts[beyond]))
    wide = 2 * round(_GROWN * feather) + 1  # fading inwards takes the most at a thing's corners
    out = cv2.dilate(out.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide)))
    return _softened(np.float32(1.0) - out, size, feather)


def _softened(seen: Mask, size: int, feather: float) -> Mask:
    """Fades a mask as the masks of faces fade, but only inwards, so that nothing of what is in front is pasted over."""
    smooth = blur_twice(_resized(seen, PARSING_SIZE), PARSING_SIGMA * feather / DEFAULT_FEATHER)
    return _resized(np.clip(2.0 * smooth - 1.0, 0.0, 1.0), size)


def _resized(square: Pixels, size: int) -> Pixels:
    if square.shape[0] == size:
        return square
    how = cv2.INTER_AREA if square.shape[0] > size else cv2.INTER_LINEAR
    return cast(Pixels, cv2.resize(square, (size, size), interpolation=how))
