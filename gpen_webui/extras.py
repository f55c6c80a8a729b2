"""The accordion "GPEN" in the host's Extras tab."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import scripts_postprocessing, ui_components

from gpen_core.errors import GpenError
from gpen_core.restore.results import RestoreResult

from . import host
from .engine import ENGINE
from .fields import component, extras, infotext
from .settings import current


class GpenExtras(scripts_postprocessing.ScriptPostprocessing):
    """Restores the picture of the Extras tab. Options that the accordion does not show come from Settings."""

    name = host.NAME
    order = 2500  # after Upscale and GFPGAN

    def ui(self) -> dict[str, Any]:
        """{argument: component}. Without element ids, as the host may show the accordion in several tabs."""
        accordion = getattr(ui_components, "InputAccordion", None)
        if accordion is not None:
            with accordion(False, label=host.NAME) as enable:
                controls = _controls()
        else:  # before 1.6
            with gr.Accordion(host.NAME, open=False):
                enable = gr.Checkbox(False, label="Enable")
                controls = _controls()
        return {"enable": enable, **controls}

    def process(self, pp: scripts_postprocessing.PostprocessedImage, enable: bool | None = None, **arguments: Any) -> None:
        """Replaces pp.image and adds to pp.info. The host's own API passes None for every argument: then nothing is done."""
        if not enable:
            return
        try:
            options = current(arguments)
            result = ENGINE.run(pp.image, options)
        except GpenError as error:
            host.report(f"the picture is unchanged: {error}")
            pp.info[host.NAME] = f"not restored: {host.public(error)}"
        except Exception as error:
            host.report(f"the picture is unchanged, because of a bug (please report it): {error}", traceback=True)
            pp.info[host.NAME] = f"not restored: {type(error).__name__}"
        else:
            pp.image = result.image
            # One by one: SD.Next shares one dict between pictures.
            for key, value in {**infotext(options, result.model), f"{host.NAME} restored": _summary(result)}.items():
                pp.info[key] = value


def _controls() -> dict[str, Any]:
    controls: dict[str, Any] = {}
    options = extras()
    for start in range(0, len(options), 2):
        with gr.Row():
            for option in options[start : start + 2]:
                shown, arguments = component(option)
                if option.kind == "bool":  # gradio shows a checkbox's info above its label, where it reads as another setting's
                    controls[option.name] = shown(label=f"{option.label}. {option.help}", value=option.default, **arguments)
                    continue
                label = f"{option.label} (visibility)" if option.name == "strength" else option.label
                controls[option.name] = shown(label=label, value=option.default, info=option.help, **arguments)
    return controls


def _summary(result: RestoreResult) -> str:
    if result.stopped and not result.faces:
        return "interrupted before any face was found"
    done = sum(face.status == "restored" for face in result.faces)
    failed = [f"face {face.index} failed ({host.public(face.reason)})" for face in result.faces if face.status == "failed"]
    stopped = ["interrupted"] if result.stopped else []
    return "; ".join([f"{done} of {len(result.faces)} face{'' if len(result.faces) == 1 else 's'}", *failed, *stopped])
