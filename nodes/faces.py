"""What travels along the wire FACES: the faces of every frame of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..gpen_core.errors import SettingsError

if TYPE_CHECKING:
    from ..gpen_core.faces.face import Face

FACES = "FACES"


@dataclass(frozen=True, eq=False)
class Faces:
    """frames: the chosen faces of each frame, in order. height, width: of the frames, in pixels.

    template: how the faces were cropped ("gpen" or "ffhq"), empty before Crop Faces.
    """

    frames: tuple[tuple[Face, ...], ...]
    height: int
    width: int
    template: str = ""

    def __len__(self) -> int:
        return sum(len(frame) for frame in self.frames)

    def __iter__(self) -> Iterator[tuple[int, Face]]:
        """(number of the frame, face), in the order of the crops."""
        for number, frame in enumerate(self.frames):
            for face in frame:
                yield number, face

    def fit(self, frames: int, height: int, width: int) -> None:
        """Raises SettingsError where these are not the faces of such a batch."""
        if len(self.frames) != frames or (self.height, self.width) != (height, width):
            raise SettingsError(
                f"These faces belong to {len(self.frames)} picture(s) of {self.width}x{self.height} pixels, "
                f"not to {frames} of {width}x{height}: connect the picture in which they were found."
            )


def checked(value: Any) -> Faces:
    """The value of a FACES input. Raises SettingsError where it comes from another pack."""
    if not isinstance(value, Faces):
        raise SettingsError(f"This input takes FACES of the GPEN nodes, not a {type(value).__name__} of another node pack.")
    return value
