"""Crop and paste as separate steps give what the whole gives; what hosts hand in (upscaler, mask, folder) is used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_restorer import Finder, Painter, face_at, noise

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.errors import SettingsError
from gpen_core.faces.face import Face
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.pictures import from_array, read_picture
from gpen_core.progress import Progress
from gpen_core.restore.pieces import boxes_mask, crop_faces, face_matrices, faces_in_boxes, faces_mask, paste_faces
from gpen_core.steps.align import template_points

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
FACES = [face_at(10, 5, 60), face_at(70, 20, 50)]
OPTIONS = RestoreOptions(device="cpu", strength=0.8, feather=0.3)


def test_pieces_are_the_whole():
    picture = noise((90, 140, 4), np.float32)
    whole = FaceRestorer(OPTIONS, network=Painter(), detector=Finder([]))(picture, faces=FACES)
    fitting, crops = crop_faces(picture[..., :3], FACES, "gpen", 64)
    assert fitting == FACES and all(np.array_equal(one, other) for one, other in zip(crops, whole.crops, strict=True))
    result = paste_faces(from_array(picture), fitting, whole.restored, "gpen", OPTIONS)
    pasted = result.image
    assert np.array_equal(pasted.pixels, whole.image[..., :3]) and np.array_equal(result.mask, whole.mask)
    assert pasted.alpha is not None and np.array_equal(pasted.alpha, picture[..., 3])


def test_the_picture_grows_as_asked():
    picture = from_array(noise((40, 60, 3), np.float32))
    crops = [np.full((64, 64, 3), 0.5, np.float32)]
    for options, shape in ((OPTIONS, (40, 60)), (RestoreOptions(output_size="factor", factor=1.5), (60, 90))):
        result = paste_faces(picture, FACES[:1], crops, "gpen", options)
        assert result.image.pixels.shape[:2] == result.mask.shape == shape
    native = paste_faces(picture, [face_at(5, 5, 32)], crops, "gpen", RestoreOptions(output_size="native")).image
    assert native.pixels.shape[:2] == (80, 120)


def test_faces_that_fit_no_template_are_left_out(caplog):
    flat = Face((0, 0, 20, 20), np.zeros((5, 2), np.float32), 0.9)
    fitting, crops = crop_faces(noise((50, 50, 3), np.float32), [flat, FACES[0]], "gpen", 32)
    assert fitting == [FACES[0]] and len(crops) == 1 and "was skipped" in caplog.text


@pytest.mark.parametrize("crops", [[], [np.zeros((8, 9, 3), np.float32)]])
def test_crops_that_do_not_fit_are_refused(crops):
    with pytest.raises(SettingsError, match=r"paste all crops|square"):
        paste_faces(from_array(noise((50, 50, 3))), FACES[:1], crops, "gpen", OPTIONS)


def test_matrices_carry_landmarks_to_the_template():
    (matrix,) = face_matrices([FACES[0]], 128, "gpen")
    there = FACES[0].landmarks @ matrix[:, :2].T + matrix[:, 2]
    assert np.abs(there - template_points("gpen", 128)).max() < 1e-3


def test_masks_of_faces():
    soft = faces_mask(FACES, (90, 140))
    assert soft.shape == (90, 140) and soft.max() == 1 and 0 < soft.mean() < 0.5
    x, y = FACES[0].centre
    assert soft[round(y), round(x)] == 1 and not faces_mask([], (9, 9)).any()
    face = Face((10.0, 20.0, 29.0, 39.0), FACES[0].landmarks, 0.9)
    assert boxes_mask([face], (90, 140)).sum() == 400
    assert boxes_mask([face], (90, 140), grow=0.5).sum() == pytest.approx(39 * 39, abs=80)
    assert boxes_mask([Face((-50.0, -50.0, -10.0, -10.0), FACES[0].landmarks, 0.9)], (9, 9)).sum() == 0


def test_a_box_of_another_program_becomes_a_face(caplog):
    pixels = read_picture(PORTRAIT).pixels
    detector = RetinaFaceMobile()
    (found,) = FaceRestorer(OPTIONS, network=Painter(), detector=detector).detect(pixels)
    x0, y0, x1, y1 = found.box
    boxes = [(x0 - 5, y0 - 5, x1 + 5, y1 + 5), (200.0, 250.0, 240.0, 300.0), (5000.0, 0.0, 5010.0, 9.0)]
    faces = faces_in_boxes(pixels, boxes, detector, 0.9)
    assert len(faces) == 1 and np.abs(faces[0].landmarks - found.landmarks).max() < 2
    assert caplog.text.count("no face was found in the box") == 2


def test_detect_looks_where_it_is_told():
    pixels = read_picture(PORTRAIT).pixels
    restorer = FaceRestorer(OPTIONS, network=Painter())
    where = np.zeros(pixels.shape[:2], np.float32)
    assert restorer.detect(pixels, where=where) == []
    where[:160] = 1
    assert len(restorer.detect(pixels, where=where)) == 1
    with pytest.raises(SettingsError, match="mask"):
        restorer.detect(pixels, where=where[:9])


def test_a_hosts_upscaler_enlarges_the_background():
    picture = noise((40, 40, 3), np.float32)
    asked: list[tuple[int, ...]] = []

    def black(pixels: np.ndarray) -> np.ndarray:
        asked.append(pixels.shape)
        return np.zeros((80, 80, 3), np.float32)

    restorer = FaceRestorer(RestoreOptions(output_size="factor", factor=2), network=Painter(), detector=Finder([]), upscaler=black)
    result = restorer(picture, faces=[])
    assert asked == [(40, 40, 3)] and result.image.shape == (80, 80, 3) and not result.image.any()


def test_pasting_shows_no_faces_that_whoever_made_them_has_seen():
    class Shown(Progress):
        def __init__(self) -> None:
            self.shown: list[np.ndarray] = []

        def report(self, done: int, total: int, what: str, preview: np.ndarray | None = None) -> None:
            if preview is not None:
                self.shown.append(preview)

    picture, pasting, restoring = noise((90, 140, 3), np.float32), Shown(), Shown()
    whole = FaceRestorer(OPTIONS, network=Painter(), detector=Finder([]), progress=restoring)(picture, faces=FACES)
    paste_faces(from_array(picture), FACES, whole.restored, "gpen", OPTIONS, progress=pasting)
    assert len(restoring.shown) == len(FACES) and not pasting.shown
