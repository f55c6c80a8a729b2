"""The pipeline as separate nodes: detect, preview, crop, restore, paste."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..gpen_core.errors import SettingsError
from .detectors import PERSON_TIP, weights_folders
from .faces import FACES, Faces, checked, faces_of
from .host import Bar, interrupted
from .inputs import CHANGING, FINDING, LATER_CHANGING, LATER_CHOOSING, LATER_PASTING, PASTING, option_inputs, options_from
from .load import CATEGORY
from .model import GPEN_MODEL, GpenModel, Session, default_model, fingerprint_unless_linked
from .report import REPORT_TIP, chosen_line, count_faces, kept_line, memory_line, none_line, restored_line, shown
from .restore import Finder, Found, make_restorer
from .tensors import cpu_tensor, frames_of, from_arrays, to_array, where_to_look
from .upscale import upscaler

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

log = logging.getLogger(__name__)
_SIZE_WITHOUT_MODEL = 512


class DetectFaces:
    TITLE = "Detect Faces (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = "Finds faces and selects which ones to use. Preview Faces shows their numbers, Crop Faces crops them."
    SEARCH_ALIASES = ("gpen", "face detection", "RetinaFace", "YuNet")
    FUNCTION = "detect"
    RETURN_TYPES = (FACES, "INT", "STRING")
    RETURN_NAMES = ("faces", "count", "report")
    OUTPUT_TOOLTIPS = (
        "The faces of every picture, in the chosen order.",
        "The number of faces in all pictures together.",
        REPORT_TIP,
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {"image": ("IMAGE", {"tooltip": "One picture or a batch."}), **option_inputs(FINDING)},
            "optional": {
                "mask": ("MASK", {"tooltip": "Where to look: only faces whose centre is in the white area are used."}),
                **option_inputs(LATER_CHOOSING),
                "person": ("IMAGE", {"tooltip": PERSON_TIP}),
            },
        }

    def detect(self, image: torch.Tensor, mask: Any = None, person: Any = None, **settings: Any) -> dict[str, Any]:
        options = options_from(settings)
        frames = frames_of(image)
        look = where_to_look(mask, frames.shape[0], frames.shape[1], frames.shape[2])
        bar = Bar(frames.shape[0])
        finder = Finder(options, bar, person)
        seen: list[Found] = []
        for frame, where in zip(frames, look, strict=True):
            seen.append(finder(frame, where))
            bar.step()
        faces = faces_of(frames, [one.faces for one in seen], [one.numbers for one in seen])
        counts = [one.count for one in seen]
        lines = [chosen_line(len(faces), sum(counts)), none_line(counts, options.threshold)]
        return shown(lines, (faces, len(faces)))


class PreviewFaces:
    TITLE = "Preview Faces (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Draws each face's box, landmarks, number, score and size (the shorter side of its box, in pixels). "
        "Enter these numbers in Which faces."
    )
    SEARCH_ALIASES = ("gpen", "draw boxes", "face index")
    FUNCTION = "draw"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The pictures with the faces marked.",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures in which the faces were found."}),
                "faces": (FACES, {"tooltip": "From Detect Faces or Restore Faces."}),
            },
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def draw(self, image: torch.Tensor, faces: Any, prompt: Any = None, extra_pnginfo: Any = None) -> dict[str, Any]:
        import numpy as np

        from nodes import PreviewImage

        from ..gpen_core.faces.draw import draw_faces

        frames = frames_of(image)
        where = checked(faces)
        where.fit(frames)
        drawn: list[NDArray[np.float32]] = []
        for frame, chosen, numbers in zip(frames, where.frames, where.numbers, strict=True):
            interrupted()
            array = to_array(frame)
            rgb = draw_faces(array[..., :3], chosen, numbers)
            drawn.append(np.concatenate([rgb, array[..., 3:]], axis=2))
        pictures = from_arrays(drawn)
        shown: dict[str, Any] = PreviewImage().save_images(pictures, "gpen_faces", prompt, extra_pnginfo)
        return {**shown, "result": (pictures,)}


class CropFaces:
    TITLE = "Crop Faces (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Crops every face, aligned for GPEN, one per image. Edit the crops with any node that keeps them square; "
        "Paste Faces puts them back. If there is no face, you get one black image, which Paste Faces ignores."
    )
    SEARCH_ALIASES = ("gpen", "align faces", "crop face")
    FUNCTION = "crop"
    RETURN_TYPES = ("IMAGE", FACES)
    RETURN_NAMES = ("crops", "faces")
    OUTPUT_TOOLTIPS = ("One square image per face.", "Where the crops came from, for Paste Faces.")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        size = "Side of the crops in pixels. 0: the size of the connected model, or 512 if none is connected."
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures in which the faces were found."}),
                "faces": (FACES, {"tooltip": "From Detect Faces or Restore Faces."}),
                "size": ("INT", {"default": 0, "min": 0, "max": 4096, "step": 64, "tooltip": size}),
            },
            "optional": {"model": (GPEN_MODEL, {"tooltip": "The model that will restore the crops: it sets their size and alignment."})},
        }

    def crop(self, image: torch.Tensor, faces: Any, size: int, model: GpenModel | None = None) -> tuple[Any, Faces]:
        import numpy as np

        from ..gpen_core.restore.pieces import crop_faces

        frames = frames_of(image)
        where = checked(faces)
        where.belong(frames)
        side = size or (model.size if model else _SIZE_WITHOUT_MODEL)
        template = model.template if model else "gpen"
        kept: list[list[int]] = []
        crops: list[NDArray[np.float32]] = []
        for frame, chosen in zip(frames, where.frames, strict=True):
            interrupted()
            fitting, cut = crop_faces(to_array(frame)[..., :3], chosen, template, side)
            kept.append([chosen.index(face) for face in fitting])
            crops += [np.clip(one, 0, 1) for one in cut]
        pictures = from_arrays(crops or [np.zeros((side, side, 3), np.float32)])
        return pictures, where.kept(kept, template)


class RestoreAlignedFaces:
    TITLE = "Restore Aligned Faces (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = "Restores images of one aligned face each, as Crop Faces makes them. It restores the whole image and skips detection."
    SEARCH_ALIASES = ("gpen", "aligned face")
    FUNCTION = "restore"
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("crops", "report")
    OUTPUT_TOOLTIPS = ("The restored faces.", REPORT_TIP)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "crops": ("IMAGE", {"tooltip": "Aligned faces, one per image."}),
                **option_inputs((*CHANGING, "output_size", "factor")),
            },
            "optional": {"model": (GPEN_MODEL, {"tooltip": "From Load GPEN Model. Not connected: auto."}), **option_inputs(LATER_CHANGING)},
        }

    @classmethod
    def IS_CHANGED(cls, **values: Any) -> str:
        return fingerprint_unless_linked("restore", values)

    def restore(self, crops: torch.Tensor, model: GpenModel | None = None, **settings: Any) -> dict[str, Any]:
        frames = frames_of(crops)
        options = replace(options_from(settings), aligned=True)
        model = (model or default_model()).made_for("restore")
        bar = Bar(frames.shape[0])
        restorer = make_restorer(options, model, bar)
        session = Session(model)
        done: list[NDArray[np.float32]] = []
        kept: list[str] = []

        def rest() -> None:
            """Restores the frames that are not done yet: all, or those after memory ran out."""
            for result in restorer.each_aligned(to_array(frame) for frame in frames[len(done) :]):
                done.append(result.image)
                kept.extend(face.reason for face in result.faces if face.status == "kept")
                bar.step(*result.restored)

        session.run(rest)
        lines = [model.note, restored_line(len(done) - len(kept), len(done), model.name), kept_line(kept), memory_line(session.on_cpu)]
        return shown(lines, (from_arrays(done),))


class PasteFaces:
    TITLE = "Paste Faces (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = "Puts cropped faces back where Crop Faces took them from. They may be upscaled in between, but must stay square."
    SEARCH_ALIASES = ("gpen", "paste face", "uncrop")
    FUNCTION = "paste"
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("image", "mask", "report")
    OUTPUT_TOOLTIPS = ("The pictures with the faces put back. Alpha is kept.", "The area that changed.", REPORT_TIP)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures the faces were cropped from."}),
                "faces": (FACES, {"tooltip": "From Crop Faces."}),
                "crops": ("IMAGE", {"tooltip": "The edited crops, in the same number and order as they were cropped."}),
                **option_inputs(("strength", *PASTING)),
            },
            "optional": {
                "upscale_model": (
                    "UPSCALE_MODEL",
                    {"tooltip": "Upscales the rest of the picture when the output size is factor or native. Not connected: Lanczos."},
                ),
                **option_inputs(LATER_PASTING),
            },
        }

    def paste(self, image: torch.Tensor, faces: Any, crops: torch.Tensor, upscale_model: Any = None, **settings: Any) -> dict[str, Any]:
        import torch

        from ..gpen_core.pictures import from_array
        from ..gpen_core.pictures import to_array as picture_array
        from ..gpen_core.restore.pieces import face_matrices, load_helpers, paste_faces
        from ..gpen_core.steps.background import output_scale

        frames, cut = frames_of(image), frames_of(crops)
        where = checked(faces)
        where.belong(frames)
        if not where.template and len(where):
            raise SettingsError("These faces have not been cropped: connect the output 'faces' of Crop Faces.")
        if len(where) and cut.shape[0] != len(where):
            raise SettingsError(f"There are {cut.shape[0]} crops for {len(where)} faces: connect all crops of these faces and no others.")
        options = options_from(settings)
        bar = Bar(frames.shape[0])
        parser = occluder = None
        if len(where):
            from comfy.model_management import get_torch_device

            parser, occluder = load_helpers(options, weights_folders(), get_torch_device())
        if options.output_size == "native":
            matrices = face_matrices([face for _, face in where], cut.shape[1], where.template or "gpen")
            options = replace(options, output_size="factor", factor=output_scale("native", matrices, frames.shape[1:3]))
        enlarge = upscaler(upscale_model)
        done: list[Any] = []
        masks: list[NDArray[np.float32]] = []
        first = pasted = 0
        for frame, chosen in zip(frames, where.frames, strict=True):
            interrupted()
            own = [to_array(one)[..., :3] for one in cut[first : first + len(chosen)]]
            first += len(chosen)
            result = paste_faces(
                from_array(to_array(frame)),
                chosen,
                own,
                where.template or "gpen",
                options,
                parser=parser,
                occluder=occluder,
                upscaler=enlarge,
                progress=bar,
            )
            pixels = cpu_tensor(picture_array(result.image))
            if pixels.shape == frame.shape:
                pixels = torch.where(cpu_tensor(result.mask > 0)[..., None], pixels, frame.detach().to("cpu", torch.float32))
            done.append(pixels.numpy())
            masks.append(result.mask)
            pasted += sum(face.status == "restored" for face in result.faces)
            bar.step()
        line = f"{count_faces(pasted)} pasted" if len(where) else "no face to paste"
        return shown([line], (from_arrays(done), from_arrays(masks)))
