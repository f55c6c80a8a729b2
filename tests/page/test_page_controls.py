"""The page's controls agree with the table of settings."""

from __future__ import annotations

import pytest

from gpen_core.options import PRESET, REGIONS, RestoreOptions
from gpen_core.presets import NO_PRESET, PRESETS
from gpen_page.controls import (
    TITLES,
    after_preset,
    control,
    names,
    only,
    options_of,
    preset_choices,
    sections,
    set_by_presets,
)

TABLE = {option.name: option for option in RestoreOptions.table()}


def defaults() -> list[object]:
    return ["auto", *(control(TABLE[name]).value for name in names()[1:])]


def changed(**values: object) -> list[object]:
    return [values.get(name, value) for name, value in zip(names(), defaults(), strict=True)]


def test_every_setting_has_one_control():
    assert sorted(names()) == sorted(TABLE)
    assert [option.group for _, options in sections() for option in options] == [g for g in TITLES for _ in RestoreOptions.of(g)]


def test_controls_at_their_defaults_are_the_defaults():
    assert options_of(defaults()) == RestoreOptions()
    assert options_of([None] * len(names())) == RestoreOptions()  # emptied


@pytest.mark.parametrize("name", [name for name in TABLE if name != "model"])
def test_a_control_allows_what_the_setting_allows(name):
    option = TABLE[name]
    shown = control(option, ["auto", "cpu"])
    if option.kind == "choice":
        assert shown.choices == option.choices
    for choice in shown.choices:
        value = [choice] if shown.look == "several" else choice
        assert getattr(options_of(changed(**{name: value})), name) == choice
    looks = {"bool": {"checkbox"}, "int": {"number"}, "float": {"slider"}, "choice": {"dropdown"}}
    assert shown.look in looks.get(option.kind, {"text", "dropdown", "several", "picture"})


def test_regions_are_chosen_from_a_list():
    assert control(TABLE["mask_regions"]).choices == REGIONS
    assert options_of(changed(mask_regions=["skin", "hat"])).mask_regions == "skin,hat"
    assert options_of(changed(mask_regions=[])).mask_regions == ""


def test_every_preset_is_in_the_list():
    assert tuple(value for _, value in preset_choices()) == PRESET.choices


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_fills_in_its_settings_and_leaves_without_a_trace(preset):
    before = [control(TABLE[name]).value for name in set_by_presets()]
    filled = after_preset(preset, NO_PRESET, before)
    values = dict(zip(set_by_presets(), filled, strict=True))
    assert options_of(changed(**values)) == RestoreOptions.preset(preset)
    assert after_preset(NO_PRESET, preset, filled) == before


def test_what_the_user_has_set_stays():
    values = {name: control(TABLE[name]).value for name in set_by_presets()}
    values["threshold"] = 0.55
    filled = dict(zip(set_by_presets(), after_preset("group", NO_PRESET, list(values.values())), strict=True))
    assert filled["threshold"] == 0.55 and filled["guard"] is True


def test_a_control_too_few_is_noticed():
    with pytest.raises(ValueError, match="zip"):
        options_of(defaults()[:-1])
    with pytest.raises(ValueError, match="zip"):
        after_preset("group", NO_PRESET, [])


def test_numbers_become_the_setting_faces():
    assert only([2, 0, 2]) == "0,2"
    assert RestoreOptions(faces=only([5, 3])).faces == "3,5"
