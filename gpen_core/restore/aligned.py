"""A picture that is one aligned face: resized to the network's size and back, without detection and mask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np

from ..errors import GpenError
from ..faces.face import Face
from ..options import RestoreOptions
from ..pictures import Picture
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..steps.align import template_points
from ..steps.detail import kept_detail
from .compose import adjust_tone, enlarged
from .results import FaceResult, RestoreResult


class AlignedFace:
    """One aligned face on its way (official `process`, aligned=True): what Composition is to other pictures. size: the network's."""

    def __init__(
        self,
        source: Picture,
        size: int,
        template: str,
        options: RestoreOptions,
        *,
        upscaler: Callable[[Pixels], Pixels] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.source = source
        self._size, self._template, self._options = size, template, options
        self._upscaler, self._progress = upscaler, progress or Progress()
        self.cropped: deque[Pixels] = deque()
        self.left = 1

    def put_back(self) -> None:
        """See Composition."""
        self.cropped.clear()
        self.left = 1

    def crops(self) -> Iterator[tuple[int, Pixels]]:
        """The whole picture in the network's size, unless it was taken already."""
        if self.left:
            self.cropped.append(_resized(self.source.pixels, (self._size, self._size), enlarging=cv2.INTER_LINEAR))
            self.left = 0
            yield 0, self.cropped[-1]

    def composed(self, made_faces: Iterator[Pixels | GpenError]) -> RestoreResult:
        """The result. Raises the error of a face that failed: there is no picture around it."""
        if not self.cropped and self._progress.stop():
            return self._result(None, None)
        try:
            made = next(made_faces)
        except Stopped:
            return self._result(None, None)
        crop = self.cropped.popleft()
        if isinstance(made, GpenError):
            raise made
        return self._result(crop, made)

    def _result(self, crop: Pixels | None, restored: Pixels | None) -> RestoreResult:
        """crop, restored: None if the user interrupted."""
        o, size, source = self._options, self._size, self.source
        shape = source.pixels.shape
        scale = {"keep": 1.0, "factor": o.factor, "native": max(1.0, size / max(shape[:2]))}[o.output_size]
        base, alpha, scale, stopped = enlarged(source, scale, self._upscaler, self._progress, made=restored is not None)
        face = whole_face(self._template, shape)
        if crop is None or restored is None or stopped:
            faces, mask = (
                [FaceResult(face, 0, "stopped", "interrupted before this face was restored")],
                np.zeros(base.shape[:2], np.float32),
            )
            return RestoreResult(source.with_pixels(base, alpha), faces, mask, "", 0.0, scale, stopped=True)
        restored = adjust_tone(restored, crop, np.ones((size, size), np.float32), o)
        fitted = _resized(restored, base.shape)
        everywhere = np.ones(shape[:2], np.float32)
        detail = kept_detail(source.pixels, _resized(crop, shape), _resized(restored, shape), everywhere, max(shape[:2]) / size, o.detail)
        if detail is not None:
            fitted = fitted + _resized(detail, base.shape)
        pixels = base if o.strength == 0 else base + (np.clip(fitted, 0, 1) - base) * np.float32(o.strength)
        faces, mask = [FaceResult(face, 0, "restored")], np.ones(base.shape[:2], np.float32)
        return RestoreResult(source.with_pixels(pixels, alpha), faces, mask, "", 0.0, scale, crops=[crop], restored=[restored])


def _resized(square: Pixels, shape: Sequence[int], enlarging: int = cv2.INTER_CUBIC) -> Pixels:
    """Resizes a picture, a face or its detail to (height, width, ...). enlarging: OpenCV's interpolation for enlarging."""
    height, width = shape[:2]
    if square.shape[:2] == (height, width):
        return square
    shrinks = max(square.shape[:2]) > max(height, width)
    return np.asarray(cv2.resize(square, (width, height), interpolation=cv2.INTER_AREA if shrinks else enlarging), np.float32)


def whole_face(template: str, shape: Sequence[int]) -> Face:
    """The face of an aligned picture of shape (height, width, ...): all of it, with the template's points stretched to it."""
    height, width = shape[:2]
    points = (template_points(template, 512) / 512 * (width, height)).astype(np.float32)
    return Face((0.0, 0.0, float(width), float(height)), points, 1.0)
