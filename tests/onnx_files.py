"""Small .onnx files with the form of the ones that users have: made from a few operations, so that NumPy can say what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def save(
    path: Path, nodes: Sequence[Any], given: Sequence[Any], results: dict[str, Sequence[Any]], constants: dict[str, Any], opset: int = 11
) -> Path:
    """Writes a network. given: shape of `input`. results: shapes by name. constants: arrays by name."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", number, given)],
        [helper.make_tensor_value_info(name, number, shape) for name, shape in results.items()],
        [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 6
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def node(op: str, given: Sequence[str], result: str, **attributes: Any) -> Any:
    return pytest.importorskip("onnx").helper.make_node(op, list(given), [result], **attributes)


def xseg(path: Path, weights: Sequence[float] = (8.0, 0.0, 0.0), bias: float = -4.0) -> Path:
    """An occlusion mask in XSeg's form: (n, 256, 256, 3) in, (n, 256, 256, 1) out, 0 where something is in front of the face.

    mask = sigmoid(weights . colour + bias); the colours are in the order that they are given in.
    """
    nodes = [
        node("Transpose", ["input"], "first", perm=[0, 3, 1, 2]),
        node("Conv", ["first", "w", "b"], "scores", kernel_shape=[1, 1]),
        node("Sigmoid", ["scores"], "mask"),
        node("Transpose", ["mask"], "output", perm=[0, 2, 3, 1]),
    ]
    constants = {"w": np.float32(weights).reshape(1, 3, 1, 1), "b": np.float32([bias])}
    return save(path, nodes, ["n", 256, 256, 3], {"output": ["n", 256, 256, 1]}, constants)


def bisenet(path: Path, weights: Any, bias: Any) -> Path:
    """A face parser in BiSeNet's form: (1, 3, 512, 512) in, three times (1, 19, 512, 512) out, of which the first counts.

    scores = weights (19, 3) . colour + bias (19).
    """
    nodes = [
        node("Conv", ["input", "w", "b"], "output", kernel_shape=[1, 1]),
        node("Neg", ["output"], "second"),
        node("Abs", ["output"], "third"),
    ]
    constants = {"w": np.float32(weights).reshape(19, 3, 1, 1), "b": np.float32(bias)}
    return save(path, nodes, [1, 3, 512, 512], {name: [1, 19, 512, 512] for name in ("output", "second", "third")}, constants)
