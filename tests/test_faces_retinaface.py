"""RetinaFace mobile0.25 gives OpenCV's results for the same file: batched, on any processor, and after a device fails."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from group_picture import PEOPLE, Group

from gpen_core import runtime
from gpen_core.errors import MemoryShortError
from gpen_core.faces import find_faces, onnx_network, retinaface
from gpen_core.faces.onnx_network import OnnxNetwork, depthwise
from gpen_core.faces.retinaface import EMBEDDED, RetinaFaceMobile


def test_it_says_what_opencv_said(golden_folder: Path) -> None:
    """golden/retinaface.npz: a part of the example portrait, and what OpenCV 5.0's network made of it."""
    with np.load(golden_folder / "retinaface.npz") as golden:
        picture = golden["picture"].astype(np.float32) / 255
        assert picture.shape[0] % 32 and picture.shape[1] % 32  # the network sees it with a border
        assert (golden["scores"] > 0.9).sum() > 1  # several anchors see the same face
        (said,) = RetinaFaceMobile().predict([picture])
        for name, ours in said._asdict().items():
            assert ours.shape == golden[name].shape
            assert ours.dtype == np.float32
            assert np.abs(ours - golden[name]).max() < 2e-4


def test_what_is_found_does_not_depend_on_the_processor(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processors with bfloat16 instructions find the same faces as those without: in bfloat16, scores move by hundredths."""
    said = []
    for fast in (False, True):
        monkeypatch.setattr(runtime, "computes_bf16", lambda fast=fast: fast)
        said += RetinaFaceMobile().predict([group.pixels])
    for name, ours in said[0]._asdict().items():
        assert np.array_equal(ours, getattr(said[1], name))


def test_many_small_pictures_at_once_are_seen_as_each_alone(group: Group) -> None:
    views = [np.ascontiguousarray(group.pixels[:192, x : x + 192]) for x in range(0, 1100, 30)]  # more than are looked at in one go
    detector = RetinaFaceMobile()
    alone = [detector.detect(view, 0.05) for view in views]
    assert detector.detect_many([], 0.05) == []
    together = detector.detect_many(views, 0.05)
    assert sum(map(len, alone)) > 40
    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert abs(one.score - other.score) < 1e-4
            assert np.abs(one.landmarks - other.landmarks).max() < 0.01


def test_no_convolution_is_computed_twice() -> None:
    """The file writes three of them down twice."""
    with torch.no_grad():
        steps = OnnxNetwork(EMBEDDED).values(torch.rand(1, 3, 64, 64))
        results = [y.clone() for operation, _, y in steps if operation == "Conv"]
    assert len(results) > 50
    for index, one in enumerate(results):
        assert not any(torch.equal(one, other) for other in results[:index])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (6, 9), (7, 4)])
def test_depthwise_is_torchs_convolution_of_single_channels(stride: int, shape: tuple[int, int]) -> None:
    x, weight, bias = torch.rand(2, 5, *shape), torch.rand(5, 1, 3, 3), torch.rand(5)
    expected = torch.nn.functional.conv2d(x, weight, bias, stride=stride, padding=1, groups=5)
    assert torch.allclose(depthwise(x, weight, bias, stride), expected, atol=1e-5)


def test_without_onednn_it_says_the_same(golden_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(onnx_network, "depthwise", lambda *given: asked.append(given[-1]) or depthwise(*given))
    test_it_says_what_opencv_said(golden_folder)
    assert set(asked) == {1, 2}  # strides


def test_a_read_only_picture_is_no_warning() -> None:
    picture = np.full((64, 64, 3), 0.5, np.float32)
    picture.setflags(write=False)
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else torch warns once a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert RetinaFaceMobile().detect(picture, 0.9) == []
    finally:
        torch.set_warn_always(always)


@pytest.mark.parametrize("wrong", [np.nan, 0.3])
def test_the_processor_steps_in_for_a_device_that_computes_wrongly(
    group: Group, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    right = retinaface._predictions

    def predictions(pictures: np.ndarray, device: torch.device) -> list[retinaface.Predictions]:
        said = right(pictures, torch.device("cpu"))
        return said if device.type == "cpu" else [each._replace(landmarks=each.landmarks + np.float32(wrong)) for each in said]

    monkeypatch.setattr(retinaface, "_predictions", predictions)
    retinaface._check.cache_clear()
    detector = RetinaFaceMobile("cuda")
    assert (
        detector.predict([group.pixels[:192, :192]])[0].landmarks.tolist()
        == right(group.pixels[None, :192, :192], torch.device("cpu"))[0].landmarks.tolist()
    )
    assert caplog.text.count("finding faces on the CPU, because torch on cuda failed: it computes wrong numbers") == 1


def test_the_processor_steps_in_for_a_device_that_fails(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    """From meta, which is in every torch, no result comes back."""
    detector = RetinaFaceMobile("meta")
    with caplog.at_level(logging.WARNING):
        assert len(find_faces(group.pixels, detector)) == PEOPLE
    assert caplog.text.count("finding faces on the CPU, because torch on meta failed") == 1


def test_a_failure_of_the_processor_is_an_error(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def full(*_: object) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(retinaface, "_predictions", full)
    with pytest.raises(MemoryShortError, match=r"not enough memory for finding faces: close other programs \(no memory\)"):
        RetinaFaceMobile().detect(np.zeros((64, 64, 3), np.float32), 0.9)
    assert not caplog.text
