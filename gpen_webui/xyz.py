"""Axes of the host's X/Y/Z plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import script_callbacks, scripts

from gpen_core.errors import SettingsError
from gpen_core.options import Option

from . import host
from .fields import axes, setting_key
from .models import choices

_TYPES = {"int": int, "float": float}


def add_axes() -> None:
    """Adds the axes to the plot script, once. Does nothing on a host without that script."""
    for data in scripts.scripts_data:
        options = getattr(data.module, "axis_options", None)
        axis = getattr(data.module, "AxisOption", None)
        if options is None or axis is None:
            continue
        present = {known.label for known in options}
        options.extend(made for option in axes() if (made := _axis(axis, option)).label not in present)


def _axis(axis: Any, option: Option) -> Any:
    more = {"choices": choices, "cost": 0.5} if option.name == "model" else {}  # a high cost makes the host switch models rarely
    return axis(f"[{host.NAME}] {option.label}", _TYPES.get(option.kind, str), _apply(option), confirm=_confirm(option), **more)


def _apply(option: Option) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, values: Any) -> None:
        # A plot of these settings needs restored faces, even if Restore faces is off.
        p.restore_faces = True
        p.override_settings["face_restoration_model"] = host.NAME
        p.override_settings[setting_key(option)] = value

    return apply


def _confirm(option: Option) -> Callable[[Any, Any], None]:
    def confirm(p: Any, values: Any) -> None:
        for value in values:
            try:
                option.checked(value)
            except SettingsError as error:
                raise RuntimeError(str(error)) from None  # what the host shows to the user
            if option.name == "model" and value not in choices():
                raise RuntimeError(f"There is no GPEN model named {value!r}. Choose one of {', '.join(choices())}.")

    return confirm


def register() -> None:
    script_callbacks.on_before_ui(add_axes)
