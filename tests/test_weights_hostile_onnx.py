"""Small .onnx files made to cost much, to lie, or to break the reader; and files that change while they are read."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hostile_weights import field, varint
from weights_help import MIB, refusal

from gpen_core.errors import DamagedWeightsError, WeightsError
from gpen_core.weights.checkpoint import read_shapes
from gpen_core.weights.formats import onnx_graph
from gpen_core.weights.formats.onnx_constants import Constants
from gpen_core.weights.formats.onnx_graph import Graph, read_graph


def node(op: str, inputs: list[str], outputs: list[str], **attributes: int | bytes) -> bytes:
    content = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs) + field(4, op)
    for name, value in attributes.items():
        content += field(5, field(1, name) + field(3 if isinstance(value, int) else 5, value))
    return field(1, content)


def tensor(name: str, values: np.ndarray) -> bytes:
    kind = {"float32": 1, "int64": 7}[values.dtype.name]
    return b"".join(field(1, side) for side in values.shape) + field(2, kind) + field(8, name) + field(9, values.tobytes())


def model(path: Path, *nodes: bytes, **constants: np.ndarray) -> Path:
    graph = b"".join(nodes) + b"".join(field(5, tensor(name, values)) for name, values in constants.items())
    path.write_bytes(field(1, 8) + field(3, "test") + field(7, graph))
    return path


def constants(path: Path) -> Constants:
    return Constants(read_graph(path))


ONE = np.ones(1, np.float32)
# A convolution whose weight is not a constant: its weight is looked for backwards.
SEARCH = node("Conv", ["input", "w"], ["y"])


def test_a_circle(tmp_path):
    path = model(tmp_path / "a.onnx", node("Identity", ["b"], ["a"]), node("Identity", ["a"], ["b"]), node("Conv", ["input", "a"], ["y"]))
    assert "out of order" in refusal(path, read_shapes)
    assert "out of order" in refusal(model(path, node("Reshape", ["w", "s"], ["w"]), SEARCH), read_shapes)
    assert "two of them" in refusal(model(path, node("Relu", ["input"], ["w"]), node("Relu", ["input"], ["w"]), SEARCH), read_shapes)


def test_values_shared_without_number(tmp_path):
    """2 to the 60 ways lead back from the convolution."""
    doubled = [node("Mul", [f"v{n}", f"v{n}"], [f"v{n + 1}"]) for n in range(60)]
    path = model(tmp_path / "a.onnx", node("Relu", ["input"], ["v0"]), *doubled, node("Conv", ["input", "v60"], ["y"]))
    assert "not a GPEN generator" in refusal(path, read_shapes)


def test_long_chains(tmp_path):
    forms = [node("Identity", [f"v{n}"], [f"v{n + 1}"]) for n in range(2000)]
    searches = [node("Conv", ["input", "v2000"], [f"y{n}"]) for n in range(200)]
    refusal(model(tmp_path / "a.onnx", node("Relu", ["input"], ["v0"]), *forms, *searches), read_shapes)
    path = model(tmp_path / "b.onnx", *forms, v0=ONE)
    with pytest.raises(WeightsError, match="more calculation"):  # and no RecursionError
        constants(path).array("v2000")


def test_large_constants_are_not_calculated_again_and_again(tmp_path):
    doubled = [node("Add", [f"v{n}", f"v{n}"], [f"v{n + 1}"]) for n in range(30)]
    path = model(tmp_path / "a.onnx", *doubled, v0=np.ones(300_000, np.float32))
    with pytest.raises(WeightsError, match="more calculation"):
        constants(path).array("v30")


@pytest.mark.parametrize(
    "operation",
    [
        [node("ConstantOfShape", ["s"], ["y"])],
        [node("Tile", ["x", "s"], ["y"])],
        [node("Expand", ["x", "s"], ["y"])],
        [node("Expand", ["x", "column"], ["a"]), node("Expand", ["x", "row"], ["b"]), node("Add", ["a", "b"], ["y"])],
        [node("Concat", ["x"] * 2000, ["y"], axis=0)],
        [node("Gather", ["x", "zeros"], ["a"], axis=0), node("Gather", ["a", "zeros"], ["b"], axis=1), node("Add", ["b", "b"], ["y"])],
    ],
    ids=["ConstantOfShape", "Tile", "Expand", "Add", "Concat", "Gather"],
)
def test_constants_larger_than_the_file(tmp_path, operation):
    path = model(
        tmp_path / "a.onnx", *operation, x=np.ones((1, 16), np.float32), s=np.array([1 << 15, 1 << 15]), row=np.array([1, 1 << 15]),
        column=np.array([1 << 15, 1]), zeros=np.zeros(1 << 11, np.int64),
    )  # fmt: skip

    def calculate(path: Path) -> None:
        try:
            constants(path).array("y")
        except WeightsError as error:
            raise WeightsError(f"{path.name}: {error}") from error

    assert "calculat" in refusal(path, calculate, most=8 * MIB)


@pytest.mark.parametrize("shape", [[1 << 62] * 2, [-1, 2], [1] * 3000, [2**40] * 16], ids=["giant", "negative", "long", "product"])
def test_shapes_that_no_array_has(tmp_path, shape):
    path = model(tmp_path / "a.onnx", node("ConstantOfShape", ["s"], ["y"]), node("Reshape", ["x", "s"], ["z"]), s=np.array(shape), x=ONE)
    for name in "yz":
        with pytest.raises(WeightsError):
            constants(path).array(name)


@pytest.mark.parametrize(
    "broken",
    [
        node("Conv", [], ["y"]), node("Conv", ["input"], ["y"]), node("Gemm", [], ["y"]), node("Identity", [], ["y"]),
        node("Constant", [], []),
        node("Mul", ["w"], []), node("Concat", ["input", "input"], []), node("Conv", ["input", ""], ["y"]), node("", [], [""]),
        node("Add", [], []),
    ],
)  # fmt: skip
def test_operations_without_inputs_or_outputs(tmp_path, broken):
    refusal(model(tmp_path / "a.onnx", node("Relu", ["input"], ["x"]), broken, w=ONE), read_shapes)


@pytest.mark.parametrize(
    "graph",
    [
        field(1, b"\x0a" + b"\xff" * 9 + b"\x7f"),  # a length that lies
        field(5, field(1, b"\xff" * 200)),  # a number without end
        field(5, field(2, 1) + field(1, -1)),
        field(5, field(2, b"")),
        field(1, field(4, "x" * 100_000)),
        field(1, field(4, b"\xff\xfe")),
        field(1, 7),
        field(1, field(5, field(2, b"\0"))),
        field(1, field(5, field(7, b"\0" * 5))),
        b"\x0b",
    ],
)
def test_graphs_that_are_none(tmp_path, graph):
    path = tmp_path / "a.onnx"
    path.write_bytes(field(1, 8) + field(3, "test") + field(7, node("Relu", ["input"], ["x"]) + graph))
    assert "damaged" in refusal(path, read_shapes)


def test_more_operations_than_any_network_has(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "_MOST_FIELDS", 1000)
    assert "damaged" in refusal(model(tmp_path / "a.onnx", *[node("Relu", ["input"], [f"v{n}"]) for n in range(1000)]), read_shapes)


def test_names_are_cleaned(tmp_path):
    kinds = field(1, 5) + field(2, 1) + field(8, "\x1b[2J" + "n" * 50_000) + field(9, b"1234")
    path = tmp_path / "a.onnx"
    path.write_bytes(field(1, 8) + field(3, "test") + field(7, node("Relu", ["input"], ["x"]) + field(5, kinds)))
    graph = read_graph(path)
    with pytest.raises(WeightsError) as caught:
        next(iter(graph.tensors.values())).array()
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_numbers_that_are_listed(tmp_path):
    """Whole numbers of one to ten bytes, negative ones too, more than are decoded at once."""
    few = [0, 1, 127, 128, -1, 1 << 62, -(1 << 63)]
    values = np.array(few * 35_000)
    content = field(1, len(values)) + field(2, 7) + field(8, "x") + field(7, b"".join(varint(value % (1 << 64)) for value in few) * 35_000)
    path = tmp_path / "a.onnx"
    path.write_bytes(field(1, 8) + field(3, "test") + field(7, node("Relu", ["input"], ["y"]) + field(5, content)))
    assert np.array_equal(read_graph(path).tensors["x"].array(), values)


@pytest.mark.parametrize("change", ["cut", "other"])
def test_a_file_that_changes_while_it_is_read(tmp_path, change):
    path = model(tmp_path / "a.onnx", node("Relu", ["input"], ["y"]), x=np.ones(100_000, np.float32))
    graph: Graph = read_graph(path)
    if change == "cut":
        os.truncate(path, 1000)
    else:
        path.write_bytes(path.read_bytes().replace(struct.pack("<f", 1), struct.pack("<f", 2)))
        os.utime(path, ns=(1, 1))
    with pytest.raises(DamagedWeightsError, match="changed"):
        graph.tensors["x"].array()
