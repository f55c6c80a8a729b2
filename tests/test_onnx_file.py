"""Networks of other programs that the user has on disk: run, or refused with a sentence that names the file."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx_files import bisenet, node, save, xseg

from gpen_core.errors import DamagedWeightsError, WeightsError
from gpen_core.weights import onnx_file
from gpen_core.weights.folders import find_file, helper_folders
from gpen_core.weights.onnx_file import OnnxFile


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def test_a_network_with_its_channels_last(tmp_path: Path) -> None:
    network = OnnxFile(xseg(tmp_path / "xség.onnx", (3.0, -2.0, 1.0), 0.5), (1, 256, 256, 3))
    x = random(1, 256, 256, 3)
    expected = 1 / (1 + np.exp(-(x @ np.float32([3, -2, 1]) + 0.5)))
    assert network.result_shape == (1, 256, 256, 1)
    np.testing.assert_allclose(network(x)[..., 0], expected, atol=1e-5)


def test_of_several_results_the_first_of_the_file(tmp_path: Path) -> None:
    weights, bias = random(19, 3) - 0.5, random(19, seed=1)
    network = OnnxFile(bisenet(tmp_path / "b.onnx", weights, bias), (1, 3, 512, 512))
    x = random(1, 3, 512, 512)
    np.testing.assert_allclose(network(x), np.einsum("kc,nchw->nkhw", weights, x) + bias[None, :, None, None], atol=1e-5)


def test_a_recogniser(tmp_path: Path) -> None:
    """ArcFace's form: any number of faces in, 512 numbers each out."""
    weights = random(512, 3)
    nodes = [
        node("PRelu", ["input", "slope"], "bent"),
        node("GlobalAveragePool", ["bent"], "mean"),
        node("Flatten", ["mean"], "flat", axis=1),
        node("Gemm", ["flat", "w"], "683", transB=1),
    ]
    path = save(
        tmp_path / "w600k_r50.onnx",
        nodes,
        ["None", 3, 112, 112],
        {"683": [1, 512]},
        {"w": weights, "slope": np.full((3, 1, 1), 0.25, np.float32)},
    )
    x = random(1, 3, 112, 112) - 0.5
    expected = np.where(x > 0, x, 0.25 * x).mean(axis=(2, 3)) @ weights.T
    np.testing.assert_allclose(OnnxFile(path, x.shape)(x), expected, atol=1e-5)


def test_results_stay_and_threads_take_turns(tmp_path: Path) -> None:
    network = OnnxFile(xseg(tmp_path / "a.onnx"), (1, 256, 256, 3))
    pictures = [random(1, 256, 256, 3, seed=n) for n in range(4)]
    alone = [network(x) for x in pictures]
    together: dict[int, list[np.ndarray]] = {}

    def work(number: int) -> None:
        together[number] = [network(pictures[number]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, before in enumerate(alone):
        assert all(np.array_equal(again, before) for again in together[number])
    with pytest.raises(ValueError, match=r"a\.onnx"):
        network(pictures[0][:, :128])


def truncated(path: Path) -> None:
    path.write_bytes(xseg(path).read_bytes()[:-200])


def web_page(path: Path) -> None:
    path.write_bytes(b"<html>not found</html>" * 99)


def without_result(path: Path) -> None:
    save(path, [node("Relu", ["input"], "output")], [1, 3], {}, {})


def nonsense(path: Path) -> None:
    save(path, [node("Teleport", ["input"], "output")], [1, 3], {"output": [1, 3]}, {})


def second_file(path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.save_model(onnx.load(xseg(path)), str(path), save_as_external_data=True, location="a.data", size_threshold=0)


@pytest.mark.parametrize("spoil", [truncated, web_page, without_result, nonsense, second_file])
def test_a_file_that_cannot_be_run_names_itself(spoil, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    spoil(path)
    with pytest.raises(WeightsError, match=r"a\.onnx") as caught:
        OnnxFile(path, (1, 256, 256, 3))
    assert isinstance(caught.value, DamagedWeightsError) == (spoil in (truncated, web_page, without_result))


def test_missing_and_too_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"none\.onnx"):
        OnnxFile(tmp_path / "none.onnx", (1, 3))
    path = xseg(tmp_path / "a.onnx")
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 100)
    with pytest.raises(WeightsError, match="bytes"):
        OnnxFile(path, (1, 256, 256, 3))


class Session:
    """Stands in for onnxruntime's: gives back twice its input."""

    def __init__(self, data: bytes, providers: list[str]) -> None:
        assert isinstance(data, bytes) and providers == ["CPUExecutionProvider"]

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="input")]

    def run(self, wanted: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        assert wanted == ["output"]
        return [given["input"] * 2]


def test_onnxruntime_runs_what_opencv_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    nonsense(path)
    runtime = SimpleNamespace(InferenceSession=Session, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    x = random(1, 3)
    np.testing.assert_array_equal(OnnxFile(path, x.shape)(x), x * 2)


def test_onnxruntime_runs_what_opencv_understands_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result of another shape than is wanted is no result."""
    nodes = [node("Concat", ["input", "input"], "output", axis=1)]
    path = save(tmp_path / "a.onnx", nodes, [1, 3], {"output": [1, 6]}, {})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert OnnxFile(path, (1, 3), (1, 6)).result_shape == (1, 6)
    with pytest.raises(WeightsError, match=r"a\.onnx.*\(1, 6\), not \(1, 3\)"):
        OnnxFile(path, (1, 3), (1, 3))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session, __spec__=SimpleNamespace()))
    x = random(1, 3)
    np.testing.assert_array_equal(OnnxFile(path, (1, 3), (1, 3))(x), x * 2)


def test_without_onnxruntime_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    nonsense(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="pip install onnxruntime"):
        OnnxFile(path, (1, 3))


def test_files_that_other_programs_keep(tmp_path: Path) -> None:
    for place in ("insightface/models/buffalo_l/w600k_r50.onnx", "facefusion/xseg_1.onnx", "GPEN/xseg_2.onnx"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"x")
    folders = helper_folders(tmp_path)
    assert find_file(("arcface_w600k_r50.onnx", "w600k_r50.onnx"), folders) == tmp_path / "insightface/models/buffalo_l/w600k_r50.onnx"
    assert find_file(("xseg_1.onnx", "xseg_2.onnx"), folders) == tmp_path / "facefusion/xseg_1.onnx"
    assert find_file(("xseg_2.onnx", "xseg_1.onnx"), folders) == tmp_path / "GPEN/xseg_2.onnx"
    assert find_file(("xseg_3.onnx",), folders) is None
