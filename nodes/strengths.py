"""Strength per Face: a strength for each face, carried by FACES to the nodes that paste."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ..gpen_core.errors import SettingsError
from .faces import FACES, Faces, checked
from .load import CATEGORY


class StrengthPerFace:
    TITLE = "Strength per Face (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Gives each face its own strength. Connect the output to the input Faces of Restore Faces, or of Crop Faces before Paste Faces; "
        "their setting Strength is multiplied by it."
    )
    SEARCH_ALIASES = ("gpen", "face weight", "per face")
    FUNCTION = "give"
    RETURN_TYPES = (FACES,)
    RETURN_NAMES = ("faces",)
    OUTPUT_TOOLTIPS = ("The same faces, each with its strength.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        many = "One number from 0 to 1 for each face, in the order of the faces (1, 0.5, 0). The last one counts for all that follow."
        return {
            "required": {
                "faces": (FACES, {"tooltip": "From Detect Faces. Preview Faces shows their order."}),
                "strengths": ("STRING", {"default": "1", "tooltip": many}),
            }
        }

    def give(self, faces: Any, strengths: str) -> tuple[Faces]:
        where, each = checked(faces), _numbers(strengths)
        last = len(each) - 1
        frames = tuple(
            tuple(replace(face, strength=each[min(number, last)]) for number, face in enumerate(frame)) for frame in where.frames
        )
        return (replace(where, frames=frames),)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in re.split(r"[,;\s]+", text.strip())]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number <= 1 for number in numbers):  # NaN is not between 0 and 1 either
        raise SettingsError(f"strengths: {text!r} is not a list of numbers from 0 to 1; write them like 1, 0.5, 0.")
    return numbers
