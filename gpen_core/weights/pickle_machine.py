"""A pickle machine that knows data only: it builds descriptions of tensors, plain containers, and nothing else.

Neither `pickle.Unpickler` nor `torch.load` is used: both look callables up by name (CVE-2025-32434 and CVE-2026-24747 got past
`weights_only=True`, and A1111 replaces torch.load with its own). Here a small machine walks over the opcodes that the standard library's
`pickletools.genops` decodes. It has no way to import or call anything: a name in the file is compared with a fixed table, and what is not
in the table becomes an inert `Foreign` object, by which the caller refuses the file.

No torch is needed here.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, cast

from ..errors import WeightsError

_DTYPES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
ITEM_BYTES = {
    "float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip

# The pickle of a GPEN generator has 30 kB, that of a 2 GB training checkpoint about 1 MB. More than this is not a list of tensors.
LARGEST_PICKLE = 64 << 20
_MOST_DIMENSIONS = 16


class Foreign:
    """Stands for an object the file asks for by name and that is never built."""

    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file. numel: how many numbers; offset: the first one's place within the storage `key` (legacy views)."""

    key: str
    dtype: str
    numel: int
    offset: int = 0


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that is described but not read yet. offset and stride count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def check(self) -> None:
        """Raises WeightsError where the tensor would reach outside its storage."""
        whole = (self.offset, *self.shape, *self.stride)
        fits = len(self.shape) == len(self.stride) <= _MOST_DIMENSIONS and all(type(number) is int and number >= 0 for number in whole)
        if fits:
            numel = math.prod(self.shape)
            last = self.offset + sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))
            # A stride of 0 could make a huge tensor out of one number; no weight file does that.
            fits = numel == 0 or (last < self.storage.numel and numel <= self.storage.numel)
        if not fits:
            raise WeightsError("the file is damaged: a tensor reaches outside its storage")


# The only names that mean something. Functions are written as "call:...": they say how PickleMachine._call answers.
_NAMES: dict[str, object] = {
    "collections.OrderedDict": "call:dict",
    "torch._utils._rebuild_tensor": "call:tensor",
    "torch._utils._rebuild_tensor_v2": "call:tensor",
    "torch._utils._rebuild_parameter": "call:parameter",
    "torch.Size": "call:tuple",
}
for _storage, _dtype in _DTYPES.items():
    for _module in ("torch", "torch.cuda", "torch.storage"):
        _NAMES[f"{_module}.{_storage}"] = f"dtype:{_dtype}"


@dataclass(frozen=True)
class _Known:
    """A name from the table: a kind of storage or one of our own four functions."""

    means: str


_MARK = object()
_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    ]
)
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class PickleMachine:
    """Runs one pickle after another.

    foreign: a list to which the names of all objects are added that a pickle asks for and that are not in the table.
    """

    def __init__(self, foreign: list[str]) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.foreign = foreign

    def run(self, stream: IO[bytes]) -> Any:
        """The object of the pickle at the stream's position, which is left behind its end. Raises WeightsError."""
        start = stream.tell()
        try:
            for opcode, argument, place in pickletools.genops(stream):
                if (place or 0) - start > LARGEST_PICKLE:
                    raise WeightsError("the list of its tensors is too long")
                if opcode.name == "STOP":
                    return self.stack.pop()
                self._step(opcode.name, argument)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error, OverflowError) as error:
            raise WeightsError(f"the list of its tensors is damaged ({error})") from error
        raise WeightsError("the list of its tensors is damaged (no end)")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif name in _STEPS:
            _STEPS[name](self)
        elif name == "GLOBAL":
            stack.append(self._name(str(argument).replace(" ", ".", 1)))
        elif name not in ("PROTO", "FRAME"):
            # INST, OBJ, EXT1.., NEWOBJ_EX, PERSID, BYTEARRAY8, buffers: torch.save writes none of them for tensors.
            told = f" {argument}" if isinstance(argument, str) else ""
            self.foreign.append(f"{name}{told}")
            raise WeightsError(f"the list of its tensors holds the instruction {name}{told}")

    def marked(self) -> list[Any]:
        """Everything above the last mark, taken off the stack together with the mark."""
        place = max(i for i, item in enumerate(self.stack) if item is _MARK)
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def _name(self, name: str) -> object:
        means = _NAMES.get(name)
        if means is not None:
            return _Known(str(means))
        self.foreign.append(name)
        return Foreign(name)

    def stack_global(self) -> None:
        module, name = self.pop_many(2)
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is no text")
        self.stack.append(self._name(f"{module}.{name}"))

    def call(self) -> None:
        arguments = self.stack.pop()
        function = self.stack.pop()
        self.stack.append(self._call(function, arguments))

    def _call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Foreign):
            return function
        means = function.means if isinstance(function, _Known) else ""
        if means == "call:dict":
            pairs = [pair for items in arguments for pair in items]
            return plain_dict([part for pair in pairs for part in pair])
        if means == "call:tuple":
            return tuple(*arguments)
        if means == "call:parameter" and isinstance(arguments[0], TensorSpec):
            return arguments[0]
        if means == "call:tensor":
            storage, offset, shape, stride = arguments[:4]
            if isinstance(storage, Storage):
                spec = TensorSpec(storage, offset, tuple(shape), tuple(stride))
                spec.check()
                return spec
        raise TypeError("a call that makes no tensor")

    def build(self) -> None:
        # The state of an OrderedDict (torch puts `_metadata` there) carries no tensor and is dropped.
        self.stack.pop()
        if not isinstance(self.stack[-1], (dict, Foreign)):
            raise TypeError("a state for something that has none")

    def persistent(self) -> None:
        told = self.stack.pop()
        if told[0] == "module":  # in the older stream: a class, with its source code beside it
            self.stack.append(told[1])
            return
        kind, known, key, _place, numel, *view = told
        dtype = known.means.removeprefix("dtype:") if isinstance(known, _Known) else ""
        if kind != "storage" or dtype not in ITEM_BYTES or type(key) not in (str, int) or type(numel) is not int or numel < 0:
            raise TypeError("a reference to something that is no storage of numbers")
        if view and view[0] is not None:
            _view_key, offset, view_numel = view[0]
            if type(offset) is not int or type(view_numel) is not int or not 0 <= offset <= offset + view_numel <= numel:
                raise TypeError("a view outside its storage")
            self.stack.append(Storage(str(key), dtype, view_numel, offset))
        else:
            self.stack.append(Storage(str(key), dtype, numel))

    def put_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Foreign):
            return
        if not isinstance(target, dict):
            raise TypeError("items for something that is no dict")
        cast("dict[Any, Any]", target).update(plain_dict(pairs))

    def append_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Foreign):
            return
        if not isinstance(target, list):
            raise TypeError("items for something that is no list")
        cast("list[Any]", target).extend(items)

    def pop_many(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items


def code_message(name: str) -> str:
    """What to say of a file that asks for an object by name."""
    return f"it holds more than tensors: it asks for {name}, which could run code on this machine (nothing was run)"


def plain_dict(items: list[Any]) -> dict[Any, Any]:
    """A dict of [key, value, key, value, ...]. Keys are texts and numbers: hashing a tuple nested a million deep ends the process."""
    if any(type(key) not in (str, int, float, bool, bytes, type(None)) for key in items[::2]):
        raise TypeError("a key that is no text and no number")
    return dict(zip(items[::2], items[1::2], strict=True))


def _push(make: Callable[[PickleMachine], object]) -> Callable[[PickleMachine], None]:
    return lambda machine: machine.stack.append(make(machine))


_STEPS: dict[str, Callable[[PickleMachine], object]] = {
    "MARK": _push(lambda m: _MARK),
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": lambda m: m.marked(),
    "DUP": _push(lambda m: m.stack[-1]),
    "EMPTY_TUPLE": _push(lambda m: ()),
    "TUPLE": _push(lambda m: tuple(m.marked())),
    "TUPLE1": _push(lambda m: tuple(m.pop_many(1))),
    "TUPLE2": _push(lambda m: tuple(m.pop_many(2))),
    "TUPLE3": _push(lambda m: tuple(m.pop_many(3))),
    "EMPTY_LIST": _push(lambda m: []),
    "LIST": _push(lambda m: m.marked()),
    "APPEND": lambda m: m.append_items(m.pop_many(1)),
    "APPENDS": lambda m: m.append_items(m.marked()),
    "EMPTY_DICT": _push(lambda m: {}),
    "DICT": _push(lambda m: plain_dict(m.marked())),
    "SETITEM": lambda m: m.put_items(m.pop_many(2)),
    "SETITEMS": lambda m: m.put_items(m.marked()),
    "EMPTY_SET": _push(lambda m: []),
    "ADDITEMS": lambda m: m.append_items(m.marked()),
    "STACK_GLOBAL": lambda m: m.stack_global(),
    "REDUCE": lambda m: m.call(),
    "NEWOBJ": lambda m: m.call(),
    "BUILD": lambda m: m.build(),
    "BINPERSID": lambda m: m.persistent(),
}


def all_specs(root: Any) -> list[TensorSpec]:
    """Every tensor below a root, in order, however deep the containers are nested."""
    found: list[TensorSpec] = []
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        item = waiting.pop()
        if isinstance(item, TensorSpec):
            found.append(item)
        elif isinstance(item, (dict, list, tuple)) and id(cast("object", item)) not in seen:
            seen.add(id(cast("object", item)))
            inner = cast("dict[Any, Any]", item).values() if isinstance(item, dict) else cast("list[Any]", item)
            waiting.extend(reversed(list(inner)))
    return found
