"""Choosing among faces."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpen_core.errors import SettingsError
from gpen_core.faces import Face, select_faces
from gpen_core.options import parse_indices

SHAPE = (100, 200, 3)


def face(x: float, y: float, wide: float, tall: float, score: float = 0.9) -> Face:
    return Face((x, y, x + wide, y + tall), np.zeros((5, 2), np.float32), score)


A = face(0, 50, 30, 40, 0.8)
B = face(90, 40, 20, 25, 0.99)
C = face(150, 0, 40, 50, 0.9)
FACES = [A, B, C]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("largest", [C, A, B]),
        ("smallest", [B, A, C]),
        ("left", [A, B, C]),
        ("right", [C, B, A]),
        ("top", [C, B, A]),
        ("bottom", [A, B, C]),
        ("centre", [B, C, A]),
        ("confidence", [B, C, A]),
    ],
)
def test_orders(order: str, expected: list[Face]) -> None:
    assert select_faces(FACES, SHAPE, order=order) == expected


def test_the_options_offer_every_order() -> None:
    from gpen_core.faces import select
    from gpen_core.options import ORDERS

    assert set(ORDERS) == set(select.ORDERS)
    for order in ORDERS:
        assert len(select_faces(FACES, SHAPE, order=order)) == 3


def test_sizes_are_of_the_shorter_side() -> None:
    assert select_faces(FACES, SHAPE, min_size=30) == [C, A]
    assert select_faces(FACES, SHAPE, max_size=30) == [A, B]
    assert select_faces(FACES, SHAPE, min_size=30, max_size=30) == [A]


def test_indices_after_sizes_and_before_the_number(caplog: pytest.LogCaptureFixture) -> None:
    assert select_faces(FACES, SHAPE, indices=(2, 0)) == [B, C]
    assert select_faces(FACES, SHAPE, indices=(2, 0), max_faces=1) == [B]
    assert select_faces(FACES, SHAPE, min_size=30, indices=(1,)) == [A]
    with caplog.at_level(logging.INFO):
        assert select_faces(FACES, SHAPE, indices=(1, 7)) == [A]
    assert "7" in caplog.text


@pytest.mark.parametrize("wrong", [{"order": "biggest"}, {"min_size": -1}, {"max_size": -1}, {"max_faces": -1}, {"indices": (0, -1)}])
def test_wrong_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        select_faces(FACES, SHAPE, **wrong)  # pyright: ignore


boxes = st.tuples(*[st.integers(0, 50)] * 2, *[st.integers(1, 50)] * 2)


@given(st.lists(boxes, max_size=10), st.sampled_from(["largest", "left", "centre", "confidence"]), st.integers(0, 4), st.integers(0, 20))
def test_selection_is_stable_and_a_part(places: list[tuple[int, int, int, int]], order: str, most: int, smallest: int) -> None:
    found = [face(*place) for place in places]
    everything = select_faces(found, SHAPE, order=order)
    assert sorted(map(id, everything)) == sorted(map(id, found))
    assert select_faces(everything, SHAPE, order=order) == everything
    some = select_faces(found, SHAPE, order=order, max_faces=most, min_size=smallest)
    fitting = [f for f in everything if f.shorter_side >= smallest]
    assert some == (fitting[:most] if most else fitting)


@given(st.lists(st.integers(0, 500), max_size=20))
def test_indices_round_trip(positions: list[int]) -> None:
    assert parse_indices(",".join(map(str, positions))) == tuple(dict.fromkeys(positions))


def test_parse_indices() -> None:
    assert parse_indices("0,2,4-6") == (0, 2, 4, 5, 6)
    assert parse_indices(" 3 - 4 , 1;3") == (3, 4, 1)
    assert parse_indices("  ") == ()
    assert parse_indices("0,") == (0,) and parse_indices("0, 2-3 ; ") == (0, 2, 3)


@pytest.mark.parametrize("text", ["a", "1,,2", "-1", "4-2", "1-", "0-99999999", "1.5", ",", "0,,", ",0", "²"])
def test_wrong_indices(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_indices(text)
