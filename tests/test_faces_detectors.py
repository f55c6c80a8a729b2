"""Choosing a detector; YuNet and facexlib's RetinaFace-R50."""

from __future__ import annotations

import importlib
import shutil
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


def test_yunet(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "détecteurs"
    folder.mkdir()
    shutil.copy(shared / "data" / "face_detection_yunet_2026may.onnx", folder)
    bgr = cv2.imdecode(np.frombuffer((shared / "data" / "Solvay_conference_1927.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    picture = np.ascontiguousarray(bgr[:, :, ::-1], np.float32) / 255
    detector = make_detector("yunet", weights_folders=[tmp_path / "nowhere", folder])
    found, expected = find_faces(picture, detector, threshold=0.7), find_faces(picture, make_detector())
    assert len(found) == 29
    for face in expected:  # the same faces, and the same order of landmarks
        assert any(np.linalg.norm(face.landmarks - other.landmarks, axis=1).mean() < 0.15 * face.shorter_side for other in found)
    for shape in ((1, 1), (8, 3000), (1, 500)):
        assert find_faces(np.full((*shape, 3), 0.5, np.float32), detector) == []


def test_yunet_without_its_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="opencv_zoo"):
        make_detector("yunet", weights_folders=[tmp_path])
    with pytest.raises(SettingsError, match="does not exist"):
        make_detector("yunet", model_file=tmp_path / "x.onnx")
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
        make_detector("retinaface-r50", model_file=tmp_path / WEIGHTS)
