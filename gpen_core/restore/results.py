"""What a restoration gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..faces.face import Face

Status = Literal["restored", "failed", "stopped"]


@dataclass(frozen=True, eq=False)
class FaceResult:
    """One chosen face: where it is in the picture given in, and what became of it.

    index: its position in the chosen order, from 0. status: "restored"; "failed" (the original pixels stay; `reason` says why);
    "stopped" (the user interrupted before it).
    """

    face: Face
    index: int
    status: Status
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Box, landmarks, score, status, reason and index as plain numbers and texts."""
        return {**self.face.to_json(), "index": self.index, "status": self.status, "reason": self.reason}


@dataclass
class RestoreResult:
    """A restored picture and how it came about.

    image: what was given in, restored (Picture, NumPy array or PIL image alike). mask: (H, W) float32 0..1 at the output's size, what
    changed. crops, restored: the faces before and after, (S, S, 3) float32 RGB 0..1, in the order of the faces whose status is
    "restored". scale: output size over input size. stopped: the user interrupted; the picture holds the faces done until then, and has
    the input's size where that was before it was enlarged.
    """

    image: Any
    faces: list[FaceResult]
    mask: NDArray[np.float32]
    model: str
    seconds: float
    scale: float = 1.0
    stopped: bool = False
    crops: list[NDArray[np.float32]] = field(default_factory=lambda: [])
    restored: list[NDArray[np.float32]] = field(default_factory=lambda: [])
