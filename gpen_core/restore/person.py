"""Choosing one person's faces, by a picture of that person."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import PictureError, SettingsError, shown
from ..faces.face import Face
from ..pictures import Picture, from_array, read_picture
from ..pixels import Pixels
from ..steps.align import AlignmentError
from ..steps.recognise import Recogniser, features, likeness

log = logging.getLogger(__name__)


class Person:
    """Tells whether a face is this person's."""

    def __init__(self, given: Any, recogniser: Recogniser, find: Callable[[Pixels], Sequence[Face]], least: float) -> None:
        """given: a picture of the person: Path (never text), Picture, array or PIL image; its largest face counts.

        find: finds the faces in it. least: how alike a face has to be (see likeness()).
        Raises SettingsError for a picture without a face or one that cannot be read.
        """
        self._recogniser, self._least = recogniser, least
        name = f"'{shown(given, 300)}'" if isinstance(given, Path) else "the picture of the person"
        try:
            picture = read_picture(given) if isinstance(given, Path) else given if isinstance(given, Picture) else from_array(given)
        except PictureError as error:
            raise SettingsError(f"person: {error}") from error
        faces = sorted(find(picture.pixels), key=lambda face: -face.area)
        if not faces:
            raise SettingsError(f"person: no face was found in {name}; use a clear picture of the face, or lower the detection threshold")
        if len(faces) > 1:
            log.info("person: %s shows %d faces; the largest counts", name, len(faces))
        try:
            self._features = features(picture.pixels, faces[0].landmarks, recogniser)
        except AlignmentError as error:
            raise SettingsError(f"person: the face in {name} cannot be used: {error}") from error

    def has(self, picture: Pixels, face: Face) -> bool:
        """Whether a face of the picture is this person's."""
        try:
            found = likeness(self._features, features(picture, face.landmarks, self._recogniser))
        except AlignmentError:
            return False
        x, y = face.centre
        log.info("the face at %d,%d %s this person (likeness %.2f)", x, y, "is" if found >= self._least else "is not", found)
        return found >= self._least
