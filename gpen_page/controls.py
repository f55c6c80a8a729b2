"""Which control shows which setting, and back from the controls' values to settings. Made from RestoreOptions.table(); knows no gradio."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from gpen_core.options import AUTO, REGIONS, Group, Option, RestoreOptions, Value, parse_regions
from gpen_core.presets import NO_PRESET, PRESETS

Look = Literal["dropdown", "several", "slider", "number", "checkbox", "text", "picture"]

# In this order; the model and the preset stand above them.
TITLES: Mapping[Group, str] = {
    "look": "Look of the faces",
    "finding": "Finding faces",
    "choosing": "Choosing faces",
    "pasting": "Masks and edges",
    "size": "Output size",
    "input": "Input",
    "frames": "Videos and animations",
    "machine": "Machine",
}


@dataclass(frozen=True)
class Control:
    """How a setting is shown. value: what the control shows at the setting's default."""

    option: Option
    look: Look
    value: Any
    choices: tuple[str, ...] = ()


def control(option: Option, devices: Sequence[str] = (AUTO, "cpu")) -> Control:
    """The control of a setting other than the model, which has a list of its own. devices: the choices of `device`."""
    if option.name == "device":
        return Control(option, "dropdown", option.default, tuple(devices))
    if option.name == "mask_regions":
        return Control(option, "several", shown(option, option.default), REGIONS)
    if option.name == "person":
        return Control(option, "picture", None)
    if option.kind == "choice":
        return Control(option, "dropdown", option.default, option.choices)
    if option.kind in ("int", "float"):
        return Control(option, "slider" if option.kind == "float" else "number", option.default)  # of pixels, a slider cannot be aimed at
    return Control(option, "checkbox" if option.kind == "bool" else "text", option.default)


def sections() -> list[tuple[str, tuple[Option, ...]]]:
    """(title, settings) of every group below the model."""
    return [(title, RestoreOptions.of(group)) for group, title in TITLES.items()]


def names() -> list[str]:
    """The settings in the order of the controls: the model first, then by group."""
    return ["model", *(option.name for _, options in sections() for option in options)]


def shown(option: Option, value: Value) -> Any:
    """What the setting's control shows for a value."""
    return list(parse_regions(str(value))) if option.name == "mask_regions" else value


def options_of(values: Sequence[Any]) -> RestoreOptions:
    """The settings that the controls, in the order of names(), show. An emptied control means the default. Raises SettingsError."""
    given: dict[str, Any] = {}
    for name, value in zip(names(), values, strict=True):
        if isinstance(value, list):
            given[name] = ",".join(cast("list[str]", value))
        elif value is not None:
            given[name] = value
    return RestoreOptions.from_mapping(given)


def set_by_presets() -> list[str]:
    """The settings that any preset sets."""
    every = {name for preset in PRESETS.values() for name in preset.values}
    return [name for name in names() if name in every]


def after_preset(preset: str, before: str, values: Sequence[Any]) -> list[Any]:
    """What the controls of set_by_presets() show after a change of preset, given what they show now (`values`) and the preset before.

    A control that the user has set to something of their own stays.
    """
    table = {option.name: option for option in RestoreOptions.table()}
    old, new = _values(before), _values(preset)

    def after(name: str, value: Any) -> Any:
        default = table[name].default
        untouched = value in (default, old.get(name, default))
        return shown(table[name], new.get(name, default)) if untouched else value

    return [after(name, value) for name, value in zip(set_by_presets(), values, strict=True)]


def _values(preset: str) -> Mapping[str, Value]:
    return PRESETS[preset].values if preset in PRESETS else {}


def preset_choices() -> list[tuple[str, str]]:
    """(label, preset) of the list of presets."""
    return [(NO_PRESET, NO_PRESET), *((f"{name}: {preset.help}", name) for name, preset in PRESETS.items())]


def only(switched_on: Iterable[int]) -> str:
    """The setting `faces` for these numbers."""
    return ",".join(str(number) for number in sorted(set(switched_on)))
