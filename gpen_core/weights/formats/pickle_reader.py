"""Reads files of `torch.save`, building only tensors and plain containers (`pickle_machine` explains how and why).

Reads both layouts: the zip archive (torch 1.6 and later) and the older stream. Needs no torch before `load` is called. Compares all
lengths stated in a file with its real length before allocating memory.
"""

from __future__ import annotations

import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from ...errors import DamagedWeightsError, WeightsError, shown
from .pickle_machine import ITEM_BYTES, LARGEST_PICKLE, Head, PickleMachine, Storage, TensorSpec, all_specs, code_message

if TYPE_CHECKING:
    import torch

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_LARGEST_DIRECTORY = 2 << 20  # bytes of a zip's directory; the largest Stable Diffusion checkpoints have 300 kB
_CUT = "the file is cut off: data is missing at its end"


class TorchFile:
    """An open file of torch.save: `root` holds plain containers with TensorSpec in place of tensors.

    foreign: the first name of an object that the file asks for (none is built); do not trust a file with any.
    Use it as a context manager, which closes the file. Raises WeightsError if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.foreign: list[str] = []
        self.root: Any = None
        self._machine = PickleMachine(self.foreign)
        self._parts: dict[str, zipfile.ZipInfo] | None = None
        self._prefix = ""
        self._swap = sys.byteorder == "big"
        self._places: dict[str, tuple[int, int]] = {}
        self._cache: dict[str, tuple[str, torch.Tensor]] = {}
        self._file = path.open("rb")
        try:
            self.length = self._unread = self._file.seek(0, 2)
            self._file.seek(0)
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
        self._file.close()

    def load(self, spec: TensorSpec) -> torch.Tensor:
        """Reads one tensor from the file: contiguous, on the CPU, in its saved type. Tensors of one storage may share memory."""
        import torch

        storage = spec.storage
        if storage.key not in self._cache:
            # `bytearray`, because torch needs writable memory; torch keeps it alive.
            data = self._bytes(storage)
            dtype = cast("torch.dtype", getattr(torch, storage.dtype))
            flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            self._cache[storage.key] = (storage.dtype, flat)
        known, flat = self._cache[storage.key]
        if known != storage.dtype or storage.numel != flat.numel():
            raise DamagedWeightsError("the file is damaged: it gives one storage two types or lengths")
        return torch.as_strided(flat, spec.shape, spec.stride, spec.offset).contiguous()

    # The zip archive: zipfile reads its directory, and `_part` reads the parts straight into their final memory.

    def _open_zip(self) -> None:
        try:
            with zipfile.ZipFile(cast("IO[bytes]", _Directory(self._file))) as archive:
                infos = archive.infolist()
        except zipfile.BadZipFile as error:
            raise DamagedWeightsError("the file is cut off: the end of the archive is missing or damaged") from error
        except (ValueError, NotImplementedError, OverflowError, struct.error, EOFError, RuntimeError) as error:
            raise DamagedWeightsError("the file is damaged: the archive's directory cannot be read") from error
        names = [info.filename for info in infos if info.filename == "data.pkl" or info.filename.endswith("/data.pkl")]
        if len(names) != 1:
            raise WeightsError("the file is a zip archive, but not from torch.save")
        self._parts = {info.filename: info for info in infos}
        self._prefix = names[0][: -len("data.pkl")]
        self.root = self._machine.run(Head(self._part(names[0], most=LARGEST_PICKLE)))
        order = f"{self._prefix}byteorder"
        if order in self._parts:
            self._swap = self._part(order, most=16).decode("ascii", "replace").strip() != sys.byteorder

    def _part(self, name: str, *, most: int) -> bytearray:
        """The bytes of a part, checked against its checksum. Refuses compressed parts, which torch never writes: no zip bombs."""
        info = (self._parts or {}).get(name)
        told = shown(name)
        if info is None:
            raise DamagedWeightsError(f"the file is damaged: its part '{told}' is missing")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size > most:
            raise WeightsError(f"its part '{told}' is compressed, encrypted or too long")
        if info.compress_size != info.file_size:
            raise DamagedWeightsError(f"the file is damaged: its part '{told}' states two different lengths")
        head = self._read(info.header_offset, 30)
        if not head.startswith(b"PK\x03\x04"):
            raise DamagedWeightsError(f"the file is damaged: its part '{told}' is in the wrong place")
        name_length, more_length = struct.unpack("<HH", head[26:30])
        data = self._read(info.header_offset + 30 + name_length + more_length, info.file_size)
        if zlib.crc32(data) != info.CRC:
            raise DamagedWeightsError(f"the file is damaged: its part '{told}' does not match its checksum")
        return data

    def _read(self, place: int, count: int) -> bytearray:
        if not (place >= 0 and 0 <= count <= self.length - place):
            raise DamagedWeightsError(_CUT)
        # Overlapping parts could turn a file of megabytes into gigabytes.
        self._unread -= count
        if self._unread < 0:
            raise DamagedWeightsError("the file is damaged: its parts overlap")
        self._file.seek(place)
        data = bytearray(count)
        if cast("Any", self._file).readinto(data) != count:
            raise DamagedWeightsError(_CUT)  # the file was shortened after it was opened
        return data

    # The older stream: five pickles (magic number, protocol, system, object, storage keys), then the storages

    def _open_stream(self) -> None:
        head = Head(self._file.read(LARGEST_PICKLE))
        magic = self._machine.run(head)
        if type(magic) is not int or magic != _LEGACY_MAGIC:
            self.root = magic  # a plain pickle, kept only to say what it is
            return
        protocol = self._machine.run(head)
        system = self._machine.run(head)
        if type(protocol) is not int or protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
            raise WeightsError("the file has an unknown layout of torch.save")
        little = bool(cast("dict[str, Any]", system).get("little_endian", True))
        self._swap = little != (sys.byteorder == "little")
        self.root = self._machine.run(head)
        keys = self._machine.run(head)
        if not isinstance(keys, list) or any(type(key) not in (str, int) for key in cast("list[Any]", keys)):
            raise DamagedWeightsError("the file is damaged: it has no list of storages")
        self._find_storages([str(key) for key in cast("list[Any]", keys)], head.tell())

    def _find_storages(self, keys: list[str], place: int) -> None:
        """Records (first byte, numel) of every storage, skipping its data by the item size of the tensors that use it."""
        item = {spec.storage.key: ITEM_BYTES[spec.storage.dtype] for spec in all_specs(self.root)}
        for key in keys:
            self._file.seek(place)
            head = self._file.read(8)
            place += 8
            numel = struct.unpack("<q" if not self._swap else ">q", head)[0] if len(head) == 8 else -1
            if key not in item:
                raise DamagedWeightsError("the file is damaged: a storage belongs to no tensor")
            if numel < 0 or numel * item[key] > self.length - place:
                raise DamagedWeightsError(_CUT)
            self._places[key] = (place, numel)
            place += numel * item[key]

    def _bytes(self, storage: Storage) -> bytearray:
        item = ITEM_BYTES[storage.dtype]
        if self._parts is not None:
            data = self._part(f"{self._prefix}data/{storage.key}", most=self.length)
            if len(data) != storage.numel * item:
                raise DamagedWeightsError(f"the file is damaged: a storage has {len(data)} bytes instead of {storage.numel * item}")
        else:
            place, numel = self._places.get(storage.key, (0, -1))
            if storage.numel != numel:
                raise DamagedWeightsError("the file is damaged: a tensor reaches outside its storage")
            data = self._read(place, numel * item)
        return _swapped(data, item) if self._swap else data


class _Directory:
    """The part of a file that zipfile may read: its end and its directory, with a size limit."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > _LARGEST_DIRECTORY:
            raise zipfile.BadZipFile("the directory is too long")
        return self._file.read(size if size >= 0 else _LARGEST_DIRECTORY)


def _swapped(data: bytearray, item: int) -> bytearray:
    import numpy as np

    numbers: Any = np.frombuffer(data, dtype=f"u{item}")
    return bytearray(numbers.byteswap().tobytes())
