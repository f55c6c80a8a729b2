"""Restore Faces: the whole pipeline on a batch of pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..gpen_core.options import RestoreOptions
from .detectors import PERSON_TIP, detector, person_in
from .faces import FACES, checked, faces_of
from .folders import models_dir, search_folders
from .host import Bar, interrupted
from .inputs import CHANGING, FINDING, LATER, LATER_CHOOSING, LATEST, PASTING, option_inputs, options_from, preset_input
from .load import CATEGORY
from .model import GPEN_MODEL, GpenModel, Session, default_model, fingerprint_unless_linked
from .report import REPORT_TIP, failed_line, kept_line, memory_line, none_line, restored_line, shown
from .tensors import cpu_tensor, frames_of, from_arrays, handed_on, to_array, where_to_look
from .upscale import upscaler

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..gpen_core.faces.face import Face
    from ..gpen_core.restore.restorer import FaceRestorer
    from ..gpen_core.restore.results import RestoreResult

log = logging.getLogger(__name__)
DETECTED_TIP = (
    "From Detect Faces: restores exactly these faces and ignores the mask and the settings for finding and choosing faces "
    "(Detector to Which faces). Not connected: this node finds the faces itself."
)


class RestoreFaces:
    TITLE = "Restore Faces (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Finds the faces in every picture of a batch, restores them and blends them back in. "
        "Nothing outside the faces changes, not even by one bit; pictures without a face come back untouched."
    )
    SEARCH_ALIASES = ("gpen", "face restoration", "fix faces", "face detailer", "GFPGAN", "CodeFormer")
    FUNCTION = "restore"
    RETURN_TYPES = ("IMAGE", "MASK", "IMAGE", "IMAGE", FACES, "STRING")
    RETURN_NAMES = ("image", "mask", "faces_before", "faces_after", "faces", "report")
    OUTPUT_TOOLTIPS = (
        "The pictures with their faces restored. Alpha is kept.",
        "The area that changed.",
        "The original faces, upright, one per image. If there is no face, nodes connected here do not run.",
        "The same faces, restored.",
        "Where the faces are, in pixels of the output image. For the other GPEN nodes.",
        REPORT_TIP,
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "One picture or a batch, such as the frames of a video, with or without alpha."}),
                **option_inputs((*FINDING, *CHANGING, *PASTING)),
            },
            "optional": {
                "model": (GPEN_MODEL, {"tooltip": "From Load GPEN Model. Not connected: auto (GPEN-BFR-2048, else the best on disk)."}),
                "mask": ("MASK", {"tooltip": "Where to look: only faces whose centre is in the white area are restored."}),
                "upscale_model": (
                    "UPSCALE_MODEL",
                    {"tooltip": "Upscales the rest of the picture when the output size is factor or native. Not connected: Lanczos."},
                ),
                "detected_faces": (FACES, {"tooltip": DETECTED_TIP}),
                **option_inputs(LATER),
                **option_inputs(LATER_CHOOSING),
                "person": ("IMAGE", {"tooltip": PERSON_TIP}),
                **preset_input(),
                **option_inputs(LATEST),
            },
        }

    @classmethod
    def IS_CHANGED(cls, **values: Any) -> str:
        return fingerprint_unless_linked("restore", values)

    def restore(
        self,
        image: torch.Tensor,
        model: GpenModel | None = None,
        mask: Any = None,
        upscale_model: Any = None,
        detected_faces: Any = None,
        person: Any = None,
        **settings: Any,
    ) -> dict[str, Any]:
        options = options_from(settings)
        frames = frames_of(image)
        look = where_to_look(mask, frames.shape[0], frames.shape[1], frames.shape[2])
        given = None if detected_faces is None else checked(detected_faces)
        if given is not None:
            given.belong(frames)
            options = replace(options, detector=RestoreOptions().detector)  # unused here, so the one that needs no package
        model = (model or default_model()).made_for("restore")
        bar = Bar(2 * frames.shape[0])
        restorer = make_restorer(options, model, bar, upscaler(upscale_model))
        session = Session(model)
        restorer.prepare()

        finder = Finder(options, bar, person)
        seen: list[Found] = []
        for number, (frame, where) in enumerate(zip(frames, look, strict=True)):
            if given is None:
                seen.append(finder(frame, where))
            else:
                faces = given.frames[number]
                seen.append(Found(faces, given.numbers[number], len(faces)))
            bar.step()
        found = [one.faces for one in seen]
        bar.total = frames.shape[0] + sum(max(1, len(faces)) for faces in found)
        if options.output_size == "native" and frames.shape[0] > 1:
            # All pictures of a batch have the same size: the largest that any of them needs.
            options = replace(options, output_size="factor", factor=_native_factor(found, model, frames))
            restorer = make_restorer(options, model, bar, upscaler(upscale_model))

        done: list[torch.Tensor] = []
        masks: list[NDArray[np.float32]] = []
        crops: list[NDArray[np.float32]] = []
        restored: list[NDArray[np.float32]] = []
        failed: list[str] = []
        kept: list[str] = []
        results: Iterator[RestoreResult | Exception] | None = None

        def following() -> RestoreResult:
            """The next picture's result; its faces may have been made with those of the pictures before it."""
            nonlocal results
            if results is None:  # at first, and again after memory ran out
                first = len(done)
                results = restorer.sequence((to_array(frame) for frame in frames[first:]), faces=found[first:])
            try:
                result = next(results)
                if isinstance(result, Exception):
                    raise result
            except BaseException:
                results = None
                raise
            return result

        for frame, faces in zip(frames, found, strict=True):
            result = session.run(following)
            done.append(kept_outside(frame, result))
            masks.append(result.mask)
            crops += result.crops
            restored += result.restored
            failed += [face.reason for face in result.faces if face.status == "failed"]
            kept += [face.reason for face in result.faces if face.status == "kept"]
            if not faces:
                bar.step()
        bar.finish()
        images = stacked(done)
        height, width = images.shape[1:3]
        scaled = [[_scaled(face, frames, height, width) for face in faces] for faces in found]
        counts = [one.count for one in seen]
        lines = [
            model.note,
            restored_line(len(crops), sum(counts), model.name),
            kept_line(kept),
            failed_line(failed),
            none_line(counts, options.threshold if given is None else None),
            memory_line(session.on_cpu),
        ]
        return shown(
            lines,
            (
                images,
                from_arrays(masks),
                batch_or_nothing(crops),
                batch_or_nothing(restored),
                faces_of(images, scaled, [one.numbers for one in seen]),
            ),
        )


@dataclass(frozen=True)
class Found:
    """faces: the chosen faces of one picture. numbers: their positions in the order, from 0. count: the number of faces before choosing."""

    faces: Sequence[Face]
    numbers: Sequence[int]
    count: int


class Finder:
    """Detects faces and selects among them according to the options."""

    def __init__(self, options: RestoreOptions, bar: Bar, person: Any = None) -> None:
        """person: an IMAGE, or None for everyone."""
        self._options = options
        # Finds all faces, so that a chosen face keeps its position among them.
        self._restorer = make_restorer(replace(options, faces="", max_faces=0), None, bar, person=person_in(person))

    def __call__(self, frame: torch.Tensor, where: NDArray[np.float32] | None) -> Found:
        from ..gpen_core.faces.select import select_faces
        from ..gpen_core.options import parse_indices

        interrupted()
        everyone = self._restorer.detect(to_array(frame), where=where)
        o = self._options
        chosen = select_faces(everyone, frame.shape, order=o.order, indices=parse_indices(o.faces), max_faces=o.max_faces)
        return Found(chosen, [everyone.index(face) for face in chosen], len(everyone))


def make_restorer(options: RestoreOptions, model: GpenModel | None, bar: Bar, enlarge: Any = None, person: Any = None) -> FaceRestorer:
    """The core's restorer with ComfyUI's device, folders, progress and models."""
    from comfy.model_management import get_torch_device

    from ..gpen_core.restore.restorer import FaceRestorer

    return FaceRestorer(
        replace(options, device=str(get_torch_device())),
        models_dir=models_dir(),
        extra_folders=search_folders(),
        progress=bar,
        network=None if model is None else model.network,
        template=None if model is None else model.template,
        detector=None if options.aligned else detector(options.detector),
        upscaler=enlarge,
        person=person,
    )


def batch_or_nothing(pictures: list[NDArray[np.float32]]) -> Any:
    """A batch. Without pictures, blocks the nodes connected to this output, because an empty batch breaks them."""
    from comfy_execution.graph_utils import ExecutionBlocker

    return from_arrays(pictures) if pictures else ExecutionBlocker(None)


def kept_outside(frame: torch.Tensor, result: RestoreResult) -> torch.Tensor:
    """The result as a tensor. Unchanged pixels keep their exact input values, even outside 0..1."""
    import torch

    if result.scale != 1.0:
        return cpu_tensor(result.image)
    before = frame.detach().to("cpu", torch.float32)
    if not result.mask.any():
        return before
    changed = cpu_tensor(result.mask > 0)[..., None]
    return torch.where(changed, cpu_tensor(result.image), before)


def stacked(pictures: list[torch.Tensor]) -> torch.Tensor:
    import torch

    return handed_on(torch.stack(pictures))


def _scaled(face: Face, frames: torch.Tensor, height: int, width: int) -> Face:
    old_height, old_width = frames.shape[1:3]
    return face if (height, width) == (old_height, old_width) else face.scaled(width / old_width, height / old_height)


def _native_factor(found: Sequence[Sequence[Face]], model: GpenModel, frames: torch.Tensor) -> float:
    from ..gpen_core.errors import GpenError
    from ..gpen_core.steps.align import similarity, template_points
    from ..gpen_core.steps.background import output_scale

    matrices: list[Any] = []
    points = template_points(model.template, model.size)
    for faces in found:
        for face in faces:
            try:
                matrices.append(similarity(face.landmarks, points))
            except GpenError:  # reported when that face is restored
                continue
    return output_scale("native", matrices, frames.shape[1:3])
