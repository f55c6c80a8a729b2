"""Choosing among faces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpen_core.errors import SettingsError
from gpen_core.faces.face import Face
from gpen_core.faces.select import ORDERS, parse_indices, select_faces

SHAPE = (100, 200, 3)


def face(x: float, y: float, side: float, score: float = 0.9) -> Face:
    return Face((x, y, x + side, y + side), np.zeros((5, 2), np.float32), score)


A, B, C = face(10, 60, 20, 0.99), face(90, 40, 12, 0.9), face(150, 5, 40, 0.85)


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("largest", [C, A, B]),
        ("left", [A, B, C]),
        ("right", [C, B, A]),
        ("top", [C, B, A]),
        ("bottom", [A, B, C]),
        ("centre", [B, C, A]),
        ("confidence", [A, B, C]),
    ],
)
def test_order(order: str, wanted: list[Face]) -> None:
    for given_in in ([A, B, C], [C, A, B], [B, C, A]):
        assert select_faces(given_in, SHAPE, order=order) == wanted


def test_sizes_numbers_and_indices() -> None:
    faces = [A, B, C]
    assert select_faces(faces, SHAPE, min_size=20) == [C, A]
    assert select_faces(faces, SHAPE, max_size=20) == [A, B]
    assert select_faces(faces, SHAPE, max_faces=1) == [C]
    assert select_faces(faces, SHAPE, indices=(2, 0)) == [B, C]
    assert select_faces(faces, SHAPE, indices=(2, 0), max_faces=1) == [B]
    assert select_faces(faces, SHAPE, indices=(7, 1)) == [A]
    assert select_faces([], SHAPE, indices=(0,)) == []


def test_indices_are_read() -> None:
    assert parse_indices("") == parse_indices("  ") == ()
    assert parse_indices("0,2,4-6") == (0, 2, 4, 5, 6)
    assert parse_indices(" 3 , 1-1,3 ") == (3, 1)


@pytest.mark.parametrize("text", ["a", "1,,2", "-1", "3-1", "1.5", "1;2", "99999"])
def test_bad_indices(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_indices(text)


def test_unknown_order() -> None:
    with pytest.raises(SettingsError, match="largest"):
        select_faces([], SHAPE, order="biggest")


boxes = st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 60), st.sampled_from([0.8, 0.9, 1.0]))


@given(st.lists(boxes, max_size=8, unique=True), st.sampled_from(ORDERS), st.randoms(use_true_random=False))
def test_the_order_found_does_not_matter(given_boxes: list[tuple[int, int, int, float]], order: str, random: object) -> None:
    faces = [face(*box) for box in given_boxes]
    shuffled = list(faces)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    wanted = [(f.box, f.score) for f in select_faces(faces, SHAPE, order=order)]
    assert [(f.box, f.score) for f in select_faces(shuffled, SHAPE, order=order)] == wanted
