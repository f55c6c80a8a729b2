"""A pickle machine for data only: it builds descriptions of tensors and plain containers, and nothing else.

It uses neither `pickle.Unpickler` nor `torch.load`, because both look up callables by name (CVE-2025-32434 and CVE-2026-24747 bypassed
`weights_only=True`, and A1111 replaces torch.load with its own). An Unpickler whose `find_class` returns inert objects is not enough: it
hashes every key in the file, and hashing a few hundred bytes of nested tuples can take for ever or overflow the stack. This machine
executes the opcodes that the standard library's `pickletools.genops` decodes. It cannot import or call anything: it compares names in
the file with a fixed table, and any other name becomes an inert `Foreign` object, which makes the caller refuse the file. A limit bounds
the time to a few seconds: each step costs one of MOST_STEPS, plus one for each item it handles.

No torch is needed here.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from ...errors import DamagedWeightsError, WeightsError, shown

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

# The pickle of a GPEN generator has 30 kB and 5,000 steps; that of a 2 GB training checkpoint about 1 MB and 60,000 steps.
LARGEST_PICKLE = 8 << 20
MOST_STEPS = 500_000
_LONGEST_LINE = 1000  # bytes, for names and numbers in the oldest protocols
_LONGEST_NAME = 500
_MOST_DIMENSIONS = 16
_MOST_BITS = 80  # the magic number of the older layout has 77


class Foreign:
    """Stands for an object that the file names and that is never built."""


@dataclass(frozen=True)
class Storage:
    """A block of numbers in the file, with the length that the file states."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorSpec:
    """The description of a tensor whose data is still unread. offset and stride count elements, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Length of the loaded tensor in bytes."""
        return math.prod(self.shape) * ITEM_BYTES[self.storage.dtype]

    def check(self) -> None:
        """Raises WeightsError if the tensor would reach outside its storage."""
        whole = (self.offset, *self.shape, *self.stride)
        fits = len(self.shape) == len(self.stride) and all(type(number) is int and number >= 0 for number in whole)
        if fits:
            numel = math.prod(self.shape)
            last = self.offset + sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))
            # A stride of 0 could make a huge tensor from one number; no weight file does that.
            fits = numel == 0 or (last < self.storage.numel and numel <= self.storage.numel)
        if not fits:
            raise DamagedWeightsError("the file is damaged: a tensor reaches outside its storage")


@dataclass(frozen=True)
class _View:
    """A part of a storage (older layout): its first element and its length in elements."""

    storage: Storage
    first: int
    numel: int


# The only accepted names. A function's "call:..." selects the branch of PickleMachine._call.
_NAMES: dict[str, str] = {
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
    """A name from the table: a kind of storage or one of our four functions."""

    means: str


_LITERALS = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    ]
)
_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class Head(io.BytesIO):
    """The beginning of a file, with limited line length, because int() of a line of megabytes would take hours."""

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(_LONGEST_LINE if size is None or size < 0 else min(size, _LONGEST_LINE))


class PickleMachine:
    """Runs one pickle after another; MOST_STEPS limits all of them together.

    foreign: a list that receives the first requested name that is not in the table.
    """

    def __init__(self, foreign: list[str]) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stack below each mark
        self.memo: dict[int, Any] = {}
        self.foreign = foreign
        self._left = MOST_STEPS

    def run(self, stream: Head) -> Any:
        """Returns the object of the pickle at the stream's position and leaves the stream after it. Raises WeightsError."""
        self.stack, self.below, self.memo = [], [], {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.spend(1)
                self._step(opcode.name, argument)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error, OverflowError) as error:
            raise DamagedWeightsError(f"the list of its tensors is damaged ({shown(error)})") from error
        raise DamagedWeightsError("the list of its tensors is damaged (it has no end)")

    def spend(self, items: int) -> None:
        """Charges a step for its items: a few bytes can refer to a container many times, and each time it is copied whole."""
        self._left -= items
        if self._left < 0:
            raise WeightsError("the list of its tensors is too long")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            if type(argument) is int and argument.bit_length() > _MOST_BITS:
                raise ValueError("the number is too large")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[_memo_place(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[_memo_place(argument)])
        elif name in _STEPS:
            _STEPS[name](self)
        elif name == "GLOBAL":
            stack.append(self._name(*str(argument).split(" ", 1)))
        elif name not in ("PROTO", "FRAME"):
            # torch.save writes no INST, OBJ, EXT1.., NEWOBJ_EX, PERSID, BYTEARRAY8 or buffers for tensors.
            told = f" {shown(argument)}" if isinstance(argument, str) else ""
            self.foreign.append(f"{name}{told}")
            raise WeightsError(f"the list of its tensors holds the instruction {name}{told}")

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Removes the last mark and everything above it from the stack, and returns these items."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def _name(self, module: str, name: str) -> object:
        if len(module) + len(name) > _LONGEST_NAME:
            raise ValueError("the name is too long")
        full = f"{module}.{name}"
        if full in _NAMES:
            return _Known(_NAMES[full])
        if not self.foreign:
            self.foreign.append(full)
        return Foreign()

    def stack_global(self) -> None:
        module, name = self.pop_many(2)
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name is not text")
        self.stack.append(self._name(module, name))

    def call(self) -> None:
        function, arguments = self.pop_many(2)
        self.stack.append(self._call(function, arguments))

    def _call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Foreign):
            return function
        means = function.means if isinstance(function, _Known) else ""
        if type(arguments) is not tuple:
            raise TypeError("a call has no arguments")
        given = cast("tuple[Any, ...]", arguments)
        if means == "call:dict" and len(given) <= 1:
            return self._dict_of_pairs(given[0]) if given else {}
        if means == "call:tuple" and len(given) <= 1:
            return _sides(given[0]) if given else ()
        if means == "call:parameter" and given and isinstance(given[0], TensorSpec):
            return given[0]
        if means == "call:tensor" and len(given) >= 4:
            return _tensor(*given[:4])
        raise TypeError("a call does not create a tensor")

    def _dict_of_pairs(self, pairs: Any) -> dict[Any, Any]:
        """OrderedDict([[key, value], ...]), as Python 2 wrote it."""
        if type(pairs) not in (list, tuple):
            raise TypeError("a dict is not made of pairs")
        self.spend(len(pairs))
        if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
            raise TypeError("a dict is not made of pairs")
        return plain_dict([part for pair in pairs for part in pair])

    def build(self) -> None:
        # Drop the state of an OrderedDict (torch's `_metadata`); it holds no tensors.
        self.stack.pop()
        if not isinstance(self.stack[-1], (dict, Foreign)):
            raise TypeError("an object cannot have a state")

    def persistent(self) -> None:
        told = self.stack.pop()
        if type(told) is not tuple or not told:
            raise TypeError("a reference is empty")
        told = cast("tuple[Any, ...]", told)
        if told[0] == "module":  # in the older stream: a class, with its source code beside it
            self.stack.append(told[1])
            return
        if not 5 <= len(told) <= 6:
            raise TypeError("a reference does not name a tensor storage")
        kind, known, key, _place, numel, *view = told
        dtype = known.means.removeprefix("dtype:") if isinstance(known, _Known) else ""
        named = type(key) is int or (type(key) is str and len(key) <= _LONGEST_NAME)
        if kind != "storage" or dtype not in ITEM_BYTES or not named or type(numel) is not int or numel < 0:
            raise TypeError("a reference does not name a tensor storage")
        storage = Storage(str(key), dtype, numel)
        if view and view[0] is not None:
            _view_key, first, view_numel = view[0]
            if type(first) is not int or type(view_numel) is not int or not 0 <= first <= first + view_numel <= numel:
                raise TypeError("a view reaches outside its storage")
            self.stack.append(_View(storage, first, view_numel))
        else:
            self.stack.append(storage)

    def put_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Foreign):
            return
        if not isinstance(target, dict):
            raise TypeError("items are set on an object that is not a dict")
        cast("dict[Any, Any]", target).update(plain_dict(pairs))

    def append_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Foreign):
            return
        if not isinstance(target, list):
            raise TypeError("items are added to an object that is not a list")
        cast("list[Any]", target).extend(items)

    def pop_many(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items


def _memo_place(argument: Any) -> int:
    """A place in the memo, written as text in the oldest protocols; limited for the same reason as keys."""
    place = int(argument)
    if not 0 <= place < 1 << 32:
        raise ValueError("the number is too large")
    return place


def _sides(numbers: Any) -> tuple[int, ...]:
    if type(numbers) not in (tuple, list) or len(numbers) > _MOST_DIMENSIONS:
        raise TypeError("invalid shape")
    return tuple(numbers)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorSpec:
    if isinstance(storage, _View):
        # Check it against its part, then count from the start of the storage, so that the storage is read only once.
        part = Storage(storage.storage.key, storage.storage.dtype, storage.numel)
        view = _tensor(part, offset, shape, stride)
        return TensorSpec(storage.storage, storage.first + view.offset, view.shape, view.stride)
    if not isinstance(storage, Storage):
        raise TypeError("a tensor has no storage")
    spec = TensorSpec(storage, offset, _sides(shape), _sides(stride))
    spec.check()
    return spec


def code_message(name: str) -> str:
    """The message about a file that asks for an object by name."""
    return f"it holds more than tensors: it asks for {shown(name)}, which could run code on this machine (nothing was run)"


def plain_dict(items: list[Any]) -> dict[Any, Any]:
    """Makes a dict from [key, value, key, value, ...]. Keys must be text or numbers: hashing a deeply nested tuple ends the process."""
    for key in items[::2]:
        # Larger numbers could all be chosen to have the same hash, which makes every look-up slow.
        if type(key) not in (str, int, float, bool, bytes, type(None)) or (type(key) is int and key.bit_length() > 64):
            raise TypeError("a key is neither text nor a number")
    return dict(zip(items[::2], items[1::2], strict=True))


def _push(make: Callable[[PickleMachine], object]) -> Callable[[PickleMachine], None]:
    def step(machine: PickleMachine) -> None:
        made = make(machine)
        machine.stack.append(made)  # look up `stack` only now: `make` may have replaced it

    return step


_STEPS: dict[str, Callable[[PickleMachine], object]] = {
    "MARK": lambda m: m.mark(),
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
    """All tensors in a root object, in order, at any nesting depth."""
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
