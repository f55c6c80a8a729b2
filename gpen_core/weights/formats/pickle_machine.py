"""A pickle machine that knows data only: it builds descriptions of tensors, plain containers, and nothing else.

Neither `pickle.Unpickler` nor `torch.load` is used: both look callables up by name (CVE-2025-32434 and CVE-2026-24747 got past
`weights_only=True`, and A1111 replaces torch.load with its own). An Unpickler whose `find_class` gives out inert objects would not do
either: it hashes whatever the file makes a key, and a tuple of tuples of a few hundred bytes takes for ever to hash, or more stack than
there is. Here a small machine walks over the opcodes that the standard library's `pickletools.genops` decodes. It has no way to import or
call anything: a name in the file is compared with a fixed table, and what is not in the table becomes an inert `Foreign` object, by which
the caller refuses the file. Every pickle has the same few seconds: a step costs one of MOST_STEPS, and as many more as it handles items.

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

# The pickle of a GPEN generator has 30 kB and 5,000 steps; that of a 2 GB training checkpoint about 1 MB and 60,000.
LARGEST_PICKLE = 8 << 20
MOST_STEPS = 500_000
_LONGEST_LINE = 1000  # bytes; of names and numbers in the oldest protocols
_LONGEST_NAME = 500
_MOST_DIMENSIONS = 16
_MOST_BITS = 80  # the magic number of the older layout has 77


class Foreign:
    """Stands for an object the file asks for by name and that is never built."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file, as long as the file says."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that is described but not read yet. offset and stride count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Its length once it is read."""
        return math.prod(self.shape) * ITEM_BYTES[self.storage.dtype]

    def check(self) -> None:
        """Raises WeightsError where the tensor would reach outside its storage."""
        whole = (self.offset, *self.shape, *self.stride)
        fits = len(self.shape) == len(self.stride) and all(type(number) is int and number >= 0 for number in whole)
        if fits:
            numel = math.prod(self.shape)
            last = self.offset + sum((side - 1) * step for side, step in zip(self.shape, self.stride, strict=True))
            # A stride of 0 could make a huge tensor out of one number; no weight file does that.
            fits = numel == 0 or (last < self.storage.numel and numel <= self.storage.numel)
        if not fits:
            raise DamagedWeightsError("the file is damaged: a tensor reaches outside its storage")


@dataclass(frozen=True)
class _View:
    """A part of a storage (older layout): its first number and how many."""

    storage: Storage
    first: int
    numel: int


# The only names that mean something. Functions are written as "call:...": they say how PickleMachine._call answers.
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
    """A name from the table: a kind of storage or one of our own four functions."""

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
    """The beginning of a file, in which no line is longer than a name: int() of a line of megabytes would take hours."""

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(_LONGEST_LINE if size is None or size < 0 else min(size, _LONGEST_LINE))


class PickleMachine:
    """Runs one pickle after another; MOST_STEPS are for all of them together.

    foreign: a list to which the name of the first object is added that a pickle asks for and that is not in the table.
    """

    def __init__(self, foreign: list[str]) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # what lies under each mark
        self.memo: dict[int, Any] = {}
        self.foreign = foreign
        self._left = MOST_STEPS

    def run(self, stream: Head) -> Any:
        """The object of the pickle at the stream's position, which is left behind its end. Raises WeightsError."""
        self.stack, self.below, self.memo = [], [], {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.spend(1)
                self._step(opcode.name, argument)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, struct.error, OverflowError) as error:
            raise DamagedWeightsError(f"the list of its tensors is damaged ({shown(error)})") from error
        raise DamagedWeightsError("the list of its tensors is damaged (no end)")

    def spend(self, items: int) -> None:
        """What a step costs: containers are named again and again for a byte or two, but copied whole each time."""
        self._left -= items
        if self._left < 0:
            raise WeightsError("the list of its tensors is too long")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            if type(argument) is int and argument.bit_length() > _MOST_BITS:
                raise ValueError("a number that is too large")
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
            # INST, OBJ, EXT1.., NEWOBJ_EX, PERSID, BYTEARRAY8, buffers: torch.save writes none of them for tensors.
            told = f" {shown(argument)}" if isinstance(argument, str) else ""
            self.foreign.append(f"{name}{told}")
            raise WeightsError(f"the list of its tensors holds the instruction {name}{told}")

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """Everything above the last mark, taken off the stack together with the mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def _name(self, module: str, name: str) -> object:
        if len(module) + len(name) > _LONGEST_NAME:
            raise ValueError("a name that is too long")
        full = f"{module}.{name}"
        if full in _NAMES:
            return _Known(_NAMES[full])
        if not self.foreign:
            self.foreign.append(full)
        return Foreign()

    def stack_global(self) -> None:
        module, name = self.pop_many(2)
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is no text")
        self.stack.append(self._name(module, name))

    def call(self) -> None:
        function, arguments = self.pop_many(2)
        self.stack.append(self._call(function, arguments))

    def _call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Foreign):
            return function
        means = function.means if isinstance(function, _Known) else ""
        if type(arguments) is not tuple:
            raise TypeError("a call without arguments")
        given = cast("tuple[Any, ...]", arguments)
        if means == "call:dict" and len(given) <= 1:
            return self._dict_of_pairs(given[0]) if given else {}
        if means == "call:tuple" and len(given) <= 1:
            return _sides(given[0]) if given else ()
        if means == "call:parameter" and given and isinstance(given[0], TensorSpec):
            return given[0]
        if means == "call:tensor" and len(given) >= 4:
            return _tensor(*given[:4])
        raise TypeError("a call that makes no tensor")

    def _dict_of_pairs(self, pairs: Any) -> dict[Any, Any]:
        """OrderedDict([[key, value], ...]), as Python 2 wrote it."""
        if type(pairs) not in (list, tuple):
            raise TypeError("a dict that is not made of pairs")
        self.spend(len(pairs))
        if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
            raise TypeError("a dict that is not made of pairs")
        return plain_dict([part for pair in pairs for part in pair])

    def build(self) -> None:
        # The state of an OrderedDict (torch puts `_metadata` there) carries no tensor and is dropped.
        self.stack.pop()
        if not isinstance(self.stack[-1], (dict, Foreign)):
            raise TypeError("a state for something that has none")

    def persistent(self) -> None:
        told = self.stack.pop()
        if type(told) is not tuple or not told:
            raise TypeError("a reference to nothing")
        told = cast("tuple[Any, ...]", told)
        if told[0] == "module":  # in the older stream: a class, with its source code beside it
            self.stack.append(told[1])
            return
        if not 5 <= len(told) <= 6:
            raise TypeError("a reference to something that is no storage of numbers")
        kind, known, key, _place, numel, *view = told
        dtype = known.means.removeprefix("dtype:") if isinstance(known, _Known) else ""
        named = type(key) is int or (type(key) is str and len(key) <= _LONGEST_NAME)
        if kind != "storage" or dtype not in ITEM_BYTES or not named or type(numel) is not int or numel < 0:
            raise TypeError("a reference to something that is no storage of numbers")
        storage = Storage(str(key), dtype, numel)
        if view and view[0] is not None:
            _view_key, first, view_numel = view[0]
            if type(first) is not int or type(view_numel) is not int or not 0 <= first <= first + view_numel <= numel:
                raise TypeError("a view outside its storage")
            self.stack.append(_View(storage, first, view_numel))
        else:
            self.stack.append(storage)

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


def _memo_place(argument: Any) -> int:
    """A text in the oldest protocols; limited for the reason that keys are."""
    place = int(argument)
    if not 0 <= place < 1 << 32:
        raise ValueError("a number that is too large")
    return place


def _sides(numbers: Any) -> tuple[int, ...]:
    if type(numbers) not in (tuple, list) or len(numbers) > _MOST_DIMENSIONS:
        raise TypeError("a shape that is none")
    return tuple(numbers)


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> TensorSpec:
    if isinstance(storage, _View):
        # Checked against the part that the file grants it, then counted from the storage's beginning, so that this is read once.
        part = Storage(storage.storage.key, storage.storage.dtype, storage.numel)
        view = _tensor(part, offset, shape, stride)
        return TensorSpec(storage.storage, storage.first + view.offset, view.shape, view.stride)
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without a storage")
    spec = TensorSpec(storage, offset, _sides(shape), _sides(stride))
    spec.check()
    return spec


def code_message(name: str) -> str:
    """What to say of a file that asks for an object by name."""
    return f"it holds more than tensors: it asks for {shown(name)}, which could run code on this machine (nothing was run)"


def plain_dict(items: list[Any]) -> dict[Any, Any]:
    """A dict of [key, value, key, value, ...]. Keys are texts and numbers: hashing a tuple nested a million deep ends the process."""
    for key in items[::2]:
        # Numbers of more bits could be chosen to have one hash all of them, which makes every look-up a search.
        if type(key) not in (str, int, float, bool, bytes, type(None)) or (type(key) is int and key.bit_length() > 64):
            raise TypeError("a key that is no text and no number")
    return dict(zip(items[::2], items[1::2], strict=True))


def _push(make: Callable[[PickleMachine], object]) -> Callable[[PickleMachine], None]:
    def step(machine: PickleMachine) -> None:
        made = make(machine)
        machine.stack.append(made)  # the stack of now: `make` may have taken a mark off

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
