"""The order of the steps, in one place: for whole pictures (`restorer`) and for hosts that run each step separately (`pieces`)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..errors import DeviceError, GpenError
from ..faces.face import Face
from ..network.run import run_each
from ..options import RestoreOptions, parse_regions
from ..pictures import Picture
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..steps import background, tone
from ..steps.align import Matrix, crop_face, rescale_matrix, similarity, template_points, transform
from ..steps.detail import Energies, detail_of_face
from ..steps.guards import Guards, KeptError, why_spared
from ..steps.mask import Mask, Parser, classes_of, clip_to_picture, landmark_mask, parsing_mask
from ..steps.occlusion import Occluder, changed_beyond_reason, seen_by
from ..steps.paste import Compositor
from .grain import Sample, sample_of
from .results import FaceResult, RestoreResult

if TYPE_CHECKING:
    from ..network.fused import Network

log = logging.getLogger(__name__)


class Composition:
    """One picture on its way through the steps: crops() are its faces for whoever makes the new ones, composed() takes those.

    It enlarges the picture as the options say and pastes every new face; the result's `image` is a Picture. The crops of several pictures
    can be taken before the first is composed (`together`).
    """

    def __init__(
        self,
        source: Picture,
        faces: Sequence[Face],
        sizes: Sequence[int],
        template: str,
        options: RestoreOptions,
        *,
        parser: Parser | None = None,
        occluder: Occluder | None = None,
        upscaler: Callable[[Pixels], Pixels] | None = None,
        progress: Progress | None = None,
        previews: bool = True,
        guards: Guards | None = None,
    ) -> None:
        """sizes: side of each face's crop in pixels. parser: for the mask or occlusion "parsing". occluder: XSeg, for the occlusion "xseg".

        upscaler: enlarges the background; None: Lanczos. previews: progress gets each new face. guards: leave faces as they are; None:
        there are none.
        """
        self.source = source
        self.faces = faces
        self._sizes, self._template, self._options, self._previews = sizes, template, options, previews
        self._parser, self._occluder, self._upscaler, self._progress = parser, occluder, upscaler, progress or Progress()
        self._guards = guards or Guards()
        each = list(zip(faces, sizes, strict=True))
        self._shares = [self._guards.share(source.pixels, face.landmarks, template, size) for face, size in each]  # of the strength
        self._matrices = [
            _matrix(face, size, template) if share else KeptError(why_spared(face.landmarks, template, size))
            for (face, size), share in zip(each, self._shares, strict=True)
        ]
        self.noise: dict[int, Sequence[Energies]] = {}  # of each face, where the frames around this one tell it
        self.cropped: deque[Pixels] = deque()  # crops that are taken, and not pasted yet
        self.put_back()

    @property
    def fitting(self) -> list[int]:
        """The numbers of the faces that are cropped."""
        return [index for index, matrix in enumerate(self._matrices) if not isinstance(matrix, GpenError)]

    def put_back(self) -> None:
        """Forgets the crops that were taken. Only before composed()."""
        self.cropped.clear()
        self._next = 0  # the face to crop next
        self.left = len(self.fitting)  # crops that nobody has taken yet

    def crops(self) -> Generator[tuple[int, Pixels], None, None]:
        """Crops the faces that fit the template, each when it is asked for, so that not all of them are held at once.

        Goes on where an earlier call ended.
        """
        while self._next < len(self._matrices):
            index, matrix = self._next, self._matrices[self._next]
            if not isinstance(matrix, GpenError):
                # Crop the original picture, not the enlarged one: the network must not see invented detail.
                self.cropped.append(crop_face(self.source.pixels, matrix, self._sizes[index]))
                self.left -= 1
            self._next += 1
            if not isinstance(matrix, GpenError):
                yield index, self.cropped[-1]

    def sample(self, index: int) -> Sample | None:
        """What tells the face's noise from frame to frame; None if it keeps no detail."""
        matrix = self._matrices[index]
        if isinstance(matrix, GpenError) or self._options.detail == 0.0:
            return None
        return sample_of(self.source.pixels, matrix, self._sizes[index])

    def checked(self, index: int, crop: Pixels, made: Pixels) -> Pixels | KeptError:
        """The new face, or why a guard keeps the original."""
        try:
            self._check(index, crop, made, self._soft(index))
        except KeptError as error:
            return error
        return made

    def composed(self, made_faces: Iterator[Pixels | GpenError], *, checked: bool = False) -> RestoreResult:
        """Enlarges the picture, and pastes each new face, or leaves it where there is an error instead.

        made_faces: one for each crop. checked: they went through checked() already.
        """
        progress, source = self._progress, self.source
        base, alpha, scale, stopped = self._enlarged()
        result = RestoreResult(None, [], np.zeros(base.shape[:2], np.float32), "", 0.0, scale, stopped=stopped)
        compositor = Compositor(base)
        for index, face in enumerate(self.faces):
            # What is made is pasted: to stop then would lose it.
            if result.stopped or (not self.cropped and progress.stop()):
                result.stopped = True
                result.faces.append(FaceResult(face, index, "stopped", "interrupted before this face"))
                continue
            progress.report(index, len(self.faces), f"face {index + 1}/{len(self.faces)}")
            try:
                crop, made = self._pasted(index, made_faces, compositor, base.shape, checked)
            except Stopped:
                result.stopped = True
                result.faces.append(FaceResult(face, index, "stopped", "interrupted while this face was restored"))
                continue
            except DeviceError:
                raise  # it would fail every face
            except KeptError as error:
                log.info("face %d is kept as it was: %s", index, error)
                result.faces.append(FaceResult(face, index, "kept", str(error), 0.0))
                continue
            except GpenError as error:
                log.warning("face %d was not restored: %s", index, error)
                result.faces.append(FaceResult(face, index, "failed", str(error)))
                continue
            result.faces.append(FaceResult(face, index, "restored", strength=self._strength(index)))
            result.crops.append(crop)
            result.restored.append(made)
            progress.report(index + 1, len(self.faces), f"face {index + 1}/{len(self.faces)}", made if self._previews else None)
        pixels, result.mask = compositor.result()
        result.image = source.with_pixels(pixels, alpha)
        return result

    def _pasted(
        self, index: int, made_faces: Iterator[Pixels | GpenError], compositor: Compositor, shape: Sequence[int], checked: bool
    ) -> tuple[Pixels, Pixels]:
        """Takes one new face and pastes it. Returns (crop, new face). shape: of the picture that it is pasted into."""
        source, matrix, options = self.source.pixels, self._matrices[index], self._options
        if isinstance(matrix, GpenError):
            raise matrix
        made = next(made_faces)
        crop = self.cropped.popleft()
        if isinstance(made, GpenError):
            raise made
        soft = self._soft(index)
        if not checked:
            self._check(index, crop, made, soft)
        measures = options.colour_match or options.occlusion != "off"
        inside = clip_to_picture(soft, matrix, source.shape) if measures else soft
        made = adjust_tone(made, crop, inside, options)
        mask = face_mask(crop, made, soft, inside, options, self._parser, self._occluder)
        detail = detail_of_face(source, crop, made, mask, matrix, options.detail, shape, self.noise.get(index, ()))
        compositor.add(made, mask, rescale_matrix(matrix, source.shape, shape), strength=self._strength(index), detail=detail)
        return crop, made

    def _soft(self, index: int) -> Mask:
        size = self._sizes[index]
        return landmark_mask(template_points(self._template, size), size, feather=self._options.feather)

    def _check(self, index: int, crop: Pixels, made: Pixels, soft: Mask) -> None:
        """Raises KeptError if a guard keeps the original face."""
        self._guards.check(crop, made, soft, transform(self.faces[index].landmarks, cast(Matrix, self._matrices[index])))

    def _strength(self, index: int) -> float:
        return self._options.strength * self._shares[index] * self.faces[index].strength

    def _enlarged(self) -> tuple[Pixels, Pixels | None, float, bool]:
        o = self._options
        fitting = [matrix for matrix in self._matrices if not isinstance(matrix, GpenError)]
        mode = o.factor if o.output_size == "factor" else o.output_size
        scale = background.output_scale(cast(Any, mode), fitting, self.source.pixels.shape)
        return enlarged(self.source, scale, self._upscaler, self._progress, made=bool(self.cropped))


def restored_faces(
    network: Network, crops: Iterable[Pixels], progress: Progress, *, or_cpu: bool = False
) -> Generator[Pixels | GpenError, None, None]:
    """Runs the network on crops of its size, on a device several at once. or_cpu: see run_each(). Raises Stopped if the user interrupts."""

    def go_on() -> None:
        if progress.stop():
            raise Stopped

    return run_each(network, crops, ask=go_on, or_cpu=or_cpu)


def face_mask(
    crop: Pixels, made: Pixels, soft: Mask, inside: Mask, options: RestoreOptions, parser: Parser | None, occluder: Occluder | None
) -> Mask:
    """Where a new face is pasted, as the options say. soft: (S, S) mask about the landmarks; inside: the same within the picture."""
    size, feather, occlusion = crop.shape[0], options.feather, options.occlusion
    classes = classes_of(parse_regions(options.mask_regions))
    parses = options.mask == "parsing" and parser is not None
    mask = parsing_mask(cast(Parser, parser), made, size, feather=feather, classes=classes) if parses else soft
    if occlusion == "parsing" and parser is not None:
        return np.minimum(mask, parsing_mask(parser, crop, size, feather=feather, classes=classes))
    if occlusion in ("auto", "xseg") and occluder is not None:
        return np.minimum(mask, seen_by(occluder, crop, inside, feather=feather))
    if occlusion in ("auto", "change"):
        return np.minimum(mask, changed_beyond_reason(crop, made, inside, feather=feather))
    return mask


def adjust_tone(restored: Pixels, crop: Pixels, inside: Mask, options: RestoreOptions) -> Pixels:
    """Adjusts a restored face as the options say. inside: (S, S) mask of the area in which colours are measured."""
    if options.colour_match:
        restored = tone.match_colour(restored, crop, inside)
    if options.fidelity > 0:
        restored = tone.keep_low_frequencies(restored, crop, options.fidelity)
    return restored


def enlarged(
    source: Picture, scale: float, upscaler: Callable[[Pixels], Pixels] | None, progress: Progress, *, made: bool = False
) -> tuple[Pixels, Pixels | None, float, bool]:
    """Enlarges the picture. Returns (pixels, alpha, scale, stopped); a stop leaves the pixels as they were.

    made: its faces are made already, so that only the enlarging itself may still be stopped.
    """
    if not made and progress.stop():  # the user may have stopped during detection
        return source.pixels, source.alpha, 1.0, True
    if scale == 1.0:
        return source.pixels, source.alpha, 1.0, False
    pixels, alpha = background.enlarge(source.pixels, scale, alpha=source.alpha, upscaler=upscaler, progress=progress)
    stopped = pixels.shape[:2] != background.scaled_shape(source.pixels.shape, scale)
    return pixels, alpha, 1.0 if stopped else scale, stopped


def _matrix(face: Face, size: int, template: str) -> Matrix | GpenError:
    """The matrix from picture to crop, or the error if the landmarks do not fit the template: no head has them."""
    try:
        return similarity(face.landmarks, template_points(template, size))
    except GpenError as error:
        return error
