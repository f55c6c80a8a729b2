"""Comparing faces by a face recogniser (ArcFace, Deng et al., CVPR 2019), whose file users of other programs have on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import WeightsMissingError
from ..pixels import Pixels
from ..weights.folders import find_file, how_to_get
from ..weights.onnx_file import OnnxFile
from .align import TEMPLATES, crop_face, similarity

# (1, 3, 112, 112) float32 RGB -1..1 -> the features of the face, such as weights.onnx_file.OnnxFile(path, SHAPE).
Recogniser = Callable[[Pixels], NDArray[np.float32]]

FILES = ("w600k_r50.onnx", "arcface_w600k_r50.onnx")  # insightface's and FaceFusion's names for the same network
ADDRESS = f"https://github.com/facefusion/facefusion-assets/releases/download/models-3.0.0/{FILES[1]}"
SIDE = 112
SHAPE = (1, 3, SIDE, SIDE)
_TEMPLATE = TEMPLATES["gpen"] * 168.0 - 28.0  # GPEN's alignment template is ArcFace's with 28 of its 112 pixels around it


def load_recogniser(folders: Sequence[Path]) -> Recogniser:
    """The recogniser whose file is in one of the folders. Raises WeightsMissingError if none is, WeightsError if it cannot be run."""
    path = find_file(FILES, folders)
    if path is None:
        raise WeightsMissingError(
            f"Comparing faces needs a face recogniser's file, {' or '.join(FILES)} (insightface's buffalo_l, which ReActor and FaceFusion "
            f"use). {how_to_get(FILES[1], ADDRESS, folders)}"
        )
    return OnnxFile(path, SHAPE)


def features(picture: Pixels, landmarks: ArrayLike, recogniser: Recogniser) -> NDArray[np.float32]:
    """The features of a face as a vector of length 1 (or 0, if there are none), float32.

    picture: (H, W, 3) float32 RGB 0..1. landmarks: (5, 2), pixels of the picture. Raises AlignmentError if they are not a face's.
    """
    face = crop_face(picture, similarity(landmarks, _TEMPLATE), SIDE)
    found = np.asarray(recogniser(np.ascontiguousarray(face.transpose(2, 0, 1)[None] * 2 - 1)), np.float32).ravel()
    return found / max(float(np.linalg.norm(found)), 1e-12)


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """How alike two faces are: the cosine of the angle between their features, -1..1; for two pictures of one person mostly above 0.3."""
    return float(one @ other)
