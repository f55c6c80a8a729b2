"""FaceRestorer: loads the models that the options need and restores pictures. `compose` holds the order of the steps."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import GpenError
from ..faces.detect import Detector, find_faces, make_detector
from ..faces.face import NMS, Face, suppress
from ..faces.select import select_faces
from ..options import RestoreOptions, parse_indices
from ..pictures import Picture, from_array, to_array, to_pil
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..runtime import pick_device, pick_dtype
from ..steps import background
from ..steps.align import template_points
from ..steps.detail import kept_detail
from ..steps.mask import Parser, load_parsenet, need_parsing_package
from ..weights.catalog import Task
from .compose import adjust_tone, compose, enlarged, restored_faces
from .results import FaceResult, RestoreResult

if TYPE_CHECKING:
    from ..network.fused import Network

log = logging.getLogger(__name__)


class FaceRestorer:
    """Restores the faces of pictures with one set of options. Create it once for many pictures; models are loaded on first use.

    options: None means the defaults. models_dir: the folder that holds GPEN/ (else GPEN_MODELS_DIR, else ./models).
    extra_folders: more folders to search for weights. progress: reports detection, enlarging and every face, and says whether to stop.
    network, detector: already loaded, for hosts that manage models themselves; `template` is then the network's alignment template.
    upscaler: replaces the options' background upscaler: (H, W, 3) float32 RGB 0..1 to the same, n times as large.
    task: the task that the weights must be made for; TaskRestorer has a pipeline around it for the others.
    """

    def __init__(
        self,
        options: RestoreOptions | None = None,
        *,
        models_dir: Path | None = None,
        extra_folders: Sequence[Path] = (),
        progress: Progress | None = None,
        network: Network | None = None,
        template: str | None = None,
        detector: Detector | None = None,
        upscaler: Callable[[Pixels], Pixels] | None = None,
        task: Task = "restore",
    ) -> None:
        self.options = options or RestoreOptions()
        self.task: Task = task
        self.models_dir = models_dir
        self.extra_folders = tuple(extra_folders)
        self.progress = progress or Progress()
        self.model_name = self.options.model
        self.weights: Path | None = None
        self.note: str | None = None
        self.template = template or "gpen"
        self._network = network
        self._or_cpu = network is None  # hosts that bring a network free the device's memory themselves
        self._detector = detector
        self._parser: Parser | None = None
        self._upscaler = upscaler
        self._prepared = False

    def prepare(self) -> None:
        """Loads everything the options need, so that a setting that cannot work fails before any picture is processed.

        Raises SettingsError, FeatureMissingError, WeightsError or WeightsMissingError.
        """
        if self._prepared:
            return
        o = self.options
        device = pick_device(o.device)
        dtype = pick_dtype(o.precision, device)
        folders = self._weights_folders()
        # Packages first: if one is missing, no weights are needed.
        parses = o.mask == "parsing" and self._parser is None and not o.aligned
        enlarges = o.background == "realesrgan" and o.output_size != "keep" and self._upscaler is None
        if parses:
            need_parsing_package()
        if o.background == "realesrgan" and self._upscaler is None:
            background.need_realesrgan_package()
            if not enlarges:
                log.info("the background upscaler realesrgan is not used: the output size keep does not upscale the picture")
        if not o.aligned:
            self._prepare_detector()
        if parses:
            self._parser = load_parsenet(folders, device)
        if enlarges:
            self._upscaler = background.load_realesrgan(_realesrgan_in(folders), device, progress=self.progress)
        if self._network is None:
            self._load_network(device, dtype)
        self._prepared = True

    def _prepare_detector(self) -> Detector:
        if self._detector is None:
            device = pick_device(self.options.device)
            self._detector = make_detector(self.options.detector, device=str(device), weights_folders=self._weights_folders())
        return self._detector

    def _load_network(self, device: Any, dtype: Any) -> None:
        from ..network.load import find_model, load_network

        found = find_model(self.options.model, self.models_dir, task=self.task, extra_folders=self.extra_folders)
        self.weights, self.note, self.model_name, self.template = found.path, found.note, found.name, found.template
        self._network = load_network(found.path, device, dtype, or_cpu=True)

    def _weights_folders(self) -> list[Path]:
        from ..weights.folders import models_dir, search_folders

        return [*self.extra_folders, *search_folders(models_dir(self.models_dir))]

    @property
    def size(self) -> int:
        """Side of the square that the network restores, in pixels. Loads the network if necessary."""
        return self.loaded_network.size

    @property
    def loaded_network(self) -> Network:
        """The network. Loads it if necessary."""
        self.prepare()
        return cast("Network", self._network)

    def detect(self, picture: Any, *, where: NDArray[Any] | None = None, also: Pixels | None = None) -> list[Face]:
        """The faces that the options select, in the chosen order. picture: as for __call__(). Does not load the network.

        where: (H, W), keeps only faces whose box has its centre where this is above 0.5. also: (H, W, 3), the same picture altered: faces
        found only there are added.
        """
        source = picture if isinstance(picture, Picture) else from_array(picture)
        return self._choose(source.pixels, where, also)

    def _choose(self, pixels: Pixels, where: NDArray[Any] | None = None, also: Pixels | None = None) -> list[Face]:
        o = self.options
        faces = self._found(pixels, where)
        if also is not None:
            faces = suppress([*faces, *self._found(also, where)], NMS)
        return select_faces(
            faces,
            pixels.shape,
            min_size=o.min_size,
            max_size=o.max_size,
            max_faces=o.max_faces,
            order=o.order,
            indices=parse_indices(o.faces),
        )

    def _found(self, pixels: Pixels, where: NDArray[Any] | None) -> list[Face]:
        o = self.options
        return find_faces(
            pixels,
            self._prepare_detector(),
            threshold=o.threshold,
            look_closer=o.look_closer,
            rotations=o.rotations,
            mask=where,
            progress=self.progress,
        )

    def __call__(self, picture: Any, *, faces: Sequence[Face] | None = None) -> RestoreResult:
        """Restores a picture.

        picture: Picture, (H, W), (H, W, 3) or (H, W, 4) array of uint8, uint16 or float (0..1), or PIL image. It is not changed.
        faces: restore these and skip detection. If one face fails, its original pixels stay and the result says why.
        Raises PictureError for an invalid picture, and what prepare() raises.
        """
        if self.options.aligned:
            return next(self.each_aligned([picture]))
        started = time.perf_counter()
        self.prepare()
        source = picture if isinstance(picture, Picture) else from_array(picture)
        result = self._restore_picture(source, self._choose(source.pixels) if faces is None else list(faces))
        return self._finished(result, picture, started)

    def _finished(self, result: RestoreResult, picture: Any, started: float) -> RestoreResult:
        result.image = like(picture, result.image)
        result.model, result.seconds = self.model_name, time.perf_counter() - started
        return result

    def _restore_picture(self, source: Picture, faces: list[Face]) -> RestoreResult:
        return compose(
            source,
            faces,
            [self.size] * len(faces),
            lambda cut: restored_faces(self.loaded_network, (crop for _, crop in cut), self.progress, or_cpu=self._or_cpu),
            self.template,
            self.options,
            parser=self._parser,
            upscaler=self._upscaler,
            progress=self.progress,
        )

    def each_aligned(self, pictures: Iterable[Any]) -> Iterator[RestoreResult]:
        """Restores pictures that are one aligned face each, as __call__() does with the option `aligned`; on a device several at once.

        Takes from `pictures` only what the next batch needs. A face that fails raises its GpenError. If stopped, the last result says so.
        """
        self.prepare()
        taken: deque[tuple[Any, Picture, Pixels]] = deque()  # by the network, and not finished yet
        making = restored_faces(self.loaded_network, self._aligned_crops(pictures, taken), self.progress, or_cpu=self._or_cpu)
        while True:
            started = time.perf_counter()
            try:
                made = next(making, None)
                if made is None:
                    return
            except Stopped:
                made = None
            picture, source, crop = taken.popleft()
            if isinstance(made, GpenError):
                raise made
            yield self._finished(self._restore_aligned(source, crop, made), picture, started)

    def _aligned_crops(self, pictures: Iterable[Any], taken: deque[tuple[Any, Picture, Pixels]]) -> Iterator[Pixels]:
        for picture in pictures:
            source = picture if isinstance(picture, Picture) else from_array(picture)
            crop = _resized(source.pixels, (self.size, self.size), enlarging=cv2.INTER_LINEAR)
            taken.append((picture, source, crop))
            if self.progress.stop():
                raise Stopped
            yield crop

    def _restore_aligned(self, source: Picture, crop: Pixels, restored: Pixels | None) -> RestoreResult:
        """The result for a picture that is one aligned face: resized, without a mask (official `process`, aligned=True).

        restored: the network's; None if the user interrupted.
        """
        o, size = self.options, self.size
        shape = source.pixels.shape
        scale = {"keep": 1.0, "factor": o.factor, "native": max(1.0, size / max(shape[:2]))}[o.output_size]
        base, alpha, scale, stopped = enlarged(source, scale, self._upscaler, self.progress)
        face = whole_face(self.template, shape)
        if restored is None or stopped:
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


def _realesrgan_in(folders: Sequence[Path]) -> Path:
    """The path of Real-ESRGAN's weights: the first folder that has them, else the usual name in the first folder."""
    places = [folder / name for folder in folders for name in ("RealESRGAN_x2plus.pth", "RealESRGAN_x4plus.pth")]
    return next((place for place in places if place.is_file()), places[0])


def like(given: Any, picture: Picture) -> Any:
    """The picture as the same kind of object as `given`."""
    if isinstance(given, Picture):
        return picture
    return to_pil(picture) if isinstance(given, Image.Image) else to_array(picture)
