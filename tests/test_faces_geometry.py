"""Moving, scaling and rotating faces; removing duplicate detections. Needs no picture."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.faces import Face
from gpen_core.faces.face import by_confidence, overlap, suppress

numbers = st.floats(-500, 500, width=32)


@st.composite
def faces(draw: st.DrawFn) -> Face:
    x, y = draw(numbers), draw(numbers)
    wide, tall = draw(st.floats(0.5, 300, width=32)), draw(st.floats(0.5, 300, width=32))
    points = [[draw(numbers), draw(numbers)] for _ in range(5)]
    return Face((x, y, x + wide, y + tall), np.array(points, np.float32), draw(st.floats(0, 1)), draw(st.sampled_from([0, 90, 180, 270])))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 90, 180, 270]), st.data())
@settings(max_examples=100, deadline=None)
def test_turning_back_hits_the_same_pixel(height: int, width: int, angle: int, data: st.DataObject) -> None:
    picture = np.arange(height * width, dtype=np.int64).reshape(height, width)
    turned = np.rot90(picture, angle // 90)
    x, y = data.draw(st.integers(0, turned.shape[1] - 1)), data.draw(st.integers(0, turned.shape[0] - 1))
    face = Face((x, y, x, y), np.full((5, 2), (x, y), np.float32), 1.0).turned_back(angle, height, width)
    assert face.angle == angle
    for px, py in [face.box[:2], face.box[2:], *face.landmarks.tolist()]:
        assert picture[int(py), int(px)] == turned[y, x]


@given(faces(), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_four_quarter_turns_are_none(face: Face, height: int, width: int) -> None:
    back = face
    for tall, wide in ((height, width), (width, height), (height, width), (width, height)):
        back = back.turned_back(90, tall, wide)
    assert np.allclose(back.box, face.box, atol=1e-3) and np.allclose(back.landmarks, face.landmarks, atol=1e-3)


@given(faces(), st.floats(0.05, 20))
@settings(max_examples=50, deadline=None)
def test_scaling_and_moving_there_and_back(face: Face, factor: float) -> None:
    back = face.scaled(factor).scaled(1 / factor).moved(3, -7).moved(-3, 7)
    assert np.allclose(back.box, face.box, atol=0.02) and np.allclose(back.landmarks, face.landmarks, atol=0.02)
    assert face.scaled(factor).width == pytest.approx(face.width * factor, rel=1e-5, abs=1e-5)


def test_scaling_keeps_pixel_centres() -> None:
    # The first pixel of a picture enlarged twice becomes two, whose common centre lies between them.
    assert Face((0, 0, 1, 1), np.zeros((5, 2), np.float32), 1.0).scaled(2).box == (0.5, 0.5, 2.5, 2.5)


@given(st.lists(faces(), max_size=12), st.floats(0.05, 0.95))
@settings(max_examples=80, deadline=None)
def test_suppression(found: list[Face], limit: float) -> None:
    kept = suppress(found, limit)
    assert all(any(face is other for other in found) for face in kept)
    assert [face.score for face in kept] == sorted((face.score for face in kept), reverse=True)
    assert suppress(kept, limit) == kept
    boxes = np.array([face.box for face in kept], np.float64).reshape(-1, 4)
    for index, face in enumerate(kept):
        shared = overlap(face, boxes)
        assert shared[index] == pytest.approx(1.0)
        assert (np.delete(shared, index) <= limit).all()
    for face in found:  # whatever went, went for one that is as sure and covers it
        if not any(face is other for other in kept):
            assert any(other.score >= face.score - 0.0101 for other in kept)
    if len({(f.score, f.angle, f.box) for f in found}) == len(found):
        assert suppress(found[::-1], limit) == kept


def test_of_equally_sure_finds_the_upright_one_stays() -> None:
    points = np.zeros((5, 2), np.float32)
    upright, turned = Face((0, 0, 10, 10), points, 0.9991), Face((0, 0, 10, 10), points, 0.9994, 180)
    assert suppress([turned, upright], 0.4) == [upright]
    surer = Face((0, 0, 10, 10), points, 0.95, 90)
    assert suppress([Face((0, 0, 10, 10), points, 0.85), surer], 0.4) == [surer]


def test_no_faces() -> None:
    assert suppress([], 0.4) == [] and by_confidence([]) == []


def test_face_measures_and_json() -> None:
    face = Face((1, 2, 31, 22), np.arange(10, dtype=np.float32).reshape(5, 2), 0.98765, 90)
    assert (face.width, face.height, face.area, face.shorter_side, face.centre) == (30, 20, 600, 20, (16, 12))
    plain = json.loads(json.dumps(face.to_json()))
    assert plain == {"box": [1, 2, 31, 22], "landmarks": [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]], "score": 0.9877, "angle": 90}
