"""FaceRestorer: loads the models that the options need and restores pictures. `compose` holds the order of the steps."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PICTURE_ERRORS, GpenError
from ..faces.detect import Detector, find_faces, make_detector
from ..faces.face import NMS, Face, suppress
from ..faces.select import select_faces
from ..network import run
from ..options import RestoreOptions, parse_indices
from ..pictures import Picture, from_array, to_array, to_pil
from ..pixels import Pixels
from ..progress import Progress
from ..runtime import pick_device, pick_dtype
from ..steps import background
from ..steps.guards import Guards
from ..steps.mask import Parser, load_parser, need_parser
from ..steps.occlusion import Occluder, load_occluder
from ..steps.recognise import Recogniser, load_recogniser
from ..weights.catalog import Task
from ..weights.folders import helper_folders, models_dir
from .aligned import AlignedFace
from .compose import Composition, restored_faces
from .person import Person
from .results import RestoreResult
from .sequence import Steps, restore_sequence
from .together import Begun, compose_each
from .trail import Trail

if TYPE_CHECKING:
    from ..network.fused import Network

log = logging.getLogger(__name__)

_LOOKS_LIKE_A_FACE = 0.3  # a detection threshold for restored faces: lower than for finding faces, since there is one


class FaceRestorer:
    """Restores the faces of pictures with one set of options. Create it once for many pictures; models are loaded on first use.

    options: None means the defaults. models_dir: the folder that holds GPEN/ (else GPEN_MODELS_DIR, else ./models).
    extra_folders: more folders to search for weights. progress: reports detection, enlarging and every face, and says whether to stop.
    network, detector: already loaded, for hosts that manage models themselves; `template` is then the network's alignment template.
    person: a picture of the person whose faces are restored (as for __call__), in place of the path in the options.
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
        person: Any = None,
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
        self._occluder: Occluder | None = None
        self._upscaler = upscaler
        named = self.options.person.strip()
        self._given_person: Any = person if person is not None or not named else Path(named)
        self._person: Person | None = None
        self._recogniser: Recogniser | None = None
        self._guards = Guards()
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
        parses = "parsing" in (o.mask, o.occlusion) and self._parser is None and not o.aligned
        enlarges = o.background == "realesrgan" and o.output_size != "keep" and self._upscaler is None
        if parses:
            need_parser(folders)
        if o.background == "realesrgan" and self._upscaler is None:
            background.need_realesrgan_package()
            if not enlarges:
                log.info("the background upscaler realesrgan is not used: the output size keep does not upscale the picture")
        if not o.aligned:
            self._occluder = self._occluder or load_occluder(o.occlusion, folders)
            self._prepare_person()
        if not o.aligned or o.guard:
            self._prepare_detector()
        self._guards = self._make_guards()
        if parses:
            self._parser = load_parser(folders, device)
        if enlarges:
            self._upscaler = background.load_realesrgan(_realesrgan_in(folders), device, progress=self.progress)
        if self._network is None:
            self._load_network(device, dtype)
        self._prepared = True

    def _make_guards(self) -> Guards:
        """Raises WeightsMissingError if a recogniser is asked for and its file is not there."""
        o = self.options
        recogniser = self._prepare_recogniser() if o.min_likeness > 0 else None
        return Guards(o.auto_strength, self._largest_face if o.guard else None, recogniser, o.min_likeness)

    def _largest_face(self, picture: Pixels) -> NDArray[np.float64] | None:
        """The landmarks (5, 2) of the largest face, or None."""
        faces = self._prepare_detector().detect(picture, _LOOKS_LIKE_A_FACE)
        return np.asarray(max(faces, key=lambda face: face.area).landmarks, np.float64) if faces else None

    def _prepare_detector(self) -> Detector:
        if self._detector is None:
            device = pick_device(self.options.device)
            self._detector = make_detector(self.options.detector, device=str(device), weights_folders=self._weights_folders())
        return self._detector

    def _prepare_recogniser(self) -> Recogniser:
        if self._recogniser is None:
            self._recogniser = load_recogniser(self._weights_folders())
        return self._recogniser

    def _prepare_person(self) -> Person | None:
        if self._person is None and self._given_person is not None:
            recogniser = self._prepare_recogniser()
            self._person = Person(self._given_person, recogniser, lambda pixels: self._found(pixels, None), self.options.person_likeness)
        return self._person

    def _load_network(self, device: Any, dtype: Any) -> None:
        from ..network.load import find_model, load_network

        found = find_model(self.options.model, self.models_dir, task=self.task, extra_folders=self.extra_folders)
        self.weights, self.note, self.model_name, self.template = found.path, found.note, found.name, found.template
        self._network = load_network(found.path, device, dtype, or_cpu=True)

    def _weights_folders(self) -> list[Path]:
        return [*self.extra_folders, *helper_folders(models_dir(self.models_dir))]

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
        o, person = self.options, self._prepare_person()
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
            keep=None if person is None else lambda face: person.has(pixels, face),
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
        started = time.perf_counter()
        self.prepare()
        begun = self._begin(picture, faces)
        cropped = begun.crops()
        crops = (crop for _, crop in cropped)
        made = self._make(crops)
        # Closed here, the last first: an interrupt that comes while Python closes what nobody needs any more would be lost.
        with closing(cropped), closing(crops), closing(made):
            return self._finished(begun.composed(made), picture, started)

    def each(self, pictures: Iterable[Any], *, faces: Iterable[Sequence[Face]] | None = None) -> Iterator[RestoreResult | Exception]:
        """Restores pictures as __call__() does; on a device the faces of several go through the network together.

        Yields for each picture, in their order, its result or the error that it alone has (one of PICTURE_ERRORS; others, such as a host's
        interrupt, are raised at once). faces: for each picture, its faces; then nothing is detected.
        Takes pictures only when they are needed: on a processor, and where memory is for one face only, the next when this one is
        finished; otherwise as many as fill a batch, but at most 8 that are not finished, of together at most 16 megapixels (if all are of
        one size; always one). Beside them it holds the faces of one batch before and after. A result holds all its faces (100 MB each of
        2048 pixels): let go of it before you ask for the next. What prepare() raises is raised.
        """
        self.prepare()
        given: deque[Any] = deque()  # begun, and not finished yet

        def begin(picture: Any, chosen: Sequence[Face] | None = None) -> Begun[RestoreResult] | Exception:
            given.append(picture)
            try:
                return self._begin(picture, chosen)
            except PICTURE_ERRORS as error:
                return error

        begun = map(begin, pictures) if faces is None else starmap(begin, zip(pictures, faces, strict=True))
        outcomes = compose_each(begun, self._make, lambda: run.batch_size(self.loaded_network), self.progress)

        def outcome() -> RestoreResult | Exception | None:
            started = time.perf_counter()
            result = next(outcomes, None)
            if result is None:
                return None
            picture = given.popleft()
            return result if isinstance(result, Exception) else self._finished(result, picture, started)

        return iter(outcome, None)  # no generator: its variables would keep pictures alive

    def sequence(
        self,
        frames: Iterable[Any],
        *,
        faces: Iterable[Sequence[Face]] | None = None,
        stop: Callable[[], bool] = lambda: False,
        trail: Trail | None = None,
    ) -> Iterator[RestoreResult | Exception]:
        """each() for pictures that follow each other: faces are steadied over time by the setting `steady` (0, or `aligned`: as each()).

        Looks ahead: takes up to 12 frames more than each() before the first result, fewer if they are large (together at most 64
        megapixels, held as they were given). Pictures that show different scenes have no effect on each other. stop: once it is true, no
        other frame is begun; the results of those that were taken but not begun are missing at the end.
        trail: which faces are one, kept from frame to frame and known of the first, where a run goes on with its predecessor's frames.
        """
        o = self.options
        if o.steady == 0 or o.aligned:
            return self.each(frames, faces=faces)
        self.prepare()
        started = time.perf_counter()

        def finish(result: RestoreResult, picture: Any) -> RestoreResult:
            nonlocal started
            done = self._finished(result, picture, started)
            started = time.perf_counter()
            return done

        steps = Steps(self._choose, self._composition, self._make, lambda: run.batch_size(self.loaded_network), finish)
        most = 0 if o.faces.strip() else o.max_faces or float("inf")  # numbers mean the faces that the detector finds
        return restore_sequence(frames, faces, steps, o.steady, self.progress, most_faces=most, stop=stop, trail=trail)

    def _begin(self, picture: Any, faces: Sequence[Face] | None) -> Begun[RestoreResult]:
        source = picture if isinstance(picture, Picture) else from_array(picture)
        if self.options.aligned:
            also: Any = {"upscaler": self._upscaler, "progress": self.progress, "guards": self._guards}
            return AlignedFace(source, self.size, self.template, self.options, **also)
        return self._composition(source, self._choose(source.pixels) if faces is None else list(faces))

    def _composition(self, source: Picture, chosen: Sequence[Face]) -> Composition:
        return Composition(
            source,
            chosen,
            [self.size] * len(chosen),
            self.template,
            self.options,
            parser=self._parser,
            occluder=self._occluder,
            upscaler=self._upscaler,
            progress=self.progress,
            guards=self._guards,
        )

    def _make(self, crops: Iterator[Pixels]) -> Generator[Pixels | GpenError, None, None]:
        return restored_faces(self.loaded_network, crops, self.progress, or_cpu=self._or_cpu)

    def _finished(self, result: RestoreResult, picture: Any, started: float) -> RestoreResult:
        result.image = like(picture, result.image)
        result.model, result.seconds = self.model_name, time.perf_counter() - started
        return result

    def each_aligned(self, pictures: Iterable[Any]) -> Iterator[RestoreResult]:
        """each() for pictures that are one aligned face each (the option `aligned`).

        A face that fails raises its error. If stopped, the last result says so.
        """
        for result in self.each(pictures):
            if isinstance(result, Exception):
                raise result
            yield result
            if result.stopped:
                return


def _realesrgan_in(folders: Sequence[Path]) -> Path:
    """The path of Real-ESRGAN's weights: the first folder that has them, else the usual name in the first folder."""
    places = [folder / name for folder in folders for name in ("RealESRGAN_x2plus.pth", "RealESRGAN_x4plus.pth")]
    return next((place for place in places if place.is_file()), places[0])


def like(given: Any, picture: Picture) -> Any:
    """The picture as the same kind of object as `given`."""
    if isinstance(given, Picture):
        return picture
    return to_pil(picture) if isinstance(given, Image.Image) else to_array(picture)
