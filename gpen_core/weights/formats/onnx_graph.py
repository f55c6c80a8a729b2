"""Reads an ONNX file as a list of nodes and constants, with our own small protobuf reader.

The package `onnx` would be a large dependency; the wire format has four rules. Field numbers: onnx/onnx.proto (IR version 3 to 12).
Tensor data stays in the file until it is needed, so opening a 285 MB file is quick. Nothing is memory-mapped, because the process would
crash if another program shortened the file.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from ...errors import DamagedWeightsError, WeightsError, shown

Array = npt.NDArray[Any]

DTYPES = {1: "<f4", 2: "u1", 3: "i1", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}
# A GPEN generator of size 2048 has 40,000 fields; its names have at most a hundred letters.
_MOST_FIELDS = 500_000
_LARGEST_PIECE = 64 << 10  # most bytes read at once: names and attribute lists
_SMALL = 4 << 10  # bytes; smaller constants are read with the graph
_MOST_DIMENSIONS = 16
EXTERNAL = "the file keeps its weights in a second file (external data); export it again as one file"


@dataclass(frozen=True)
class Span:
    """Bytes of a file, read on demand. stamp: length and time of the file when its graph was read."""

    path: Path
    stamp: tuple[int, int]
    start: int
    length: int

    def __len__(self) -> int:
        return self.length

    def read(self) -> Array:
        """A copy of the bytes in memory. Raises WeightsError if the file has changed."""
        with self.path.open("rb") as file:
            data = np.empty(self.length if _stamp(file) == self.stamp else 0, np.uint8)
            file.seek(self.start)
            if cast("Any", file).readinto(data) != self.length:
                raise DamagedWeightsError("the file changed while it was being read")
        return data


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _content(piece: bytes | Span) -> Array:
    return piece.read() if isinstance(piece, Span) else np.frombuffer(piece, np.uint8) if piece else np.zeros(0, np.uint8)


@dataclass
class Tensor:
    """A constant of the file. raw: its bytes; listed: (field number, bytes) if its elements are listed one by one."""

    name: str = ""
    shape: tuple[int, ...] = ()
    data_type: int = 0
    raw: bytes | Span | None = None
    listed: list[tuple[int, bytes | Span]] = field(default_factory=lambda: list[tuple[int, "bytes | Span"]]())
    external: bool = False

    def array(self) -> Array:
        """The tensor's data. Raises WeightsError."""
        if self.external:
            raise WeightsError(EXTERNAL)
        if self.data_type not in DTYPES:
            raise WeightsError(f"the file holds an unsupported data type (ONNX type {self.data_type})")
        dtype = np.dtype(DTYPES[self.data_type])
        count = math.prod(self.shape)
        if self.raw is not None:
            if len(self.raw) != count * dtype.itemsize:
                raise self._wrong(f"{len(self.raw)} bytes instead of {count * dtype.itemsize}")
            return np.reshape(_content(self.raw).view(dtype), self.shape)
        try:
            parts = [_numbers(number, _content(piece)) for number, piece in self.listed]
        except ValueError as error:
            raise self._wrong("invalid numbers") from error
        listed = np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)
        if listed.size != count:
            raise self._wrong(f"{listed.size} numbers instead of {count}")
        if self.data_type == 10:  # half precision is listed as its bits in integers
            return np.reshape(listed.astype("<u2").view("<f2"), self.shape)
        return np.reshape(listed.astype(dtype), self.shape)

    def _wrong(self, what: str) -> WeightsError:
        return DamagedWeightsError(f"the file is damaged: '{shown(self.name)}' has {what}")


@dataclass
class Node:
    """One operation. attributes: numbers, lists, strings (bytes) or Tensor, by name."""

    op: str = ""
    inputs: list[str] = field(default_factory=lambda: list[str]())
    outputs: list[str] = field(default_factory=lambda: list[str]())
    attributes: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())


@dataclass
class Graph:
    """Nodes, each after those it depends on, constants and the names of the results. length: of the file, in bytes."""

    nodes: list[Node] = field(default_factory=lambda: list[Node]())
    tensors: dict[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())
    outputs: list[str] = field(default_factory=lambda: list[str]())
    length: int = 0


def read_graph(path: Path) -> Graph:
    """The graph of an .onnx file. Raises WeightsError if it is damaged, cut off, or not ONNX."""
    with path.open("rb") as file:
        reader = _Reader(path, file)
        graph: Graph | None = None
        try:
            for number, value in reader.fields((0, reader.length)):
                if number == 7:
                    graph = reader.graph(value)
        except (IndexError, ValueError, struct.error, TypeError, AttributeError) as error:
            raise DamagedWeightsError("the ONNX file is damaged or cut off") from error
    if graph is None or not graph.nodes:
        raise DamagedWeightsError("the file is not an ONNX network, or is cut off")
    _check_order(graph)
    graph.length = reader.length
    return graph


def _check_order(graph: Graph) -> None:
    """Raises DamagedWeightsError unless every node comes after those it depends on, as ONNX requires: such a graph has no cycle."""
    later = {name for node in graph.nodes for name in node.outputs if name}
    for node in graph.nodes:
        mine = {name for name in node.outputs if name}
        if not later.isdisjoint(node.inputs) or not mine <= later:
            raise DamagedWeightsError("the ONNX file is damaged: its operations are out of order, or two of them write the same value")
        later -= mine


class _Reader:
    """Reads protobuf messages from an open file. A message is given by its (begin, end) in the file."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self._stamp = _stamp(file)
        self.length = self._stamp[0]
        self._start, self._window = 0, b""
        self._left = _MOST_FIELDS

    def _bytes(self, start: int, end: int) -> bytes:
        if end - start > _LARGEST_PIECE:
            raise ValueError("the text is too long")
        if start < self._start or end > self._start + len(self._window):
            self._file.seek(start)
            self._start, self._window = start, self._file.read(_LARGEST_PIECE)
        piece = self._window[start - self._start : end - self._start]
        if len(piece) != end - start:
            raise ValueError("the file is cut off")
        return piece

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = 0
        for n, byte in enumerate(self._bytes(place, min(end, place + 10))):
            value |= (byte & 0x7F) << 7 * n
            if byte < 0x80:
                return value, place + n + 1
        raise ValueError("invalid protobuf")

    def fields(self, message: tuple[int, int]) -> Iterator[tuple[int, Any]]:
        """(field number, value) for each field: integers as int, the rest as (begin, end) in the file."""
        place, end = message
        while place < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("more fields than any GPEN generator has")
            key, place = self._varint(place, end)
            wire = key & 7
            if wire == 0:
                value, place = self._varint(place, end)
                yield key >> 3, value
                continue
            if wire == 2:
                length, place = self._varint(place, end)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise ValueError("invalid protobuf")
            if length > end - place:
                raise ValueError("the file is cut off")
            yield key >> 3, (place, place + length)
            place += length

    def _text(self, message: tuple[int, int]) -> str:
        return self._bytes(*message).decode("utf-8")

    def _integers(self, value: Any) -> list[int]:
        """One number, or a packed list of them."""
        return [_signed(value)] if isinstance(value, int) else _varints(np.frombuffer(self._bytes(*value), np.uint8)).tolist()

    def _piece(self, message: tuple[int, int]) -> bytes | Span:
        start, end = message
        return self._bytes(start, end) if end - start <= _SMALL else Span(self._path, self._stamp, start, end - start)

    def graph(self, message: tuple[int, int]) -> Graph:
        graph = Graph()
        for number, value in self.fields(message):
            if number == 1:
                graph.nodes.append(self._node(value))
            elif number == 5:
                tensor = self._tensor(value)
                graph.tensors[tensor.name] = tensor
            elif number == 12:
                graph.outputs += [self._text(name) for part, name in self.fields(value) if part == 1]
        for node in graph.nodes:
            value = node.attributes.get("value")
            if node.op == "Constant" and isinstance(value, Tensor):
                graph.tensors[node.outputs[0]] = value
        return graph

    def _node(self, message: tuple[int, int]) -> Node:
        node = Node()
        for number, value in self.fields(message):
            if number == 1:
                node.inputs.append(self._text(value))
            elif number == 2:
                node.outputs.append(self._text(value))
            elif number == 4:
                node.op = self._text(value)
            elif number == 5:
                name, content = self._attribute(value)
                node.attributes[name] = content
        return node

    def _attribute(self, message: tuple[int, int]) -> tuple[str, Any]:
        name, content = "", None
        integers: list[int] = []
        floats: list[float] = []
        for number, value in self.fields(message):
            if number == 1:
                name = self._text(value)
            elif number == 2:
                content = float(struct.unpack("<f", self._bytes(*value))[0])
            elif number == 3:
                content = _signed(value)
            elif number == 4:
                content = self._bytes(*value)
            elif number == 5:
                content = self._tensor(value)
            elif number == 7:
                floats += np.frombuffer(self._bytes(*value), dtype="<f4").tolist()
            elif number == 8:
                integers += self._integers(value)
        return name, content if content is not None else integers or floats

    def _tensor(self, message: tuple[int, int]) -> Tensor:
        tensor = Tensor()
        shape: list[int] = []
        for number, value in self.fields(message):
            if number == 1:
                shape += self._integers(value)
            elif number == 2:
                tensor.data_type = int(value)
            elif number in (4, 5, 7, 10):
                # A packed list or a single number.
                tensor.listed.append((number, _unsigned_bytes(value) if type(value) is int else self._piece(value)))
            elif number == 8:
                tensor.name = self._text(value)
            elif number == 9:
                tensor.raw = self._piece(value)
            elif number == 13 or (number == 14 and value == 1):
                tensor.external = True
        tensor.shape = tuple(shape)
        if len(shape) > _MOST_DIMENSIONS or any(side < 0 for side in shape):
            raise ValueError("invalid shape")
        return tensor


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _unsigned_bytes(value: int) -> bytes:
    """Encodes an integer as a protobuf varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _numbers(field_number: int, data: Array) -> Array:
    """The elements in a tensor's list: float32 in field 4, float64 in field 10, otherwise integers."""
    return data.view("<f4") if field_number == 4 else data.view("<f8") if field_number == 10 else _varints(data)


def _varints(data: Array) -> Array:
    """Decodes protobuf varints: seven bits per byte, lowest first; the last byte of each is below 128."""
    done: list[Array] = []
    place = 0
    while place < len(data):
        chunk = data[place : place + (1 << 20)]
        ends = np.flatnonzero(chunk < 0x80)
        starts = np.concatenate(([0], ends[:-1] + 1))
        if not ends.size or int((ends - starts).max()) >= 10:
            raise ValueError("invalid protobuf")
        values = np.zeros(ends.size, np.uint64)
        for n in range(int((ends - starts).max()) + 1):
            longer = starts + n <= ends
            values[longer] |= (chunk[starts[longer] + n] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * n)
        done.append(values.view(np.int64))
        place += int(ends[-1]) + 1
    return np.concatenate(done) if done else np.zeros(0, np.int64)
