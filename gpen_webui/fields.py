"""How the host shows RestoreOptions.table(): where each setting goes, its name there, and its gradio component."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import gradio as gr

from gpen_core.options import AUTO, PRESET_CONTROL, Option, RestoreOptions, Value

from .host import NAME
from .models import choices

if TYPE_CHECKING:
    from gradio.components import Component

IN_XYZ = ("model", "strength", "fidelity")
_SIZE_LIMITS = ("min_size", "max_size")
_OF_A_PERSON = ("person", "person_likeness")


def settings() -> tuple[Option, ...]:
    """The options of the section GPEN in Settings, in the table's order, below the preset.

    A picture being generated keeps its size, so the options that enlarge it are in Extras and the API only. So is `aligned`, which is for
    pictures of one cropped face, and the person, who is chosen by a picture: a path would be written into the pictures' parameters, and
    could be set from outside. The host chooses the device (--use-cpu gpen), and has no videos.
    """
    elsewhere = (*(option.name for option in RestoreOptions.of("size", "input", "frames")), "device", *_OF_A_PERSON)
    return (PRESET_CONTROL, *(option for option in RestoreOptions.table() if option.name not in elsewhere))


def extras() -> tuple[Option, ...]:
    """The options of the accordion in Extras, two per row, checkboxes last; the others come from Settings."""
    pairs = zip_longest(RestoreOptions.of("model", "look"), RestoreOptions.of("size"))
    options = [option for pair in pairs for option in pair if option is not None and option.kind != "bool"]
    options += [option for option in RestoreOptions.of("choosing") if option.name not in _SIZE_LIMITS]
    return (*options, PRESET_CONTROL, *(option for option in RestoreOptions.of("look", "input") if option.kind == "bool"))


def axes() -> tuple[Option, ...]:
    """The options that are axes of the X/Y/Z plot."""
    return tuple(option for option in RestoreOptions.table() if option.name in IN_XYZ)


def setting_key(option: Option) -> str:
    """The option's name among the host's settings (config.json, override_settings)."""
    return f"gpen_{option.name}"


def infotext_key(option: Option) -> str:
    """The option's name in generation parameters."""
    return f"{NAME} {option.name.replace('_', ' ')}"


def component(option: Option) -> tuple[type[Component], dict[str, Any]]:
    """The gradio component that shows the option, and its arguments except label and value."""
    if option.name == "model":
        return gr.Dropdown, {"choices": choices()}
    if option.name == "person":
        return gr.Image, {"type": "pil"}
    if option.kind == "choice":
        return gr.Dropdown, {"choices": list(option.choices)}
    if option.kind in ("int", "float"):
        return gr.Slider, {"minimum": option.minimum, "maximum": option.maximum, "step": option.step}
    return (gr.Checkbox if option.kind == "bool" else gr.Textbox), {}


def infotext(options: RestoreOptions, model: str) -> dict[str, Value]:
    """What goes into a picture's generation parameters: the model used, and every setting that differs from its default.

    model: what `auto` resolved to. A model chosen by name keeps that name. Of a path, only the file's name is written: pictures are
    shared, and folders can contain the user's name.
    """
    changed: Mapping[str, Value] = options.changed()
    texts = {infotext_key(o): changed[o.name] for o in RestoreOptions.table() if o.name in changed and o.name not in ("model", "device")}
    chosen = re.split(r"[\\/]", options.model)[-1]
    return {f"{NAME} model": model if options.model == AUTO else chosen, **texts}
