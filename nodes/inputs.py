"""Inputs of the nodes, generated from RestoreOptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..gpen_core.options import PRESET, PRESET_CONTROL, Group, Option, RestoreOptions, Value
from ..gpen_core.task_options import FaceTask, TaskOptions

# Settings added after workflows were saved: a workflow stores values by position, so new ones come last and may be missing.
LATER = ("detail", "auto_strength", "guard", "min_likeness", "mask_regions", "occlusion")
LATER_CHOOSING = ("person_likeness",)  # of the nodes that find faces
LATEST = tuple(option.name for option in RestoreOptions.of("frames"))  # came after the preset
DEFAULTS: dict[str, Value] = {"steady": 0.0}  # a batch is often of pictures that only look alike
EMPTY = ("mask_regions",)  # empty means its default, which is so long that it would cover the label in the row
# Set elsewhere in a workflow: the model and its precision by Load GPEN Model, the device by ComfyUI, the background by an upscale
# model, `aligned` by Restore Aligned Faces, the person by a picture.
ELSEWHERE = (*(option.name for option in RestoreOptions.of("model", "input", "machine")), "background", "person")


def _inputs_of(*groups: Group) -> tuple[str, ...]:
    return tuple(option.name for option in RestoreOptions.of(*groups) if option.name not in (*LATER, *LATER_CHOOSING, *ELSEWHERE))


FINDING = _inputs_of("finding", "choosing")
CHANGING = _inputs_of("look")
PASTING = _inputs_of("pasting", "size")
# Of the later ones, those that a node for aligned faces has too.
LATER_CHANGING = tuple(option.name for option in RestoreOptions.of("look") if option.name in LATER)
# And those that a node for pasting has.
LATER_PASTING = ("detail", *(option.name for option in RestoreOptions.of("pasting") if option.name in LATER))
# Inputs that ComfyUI, where it can, shows only on demand.
ADVANCED = ("look_closer", "rotations", "min_size", "max_size", "order", "feather", "mask_regions")
# The nodes already have an input named mask: where to look.
NAMES = {"mask": "mask_kind"}


def option_inputs(names: Iterable[str]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """ComfyUI inputs for these settings, in the table's order: {input name: (type, settings)}."""
    wanted = set(names)
    return {NAMES.get(option.name, option.name): _input(option) for option in RestoreOptions.table() if option.name in wanted}


def preset_input() -> dict[str, tuple[Any, dict[str, Any]]]:
    """ComfyUI's input for a preset. Settings that came after it follow it."""
    return {PRESET.name: _input(PRESET_CONTROL)}


def task_inputs(task: FaceTask) -> tuple[dict[str, Any], dict[str, Any]]:
    """ComfyUI inputs for a task's settings: those that were there when its node came, and later ones."""
    named = {NAMES.get(option.name, option.name): option for option in TaskOptions.table(task) if option.name not in ELSEWHERE}
    later = (*LATER, *LATER_CHOOSING)
    now = {name: _input(option) for name, option in named.items() if option.name not in later}
    return now, {name: _input(option) for name, option in named.items() if option.name in later}


def of_a_face(task: FaceTask) -> dict[str, Any]:
    """ComfyUI inputs for the settings that apply to a picture of one face."""
    return {name: given for name, given in task_inputs(task)[0].items() if name == "official" or (task, name) == ("inpaint", "feather")}


def task_options_from(task: FaceTask, values: Mapping[str, Any]) -> TaskOptions:
    """TaskOptions from a node's inputs. Raises SettingsError."""
    named = {NAMES.get(option.name, option.name): option.name for option in TaskOptions.table(task) if option.name not in ELSEWHERE}
    return TaskOptions.from_mapping(task, {named[name]: value for name, value in values.items() if name in named})


def _input(option: Option) -> tuple[Any, dict[str, Any]]:
    extra: dict[str, Any] = {"default": "" if option.name in EMPTY else DEFAULTS.get(option.name, option.default), "tooltip": option.help}
    if option.name in ADVANCED:
        extra["advanced"] = True
    if option.kind == "choice":
        return list(option.choices), extra
    if option.kind in ("int", "float"):
        extra |= {"min": option.minimum, "max": option.maximum, "step": option.step}
        if option.kind == "int":
            extra |= {key: int(extra[key]) for key in ("min", "max", "step")}
        return option.kind.upper(), extra
    return {"bool": "BOOLEAN", "text": "STRING"}[option.kind], extra


def options_from(values: Mapping[str, Any]) -> RestoreOptions:
    """RestoreOptions from a node's inputs; inputs that are not settings are ignored. Raises SettingsError."""
    chosen: dict[str, Value] = {**DEFAULTS, **{name: value for name, value in values.items() if name == PRESET.name}}
    for option in RestoreOptions.table():
        name = NAMES.get(option.name, option.name)
        if option.name not in ELSEWHERE and name in values and not (option.name in EMPTY and values[name] == ""):
            chosen[option.name] = values[name]
    return RestoreOptions.from_controls(chosen)
