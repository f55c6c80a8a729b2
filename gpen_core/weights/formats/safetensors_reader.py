"""Reads .safetensors files: a JSON header, then the tensor data.

The package `safetensors` maps the file into memory, and the process would crash if another program shortened the file. This reader reads
tensors one by one into their place, which takes no more memory. Needs no torch before `tensors` is called.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from ...errors import DamagedWeightsError, WeightsError, shown

if TYPE_CHECKING:
    import torch

# Bytes and torch name of each data type; other types are reported but not read.
_KINDS = {
    "F64": (8, "float64"), "F32": (4, "float32"), "F16": (2, "float16"), "BF16": (2, "bfloat16"),
    "I64": (8, "int64"), "I32": (4, "int32"), "I16": (2, "int16"), "I8": (1, "int8"), "U8": (1, "uint8"), "BOOL": (1, "bool"),
    "F8_E4M3": (1, "float8_e4m3fn"), "F8_E5M2": (1, "float8_e5m2"),
}  # fmt: skip
# The header of a GPEN generator has 25 kB, that of the largest diffusion models about 1 MB.
_LARGEST_HEADER = 8 << 20
_MOST_DIMENSIONS = 16
_AGAIN = "delete it and download it again"


@dataclass(frozen=True)
class _Place:
    """Position of a tensor's bytes, counted from the end of the header."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """A .safetensors file whose header is read and checked. Raises WeightsError if it is damaged or cut off.

    metadata: the texts that the file's writer added, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places, self.metadata, self._start = _header(path)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors' names and shapes."""
        return {key: place.shape for key, place in self._places.items()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name, on the CPU, in the type they were saved in. Raises WeightsError."""
        import torch

        tensors: dict[str, torch.Tensor] = {}
        with self.path.open("rb") as file:
            for key, place in self._places.items():
                name = _KINDS[place.kind][1] if place.kind in _KINDS else ""
                dtype = cast("torch.dtype | None", getattr(torch, name, None))
                if dtype is None:
                    raise WeightsError(f"'{shown(self.path, 300)}' holds an unsupported data type ({shown(place.kind)})")
                numbers = torch.empty(place.end - place.begin, dtype=torch.uint8)
                file.seek(self._start + place.begin)
                if cast("Any", file).readinto(cast("Any", numbers).numpy()) != len(numbers):
                    raise DamagedWeightsError(f"'{shown(self.path, 300)}' was cut off while it was being read; {_AGAIN}.")
                tensors[key] = numbers.view(dtype).reshape(place.shape) if len(numbers) else torch.empty(place.shape, dtype=dtype)
        return tensors


def _header(path: Path) -> tuple[dict[str, _Place], dict[str, str], int]:
    """(tensors by name, in the order of their bytes; metadata; offset of the first byte)."""
    name = shown(path, 300)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            raise DamagedWeightsError(f"'{name}' is cut off: its header has {length} bytes, the file only {size}; {_AGAIN}.")
        if length > _LARGEST_HEADER:
            raise WeightsError(f"'{name}' is not a supported weight file: its header has {length} bytes.")
        raw = file.read(length)
    try:
        whole: Any = json.loads(raw.decode("utf-8"), parse_int=_number(int), parse_float=_number(float), **_STRICT)
        said = cast("dict[str, Any]", whole.pop("__metadata__", None) or {})
        metadata = {key: text for key, text in said.items() if isinstance(text, str)}
        places = sorted(((key, _place(facts)) for key, facts in whole.items()), key=lambda item: (item[1].begin, item[1].end))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise DamagedWeightsError(f"'{name}' is damaged: its safetensors header cannot be read; {_AGAIN}.") from error
    end = 0
    for key, place in places:
        if place.begin != end:
            raise DamagedWeightsError(f"'{name}' is damaged: the data of '{shown(key)}' overlaps other data or leaves a gap; {_AGAIN}.")
        end = place.end
    due = 8 + length + end
    if due > size:
        raise DamagedWeightsError(f"'{name}' is cut off: it should have {due} bytes but has only {size}; {_AGAIN}.")
    if due < size:
        raise DamagedWeightsError(f"'{name}' is damaged: {size - due} bytes at its end belong to no tensor; {_AGAIN}.")
    return dict(places), metadata, 8 + length


def _place(facts: Any) -> _Place:
    kind, shape, (begin, end) = facts["dtype"], tuple(facts["shape"]), facts["data_offsets"]
    numbers = (*shape, begin, end)
    if len(shape) > _MOST_DIMENSIONS or type(kind) is not str or any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("invalid tensor")
    if end < begin or (kind in _KINDS and end - begin != math.prod(shape) * _KINDS[kind][0]):
        raise ValueError("a tensor has the wrong length")
    return _Place(kind, shape, begin, end)


def _number(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """A number parser with limited length, because int() of a million digits takes hours."""

    def read(text: str) -> Any:
        if len(text) > 20:
            raise ValueError("the number is too long")
        return kind(text)

    return read


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of bytes")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name occurs twice")  # readers differ in which of the two they use
    return content


_STRICT: dict[str, Any] = {"parse_constant": _no_number, "object_pairs_hook": _once}
