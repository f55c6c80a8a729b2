"""Faces from other software's landmarks: as the detector would have found them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from portrait_mesh import IBUG, MESH

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.errors import SettingsError
from gpen_core.faces.face import overlap
from gpen_core.faces.landmarks import face_from_landmarks
from gpen_core.pictures import read_picture

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent / "examples" / "portrait.png"
FORMS = {
    "478 points": MESH,
    "468 points": MESH[:468],
    "68 points": MESH[IBUG],
    "70 points": np.concatenate([MESH[IBUG], MESH[[468, 473]]]),
    "with depth": np.concatenate([MESH, np.zeros((478, 1))], axis=1),
}


@pytest.fixture(scope="module")
def detected():
    (face,) = FaceRestorer(RestoreOptions(model="GPEN-BFR-256-lite", device="cpu")).detect(read_picture(PICTURE))
    return face


@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_face_that_the_detector_finds(detected, form):
    face = face_from_landmarks(FORMS[form], 0.75)
    between = np.linalg.norm(detected.landmarks[1] - detected.landmarks[0])
    assert np.linalg.norm(face.landmarks - detected.landmarks, axis=1).max() < 0.08 * between
    assert overlap(face, np.array([detected.box]))[0] > 0.85
    assert face.score == 0.75 and face.landmarks.dtype == np.float32


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_a_face_lies_as_its_points_do(form, angle):
    """The forehead is above the eyes, wherever that is in the picture."""
    upright, points = face_from_landmarks(FORMS[form]), FORMS[form][:, :2]
    for _ in range(angle // 90):
        points = np.stack([-points[:, 1], points[:, 0]], axis=1)
    face, expected = face_from_landmarks(points), upright.turned_back(angle, 0, 0)
    # turned_back() turns about the corner of a picture of no size: one pixel off in each turn.
    shift = face.landmarks[0] - expected.landmarks[0]
    assert np.abs(face.landmarks - expected.landmarks - shift).max() < 1e-3
    assert np.allclose(np.reshape(face.box, (2, 2)), np.reshape(expected.box, (2, 2)) + shift, atol=1e-3)


def test_points_all_in_one_place_do_no_harm():
    with np.errstate(all="raise"):
        assert face_from_landmarks(np.full((68, 2), 5.0)).box == (5.0, 5.0, 5.0, 5.0)


@pytest.mark.parametrize("wrong", [np.zeros((67, 2)), np.zeros((68, 4)), np.zeros(136), np.full((68, 2), np.nan)])
def test_other_landmarks_are_refused(wrong):
    with pytest.raises(SettingsError, match="Landmarks must be"):
        face_from_landmarks(wrong)
