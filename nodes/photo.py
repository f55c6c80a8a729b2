"""Colourising and inpainting in whole photographs: the faces are found, changed and pasted back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..gpen_core.task_options import FaceTask, TaskOptions
from .detectors import PERSON_TIP, detector, person_in
from .faces import FACES, checked
from .folders import models_dir, search_folders
from .host import Bar
from .inputs import task_inputs, task_options_from
from .load import CATEGORY
from .model import GPEN_MODEL, GpenModel, Session, default_model, fingerprint_unless_linked
from .report import REPORT_TIP, count_faces, failed_line, memory_line, none_line, shown
from .restore import kept_outside, stacked
from .tensors import cpu_tensor, frames_of, from_arrays, to_array, where_to_look

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..gpen_core.restore.results import RestoreResult
    from ..gpen_core.restore.tasks import TaskRestorer

_FACES_TIP = (
    "From Detect Faces: changes exactly these faces and ignores the settings for finding and choosing faces (Detector to Which faces). "
    "Not connected: this node finds the faces itself."
)


class _InPhoto:
    """Base of the two nodes."""

    TASK: FaceTask
    DONE: str
    CATEGORY = CATEGORY
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("image", "mask", "report")

    @classmethod
    def IS_CHANGED(cls, **values: Any) -> str:
        return fingerprint_unless_linked(cls.TASK, values)

    @classmethod
    def _inputs(cls, image: str, model: str, mask: str | None = None) -> dict[str, Any]:
        sockets = {"mask": ("MASK", {"tooltip": mask})} if mask is not None else {}
        now, later = task_inputs(cls.TASK)
        return {
            "required": {"image": ("IMAGE", {"tooltip": image}), **now},
            "optional": {
                **sockets,
                "model": (GPEN_MODEL, {"tooltip": model}),
                "detected_faces": (FACES, {"tooltip": _FACES_TIP}),
                **later,
                "person": ("IMAGE", {"tooltip": PERSON_TIP}),
            },
        }

    def _run(
        self, image: torch.Tensor, mask: Any, model: GpenModel | None, detected_faces: Any, person: Any, settings: dict[str, Any]
    ) -> Any:
        options = task_options_from(self.TASK, settings)
        frames = frames_of(image)
        holes = where_to_look(mask, frames.shape[0], frames.shape[1], frames.shape[2])
        given = None if detected_faces is None else checked(detected_faces)
        if given is not None:
            given.belong(frames)
        model = (model or default_model(self.TASK)).made_for(self.TASK)
        session, bar = Session(model), Bar(frames.shape[0])
        restorer = _restorer(options, model, bar, given is not None, person)
        restorer.prepare()
        done: list[torch.Tensor] = []
        masks: list[NDArray[np.float32]] = []
        results: list[RestoreResult] = []
        for number, (frame, hole) in enumerate(zip(frames, holes, strict=True)):
            faces = None if given is None else given.frames[number]
            result = session.run(lambda frame=frame, hole=hole, faces=faces: restorer(to_array(frame), hole=hole, faces=faces))
            done.append(cpu_tensor(result.image) if options.rest == "grey" else kept_outside(frame, result))
            masks.append(result.mask)
            results.append(result)
            bar.step()
        faces = [face for result in results for face in result.faces]
        good = sum(face.status == "restored" for face in faces)
        counts = [len(result.faces) for result in results]
        lines = [
            model.note,
            f"{count_faces(good)} {self.DONE} with {model.name}" if faces else "",
            failed_line([face.reason for face in faces if face.status == "failed"]),
            none_line(counts, None if given is not None or self.TASK == "inpaint" else options.shared.threshold),
            memory_line(session.on_cpu),
        ]
        return shown(lines, (stacked(done), from_arrays(masks)))


def _restorer(options: TaskOptions, model: GpenModel, bar: Bar, faces_given: bool, person: Any) -> TaskRestorer:
    from comfy.model_management import get_torch_device

    from ..gpen_core.options import RestoreOptions
    from ..gpen_core.restore.tasks import TaskRestorer

    # Unused where the faces are given, so the one that needs no package.
    name = RestoreOptions().detector if faces_given else options.shared.detector
    shared = replace(options.shared, device=str(get_torch_device()), detector=name)
    return TaskRestorer(
        replace(options, shared=shared),
        models_dir=models_dir(),
        extra_folders=search_folders(),
        progress=bar,
        network=model.network,
        template=model.template,
        detector=detector(name),
        person=None if faces_given else person_in(person),
    )


class ColorizeFacesInPhoto(_InPhoto):
    TASK: FaceTask = "colorize"
    DONE = "colourised"
    TITLE = "Colorize Faces in Photo (GPEN)"
    DESCRIPTION = (
        "Finds the faces in black-and-white photographs and colourises them; the brightness of every pixel stays as it was. "
        "Needs GPEN-Colorization-1024."
    )
    SEARCH_ALIASES = ("gpen", "colorization", "black and white")
    OUTPUT_TOOLTIPS = ("The photographs with their faces in colour. Alpha is kept.", "The faces.", REPORT_TIP)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return cls._inputs(
            "Black-and-white photographs: one or a batch, with or without alpha.",
            "A colourising model. Not connected: GPEN-Colorization-1024.",
        )

    def run(
        self, image: torch.Tensor, model: GpenModel | None = None, detected_faces: Any = None, person: Any = None, **settings: Any
    ) -> Any:
        return self._run(image, None, model, detected_faces, person, settings)


class InpaintFacesInPhoto(_InPhoto):
    TASK: FaceTask = "inpaint"
    DONE = "completed"
    TITLE = "Inpaint Faces in Photo (GPEN)"
    DESCRIPTION = (
        "Finds the faces in photographs and fills the holes in them: the white area of the mask, or whatever is painted white within a "
        "face. All other pixels stay bit-identical. Needs GPEN-Inpainting-1024."
    )
    SEARCH_ALIASES = ("gpen", "inpainting", "fill holes", "scratches")
    OUTPUT_TOOLTIPS = ("The photographs with the holes in their faces filled. Alpha is kept.", "What was filled.", REPORT_TIP)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return cls._inputs(
            "Photographs: one or a batch, with or without alpha.",
            "An inpainting model. Not connected: GPEN-Inpainting-1024.",
            "White where to fill. A hole outside all faces stays. Not connected: fills what is painted white within the faces.",
        )

    def run(
        self,
        image: torch.Tensor,
        mask: Any = None,
        model: GpenModel | None = None,
        detected_faces: Any = None,
        person: Any = None,
        **settings: Any,
    ) -> Any:
        return self._run(image, mask, model, detected_faces, person, settings)
