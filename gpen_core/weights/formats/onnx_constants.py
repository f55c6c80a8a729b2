"""Calculates the constants of an ONNX graph: the operations that exporters leave between a weight and its use."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from ...errors import WeightsError, shown
from .onnx_graph import DTYPES, Array, Graph, Node, Tensor

_SMALL = 1 << 20  # bytes; larger constants are recomputed instead of cached
_DEEPEST = 32  # operations in a chain
_MOST_DIMENSIONS = 16


class Constants:
    """The values of a graph that can be computed without running it: `name in constants`, `constants.array(name)`."""

    def __init__(self, graph: Graph) -> None:
        self._tensors = graph.tensors
        self._makers: dict[str, Node] = {}
        self._known: dict[str, Array] = {}
        self._depth = 0
        # No constant of a GPEN generator has more elements than its file has bytes, and each passes through few operations.
        self._most = graph.length
        self._left = 16 * graph.length + (16 << 20)
        self._room = 64 << 20
        for node in graph.nodes:
            if node.op in _CALCULATE and all(not name or name in self for name in node.inputs) and (node.inputs or node.op == "Constant"):
                self._makers.update(dict.fromkeys(node.outputs, node))

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or name in self._makers

    def array(self, name: str) -> Array:
        """The value of a constant. Raises WeightsError if it cannot be calculated."""
        if name in self._tensors:
            return self._spent(self._tensors[name].array(), name)
        if name in self._known:
            return self._known[name]
        if name not in self._makers:
            raise WeightsError(f"the ONNX file has no constant '{shown(name)}'")
        if self._depth == _DEEPEST:
            raise self._too_much(name)
        node = self._makers[name]
        self._depth += 1
        try:
            inputs = [self.array(item) for item in node.inputs if item]
            if _size(node, inputs) > self._most:
                raise self._too_much(name)
            with np.errstate(all="ignore"):
                result = np.asarray(_CALCULATE[node.op](node, inputs))
        except (ArithmeticError, ValueError, IndexError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(f"the constant '{shown(name)}' of the ONNX file cannot be calculated ({node.op})") from error
        finally:
            self._depth -= 1
        self._spent(result, name)
        if result.nbytes < min(_SMALL, self._room):
            self._room -= result.nbytes
            self._known[name] = result
        return result

    def _spent(self, result: Array, name: str) -> Array:
        self._left -= max(result.nbytes, 1024)
        if self._left < 0:
            raise self._too_much(name)
        return result

    @staticmethod
    def _too_much(name: str) -> WeightsError:
        return WeightsError(f"the constant '{shown(name)}' of the ONNX file needs more calculation than any in a GPEN generator")


Inputs = Sequence[Array]


def _few(numbers: Any) -> list[int]:
    """A short list of integers, such as a shape or axes. Raises ValueError if it is too long."""
    if np.size(numbers) > _MOST_DIMENSIONS:
        raise ValueError("too many dimensions")
    return [int(number) for number in np.ravel(numbers)]


def _listed(node: Node, inputs: Inputs, name: str, place: int) -> list[int]:
    """A list such as axes: an attribute in older ONNX, an input in newer ONNX."""
    if name in node.attributes:
        return _few(cast("list[int]", node.attributes[name]))
    return _few(inputs[place]) if len(inputs) > place else []


_ELEMENTWISE = frozenset({"Mul", "Div", "Add", "Sub"})


def _size(node: Node, inputs: Inputs) -> int:
    """The number of elements of a result, known before allocating memory."""
    if node.op == "ConstantOfShape":
        return math.prod(_few(inputs[0]))
    if node.op == "Tile":
        return inputs[0].size * math.prod(_few(inputs[1]))
    if node.op == "Expand":
        return math.prod(np.broadcast_shapes(inputs[0].shape, tuple(_few(inputs[1]))))
    if node.op in _ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(item.shape for item in inputs)))
    if node.op == "Gather":
        return inputs[0].size * inputs[1].size // max(inputs[0].shape[_axis(node, 0)], 1)
    return sum(item.size for item in inputs)


def _reshape(node: Node, inputs: Inputs) -> Array:
    source, wanted = inputs[0], _listed(node, inputs, "shape", 1)
    keep = not node.attributes.get("allowzero")
    return np.reshape(source, [source.shape[i] if side == 0 and keep else side for i, side in enumerate(wanted)])


def _squeeze(node: Node, inputs: Inputs) -> Array:
    axes = _listed(node, inputs, "axes", 1)
    return np.squeeze(inputs[0], axis=tuple(axes) if axes else None)


def _slice(node: Node, inputs: Inputs) -> Array:
    source = inputs[0]
    starts, ends = _listed(node, inputs, "starts", 1), _listed(node, inputs, "ends", 2)
    axes = _listed(node, inputs, "axes", 3) or list(range(len(starts)))
    steps = _listed(node, inputs, "steps", 4) or [1] * len(starts)
    cut = [slice(None)] * source.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # With a negative step, ONNX writes an end before the first element as a huge negative number.
        cut[axis] = slice(start, None if step < 0 and end < -source.shape[axis] else end, step)
    return source[tuple(cut)]


def _constant(node: Node, _: Inputs) -> Array:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if name in node.attributes:
            return np.array(node.attributes[name], dtype=dtype)
    raise ValueError("a constant that is not a number")


def _constant_of_shape(node: Node, inputs: Inputs) -> Array:
    value = node.attributes.get("value")
    fill = np.ravel(value.array())[0] if isinstance(value, Tensor) else np.float32(0)
    return np.full(_few(inputs[0]), fill)


def _divide(_: Node, inputs: Inputs) -> Array:
    whole = inputs[0].dtype.kind in "iu"
    return inputs[0] // inputs[1] if whole else inputs[0] / inputs[1]


def _axis(node: Node, default: int) -> int:
    return int(node.attributes.get("axis", default))


def _cast(node: Node, inputs: Inputs) -> Array:
    return inputs[0].astype(DTYPES[int(node.attributes["to"])])


def _transpose(node: Node, inputs: Inputs) -> Array:
    return np.transpose(inputs[0], node.attributes.get("perm") or None)


def _expand(_: Node, inputs: Inputs) -> Array:
    shape = tuple(_few(inputs[1]))
    return np.broadcast_to(inputs[0], np.broadcast_shapes(inputs[0].shape, shape))


_CALCULATE: dict[str, Callable[[Node, Inputs], Any]] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda _, x: x[0],
    "Cast": _cast,
    "CastLike": lambda _, x: x[0].astype(x[1].dtype),
    "Mul": lambda _, x: x[0] * x[1],
    "Div": _divide,
    "Add": lambda _, x: x[0] + x[1],
    "Sub": lambda _, x: x[0] - x[1],
    "Neg": lambda _, x: -x[0],
    "Sqrt": lambda _, x: np.sqrt(x[0]),
    "Reciprocal": lambda _, x: 1 / x[0],
    "Reshape": _reshape,
    "Flatten": lambda n, x: np.reshape(x[0], (int(np.prod(x[0].shape[: _axis(n, 1)], dtype=np.int64)), -1)),
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": lambda n, x: np.expand_dims(x[0], tuple(_listed(n, x, "axes", 1))),
    "Expand": _expand,
    "Tile": lambda _, x: np.tile(x[0], _few(x[1])),
    "Slice": _slice,
    "Concat": lambda n, x: np.concatenate(list(x), axis=_axis(n, 0)),
    "Gather": lambda n, x: np.take(x[0], x[1].astype(np.int64), axis=_axis(n, 0)),
    "Shape": lambda _, x: np.array(x[0].shape, dtype=np.int64),
}
