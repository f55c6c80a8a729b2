"""What a setting takes and what it says to what it does not; the table that all doors are made from."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gpen_core.errors import SettingsError
from gpen_core.options import OFFICIAL_REGIONS, REGIONS, Option, RestoreOptions, parse_indices, parse_regions

TABLE = {option.name: option for option in RestoreOptions.table()}
# Defaults and limits are kept by others: saved workflows, pictures' parameters, scripts. Whoever changes one changes it here as well.
NUMBERS = {
    "strength": (1.0, 0, 1, 0.05), "fidelity": (0.0, 0, 1, 0.05), "detail": (1.0, 0, 1, 0.05), "min_likeness": (0.0, 0, 1, 0.05),
    "threshold": (0.9, 0.05, 1, 0.01),
    "min_size": (0, 0, 16384, 1), "max_size": (0, 0, 16384, 1), "max_faces": (0, 0, 1000, 1), "feather": (0.5, 0, 1, 0.05),
    "factor": (2.0, 1, 8, 0.25), "steady": (1.0, 0, 1, 0.05), "person_likeness": (0.3, 0, 1, 0.05),
}  # fmt: skip
OTHERS = {
    "model": "auto", "colour_match": False, "auto_strength": "off", "guard": False, "detector": "retinaface-mobile", "look_closer": True,
    "rotations": False, "order": "largest", "faces": "", "mask": "landmarks", "output_size": "keep", "background": "lanczos",
    "aligned": False, "precision": "auto", "device": "auto", "occlusion": "off",
    "mask_regions": "skin,nose,glasses,eyes,brows,ears,mouth,lips,hair,earrings,necklace,neck", "person": "",
}  # fmt: skip


def test_defaults_and_limits_are_what_others_have_saved() -> None:
    assert {n: (o.default, o.minimum, o.maximum, o.step) for n, o in TABLE.items() if o.kind in ("int", "float")} == NUMBERS
    assert {name: option.default for name, option in TABLE.items() if name not in NUMBERS} == OTHERS
    assert all(type(option.default) is {"int": int, "float": float, "bool": bool}.get(option.kind, str) for option in TABLE.values())
    made = RestoreOptions()
    assert all(getattr(made, option.name) == option.default for option in TABLE.values()) and made.changed() == {}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_within_their_limits_are_taken_and_others_are_not(name: str) -> None:
    option = TABLE[name]
    low, high = NUMBERS[name][1:3]
    for value in (low, high, str(low), f" {high} "):
        taken = option.checked(value)
        assert taken == float(value) and type(taken) is (int if option.kind == "int" else float)
    below, above = (low - 1, high + 1) if option.kind == "int" else (low - 0.001, high + 0.001)
    for value in (below, above):
        with pytest.raises(SettingsError, match=rf"^{name} .*between {low:g} and {high:g}; {value:g} is not$"):
            option.checked(value)
    for value in (True, "much", None, math.nan, math.inf, [], *((0.5,) if option.kind == "int" else ())):
        with pytest.raises(SettingsError, match=f"^{name} .*a {'whole ' if option.kind == 'int' else ''}number; ") as caught:
            option.checked(value)
        assert repr(value) in str(caught.value)


def test_limits_of_one_side() -> None:
    least = Option("n", "look", "int", 0, "", "", minimum=3)
    assert least.checked(3) == 3 and least.checked(10**6) == 10**6
    with pytest.raises(SettingsError, match=r"n .*at least 3; 2 is not"):
        least.checked(2)
    assert Option("n", "look", "float", 0.0, "", "").checked(-5) == -5.0


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        *((yes, True) for yes in (True, "true", "yes", "on", "1", " Yes ")),
        *((no, False) for no in (False, "false", "no", "off", "0", "OFF")),
    ],
)
def test_yes_and_no_in_words(value: Any, wanted: bool) -> None:
    assert TABLE["rotations"].checked(value) is wanted


@pytest.mark.parametrize("value", [1, 0, None, "maybe", ""])
def test_what_is_neither_yes_nor_no(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"rotations .*yes or no"):
        TABLE["rotations"].checked(value)


def test_a_choice_that_is_nearly_one_is_hinted_at() -> None:
    with pytest.raises(SettingsError, match=r"order .*one of largest, .*; 'larger' is not \(did you mean largest\?\)$"):
        RestoreOptions(order="larger")
    with pytest.raises(SettingsError, match=r"'xxxxxx' is not$"):
        RestoreOptions(order="xxxxxx")
    for name in ("order", "faces", "model"):
        with pytest.raises(SettingsError, match=f"{name} .*text"):
            RestoreOptions(**{name: 3})
    with pytest.raises(SettingsError, match=r"model .*empty"):
        RestoreOptions(model="  ")


def test_unknown_settings_and_their_nearest_names() -> None:
    with pytest.raises(SettingsError, match=r"there is no setting 'fidelty'; did you mean fidelity"):
        RestoreOptions.from_mapping({"fidelty": 1})
    with pytest.raises(SettingsError, match=r"there is no setting 'zzz'$"):
        RestoreOptions.from_mapping({"zzz": 1})
    with pytest.raises(SettingsError, match=r"max_size.*max_faces|max_faces.*max_size"):  # several
        RestoreOptions.from_mapping({"max_sizes": 1})


def test_options_are_in_groups_and_in_order() -> None:
    assert [option.name for option in RestoreOptions.of("size", "look")] == [
        "strength", "fidelity", "detail", "colour_match", "auto_strength", "guard", "min_likeness", "output_size", "factor", "background",
    ]  # fmt: skip
    groups = {option.group for option in TABLE.values()}
    assert sum(len(RestoreOptions.of(group)) for group in groups) == len(TABLE) and RestoreOptions.of() == ()


def test_positions() -> None:
    assert parse_indices("0-9999") == tuple(range(10_000)), "10,000 are not too many"
    assert parse_indices("7-7, 123456789") == (7, 123456789)
    for text in ("0-10000", "0-9999,10000", "1234567890"):
        with pytest.raises(SettingsError):
            parse_indices(text)
    assert len(parse_indices("0-9998,10000")) == 10_000
    with pytest.raises(SettingsError, match=r"6-4.*write 4-6"):
        parse_indices("0, 6-4")
    with pytest.raises(SettingsError, match="0,2,4-6"):
        RestoreOptions(faces=",")


def test_regions_are_names_in_any_case_and_an_unknown_one_is_told_the_known_ones() -> None:
    assert parse_regions(" Skin, eyes;SKIN,") == ("skin", "eyes")
    assert parse_regions("") == parse_regions(" , ") == OFFICIAL_REGIONS == tuple(name for name in REGIONS if name not in ("hat", "cloth"))
    with pytest.raises(SettingsError, match=r"mask_regions.*'noze' \(did you mean nose\?\).*skin, nose, .*cloth$"):
        RestoreOptions(mask_regions="skin,noze")
    with pytest.raises(SettingsError, match=r"'background'"):
        RestoreOptions(mask_regions="background")
