"""The host's face restorer "GPEN", used by Restore faces in txt2img and img2img and by extensions that restore faces."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from modules import face_restoration, shared
from numpy.typing import NDArray

from gpen_core.errors import GpenError

from . import host
from .engine import ENGINE
from .settings import current


class GpenFaceRestoration(face_restoration.FaceRestoration):
    """GPEN with the current settings of the section GPEN."""

    def name(self) -> str:
        return host.NAME

    def restore(self, np_image: NDArray[np.uint8], *args: Any, **kwargs: Any) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB in and out. A picture that cannot be restored comes back unchanged: a generation is never lost.

        SD.Next also passes its processing object, which is not needed.
        """
        try:
            picture = np.ascontiguousarray(np_image)
            return np.ascontiguousarray(ENGINE.run(picture, current()).image)
        except GpenError as error:
            host.report(f"the picture is unchanged: {error}")
        except Exception as error:
            host.report(f"the picture is unchanged, because of a bug (please report it): {error}", traceback=True)
        return np_image

    def send_model_to(self, device: Any) -> None:
        """Extensions that need memory (Dreambooth) send every restorer to the CPU. Moves to other devices happen when needed."""
        if torch.device(device).type == "cpu":
            ENGINE.unload()


def register() -> None:
    """Adds the restorer to the host's list, replacing the one from before a Reload UI."""
    others = [restorer for restorer in shared.face_restorers if restorer.name() != host.NAME]
    shared.face_restorers[:] = [*others, GpenFaceRestoration()]
