"""Finding faces: with the detector that ships, with YuNet's file, with facexlib or without."""

from __future__ import annotations

import sys
import types
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpen_core.errors import FeatureMissingError, SettingsError, WeightsError, WeightsMissingError
from gpen_core.faces import THRESHOLD, Face, draw_faces, find_faces, make_detector, select_faces
from gpen_core.faces.face import suppress
from gpen_core.options import RestoreOptions
from gpen_core.picture import read_picture

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
DETECTOR = make_detector()


def member(archive: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(archive) as opened:
        data = np.frombuffer(opened.read(name), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


def shares(a: Face, b: Face) -> float:
    """Largest distance between landmarks, as a share of the face."""
    return float(np.abs(a.landmarks - b.landmarks).max() / a.shorter_side)


@pytest.fixture(scope="module")
def solvay(shared: Path) -> np.ndarray:
    return read_picture(shared / "data" / "Solvay_conference_1927.png").pixels


def test_solvay_has_29_faces(solvay: np.ndarray) -> None:
    faces = find_faces(solvay, DETECTOR)
    assert len(faces) == 29
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    for face in faces:
        x0, y0, x1, y1 = face.box
        inside = (face.landmarks >= (x0 - 3, y0 - 3)) & (face.landmarks <= (x1 + 3, y1 + 3))
        assert inside.all()
        left_eye, right_eye, _nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0] and left_eye[1] < left_mouth[1]


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_turned_heads_are_found_where_they_are(angle: int) -> None:
    picture = read_picture(PORTRAIT).pixels
    (upright,) = find_faces(picture, DETECTOR)
    # The picture is turned clockwise, so that turning it by `angle` anticlockwise sets it upright.
    turned = np.ascontiguousarray(np.rot90(picture, -angle // 90))
    (found,) = find_faces(turned, DETECTOR, rotations=True)
    height, width = turned.shape[:2]
    assert shares(upright.turned_back(angle, height, width), found) < 0.05


@given(st.sampled_from([90, 180, 270]), st.integers(1, 50), st.integers(1, 50), st.data())
def test_turning_back_is_exact(angle: int, height: int, width: int, data: st.DataObject) -> None:
    picture = np.arange(height * width, dtype=np.float32).reshape(height, width)
    turned = np.rot90(picture, angle // 90)
    y, x = data.draw(st.integers(0, turned.shape[0] - 1)), data.draw(st.integers(0, turned.shape[1] - 1))
    face = Face((x, y, x, y), np.full((5, 2), (x, y), np.float32), 1.0).turned_back(angle, height, width)
    bx, by = face.landmarks[0].astype(int)
    assert picture[by, bx] == turned[y, x]
    assert face.box[:2] == (bx, by)


squares = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40), st.floats(0, 1))


@given(st.lists(squares, max_size=12), st.floats(0.1, 0.9))
def test_suppression_keeps_the_surest_and_no_doubles(boxes: list[tuple[int, int, int, float]], limit: float) -> None:
    faces = [Face((x, y, x + s, y + s), np.zeros((5, 2), np.float32), score) for x, y, s, score in boxes]
    kept = suppress(faces, limit)
    assert kept == suppress(kept, limit) and set(map(id, kept)) <= set(map(id, faces))
    if faces:
        assert kept[0].score == max(face.score for face in faces)


def test_portraits_show_one_person_each(shared: Path) -> None:
    archive = shared / "data" / "portraits-cc0-512.zip"
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith(".webp"))
    others = 0
    for name in names[::20]:
        person, *rest = select_faces(find_faces(member(archive, name), DETECTOR), (1024, 1024))
        assert person.shorter_side > 150, name
        others += len(rest)
    # A man in the background of one, which is right, and leaves taken for a face in another, which is not (docs/faces.md).
    assert others <= 2


def test_the_default_threshold_is_the_same_everywhere() -> None:
    assert RestoreOptions().threshold == THRESHOLD


def test_a_face_shrunk_to_20_pixels_is_found_by_looking_closer() -> None:
    picture = read_picture(PORTRAIT).pixels
    (face,) = find_faces(picture, DETECTOR)
    small = cv2.resize(picture, None, fx=20 / face.shorter_side, fy=20 / face.shorter_side, interpolation=cv2.INTER_AREA)
    (again,) = find_faces(small, DETECTOR)
    assert shares(face.scaled(small.shape[1] / picture.shape[1], small.shape[0] / picture.shape[0]), again) < 0.15


def test_a_face_cut_by_the_border_is_found() -> None:
    picture = read_picture(PORTRAIT).pixels
    (face,) = find_faces(picture, DETECTOR)
    cut = round(face.box[0] + 0.3 * face.width)
    (found,) = find_faces(np.ascontiguousarray(picture[:, cut:]), DETECTOR)
    assert shares(face.moved(-cut, 0), found) < 0.25


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (31, 500), (8, 20000), (20000, 8)])
@pytest.mark.parametrize("rotations", [False, True])
def test_odd_sizes_without_faces(shape: tuple[int, int], rotations: bool) -> None:
    picture = np.random.default_rng(0).random((*shape, 3), np.float32)
    assert find_faces(picture, DETECTOR, rotations=rotations) == []


def test_the_same_picture_gives_the_same_faces_and_is_not_changed() -> None:
    picture = read_picture(PORTRAIT).pixels
    before = picture.copy()
    first, second = find_faces(picture, DETECTOR), find_faces(picture, make_detector())
    assert np.array_equal(picture, before)
    assert [face.to_json() for face in first] == [face.to_json() for face in second]


def test_a_mask_says_where_to_look() -> None:
    picture = read_picture(PORTRAIT).pixels
    nowhere = np.zeros(picture.shape[:2], np.float32)
    assert find_faces(picture, DETECTOR, mask=nowhere) == []
    assert len(find_faces(picture, DETECTOR, mask=nowhere + 1)) == 1
    with pytest.raises(SettingsError, match="same"):
        find_faces(picture, DETECTOR, mask=nowhere[1:])


def test_wrong_settings() -> None:
    picture = np.zeros((40, 40, 3), np.float32)
    for wrong in ({"threshold": 0.0}, {"threshold": 1.1}, {"rotations": [45]}):
        with pytest.raises(SettingsError):
            find_faces(picture, DETECTOR, **wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="retinaface-mobile"):
        make_detector("mtcnn")


def test_drawing_shows_the_faces_and_leaves_the_picture() -> None:
    picture = read_picture(PORTRAIT).pixels
    before = picture.copy()
    faces = find_faces(picture, DETECTOR)
    drawn = draw_faces(picture, faces)
    assert np.array_equal(picture, before) and drawn.shape == picture.shape
    x0, y0, _, _ = (round(v) for v in faces[0].box)
    assert not np.array_equal(drawn[y0 - 2 : y0 + 3, x0 - 2 : x0 + 3], picture[y0 - 2 : y0 + 3, x0 - 2 : x0 + 3])


def test_yunet(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "Gewichte für Ψ"
    folder.mkdir()
    with pytest.raises(WeightsMissingError, match="opencv_zoo"):
        make_detector("yunet", weights_folders=[folder])
    name = "face_detection_yunet_2026may.onnx"
    (folder / name).write_bytes((shared / "data" / name).read_bytes())
    yunet = make_detector("yunet", weights_folders=[folder])
    picture = read_picture(PORTRAIT).pixels
    (ours,), (theirs,) = find_faces(picture, DETECTOR), find_faces(picture, yunet)
    assert shares(ours, theirs) < 0.15
    (folder / name).write_bytes(b"<html>not a model</html>")
    with pytest.raises(WeightsError, match="YuNet"):
        make_detector("yunet", weights_folders=[folder])


def test_a_broken_detector_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"broken\.onnx"):
        make_detector(model_file=broken).detect(np.zeros((64, 64, 3), np.float32), 0.5)
    with pytest.raises(WeightsError, match=r"gone\.onnx"):
        make_detector(model_file=tmp_path / "gone.onnx")


class StubRetinaFace(torch.nn.Module):
    """facexlib's interface: made from a network name, fed BGR 0..255, gives rows of box, score and five points."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.made.append(how)
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def detect_faces(self, image: np.ndarray, conf_threshold: float, nms_threshold: float) -> np.ndarray:
        assert nms_threshold == 0.4 and image.dtype == np.float32
        self.image = image
        width = image.shape[1]
        return np.array([[width * 0.1, 5, width * 0.5, 25, 0.97, *np.linspace(1, 10, 10)]])


def test_facexlib_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = types.ModuleType("facexlib.detection.retinaface")
    module.RetinaFace = StubRetinaFace  # type: ignore[attr-defined]
    for name in ("facexlib", "facexlib.detection"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "facexlib.detection.retinaface", module)
    with pytest.raises(WeightsMissingError, match="detection_Resnet50_Final"):
        make_detector("retinaface-r50", weights_folders=[tmp_path])
    torch.save({"module.weight": torch.ones(2)}, tmp_path / "detection_Resnet50_Final.pth")
    detector = make_detector("retinaface-r50", weights_folders=[tmp_path / "none", tmp_path])
    assert StubRetinaFace.made[-1]["network_name"] == "resnet50"
    picture = np.zeros((30, 40, 3), np.float32)
    picture[..., 0] = 1
    (face,) = detector.detect(picture, 0.9)
    assert face.box == pytest.approx((4, 5, 20, 25)) and face.score == 0.97
    assert np.array_equal(detector._network.image[0, 0], [0, 0, 255]), "BGR, 0..255"  # type: ignore[attr-defined]
    (wide,) = detector.detect(np.zeros((300, 3000, 3), np.float32), 0.9)
    assert detector._network.image.shape[1] == 1000 and wide.width == pytest.approx(1200)  # type: ignore[attr-defined]
    torch.save({"other": torch.ones(2)}, tmp_path / "detection_Resnet50_Final.pth")
    with pytest.raises(WeightsError, match="RetinaFace-R50"):
        make_detector("retinaface-r50", weights_folders=[tmp_path])


def test_without_facexlib_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facexlib", None)
    monkeypatch.delitem(sys.modules, "facexlib.detection.retinaface", raising=False)
    with pytest.raises(FeatureMissingError, match="pip install facexlib"):
        make_detector("retinaface-r50")
