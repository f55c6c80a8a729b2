"""Reads what `torch.save` wrote, building tensors and plain containers and nothing else (`pickle_machine` says how and why).

Both layouts are read: the zip archive (torch 1.6 and later) and the older stream. No torch is needed before `load` is called.
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..errors import WeightsError
from .pickle_machine import ITEM_BYTES, LARGEST_PICKLE, PickleMachine, Storage, TensorSpec, all_specs, code_message

if TYPE_CHECKING:
    import torch

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


class TorchFile:
    """A file of torch.save, opened: `root` holds plain containers with TensorSpec in the place of tensors.

    foreign: names of objects the file wanted built (none was); a file with any must not be trusted.
    Use as a context manager, so that the file is closed. Raises WeightsError where the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.foreign: list[str] = []
        self.root: Any = None
        self._zip: zipfile.ZipFile | None = None
        self._prefix = ""
        self._swap = sys.byteorder == "big"
        self._places: dict[str, tuple[int, int]] = {}
        self._cache: dict[Storage, torch.Tensor] = {}
        self._file = path.open("rb")
        try:
            if self._file.read(2) == b"PK":
                self._open_zip()
            else:
                self._file.seek(0)
                self._open_stream()
        except WeightsError as error:
            self.close()
            raise (WeightsError(code_message(self.foreign[0])) if self.foreign else error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; tensors already loaded stay."""
        self._cache.clear()
        if self._zip is not None:
            self._zip.close()
        self._file.close()

    def load(self, spec: TensorSpec) -> torch.Tensor:
        """One tensor, read from the file, contiguous, on the CPU, of the type it was saved with."""
        import torch

        spec.check()
        if spec.storage not in self._cache:
            # `bytearray`, because torch wants memory it may write to; torch keeps it alive.
            data = self._bytes(spec.storage)
            dtype = cast("torch.dtype", getattr(torch, spec.storage.dtype))
            self._cache[spec.storage] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        flat = self._cache[spec.storage]
        return torch.as_strided(flat, spec.shape, spec.stride, spec.offset).contiguous()

    # The zip archive

    def _open_zip(self) -> None:
        try:
            archive = self._zip = zipfile.ZipFile(self._file)
        except zipfile.BadZipFile as error:
            raise WeightsError("the file is cut off: the end of the archive is missing") from error
        names = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(names) != 1:
            raise WeightsError("the file is a zip archive, but not of torch.save")
        self._prefix = names[0][: -len("data.pkl")]
        self.root = self._unpickle_entry(names[0])
        order = f"{self._prefix}byteorder"
        if order in archive.namelist():
            self._swap = self._read_entry(order, 16).decode("ascii", "replace").strip() != sys.byteorder

    def _unpickle_entry(self, name: str) -> Any:
        return PickleMachine(self.foreign).run(io.BytesIO(self._read_entry(name, LARGEST_PICKLE)))

    def _read_entry(self, name: str, largest: int) -> bytearray:
        """An entry's bytes, with their checksum verified by zipfile. torch never compresses, so a zip bomb cannot arise."""
        archive = cast("zipfile.ZipFile", self._zip)
        try:
            info = archive.getinfo(name)
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > largest:
                raise WeightsError(f"its part '{name}' is compressed or too long")
            data = bytearray(info.file_size)
            with archive.open(info) as part:
                got = cast("Any", part).readinto(data)
        except (KeyError, EOFError, OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise WeightsError(f"the file is damaged: its part '{name}' cannot be read ({error})") from error
        if got != len(data):
            raise WeightsError(f"the file is cut off within its part '{name}'")
        return data

    # The older stream: five pickles (magic number, protocol, system, object, storage keys), then the storages

    def _open_stream(self) -> None:
        magic = PickleMachine(self.foreign).run(self._file)
        if magic != _LEGACY_MAGIC:
            self.root = magic  # a plain pickle: looked at only to say what it is
            return
        protocol = PickleMachine(self.foreign).run(self._file)
        system = PickleMachine(self.foreign).run(self._file)
        if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
            raise WeightsError("the file has an unknown layout of torch.save")
        little = bool(cast("dict[str, Any]", system).get("little_endian", True))
        self._swap = little != (sys.byteorder == "little")
        self.root = PickleMachine(self.foreign).run(self._file)
        keys = PickleMachine(self.foreign).run(self._file)
        if not isinstance(keys, list):
            raise WeightsError("the file is damaged: it has no list of storages")
        self._find_storages([str(key) for key in cast("list[Any]", keys)])

    def _find_storages(self, keys: list[str]) -> None:
        """Notes (first byte, numel) of every storage; what lies between them is skipped by the item size of the tensors that use it."""
        item = {spec.storage.key: ITEM_BYTES[spec.storage.dtype] for spec in all_specs(self.root)}
        length = self.path.stat().st_size
        for key in keys:
            head = self._file.read(8)
            place = self._file.tell()
            numel = struct.unpack("<q" if not self._swap else ">q", head)[0] if len(head) == 8 else -1
            if key not in item:
                raise WeightsError("the file is damaged: a storage belongs to no tensor")
            if numel < 0 or place + numel * item[key] > length:
                raise WeightsError("the file is cut off: numbers are missing at its end")
            self._places[key] = (place, numel)
            self._file.seek(place + numel * item[key])

    def _bytes(self, storage: Storage) -> bytearray:
        item = ITEM_BYTES[storage.dtype]
        if self._zip is not None:
            data = self._read_entry(f"{self._prefix}data/{storage.key}", sys.maxsize)
            if len(data) != storage.numel * item:
                raise WeightsError(f"the file is damaged: a storage has {len(data)} bytes instead of {storage.numel * item}")
        else:
            place, numel = self._places.get(storage.key, (0, -1))
            if storage.offset + storage.numel > numel:
                raise WeightsError("the file is damaged: a tensor reaches outside its storage")
            self._file.seek(place + storage.offset * item)
            data = bytearray(storage.numel * item)
            if cast("Any", self._file).readinto(data) != len(data):
                raise WeightsError("the file is cut off: numbers are missing at its end")
        return _swapped(data, item) if self._swap else data


def _swapped(data: bytearray, item: int) -> bytearray:
    import numpy as np

    numbers: Any = np.frombuffer(data, dtype=f"u{item}")
    return bytearray(numbers.byteswap().tobytes())
