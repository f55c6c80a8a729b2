"""RestoreOptions.table() as the host shows it: which setting goes where, what it is called there, which gradio component it gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import gradio as gr

from gpen_core.options import AUTO, Option, RestoreOptions, Value

from .host import NAME
from .models import choices

# Not in Settings. A picture that is being generated keeps its size, so what enlarges it is in Extras and the API only; so is `aligned`,
# which is about a picture that is one cropped face. The device is the host's (--use-cpu gpen).
NOT_IN_SETTINGS = frozenset({"output_size", "factor", "background", "aligned", "device"})
# Two in a row. What is not here is taken from Settings.
IN_EXTRAS = (
    *("model", "output_size"),
    *("strength", "factor"),
    *("fidelity", "background"),
    *("detail", "max_faces"),
    *("order", "faces"),
    *("colour_match", "aligned"),
)
IN_XYZ = ("model", "strength", "fidelity")


def settings() -> tuple[Option, ...]:
    """The options of the section GPEN in Settings, in the table's order."""
    return tuple(option for option in RestoreOptions.table() if option.name not in NOT_IN_SETTINGS)


def extras() -> tuple[Option, ...]:
    """The options of the accordion in Extras; the others are taken from Settings."""
    table = {option.name: option for option in RestoreOptions.table()}
    return tuple(table[name] for name in IN_EXTRAS)


def axes() -> tuple[Option, ...]:
    """The options that are axes of the X/Y/Z plot."""
    return tuple(option for option in RestoreOptions.table() if option.name in IN_XYZ)


def setting_key(option: Option) -> str:
    """The option's name among the host's settings (config.json, override_settings)."""
    return f"gpen_{option.name}"


def infotext_key(option: Option) -> str:
    """The option's name in generation parameters."""
    return f"{NAME} {option.name.replace('_', ' ')}"


def component(option: Option) -> tuple[type, dict[str, Any]]:
    """The gradio component that shows the option, and its arguments except label and value."""
    if option.name == "model":
        return gr.Dropdown, {"choices": choices()}
    if option.kind == "choice":
        return gr.Dropdown, {"choices": list(option.choices)}
    if option.kind in ("int", "float"):
        return gr.Slider, {"minimum": option.minimum, "maximum": option.maximum, "step": option.step}
    return (gr.Checkbox if option.kind == "bool" else gr.Textbox), {}


def infotext(options: RestoreOptions, model: str) -> dict[str, Value]:
    """What goes into a picture's generation parameters: the model that was used, and every setting that is not at its default.

    model: the name that `auto` came to; a model chosen by name is written as it was chosen, of one chosen by path only the file's name:
    pictures go to other people, and folders name their owners.
    """
    changed: Mapping[str, Value] = options.changed()
    texts = {infotext_key(o): changed[o.name] for o in RestoreOptions.table() if o.name in changed and o.name not in ("model", "device")}
    chosen = re.split(r"[\\/]", options.model)[-1]
    return {f"{NAME} model": model if options.model == AUTO else chosen, **texts}
