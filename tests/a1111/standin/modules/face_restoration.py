from __future__ import annotations

from typing import Any

from . import shared


class FaceRestoration:
    def name(self) -> str:
        return "None"

    def restore(self, np_image: Any) -> Any:
        return np_image


def restore_faces(np_image: Any) -> Any:
    """What processing and other extensions call: the chosen restorer, or nothing where there is none of that name."""
    chosen = [restorer for restorer in shared.face_restorers if restorer.name() == shared.opts.face_restoration_model]
    return chosen[0].restore(np_image) if chosen else np_image
