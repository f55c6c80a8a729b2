"""TaskRestorer: colourises faces in whole photographs, and fills holes in them. It is a FaceRestorer's pipeline around another network."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GpenError
from ..faces.detect import Detector
from ..faces.face import Face
from ..options import Value
from ..pictures import Picture, from_array
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..steps.align import Matrix, invert, scale_of, similarity, template_points, warp
from ..steps.hole import away_from_the_border, covered, joined, strokes, white_areas
from ..steps.luma import luma_of, with_luma
from ..steps.mask import landmark_mask, square_mask
from ..steps.paste import Compositor, reach
from ..task_options import TaskOptions
from . import whole_picture
from .aligned import whole_face
from .restorer import FaceRestorer, like
from .results import FaceResult, RestoreResult

if TYPE_CHECKING:
    from ..network.fused import Network

log = logging.getLogger(__name__)

# What restoring does to a face besides pasting it: nothing here.
NEUTRAL: dict[str, Value] = {
    "strength": 1.0, "fidelity": 0.0, "detail": 0.0, "colour_match": False, "auto_strength": "off", "guard": False, "min_likeness": 0.0,
}  # fmt: skip


class TaskRestorer:
    """Colourises the faces of photographs, or fills holes in them, with one set of options.

    Create it once for many pictures; models are loaded on first use. The other arguments are those of FaceRestorer.
    """

    def __init__(
        self,
        options: TaskOptions,
        *,
        models_dir: Path | None = None,
        extra_folders: Sequence[Path] = (),
        progress: Progress | None = None,
        network: Network | None = None,
        template: str | None = None,
        detector: Detector | None = None,
        person: Any = None,
    ) -> None:
        self.options = options
        self._faces = FaceRestorer(
            replace(options.shared, **NEUTRAL),
            models_dir=models_dir,
            extra_folders=extra_folders,
            progress=progress,
            network=network,
            template=template,
            detector=detector,
            person=person,
            task=options.task,
        )
        self._or_cpu = network is None

    @property
    def model_name(self) -> str:
        return self._faces.model_name

    @model_name.setter
    def model_name(self, name: str) -> None:
        self._faces.model_name = name

    def prepare(self) -> None:
        """Loads everything the options need. Raises what FaceRestorer.prepare() raises."""
        self._faces.prepare()

    def __call__(self, picture: Any, *, hole: Pixels | None = None, faces: Sequence[Face] | None = None) -> RestoreResult:
        """The picture with its faces in colour, or with their holes filled. picture, faces: as for FaceRestorer.

        hole: for inpainting, (H, W) float32 0..1, 1 where to fill; None: what is painted white within the faces. Only faces with a hole
        are computed. All pixels outside the faces, or outside the holes, stay bit-identical, unless the rest is to be grey.
        If one face fails, its pixels stay and the result says why. Raises PictureError for a hole of another size.
        """
        started = time.perf_counter()
        source = picture if isinstance(picture, Picture) else from_array(picture)
        whole_picture.check_hole(hole, source)
        self.prepare()
        if self.options.shared.aligned:
            result = self._aligned(source, hole)
        elif self.options.task == "colorize":
            result = self._colorized(source, self._faces.detect(source) if faces is None else list(faces))
        else:
            result = self._inpainted(source, hole, faces)
        result.image = like(picture, result.image)
        result.model, result.seconds = self.model_name, time.perf_counter() - started
        return result

    def _aligned(self, source: Picture, hole: Pixels | None) -> RestoreResult:
        o, network, progress = self.options, self._faces.loaded_network, self._faces.progress
        face = whole_face(self._faces.template, source.pixels.shape)

        def go_on() -> None:
            if progress.stop():
                raise Stopped

        how: Any = {"official": o.official, "or_cpu": self._or_cpu, "ask": go_on}
        try:
            go_on()
            if o.task == "colorize":
                image = whole_picture.colorize(source, network, **how)
            else:
                image = whole_picture.inpaint(source, network, hole, feather=o.shared.feather, **how)
        except Stopped:
            stopped = FaceResult(face, 0, "stopped", "interrupted before this face was done")
            return RestoreResult(source, [stopped], np.zeros(source.pixels.shape[:2], np.float32), "", 0.0, stopped=True)
        mask = (image.pixels != source.pixels).any(axis=2).astype(np.float32)
        progress.report(1, 1, "face 1/1", image.pixels)
        return RestoreResult(image, [FaceResult(face, 0, "restored", strength=1.0)], mask, "", 0.0)

    def _colorized(self, source: Picture, faces: Sequence[Face]) -> RestoreResult:
        luma = luma_of(source.pixels)
        seen = source.with_pixels(np.repeat(luma[..., None], 3, axis=2))
        grey = self.options.rest == "grey"
        result = self._faces(seen, faces=faces)
        pixels = result.image.pixels if grey else _pasted(result, seen.pixels, source.pixels)
        if not self.options.official:
            pixels = np.where(result.mask[..., None] > 0, with_luma(pixels, luma), pixels)
        result.image = source.in_colour().with_pixels(pixels)
        return result

    def _inpainted(self, source: Picture, hole: Pixels | None, faces: Sequence[Face] | None) -> RestoreResult:
        # A white wall or sky, which ends at the picture's border, is no hole.
        white = away_from_the_border(white_areas(source.pixels)) if hole is None else np.zeros(source.pixels.shape[:2], np.bool_)
        if faces is None:
            hidden = white if hole is None else hole > 0
            faces = self._faces.detect(source, also=covered(source.pixels, hidden) if hidden.any() else None)
        holes = self._white_holes(white, faces) if hole is None else hole
        faces = [face for face in faces if self._touches(face, holes)]
        as_it_is = hole is None and self.options.official
        seen = source if as_it_is else source.with_pixels(whole_picture.painted_white(source.pixels, holes))
        result = self._faces(seen, faces=faces)
        if self.options.official:
            result.image = source.in_colour().with_pixels(_pasted(result, seen.pixels, source.pixels))
            return result
        pixels, result.mask = self._filled(source, holes, result)
        result.image = source.with_pixels(pixels)
        if not result.stopped and np.any((result.mask == 0) & (holes > 0)):
            log.warning("part of the hole is in no face, and stays as it was")
        return result

    def _filled(self, source: Picture, hole: Pixels, result: RestoreResult) -> tuple[Pixels, Pixels]:
        """The picture with the made faces in its holes, and what changed: (H, W, 3), (H, W)."""
        size, base = self._faces.size, source.pixels
        points = template_points(self._faces.template, size)
        # Of two faces whose squares share a hole, the one wins whose middle is nearer.
        middle = landmark_mask(points, size, feather=1.0)
        weight = (square_mask(size) * (1 + middle) / 2).astype(np.float32)
        compositor = Compositor(base)
        done = [one.face for one in result.faces if one.status == "restored"]
        for index, face in enumerate(done):
            matrix = similarity(face.landmarks, points)
            in_face = warp(hole, matrix, (size, size), border="constant")
            made = joined(result.restored[index], result.crops[index], in_face, self.options.shared.feather)
            result.restored[index] = made
            compositor.add(made, weight, matrix)
        pasted, pasted_by = compositor.result()
        inside = (hole > 0) & (pasted_by > 0)
        # Takes the weight back, but for its fading at the square's border.
        full = hole / np.maximum(pasted_by, np.float32(0.5))
        filled: Pixels = np.clip(base + (pasted - base) * full[..., None], 0, 1).astype(np.float32)
        filled = whole_picture.like_its_surroundings(filled, base[hole == 0])
        mask = np.where(inside, hole * np.minimum(2 * pasted_by, np.float32(1)), np.float32(0))
        return np.where(inside[..., None], filled, base), mask

    def _matrix(self, face: Face) -> Matrix | None:
        try:
            return similarity(face.landmarks, template_points(self._faces.template, self._faces.size))
        except GpenError:
            return None  # the result of restoring it says why

    def _touches(self, face: Face, hole: Pixels) -> bool:
        matrix = self._matrix(face)
        if matrix is None:
            return True
        size = self._faces.size
        return bool((warp(hole, matrix, (size, size), border="constant") > 0).any())

    def _white_holes(self, white: NDArray[np.bool_], faces: Sequence[Face]) -> Pixels:
        """The white areas within the outlines of the faces: (H, W)."""
        size = self._faces.size
        outline = landmark_mask(template_points(self._faces.template, size), size, feather=0.0)
        holes = np.zeros(white.shape, np.float32)
        for face in faces:
            matrix = self._matrix(face)
            if matrix is None:
                continue
            left, top, right, bottom = reach(outline, matrix, white.shape)
            if right <= left or bottom <= top:
                continue
            back = invert(matrix)
            back[:, 2] -= (left, top)
            inside = warp(outline, back, (bottom - top, right - left), border="constant") > 0.5
            painted = strokes(white[top:bottom, left:right], size / scale_of(matrix)) & inside
            np.maximum(holes[top:bottom, left:right], painted, out=holes[top:bottom, left:right])
        return holes


def _pasted(result: RestoreResult, seen: Pixels, base: Pixels) -> Pixels:
    """The faces pasted into another picture than the one that the network saw: bit-identical where no face is."""
    mask = result.mask[..., None]
    return np.where(mask > 0, result.image.pixels + (base - seen) * (1 - mask), base)
