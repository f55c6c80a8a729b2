"""The results of a restoration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..faces.face import Face

Status = Literal["restored", "kept", "failed", "stopped"]


@dataclass(frozen=True, eq=False)
class FaceResult:
    """One selected face: where it is in the input picture, and whether it was restored.

    index: its position in the chosen order, from 0. status: "restored"; "kept" (a guard left the original; `reason` says why); "failed"
    (the original pixels stay; `reason` says why); "stopped" (the user interrupted before it was done). strength: how much of a restored
    face was blended in, 0..1: the setting, or less for a face that is sharp already (`auto_strength`).
    """

    face: Face
    index: int
    status: Status
    reason: str = ""
    strength: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Box, landmarks, score, status, reason, index and strength as JSON values."""
        own = {"index": self.index, "status": self.status, "reason": self.reason, "strength": round(self.strength, 4)}
        return {**self.face.to_json(), **own}


@dataclass
class RestoreResult:
    """A restored picture and how it was made.

    image: the restored picture, of the same type as the input (Picture, NumPy array or PIL image). mask: (H, W) float32 0..1 at the
    output's size, what changed. crops, restored: the faces before and after, (S, S, 3) float32 RGB 0..1, one for each face whose status
    is "restored". scale: output size over input size. stopped: the user interrupted; the picture holds the faces done so far, at the
    input's size if it was not enlarged yet.
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
