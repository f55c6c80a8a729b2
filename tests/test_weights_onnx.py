"""ONNX files of the generator, as the exporters write them, give back the parameters they were made from."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import numpy as np
import official_like
import pytest
import torch

from gpen_core.errors import WeightsError
from gpen_core.faces.retinaface import EMBEDDED
from gpen_core.weights.checkpoint import read_architecture, read_generator, read_shapes

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture(scope="module")
def original(recipe):
    return official_like.make(recipe)


def export(network, path: Path, **options) -> Path:
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:  # torch 2.5 and later; before, this exporter was the only one
        options["dynamo"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, 64, 64),), str(path), input_names=["input"], opset_version=17, **options)
    return path


@pytest.fixture(scope="module")
def folded(original, tmp_path_factory) -> Path:
    return export(original[0], tmp_path_factory.mktemp("onnx") / "folded.onnx", do_constant_folding=True)


@pytest.fixture(scope="module")
def plain(original, tmp_path_factory) -> Path:
    return export(original[0], tmp_path_factory.mktemp("onnx") / "plain.onnx", do_constant_folding=False)


def check(path: Path, state: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    got = read_generator(path)
    assert set(got) == {key for key in state if not key.endswith(".kernel")}
    for key, value in got.items():
        assert value.dtype == torch.float32 and value.shape == state[key].shape, key
        worst = (value - state[key]).abs().max() / state[key].abs().max()
        assert worst <= tolerance, f"{key}: {worst}"
    assert read_shapes(path) == {key: tuple(value.shape) for key, value in got.items()}
    found = read_architecture(path)
    assert (found.size, found.channel_multiplier, found.narrow) == (64, 2, 0.125)


def test_the_test_network_is_the_official_one(original, recipe, golden_folder):
    with torch.no_grad():
        y = original[0](torch.from_numpy(recipe.make_input(64)))
    assert np.abs(y.numpy() - np.load(golden_folder / "net_64n0.125.npz")["full"]).max() < 2e-5


def test_torchscript_export_folded(folded, original):
    names = {tensor.name for tensor in onnx.load(folded).graph.initializer}
    assert "generator.style.1.weight" not in names, "the export did not fold: the test would show nothing"
    check(folded, original[1])


def test_torchscript_export_not_folded(plain, original):
    check(plain, original[1], tolerance=0)


def test_dynamo_export(tmp_path, original):
    pytest.importorskip("onnxscript")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(original[0], (torch.zeros(1, 3, 64, 64),), dynamo=True, optimize=False, verbose=False)
    except TypeError:
        pytest.skip("this torch has no such exporter")
    program.save(tmp_path / "plain.onnx", external_data=False)
    check(tmp_path / "plain.onnx", original[1], tolerance=0)
    program.optimize()
    program.save(tmp_path / "folded.onnx", external_data=False)
    check(tmp_path / "folded.onnx", original[1])


def changed(path: Path, target: Path, change) -> Path:
    model = onnx.load(path)
    change(model)
    target.write_bytes(model.SerializeToString())
    return target


def rename_all(model) -> None:
    names = {tensor.name: f"t{i}" for i, tensor in enumerate(model.graph.initializer)}
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    for node in model.graph.node:
        node.name = ""
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)


@pytest.mark.parametrize("kind", ["folded", "plain"])
def test_every_name_changed(tmp_path, kind, original, request):
    check(changed(request.getfixturevalue(kind), tmp_path / "a.onnx", rename_all), original[1])


def test_numbers_listed_one_by_one(tmp_path, plain, original):
    def list_numbers(model) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) < 100_000:
                values = numpy_helper.to_array(tensor).ravel().tolist()
                tensor.ClearField("raw_data")
                tensor.float_data.extend(values)

    check(changed(plain, tmp_path / "a.onnx", list_numbers), original[1])


@pytest.mark.parametrize("listed", [False, True])
def test_half_precision(tmp_path, folded, original, listed):
    def halve(model) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor).astype(np.float16)
                new = numpy_helper.from_array(values, tensor.name)
                if listed and values.size < 100_000:
                    new.ClearField("raw_data")
                    new.int32_data.extend(values.view(np.uint16).ravel().tolist())
                tensor.CopyFrom(new)

    check(changed(folded, tmp_path / "a.onnx", halve), original[1], tolerance=1e-3)


def fuse(model) -> None:
    """What optimisers do: MatMul + Add -> Gemm, Conv + Add -> Conv with bias."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in list(model.graph.node):
        if node.op_type != "Add":
            continue
        below = makers.get(node.input[0])
        bias = constants.get(node.input[1])
        if below is None or bias is None:
            continue
        if below.op_type == "MatMul":
            below.op_type = "Gemm"
        elif below.op_type != "Conv" or len(bias.dims) != 4 or bias.dims[1] == 3:
            continue
        flat = numpy_helper.from_array(numpy_helper.to_array(bias).ravel(), f"{bias.name}_flat")
        if flat.name not in constants:
            constants[flat.name] = flat
            model.graph.initializer.append(flat)
        below.input.append(flat.name)
        below.output[0] = node.output[0]
        makers[node.output[0]] = below
        model.graph.node.remove(node)


def test_fused_by_an_optimiser(tmp_path, folded, original):
    path = changed(folded, tmp_path / "a.onnx", fuse)
    ops = [node.op_type for node in onnx.load(path).graph.node]
    assert ops.count("MatMul") < [node.op_type for node in onnx.load(folded).graph.node].count("MatMul")
    check(path, original[1])


def test_external_data_is_refused(tmp_path, folded):
    model = onnx.load(folded)
    path = tmp_path / "a.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="a.data")
    with pytest.raises(WeightsError, match="second file"):
        read_generator(path)


@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9999])
def test_truncated(tmp_path, folded, keep):
    data = folded.read_bytes()
    path = tmp_path / "a.onnx"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(WeightsError, match="cut off"):
        read_generator(path)


def test_another_network(tmp_path):
    with pytest.raises(WeightsError, match="not a GPEN generator"):
        read_generator(EMBEDDED)
    weight = numpy_helper.from_array(np.zeros((2, 2), np.float32), "w")
    value = helper.make_tensor_value_info
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = value("x", TensorProto.FLOAT, [1, 2]), value("y", TensorProto.FLOAT, [1, 2])
    onnx.save(helper.make_model(helper.make_graph([node], "g", [x], [y], [weight])), tmp_path / "a.onnx")
    with pytest.raises(WeightsError, match="not a GPEN generator"):
        read_generator(tmp_path / "a.onnx")


def test_nothing_keeps_the_file_open(tmp_path, folded):
    path = tmp_path / "a.onnx"
    path.write_bytes(folded.read_bytes())
    read_generator(path)
    path.unlink()  # Windows would refuse
