"""The order of the steps, in one place: for whole pictures (`restorer`) and for hosts that run each step separately (`pieces`)."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..errors import DeviceError, GpenError
from ..faces.face import Face
from ..network.run import run_each
from ..options import RestoreOptions
from ..pictures import Picture
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..steps import background, tone
from ..steps.align import Matrix, crop_face, rescale_matrix, similarity, template_points
from ..steps.detail import detail_of_face
from ..steps.mask import Mask, Parser, clip_to_picture, landmark_mask, parsing_mask
from ..steps.paste import Compositor
from .results import FaceResult, RestoreResult

if TYPE_CHECKING:
    from ..network.fused import Network

# (index, cropped face) of several -> for each, in their order, the new face or why there is none. It takes crops only when it needs
# them, as many together as it likes, and may raise Stopped. All (S, S, 3) float32 RGB 0..1.
MakeFaces = Callable[[Iterator[tuple[int, Pixels]]], Iterator[Pixels | GpenError]]
log = logging.getLogger(__name__)


def compose(
    source: Picture,
    faces: Sequence[Face],
    sizes: Sequence[int],
    make: MakeFaces,
    template: str,
    options: RestoreOptions,
    *,
    parser: Parser | None = None,
    upscaler: Callable[[Pixels], Pixels] | None = None,
    progress: Progress | None = None,
    previews: bool = True,
) -> RestoreResult:
    """Enlarges the picture as the options say, restores every face and pastes it back. The result's `image` is a Picture.

    sizes: side of each face's crop in pixels. make: the new faces; a face that it gives an error for stays as it was.
    parser: ParseNet, for the mask "parsing". upscaler: enlarges the background; None: Lanczos. previews: progress gets each new face.
    """
    progress = progress or Progress()
    matrices = [_matrix(face, size, template) for face, size in zip(faces, sizes, strict=True)]
    mode = options.factor if options.output_size == "factor" else options.output_size
    fitting = [matrix for matrix in matrices if not isinstance(matrix, GpenError)]
    scale = background.output_scale(cast(Any, mode), fitting, source.pixels.shape)
    base, alpha, scale, stopped = enlarged(source, scale, upscaler, progress)

    result = RestoreResult(None, [], np.zeros(base.shape[:2], np.float32), "", 0.0, scale, stopped=stopped)
    compositor = Compositor(base)
    cropped: deque[Pixels] = deque()  # what `make` has taken, and is not pasted yet
    made_faces = make(_crops(source.pixels, matrices, sizes, cropped))
    for index, (face, matrix, size) in enumerate(zip(faces, matrices, sizes, strict=True)):
        # What is made is pasted: to stop then would lose it.
        if result.stopped or (not cropped and progress.stop()):
            result.stopped = True
            result.faces.append(FaceResult(face, index, "stopped", "interrupted before this face"))
            continue
        progress.report(index, len(faces), f"face {index + 1}/{len(faces)}")
        try:
            if isinstance(matrix, GpenError):
                raise matrix
            made = next(made_faces)
            crop = cropped.popleft()
            if isinstance(made, GpenError):
                raise made
            soft = landmark_mask(template_points(template, size), size, feather=options.feather)
            inside = clip_to_picture(soft, matrix, source.pixels.shape) if options.colour_match else soft  # only colour_match uses it
            made = adjust_tone(made, crop, inside, options)
            parses = options.mask == "parsing" and parser is not None
            mask = parsing_mask(cast(Parser, parser), made, size, feather=options.feather) if parses else soft
            detail = detail_of_face(source.pixels, crop, made, mask, matrix, options.detail, base.shape)
            place = rescale_matrix(matrix, source.pixels.shape, base.shape)
            compositor.add(made, mask, place, strength=options.strength, detail=detail)
        except Stopped:
            result.stopped = True
            result.faces.append(FaceResult(face, index, "stopped", "interrupted while this face was restored"))
            continue
        except DeviceError:
            raise  # it would fail every face
        except GpenError as error:
            log.warning("face %d was not restored: %s", index, error)
            result.faces.append(FaceResult(face, index, "failed", str(error)))
            continue
        result.faces.append(FaceResult(face, index, "restored"))
        result.crops.append(crop)
        result.restored.append(made)
        progress.report(index + 1, len(faces), f"face {index + 1}/{len(faces)}", made if previews else None)
    pixels, result.mask = compositor.result()
    result.image = source.with_pixels(pixels, alpha)
    return result


def _crops(
    pixels: Pixels, matrices: Sequence[Matrix | GpenError], sizes: Sequence[int], cropped: deque[Pixels]
) -> Iterator[tuple[int, Pixels]]:
    """Crops the faces that fit the template, each when it is asked for, so that not all of them are held at once."""
    for index, (matrix, size) in enumerate(zip(matrices, sizes, strict=True)):
        if not isinstance(matrix, GpenError):
            # Crop the original picture, not the enlarged one: the network must not see invented detail.
            cropped.append(crop_face(pixels, matrix, size))
            yield index, cropped[-1]


def restored_faces(network: Network, crops: Iterable[Pixels], progress: Progress, *, or_cpu: bool = False) -> Iterator[Pixels | GpenError]:
    """Runs the network on crops of its size, on a device several at once. or_cpu: see run_each(). Raises Stopped if the user interrupts."""

    def go_on() -> None:
        if progress.stop():
            raise Stopped

    return run_each(network, crops, ask=go_on, or_cpu=or_cpu)


def adjust_tone(restored: Pixels, crop: Pixels, inside: Mask, options: RestoreOptions) -> Pixels:
    """Adjusts a restored face as the options say. inside: (S, S) mask of the area in which colours are measured."""
    if options.colour_match:
        restored = tone.match_colour(restored, crop, inside)
    if options.fidelity > 0:
        restored = tone.keep_low_frequencies(restored, crop, options.fidelity)
    return restored


def enlarged(
    source: Picture, scale: float, upscaler: Callable[[Pixels], Pixels] | None, progress: Progress
) -> tuple[Pixels, Pixels | None, float, bool]:
    """Enlarges the picture. Returns (pixels, alpha, scale, stopped); a stop leaves the pixels as they were."""
    if progress.stop():  # the user may have stopped during detection
        return source.pixels, source.alpha, 1.0, True
    if scale == 1.0:
        return source.pixels, source.alpha, 1.0, False
    pixels, alpha = background.enlarge(source.pixels, scale, alpha=source.alpha, upscaler=upscaler, progress=progress)
    stopped = pixels.shape[:2] != background.scaled_shape(source.pixels.shape, scale)
    return pixels, alpha, 1.0 if stopped else scale, stopped


def _matrix(face: Face, size: int, template: str) -> Matrix | GpenError:
    """The matrix from picture to crop, or the error if the landmarks do not fit the template."""
    try:
        return similarity(face.landmarks, template_points(template, size))
    except GpenError as error:
        return error
