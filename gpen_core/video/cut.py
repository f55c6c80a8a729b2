"""Detects video files that are cut short, which decoders silently play as shorter videos."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

CUT = "the file is cut short, and the rest contains no complete frame"
_HEAD = 64 * 1024
_PIECES = 200_000  # the most pieces of a file to count; a valid file of many hours has fewer
_MP4_STARTS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SYNC = 0x47  # begins every packet of an MPEG transport stream


def is_cut_short(path: Path) -> bool:
    """True if a file is shorter than its header says: MP4, MOV, 3GP, Matroska, WebM, AVI, WMV, MPEG transport streams.

    False if the length is unknown (other containers, live recordings) or the file cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head[4:8] in _MP4_STARTS:
                return _mp4_end(file, size) > size
            if head.startswith(b"RIFF"):
                return _riff_end(file, size) > size
    except OSError:
        return False
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _matroska_end(head) > size
    if head.startswith(_ASF):
        at = head.find(_ASF_PROPERTIES)
        return at >= 0 and int.from_bytes(head[at + 40 : at + 48], "little") > size
    for start, packet in ((0, 188), (4, 192)):  # cameras and Blu-ray use the second
        if len(head) > 3 * packet and all(head[start + index * packet] == _SYNC for index in range(3)):
            return size % packet != 0
    return False


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Offset at which the last top-level box of the file should end; 0 if unknown."""
    position = 0
    for _ in range(_PIECES):
        if position + 8 > size:
            return position
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8 or not all(32 <= letter < 127 for letter in header[4:8]):  # a box up to the end of the file, or not a box
            return 0
        position += length
    return 0


def _riff_end(file: BinaryIO, size: int) -> int:
    """Offset at which the last RIFF chunk should end (an AVI of more than a gigabyte has several); 0 if unknown."""
    position = 0
    for _ in range(_PIECES):
        file.seek(position)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if not header.startswith(b"RIFF"):
            return position
        if length in (0, 0xFFFFFFFF):  # never filled in
            return 0
        position += 8 + length
        if position >= size:
            return position
        position += length % 2
    return 0


def _matroska_end(head: bytes) -> int:
    """Offset at which the segment should end (everything after the first few bytes); 0 if unknown."""
    length, position, _ = _vint(head, 4)
    position += length
    if head[position : position + 4] != b"\x18\x53\x80\x67":
        return 0
    length, start, known = _vint(head, position + 4)
    return start + length if known else 0


def _vint(data: bytes, position: int) -> tuple[int, int, bool]:
    """Decodes a Matroska length: (number, offset after it, whether it is known; all bits set mean unknown)."""
    first = data[position] if position < len(data) else 0
    count = 9 - first.bit_length()
    bits = int.from_bytes(data[position : position + count], "big") & ((1 << 7 * count) - 1)
    return bits, position + count, count < 9 and bits != (1 << 7 * count) - 1
