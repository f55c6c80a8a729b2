"""A picture that is one aligned face: resized to the network's size and back, without detection and mask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

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
from ..steps.guards import Guards, KeptError, why_spared
from ..steps.noise import lost_noise
from .compose import adjust_tone, enlarged
from .results import FaceResult, RestoreResult, Status

_STOPPED = "interrupted before this face was restored"


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
        guards: Guards | None = None,
    ) -> None:
        self.source = source
        self._size, self._template, self._options = size, template, options
        self._upscaler, self._progress, self._guards = upscaler, progress or Progress(), guards or Guards()
        self._face = whole_face(template, source.pixels.shape)
        self._share = self._guards.share(source.pixels, self._face.landmarks, template, size)
        self.cropped: deque[Pixels] = deque()
        self.put_back()

    def put_back(self) -> None:
        """See Composition."""
        self.cropped.clear()
        self.left = 1 if self._share else 0

    def crops(self) -> Generator[tuple[int, Pixels], None, None]:
        """The whole picture in the network's size, unless it was taken already."""
        if self.left:
            self.cropped.append(_resized(self.source.pixels, (self._size, self._size), enlarging=cv2.INTER_LINEAR))
            self.left = 0
            yield 0, self.cropped[-1]

    def composed(self, made_faces: Iterator[Pixels | GpenError]) -> RestoreResult:
        """The result. Raises the error of a face that failed: there is no picture around it."""
        if not self.cropped and self._progress.stop():
            return self._unchanged("stopped", _STOPPED)
        if not self._share:
            return self._unchanged("kept", why_spared(self._face.landmarks, self._template, self._size))
        try:
            made = next(made_faces)
        except Stopped:
            return self._unchanged("stopped", _STOPPED)
        crop = self.cropped.popleft()
        if isinstance(made, GpenError):
            raise made
        return self._result(crop, made)

    def _result(self, crop: Pixels, restored: Pixels) -> RestoreResult:
        o, size, source = self._options, self._size, self.source
        shape = source.pixels.shape
        all_of_it = np.ones((size, size), np.float32)
        try:
            self._guards.check(crop, restored, all_of_it, template_points(self._template, size))
        except KeptError as error:
            return self._unchanged("kept", str(error))
        base, alpha, scale, stopped = self._enlarged(made=True)
        if stopped:
            return self._left_at(base, alpha, scale, "stopped", _STOPPED)
        restored = adjust_tone(restored, crop, all_of_it, o)
        fitted = _resized(restored, base.shape)
        everywhere = np.ones(shape[:2], np.float32)
        seen, new, shrunk = _resized(crop, shape), _resized(restored, shape), max(shape[:2]) / size
        lost = lost_noise(shape[:2], shrunk, lambda x: _resized(_resized(x, (size, size), enlarging=cv2.INTER_LINEAR), shape))
        detail = kept_detail(source.pixels, seen, new, everywhere, shrunk, o.detail, lost=lost)
        if detail is not None:
            fitted = fitted + _resized(detail, base.shape)
        strength = o.strength * self._share
        pixels = base if strength == 0 else base + (np.clip(fitted, 0, 1) - base) * np.float32(strength)
        faces, mask = [FaceResult(self._face, 0, "restored", strength=strength)], np.ones(base.shape[:2], np.float32)
        return RestoreResult(source.with_pixels(pixels, alpha), faces, mask, "", 0.0, scale, crops=[crop], restored=[restored])

    def _enlarged(self, *, made: bool = False) -> tuple[Pixels, Pixels | None, float, bool]:
        o, shape = self._options, self.source.pixels.shape
        scale = {"keep": 1.0, "factor": o.factor, "native": max(1.0, self._size / max(shape[:2]))}[o.output_size]
        return enlarged(self.source, scale, self._upscaler, self._progress, made=made)

    def _unchanged(self, status: Status, reason: str) -> RestoreResult:
        """The result without a restored face, enlarged if the user did not interrupt."""
        base, alpha, scale, stopped = self._enlarged()
        return self._left_at(base, alpha, scale, "stopped" if stopped else status, _STOPPED if stopped else reason)

    def _left_at(self, base: Pixels, alpha: Pixels | None, scale: float, status: Status, reason: str) -> RestoreResult:
        faces, mask = [FaceResult(self._face, 0, status, reason)], np.zeros(base.shape[:2], np.float32)
        return RestoreResult(self.source.with_pixels(base, alpha), faces, mask, "", 0.0, scale, stopped=status == "stopped")


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
