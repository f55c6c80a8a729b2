"""The type FACES: the faces of every frame of a batch, and what identifies the batch they belong to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..gpen_core.errors import SettingsError
from .tensors import to_array

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from ..gpen_core.faces.face import Face

FACES = "FACES"


@dataclass(frozen=True, eq=False)
class Faces:
    """frames: the chosen faces of each frame, in order. height, width: of the frames, in pixels.

    numbers: each face's position among all detected faces, from 0, as the setting "Which faces" takes it. prints: a fingerprint of each
    frame (gpen_core.faces.same_picture). template: the alignment template of the crops ("gpen" or "ffhq"), empty before Crop Faces.
    """

    frames: tuple[tuple[Face, ...], ...]
    height: int
    width: int
    numbers: tuple[tuple[int, ...], ...]
    prints: tuple[NDArray[np.float32], ...]
    template: str = ""

    def __len__(self) -> int:
        return sum(len(frame) for frame in self.frames)

    def __iter__(self) -> Iterator[tuple[int, Face]]:
        """Yields (frame number, face) in the order of the crops."""
        for number, frame in enumerate(self.frames):
            for face in frame:
                yield number, face

    def fit(self, frames: torch.Tensor) -> None:
        """Raises SettingsError if the batch has another number or size of frames."""
        count, height, width = frames.shape[:3]
        if len(self.frames) != count or (self.height, self.width) != (height, width):
            raise SettingsError(
                f"These faces belong to {len(self.frames)} picture(s) of {self.width}x{self.height} pixels, "
                f"not to {count} of {width}x{height}: connect the picture in which they were found."
            )

    def belong(self, frames: torch.Tensor) -> None:
        """Raises SettingsError if these are not the faces of these pictures. The pictures may have been edited since detection."""
        from ..gpen_core.faces.same_picture import same_picture

        self.fit(frames)
        for number, (found, mark, now) in enumerate(zip(self.frames, self.prints, prints_of(frames), strict=True), 1):
            if found and not same_picture(mark, now):
                which = f"Picture {number} is not" if len(self.frames) > 1 else "This is not"
                raise SettingsError(f"{which} the picture in which these faces were found: connect that picture.")

    def kept(self, indices: Sequence[Sequence[int]], template: str) -> Faces:
        """Keeps the faces at these indices of each frame and records the template they were cropped with."""
        frames = tuple(tuple(faces[i] for i in which) for faces, which in zip(self.frames, indices, strict=True))
        numbers = tuple(tuple(all_[i] for i in which) for all_, which in zip(self.numbers, indices, strict=True))
        return replace(self, frames=frames, numbers=numbers, template=template)


def faces_of(frames: torch.Tensor, found: Sequence[Sequence[Face]], numbers: Sequence[Sequence[int]] | None = None) -> Faces:
    """FACES from pictures and the faces found in each. numbers: see Faces; None: their indices."""
    places = numbers if numbers is not None else [range(len(faces)) for faces in found]
    return Faces(
        tuple(tuple(faces) for faces in found),
        int(frames.shape[1]),
        int(frames.shape[2]),
        tuple(tuple(which) for which in places),
        prints_of(frames),
    )


def prints_of(frames: torch.Tensor) -> tuple[NDArray[np.float32], ...]:
    from ..gpen_core.faces.same_picture import picture_print

    return tuple(picture_print(to_array(frame)[..., :3]) for frame in frames)


def checked(value: Any) -> Faces:
    """The value of a FACES input. Raises SettingsError if it comes from another pack."""
    if not isinstance(value, Faces):
        raise SettingsError(f"This input takes FACES from a GPEN node, not a {type(value).__name__} from another node pack.")
    return value
