"""Choosing a detector; YuNet and facexlib's RetinaFace-R50."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from gpen_core.errors import FeatureMissingError, SettingsError, WeightsError, WeightsMissingError
from gpen_core.faces import find_faces, make_detector

WEIGHTS = "detection_Resnet50_Final.pth"


def test_unknown_name() -> None:
    with pytest.raises(SettingsError, match="retinaface-mobile, retinaface-r50, yunet"):
        make_detector("mtcnn")


def test_the_options_offer_the_same_detectors_and_threshold() -> None:
    from gpen_core import options
    from gpen_core.faces.detect import DETECTORS, THRESHOLD

    assert options.DETECTORS == DETECTORS
    assert options.RestoreOptions().threshold == THRESHOLD


def test_importing_faces_does_not_import_torch() -> None:
    import subprocess

    code = "import sys, gpen_core.faces; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


POINTS = [(-3.5, -4.0), (3.0, -3.5), (0.5, 0.5), (-2.5, 4.0), (2.0, 4.5)]  # landmarks in pixels from a face's centre


def stand_in_for_yunet(path: Path) -> None:
    """YuNet's inputs and outputs: a face, 16 wide and 24 tall, is where eight by eight pixels are red and not blue."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper

    number, weights, nodes, outputs = onnx.TensorProto.FLOAT, [], [], []

    def weight(name: str, values: object) -> str:
        weights.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    for stride in (8, 16, 32):
        red = np.zeros((1, 3, stride, stride), np.float32)
        if stride == 8:
            red[:, 2] = 1 / (255 * stride * stride)  # the last of three: OpenCV's pictures are BGR
        box, points = [0.5, 0.5, np.log(16 / stride), np.log(24 / stride)], 0.5 + np.array(POINTS).ravel() / stride
        blank = np.zeros_like(red)
        for kind, kernel, bias in (("cls", red, [0]), ("obj", -red[:, ::-1], [1]), ("bbox", blank, box), ("kps", blank, points)):
            name, many = f"{kind}_{stride}", len(bias)
            given = ["input", weight(f"{name}_kernel", np.tile(kernel, (many, 1, 1, 1))), weight(f"{name}_bias", np.float32(bias))]
            nodes += [
                helper.make_node("Conv", given, [f"{name}_map"], kernel_shape=[stride, stride], strides=[stride, stride]),
                helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", weight(f"{name}_shape", [1, -1, many])], [name]),
            ]
            outputs.append(helper.make_tensor_value_info(name, number, [1, "places", many]))
    picture = helper.make_tensor_value_info("input", number, [1, 3, "height", "width"])
    model = helper.make_model(helper.make_graph(nodes, "yunet", [picture], outputs, weights), opset_imports=[helper.make_opsetid("", 11)])
    model.ir_version = 6
    path.write_bytes(model.SerializeToString())


def test_yunet_through_opencv(tmp_path: Path) -> None:
    """Everything but the network: which file is taken, colours, places, the order of the landmarks, scores, the smallest pictures."""
    folder = tmp_path / "détecteurs"
    folder.mkdir()
    stand_in_for_yunet(folder / "face_detection_yunet_2026may.onnx")
    for other in ("2023mar", "2026may_int8"):  # older, and quantised: neither is opened
        (folder / f"face_detection_yunet_{other}.onnx").write_bytes(b"<html>")
    detector = make_detector("yunet", weights_folders=[tmp_path / "nowhere", folder])
    picture = np.zeros((90, 150, 3), np.float32)
    picture[40:48, 24:32, 0], picture[16:24, 96:104, 0] = 0.9, 1
    picture[40:48, 96:104] = 1  # white
    picture[64:72, 24:32, 2] = 1  # blue
    sure, fair = detector.detect(picture, 0.7)
    assert (sure.score, fair.score) == (pytest.approx(1, abs=1e-5), pytest.approx(np.sqrt(np.rint(0.9 * 255) / 255), abs=1e-5))
    for face, centre in ((sure, (100, 20)), (fair, (28, 44))):
        assert face.box == pytest.approx([centre[0] - 8, centre[1] - 12, centre[0] + 8, centre[1] + 12], abs=1e-3)
        assert np.abs(face.landmarks - np.array(centre) - POINTS).max() < 1e-3
    assert [face.score for face in detector.detect(picture, 0.96)] == [sure.score]
    for shape in ((1, 1), (8, 3000), (1, 500)):
        assert find_faces(np.full((*shape, 3), 0.5, np.float32), detector, threshold=0.8) == []


def test_yunet_itself(people: Path) -> None:
    """The same faces, and the same order of landmarks, as the detector that ships; where YuNet's file is at hand."""
    bgr = cv2.imdecode(np.frombuffer((people / "Solvay_conference_1927.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    picture = np.ascontiguousarray(bgr[:, :, ::-1], np.float32) / 255
    detector = make_detector("yunet", weights_folders=[people])
    found, expected = find_faces(picture, detector, threshold=0.7), find_faces(picture, make_detector())
    assert len(found) == 29
    for face in expected:
        assert any(np.linalg.norm(face.landmarks - other.landmarks, axis=1).mean() < 0.15 * face.shorter_side for other in found)
    for shape in ((1, 1), (8, 3000), (1, 500)):
        assert find_faces(np.full((*shape, 3), 0.5, np.float32), detector) == []


def test_yunet_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match="opencv_zoo") as caught:
        make_detector("yunet", weights_folders=[tmp_path, tmp_path])  # a host's own folders and ours can be the same
    assert str(caught.value).count(str(tmp_path)) == 1
    (tmp_path / "face_detection_yunet_bad.onnx").write_bytes(b"<html>")
    with pytest.raises(WeightsError, match="YuNet"):
        make_detector("yunet", weights_folders=[tmp_path])


def test_r50_without_facexlib(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, package: str | None = None) -> types.ModuleType:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(FeatureMissingError, match="pip install --no-deps facexlib"):
        make_detector("retinaface-r50")


def stub_facexlib(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """A module with the interface of facexlib 0.3.0; returns the calls made to it."""
    import torch

    calls: list[tuple[object, ...]] = []

    class RetinaFace(torch.nn.Module):
        def __init__(self, network_name: str = "resnet50", half: bool = False, phase: str = "test", device: object = None) -> None:
            super().__init__()
            calls.append((network_name, half, phase, device))
            self.head = torch.nn.Linear(2, 1)

        def detect_faces(self, image: object, conf_threshold: float = 0.8, nms_threshold: float = 0.4, use_origin_size: bool = True):
            calls.append((image, conf_threshold, nms_threshold, use_origin_size))
            points = np.arange(20, 30)
            return np.array([[10, 11, 40, 51, 0.95, *points], [60, 11, 80, 31, 0.97, *points]], np.float32)

    module = types.ModuleType("facexlib.detection.retinaface")
    module.RetinaFace = RetinaFace  # pyright: ignore
    for name in ("facexlib", "facexlib.detection"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "facexlib.detection.retinaface", module)
    return calls


def test_r50_adapter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    calls = stub_facexlib(monkeypatch)
    with pytest.raises(WeightsMissingError, match=rf"(?s){WEIGHTS}.*github.com/xinntao/facexlib.*nowhere"):
        make_detector("retinaface-r50", weights_folders=[tmp_path / "nowhere"])

    torch.save({"module.head.weight": torch.ones(1, 2), "module.head.bias": torch.zeros(1)}, tmp_path / WEIGHTS)
    detector = make_detector("retinaface-r50", weights_folders=[tmp_path / "nowhere", tmp_path])
    assert calls[0] == ("resnet50", False, "test", torch.device("cpu"))

    picture = np.zeros((100, 90, 3), np.float32)
    picture[:, :, 0] = 1.0  # red: the last channel of what facexlib is shown
    faces = detector.detect(picture, 0.9)
    image, threshold, nms, native = calls[-1]
    assert isinstance(image, np.ndarray) and image.shape == (100, 90, 3) and image[..., 2].min() == 255 and image[..., :2].max() == 0
    assert (threshold, nms, native) == (0.9, 0.4, True)
    assert [face.score for face in faces] == pytest.approx([0.97, 0.95])
    assert faces[1].box == (9.5, 10.5, 39.5, 50.5)
    assert faces[1].landmarks.tolist() == [[19.5, 20.5], [21.5, 22.5], [23.5, 24.5], [25.5, 26.5], [27.5, 28.5]]


def test_r50_with_a_torchvision_that_does_not_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    stub_facexlib(monkeypatch)

    def fail(*_: object) -> None:
        raise RuntimeError("Couldn't load custom C++ ops.")

    monkeypatch.setattr(sys.modules["facexlib.detection.retinaface"].RetinaFace, "detect_faces", fail)
    torch.save({"head.weight": torch.ones(1, 2), "head.bias": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(FeatureMissingError, match="torchvision"):
        make_detector("retinaface-r50", weights_folders=[tmp_path])


def test_r50_with_other_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    stub_facexlib(monkeypatch)
    torch.save({"something.else": torch.ones(1)}, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match="RetinaFace-R50"):
        make_detector("retinaface-r50", weights_folders=[tmp_path])
