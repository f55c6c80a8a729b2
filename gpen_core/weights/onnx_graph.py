"""An ONNX file as a list of nodes and constants, read with a small protobuf reader of our own, and a calculator for its constants.

The package `onnx` would be a large dependency for this; the wire format is four rules. Field numbers: onnx/onnx.proto (IR version 3 to 12).
Numbers stay in the mapped file until they are asked for, so looking at a 285 MB file is quick.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import WeightsError

Array = npt.NDArray[Any]

_DTYPES = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
_SMALL = 1 << 20  # bytes; larger constants are computed anew rather than kept


@dataclass
class Tensor:
    """A constant of the file. raw: its bytes in the mapped file; packed: its numbers where they are listed one by one."""

    name: str = ""
    shape: tuple[int, ...] = ()
    data_type: int = 0
    raw: memoryview | None = None
    packed: Array | None = None
    external: bool = False

    def array(self) -> Array:
        """The numbers, as a view of the file where that can be. Raises WeightsError."""
        if self.external:
            raise WeightsError("the file keeps its numbers in a second file (external data); export it again as one file")
        if self.data_type not in _DTYPES:
            raise WeightsError(f"the file holds numbers of a type that is not read (ONNX type {self.data_type})")
        dtype = np.dtype(_DTYPES[self.data_type])
        count = int(np.prod(self.shape, dtype=np.int64)) if self.shape else 1
        if self.raw is not None:
            if len(self.raw) != count * dtype.itemsize:
                raise WeightsError(f"the file is damaged: '{self.name}' has {len(self.raw)} bytes instead of {count * dtype.itemsize}")
            return np.reshape(np.frombuffer(self.raw, dtype=dtype), self.shape)
        listed = self.packed if self.packed is not None else np.zeros(0, dtype=dtype)
        if listed.size != count:
            raise WeightsError(f"the file is damaged: '{self.name}' has {listed.size} numbers instead of {count}")
        if self.data_type == 10:  # half precision is listed as the bits of whole numbers
            return np.reshape(np.frombuffer(listed.astype("<u2").tobytes(), dtype="<f2"), self.shape)
        return np.reshape(listed.astype(dtype), self.shape)


@dataclass
class Node:
    """One operation. attributes: numbers, lists, texts (bytes) or Tensor, by name."""

    op: str = ""
    inputs: list[str] = field(default_factory=lambda: list[str]())
    outputs: list[str] = field(default_factory=lambda: list[str]())
    attributes: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())


@dataclass
class Graph:
    """Nodes in the file's order, which ONNX demands to be topological, and constants by name."""

    nodes: list[Node] = field(default_factory=lambda: list[Node]())
    tensors: dict[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())


def read_graph(path: Path) -> Graph:
    """The graph of an .onnx file. Raises WeightsError where it is damaged, cut off, or no ONNX."""
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    graph: Graph | None = None
    try:
        for number, value in _fields(data):
            if number == 7:
                graph = _graph(value)
    except (IndexError, ValueError, struct.error, TypeError, AttributeError) as error:
        raise WeightsError("the ONNX file is damaged or cut off") from error
    if graph is None or not graph.nodes:
        raise WeightsError("the file is no ONNX network, or is cut off")
    return graph


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """(field number, value): whole numbers as int, the rest as slices of the file."""
    place, end = 0, len(data)
    while place < end:
        key, place = _varint(data, place)
        wire = key & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield key >> 3, value
            continue
        if wire == 2:
            length, place = _varint(data, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("no protobuf")
        if place + length > end:
            raise ValueError("cut off")
        yield key >> 3, data[place : place + length]
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("no protobuf")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _integers(value: Any) -> list[int]:
    """One number, or a packed list of them."""
    if isinstance(value, int):
        return [_signed(value)]
    numbers: list[int] = []
    place = 0
    while place < len(value):
        number, place = _varint(value, place)
        numbers.append(_signed(number))
    return numbers


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8")


def _graph(data: memoryview) -> Graph:
    graph = Graph()
    for number, value in _fields(data):
        if number == 1:
            graph.nodes.append(_node(value))
        elif number == 5:
            tensor = _tensor(value)
            graph.tensors[tensor.name] = tensor
    for node in graph.nodes:
        value = node.attributes.get("value")
        if node.op == "Constant" and isinstance(value, Tensor):
            graph.tensors[node.outputs[0]] = value
    return graph


def _node(data: memoryview) -> Node:
    node = Node()
    for number, value in _fields(data):
        if number == 1:
            node.inputs.append(_text(value))
        elif number == 2:
            node.outputs.append(_text(value))
        elif number == 4:
            node.op = _text(value)
        elif number == 5:
            name, content = _attribute(value)
            node.attributes[name] = content
    return node


def _attribute(data: memoryview) -> tuple[str, Any]:
    name, content = "", None
    integers: list[int] = []
    floats: list[float] = []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            content = float(struct.unpack("<f", value)[0])
        elif number == 3:
            content = _signed(value)
        elif number == 4:
            content = bytes(value)
        elif number == 5:
            content = _tensor(value)
        elif number == 7:
            floats += np.frombuffer(value, dtype="<f4").tolist()
        elif number == 8:
            integers += _integers(value)
    return name, content if content is not None else integers or floats


def _tensor(data: memoryview) -> Tensor:
    tensor = Tensor()
    shape: list[int] = []
    integers: list[int] = []
    floats: list[Array] = []
    for number, value in _fields(data):
        if number == 1:
            shape += _integers(value)
        elif number == 2:
            tensor.data_type = value
        elif number == 4:
            floats.append(np.frombuffer(value, dtype="<f4"))
        elif number in (5, 7):
            integers += _integers(value)
        elif number == 8:
            tensor.name = _text(value)
        elif number == 9:
            tensor.raw = value
        elif number == 10:
            floats.append(np.frombuffer(value, dtype="<f8"))
        elif number == 13 or (number == 14 and value == 1):
            tensor.external = True
    tensor.shape = tuple(shape)
    if any(side < 0 for side in tensor.shape):
        raise ValueError("a negative side")
    if floats:
        tensor.packed = np.concatenate(floats)
    elif integers:
        tensor.packed = np.array(integers, dtype=np.int64)
    return tensor


class Constants:
    """What can be known of a graph without running it: `name in constants`, `constants.array(name)`."""

    def __init__(self, graph: Graph) -> None:
        self._tensors = graph.tensors
        self._makers: dict[str, Node] = {}
        self._known: dict[str, Array] = {}
        for node in graph.nodes:
            if node.op in _CALCULATE and all(not name or name in self for name in node.inputs) and (node.inputs or node.op == "Constant"):
                self._makers.update(dict.fromkeys(node.outputs, node))

    def __contains__(self, name: str) -> bool:
        return name in self._tensors or name in self._makers

    def array(self, name: str) -> Array:
        """The numbers of a constant. Raises WeightsError where it cannot be calculated."""
        if name in self._tensors:
            return self._tensors[name].array()
        if name in self._known:
            return self._known[name]
        node = self._makers[name]
        try:
            result = np.asarray(_CALCULATE[node.op](node, [self.array(item) for item in node.inputs if item]))
        except (ValueError, IndexError, TypeError, KeyError) as error:
            raise WeightsError(f"the constant '{name}' of the ONNX file cannot be calculated ({node.op})") from error
        if result.nbytes < _SMALL:
            self._known[name] = result
        return result


Inputs = Sequence[Array]


def _listed(node: Node, inputs: Inputs, name: str, place: int) -> list[int]:
    """Axes and the like: an attribute in older ONNX, an input in newer."""
    if name in node.attributes:
        return [int(number) for number in cast("list[int]", node.attributes[name])]
    return [int(number) for number in np.ravel(inputs[place])] if len(inputs) > place else []


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
        # Going backwards, an end before the first element is written as a hugely negative number.
        cut[axis] = slice(start, None if step < 0 and end < -source.shape[axis] else end, step)
    return source[tuple(cut)]


def _constant(node: Node, _: Inputs) -> Array:
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if name in node.attributes:
            return np.array(node.attributes[name], dtype=dtype)
    raise ValueError("a constant that is no number")


def _constant_of_shape(node: Node, inputs: Inputs) -> Array:
    value = node.attributes.get("value")
    fill = np.ravel(value.array())[0] if isinstance(value, Tensor) else np.float32(0)
    return np.full([int(side) for side in inputs[0]], fill)


def _divide(_: Node, inputs: Inputs) -> Array:
    whole = inputs[0].dtype.kind in "iu"
    return inputs[0] // inputs[1] if whole else inputs[0] / inputs[1]


def _axis(node: Node, default: int) -> int:
    return int(node.attributes.get("axis", default))


def _cast(node: Node, inputs: Inputs) -> Array:
    return inputs[0].astype(_DTYPES[int(node.attributes["to"])])


def _transpose(node: Node, inputs: Inputs) -> Array:
    return np.transpose(inputs[0], node.attributes.get("perm") or None)


def _expand(_: Node, inputs: Inputs) -> Array:
    shape = tuple(int(side) for side in inputs[1])
    return np.broadcast_to(inputs[0], np.broadcast_shapes(inputs[0].shape, shape))


# The operations that exporters leave between a weight and its use. Nothing here is slow or large: only constants pass through.
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
    "Tile": lambda _, x: np.tile(x[0], [int(times) for times in x[1]]),
    "Slice": _slice,
    "Concat": lambda n, x: np.concatenate(list(x), axis=_axis(n, 0)),
    "Gather": lambda n, x: np.take(x[0], x[1].astype(np.int64), axis=_axis(n, 0)),
    "Shape": lambda _, x: np.array(x[0].shape, dtype=np.int64),
}
