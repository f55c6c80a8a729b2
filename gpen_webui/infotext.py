"""The settings in the parameters of generated pictures, and back from them."""

from __future__ import annotations

from typing import Any

from modules import script_callbacks, scripts, shared

from . import host
from .engine import ENGINE
from .fields import infotext, infotext_key, settings
from .settings import current

RESTORER_KEY = "Face restoration"  # what the host itself writes: the restorer's name


class GpenInfotext(scripts.Script):
    """Has no controls; stands where the host hands over the picture that was just restored."""

    def title(self) -> str:
        return f"{host.NAME} face restoration"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return []

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        """After the host's restorer and before the picture is saved."""
        if p.restore_faces and shared.opts.face_restoration_model == host.NAME and ENGINE.model is not None:
            p.extra_generation_params.update(infotext(current(), ENGINE.model))


def fill_in(text: str, parameters: dict[str, Any]) -> None:
    """Before parameters are pasted: a setting that a GPEN picture does not name was at its default when it was made."""
    if parameters.get(RESTORER_KEY) == host.NAME:
        for option in settings():
            parameters.setdefault(infotext_key(option), str(option.default))


def register() -> None:
    script_callbacks.on_infotext_pasted(fill_in)
