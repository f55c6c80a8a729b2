"""The section GPEN of the host's Settings, made from RestoreOptions.table()."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from modules import shared

from gpen_core.options import Option, RestoreOptions

from . import host
from .fields import component, infotext_key, setting_key, settings
from .models import choices

SECTION = ("gpen", f"{host.NAME} face restoration")
CATEGORY = "postprocessing"  # beside the host's Face restoration (1.7 and later; earlier ones have no categories)


def current(changes: Mapping[str, Any] | None = None) -> RestoreOptions:
    """The current settings. changes: values that replace some of them; None is ignored. Raises SettingsError."""
    values = {option.name: getattr(shared.opts, setting_key(option), None) for option in settings()}
    given = {**values, **{name: value for name, value in (changes or {}).items() if value is not None}}
    return RestoreOptions.from_controls({name: value for name, value in given.items() if value is not None})


def register() -> None:
    """Adds the section to the host's settings. Calling it again changes nothing.

    Called when the scripts load, not when the page is built: with --nowebui there is no page, but the host's API lists the settings.
    """
    for option in settings():
        shared.opts.add_option(setting_key(option), _info(option))
        shared.opts.data.setdefault(setting_key(option), option.default)  # before 1.7 override_settings needs it there


def _info(option: Option) -> shared.OptionInfo:
    shown, arguments = component(option)
    is_model = option.name == "model"
    # The host calls it each time it builds the list, so new files appear in it.
    info = shared.OptionInfo(
        option.default,
        option.label,
        shown,
        (lambda: {"choices": choices()}) if is_model else arguments,
        section=SECTION,
        refresh=choices if is_model else None,
    )
    info.comment_after = f"<span class='info'>({escape(option.help)})</span>"
    info.category_id = CATEGORY
    info.infotext = infotext_key(option)  # read back by the paste button, into "Override settings"; before 1.6 see infotext.py
    return info
