"""Writes the settings into generation parameters, and reads them back."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from modules import script_callbacks, scripts, shared

from gpen_core.errors import SettingsError

from . import host
from .engine import ENGINE
from .fields import infotext, infotext_key, setting_key, settings
from .settings import current

RESTORER_KEY = "Face restoration"  # written by the host: the restorer's name
CHOICE_KEY = "Face restoration model"


class GpenInfotext(scripts.Script):
    """Has no controls; the host calls it with the picture that was just restored."""

    def title(self) -> str:
        return f"{host.NAME} face restoration"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return []

    def process(self, p: Any, *args: Any) -> None:
        """Before sampling: the host already stores the parameters for the paste button. What `auto` resolves to is not known yet."""
        if _restores(p):
            self._write(p, None)

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        """After the host's restorer and before the picture is saved."""
        if _restores(p):
            self._write(p, ENGINE.model)
            if ENGINE.model is None:  # it failed, and the picture is unchanged
                for option in settings():
                    p.extra_generation_params.pop(infotext_key(option), None)

    def _write(self, p: Any, model: str | None) -> None:
        try:
            options = current()
        except SettingsError:
            return  # the restorer reports the error
        p.extra_generation_params.update(infotext(options, model or options.model))


def _restores(p: Any) -> bool:
    return bool(p.restore_faces) and shared.opts.face_restoration_model == host.NAME


def fill_in(text: str, parameters: dict[str, Any]) -> None:
    """Before parameters are pasted: a setting that a GPEN picture does not mention had its default value."""
    if parameters.get(RESTORER_KEY) == host.NAME:
        parameters.setdefault(CHOICE_KEY, host.NAME)
        for option in settings():
            parameters.setdefault(infotext_key(option), str(option.default))


def name_settings() -> None:
    """Makes the host read back which restorer was used; on its own it reads back only whether one was."""
    if hasattr(shared.OptionInfo(), "infotext"):
        choice = shared.opts.data_labels.get("face_restoration_model")
        if choice is not None:
            choice.infotext = choice.infotext or CHOICE_KEY
    else:  # before 1.6: one list of names, our own settings among them
        mapping = import_module("modules.generation_parameters_copypaste").infotext_to_setting_name_mapping
        names = [(CHOICE_KEY, "face_restoration_model"), *((infotext_key(option), setting_key(option)) for option in settings())]
        mapping.extend(pair for pair in names if pair not in mapping)


def register() -> None:
    script_callbacks.on_before_ui(name_settings)
    script_callbacks.on_infotext_pasted(fill_in)
