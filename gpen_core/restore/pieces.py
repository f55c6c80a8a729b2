"""The pipeline in separate steps, for hosts whose users do other work between cropping faces and pasting them back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GpenError, SettingsError
from ..faces.detect import Detector, find_faces
from ..faces.face import Box, Face, overlap
from ..options import RestoreOptions
from ..pictures import Picture
from ..pixels import Pixels
from ..progress import Progress
from ..steps.align import Matrix, crop_face, similarity, template_points
from ..steps.mask import Parser, landmark_mask, load_parser
from ..steps.occlusion import Occluder, load_occluder
from ..steps.paste import Compositor
from .compose import Composition
from .results import RestoreResult

log = logging.getLogger(__name__)


def crop_faces(pixels: Pixels, faces: Sequence[Face], template: str, size: int) -> tuple[list[Face], list[Pixels]]:
    """Crops and aligns faces. Returns (cropped faces, their crops); a face whose landmarks do not fit the template is skipped and logged.

    pixels: (H, W, 3) float32. Crops: (size, size, 3) float32. Raises SettingsError for an unknown template.
    """
    fitting: list[Face] = []
    crops: list[Pixels] = []
    points = template_points(template, size)
    for face in faces:
        try:
            crops.append(crop_face(pixels, similarity(face.landmarks, points), size))
        except GpenError as error:
            log.warning("a face was skipped: %s", error)
            continue
        fitting.append(face)
    return fitting, crops


def paste_faces(
    picture: Picture,
    faces: Sequence[Face],
    crops: Sequence[Pixels],
    template: str,
    options: RestoreOptions,
    *,
    parser: Parser | None = None,
    occluder: Occluder | None = None,
    upscaler: Callable[[Pixels], Pixels] | None = None,
    progress: Progress | None = None,
) -> RestoreResult:
    """The reverse of crop_faces(): pastes the crops into the picture. The result's `image` is a Picture, its `mask` what changed.

    crops: one square picture per face, of any side, (S, S, 3) float32 0..1. options: only strength, detail, feather, the masks',
    output_size and factor are used. parser, occluder: what load_helpers() returns. progress: reports enlarging and every face; if it says
    stop, the faces pasted so far are returned. Raises SettingsError if crops and faces do not match.
    """
    if len(crops) != len(faces):
        raise SettingsError(f"There are {len(crops)} cropped faces for {len(faces)} faces: paste all crops of these faces and no others.")
    for crop in crops:
        if crop.shape[0] != crop.shape[1]:
            raise SettingsError(f"A cropped face must stay square; this one is {crop.shape[1]}x{crop.shape[0]}.")
    pasting = Composition(
        picture,
        faces,
        [crop.shape[0] for crop in crops],
        template,
        replace(options, colour_match=False, fidelity=0.0),  # the caller made these faces
        parser=parser,
        occluder=occluder,
        upscaler=upscaler,
        progress=progress,
        previews=False,
    )
    return pasting.composed(crops[index] for index, _ in pasting.crops())


def load_helpers(options: RestoreOptions, folders: Sequence[Path], device: Any = "cpu") -> tuple[Parser | None, Occluder | None]:
    """The networks that the masks of these options need: (face parser, occluder), each None if it is not needed.

    folders: searched for their files. device: for ParseNet. Raises WeightsMissingError or FeatureMissingError if one is not there,
    WeightsError for a bad file. Of the occlusion "auto" a missing or bad file is no error.
    """
    parser = load_parser(folders, device) if "parsing" in (options.mask, options.occlusion) else None
    return parser, load_occluder(options.occlusion, folders)


def face_matrices(faces: Sequence[Face], size: int, template: str) -> list[Matrix]:
    """The (2, 3) matrices from picture to crop (`size` pixels) of faces kept by crop_faces(). Raises GpenError if a face does not fit."""
    points = template_points(template, size)
    return [similarity(face.landmarks, points) for face in faces]


def faces_mask(faces: Sequence[Face], shape: Sequence[int], template: str = "gpen", *, feather: float = 0.5) -> Pixels:
    """Where these faces would be pasted into a picture of the given shape (height, width, ...): (H, W) float32, 0..1."""
    height, width = shape[:2]
    compositor = Compositor(np.zeros((height, width, 3), np.float32))
    size = 256  # enough, because the mask is smooth
    points = template_points(template, size)
    mask = landmark_mask(points, size, feather=feather)
    for face in faces:
        compositor.add(np.zeros((size, size, 3), np.float32), mask, similarity(face.landmarks, points))
    return compositor.result()[1]


def boxes_mask(faces: Sequence[Face], shape: Sequence[int], *, grow: float = 0.0) -> Pixels:
    """A mask that is 1 inside the faces' boxes, each grown on every side by `grow` times its width or height: (H, W) float32."""
    mask = np.zeros(tuple(shape[:2]), np.float32)
    for face in faces:
        x0, y0, x1, y1 = face.box
        dx, dy = grow * face.width, grow * face.height
        top, bottom, left, right = (max(0, round(v)) for v in (y0 - dy, y1 + dy + 1, x0 - dx, x1 + dx + 1))
        mask[top:bottom, left:right] = 1
    return mask


class _Inner(Progress):
    """Progress for part of a step: each of its reports repeats the position of the whole."""

    def __init__(self, whole: Progress, done: int, total: int, what: str) -> None:
        self._whole, self._said = whole, (done, total, what)

    def report(self, done: int, total: int, what: str, preview: Pixels | None = None) -> None:
        self._whole.report(*self._said)

    def stop(self) -> bool:
        return self._whole.stop()


def faces_in_boxes(
    pixels: Pixels, boxes: Sequence[Box], detector: Detector, threshold: float, *, progress: Progress | None = None
) -> list[Face]:
    """One face for every box (left, top, right, bottom) that another program found, in the boxes' order; a box without a face is logged.

    pixels: (H, W, 3) float32 RGB 0..1. threshold: minimum score, 0..1. Each box is searched with a margin of half its size. progress:
    reports every box; if it says stop, the faces found so far are returned.
    """
    height, width = pixels.shape[:2]
    found: list[Face] = []
    progress = progress or Progress()
    for number, box in enumerate(boxes):
        if progress.stop():
            break
        inner = _Inner(progress, number, len(boxes), f"box {number + 1}/{len(boxes)}")
        x0, y0, x1, y1 = box
        dx, dy = (x1 - x0) / 2, (y1 - y0) / 2
        left, top = max(0, round(x0 - dx)), max(0, round(y0 - dy))
        right, bottom = min(width, round(x1 + dx)), min(height, round(y1 + dy))
        part = np.ascontiguousarray(pixels[top:bottom, left:right]) if right > left and bottom > top else None
        near = find_faces(part, detector, threshold=threshold, progress=inner) if part is not None else []
        near = [face.moved(left, top) for face in near]
        best = max(near, key=lambda face: overlap(face, np.array([box], np.float64))[0], default=None)
        if best is None or overlap(best, np.array([box], np.float64))[0] <= 0:
            log.warning("no face was found in the box %s", ", ".join(f"{value:g}" for value in box))
            continue
        found.append(best)
    return found
