"""The accordion "GPEN" in the host's Extras tab."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.context import Context
from modules import scripts_postprocessing, ui_components

from gpen_core.errors import GpenError
from gpen_core.options import Option
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
        enable, controls = accordion(host.NAME, lambda: rows(extras()))
        return {"enable": enable, **controls}

    def process(self, pp: scripts_postprocessing.PostprocessedImage, enable: bool | None = None, **arguments: Any) -> None:
        """Replaces pp.image and adds to pp.info. The host's own API passes None for every argument: then nothing is done."""
        if not enable or host.is_video(pp):
            return
        person = arguments.pop("person", None)
        try:
            options = current(arguments)
            result = ENGINE.run(pp.image, options, person=person)
        except GpenError as error:
            host.report(f"the picture is unchanged: {error}")
            pp.info[host.NAME] = f"not restored: {host.public(error)}"
        except Exception as error:
            host.report(f"the picture is unchanged, because of a bug (please report it): {error}", traceback=True)
            pp.info[host.NAME] = f"not restored: {type(error).__name__}"
        else:
            pp.image = result.image
            # One by one: SD.Next shares one dict between pictures.
            for key, value in {**infotext(options, result.model), f"{host.NAME} restored": summary(result)}.items():
                pp.info[key] = value


def accordion(title: str, controls: Callable[[], dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """An accordion with a switch: (the switch, what controls() makes in it)."""
    if _is_in(title):
        return _enable(), controls()
    known = getattr(ui_components, "InputAccordion", None)
    if known is not None:
        with known(False, label=title) as enable:
            return enable, controls()
    with gr.Accordion(title, open=False):  # before 1.6
        return _enable(), controls()


def _is_in(title: str) -> bool:
    """Whether the host has already opened an accordion of this title, as SD.Next does: a second title inside it would say nothing."""
    block = Context.block
    while block is not None:
        if isinstance(block, gr.Accordion) and block.label == title:
            return True
        block = block.parent
    return False


def _enable() -> Any:
    return gr.Checkbox(value=False, label="Enable")


def rows(options: Sequence[Option]) -> dict[str, Any]:
    """A control for each option, two per row; checkboxes, which are last, have rows of their own."""
    controls: dict[str, Any] = {}
    for switches in (False, True):
        of_this_kind = [option for option in options if (option.kind == "bool") == switches]
        for start in range(0, len(of_this_kind), 2):
            with gr.Row(elem_classes=["gpen-controls"]):  # see style.css
                controls |= {option.name: _control(option) for option in of_this_kind[start : start + 2]}
    return controls


def _control(option: Option) -> Any:
    shown, arguments = component(option)
    # gradio shows a checkbox's info above its label, where it reads as another setting's; a picture has none.
    if option.kind == "bool" or option.name == "person":
        value = None if option.name == "person" else option.default
        return shown(label=f"{option.label}. {option.help}", value=value, **arguments)
    label = f"{option.label} (visibility)" if option.name == "strength" else option.label
    return shown(label=label, value=option.default, info=option.help, **arguments)


def summary(result: RestoreResult) -> str:
    """What happened to the faces, for the picture's parameters."""
    if result.stopped and not result.faces:
        return "interrupted before any face was found"
    done = sum(face.status == "restored" for face in result.faces)
    kept = [f"face {face.index} kept ({face.reason})" for face in result.faces if face.status == "kept"]
    failed = [f"face {face.index} failed ({host.public(face.reason)})" for face in result.faces if face.status == "failed"]
    stopped = ["interrupted"] if result.stopped else []
    return "; ".join([f"{done} of {len(result.faces)} face{'' if len(result.faces) == 1 else 's'}", *kept, *failed, *stopped])
