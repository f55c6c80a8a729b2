"""Tar archives, such as the shards of webdataset: pictures in them are restored, and everything else is copied byte for byte.

Nothing is unpacked, so a member's name leads nowhere. A member's header is copied as it is, with only its picture's new size put in: names,
order, times and modes stay, in any dialect of tar. tarfile reads single headers here, but not archives: it keeps every member in memory,
and reads headers of any length. In memory are one member that is a picture, and at most a mebibyte of headers.
"""

from __future__ import annotations

import logging
import os
import tarfile
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import DeviceError, PictureError, describe, shown
from ..pictures import WRITE_SUFFIXES, decode_picture, encode_picture, is_picture_path
from ..pictures.disk import whole_file
from ..progress import Progress
from ..runtime import device_error
from .histogram import count_face, no_scores, no_sizes

if TYPE_CHECKING:
    from ..restore.restorer import FaceRestorer

log = logging.getLogger(__name__)

SUFFIX = ".tar"
ERRORS = 100  # in a record
_BLOCK = tarfile.BLOCKSIZE
_END = tarfile.RECORDSIZE  # archives are filled up to a multiple of it
_CHUNK = 1 << 20
_MOST_HEADER = 1 << 20  # bytes of all headers of a member; names and times need a few hundred
_MOST_PICTURE = 1 << 30  # bytes of a picture's file
_LONG_NAME, _PAX = (tarfile.GNUTYPE_LONGNAME,), (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_EXTENSIONS = (*_LONG_NAME, *_PAX, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE)  # headers of the member that follows


@dataclass(frozen=True)
class Member:
    """A member of an archive. header: its blocks as they are. start, size: of its data. is_plain: an ordinary file, whose size only the
    last block of its header says."""

    name: str
    header: bytes
    start: int
    size: int
    is_plain: bool

    @property
    def end(self) -> int:
        return self.start + _filled(self.size)

    def resized(self, size: int) -> bytes:
        """The header for data of another size."""
        block = bytearray(self.header[-_BLOCK:])
        block[124:136] = b"%011o\0" % size
        block[148:156] = b" " * 8  # its sum is that of a block with an empty sum
        block[148:156] = b"%06o\0 " % sum(block)
        return self.header[:-_BLOCK] + bytes(block)


@dataclass
class TarResult:
    """What became of an archive. pictures: those that were looked at. kept: pictures that stay as they were, because their format cannot be
    written. failed: those that stay because of an error. faces: how many, by status; sizes, scores: their histograms.
    errors: (member, error) of the first that failed."""

    members: int = 0
    pictures: int = 0
    kept: int = 0
    failed: int = 0
    faces: Counter[str] = field(default_factory=lambda: Counter[str]())
    sizes: list[int] = field(default_factory=no_sizes)
    scores: list[int] = field(default_factory=no_scores)
    errors: list[tuple[str, str]] = field(default_factory=lambda: [])

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "faces": dict(self.faces)}


def is_tar_path(path: str | os.PathLike[str]) -> bool:
    """True if the name is that of a tar archive. Compressed ones do not count."""
    return Path(path).suffix.lower() == SUFFIX


def restore_tar(
    source: Path, target: Path, restorer: FaceRestorer, *, overwrite: bool = False, quality: int = 95, progress: Progress | None = None
) -> TarResult:
    """Writes an archive with the same members, in which the faces of pictures are restored. It appears whole or not at all.

    A picture that fails, or that restoring does not change, keeps its bytes. Raises PictureError if the archive is cut short or damaged,
    DeviceError if the device stops working. progress: receives how much of the archive is done.
    """
    result = TarResult()
    with whole_file(target, overwrite) as out, opened(source) as file:
        length, seen = file.seek(0, os.SEEK_END), 0
        for member in members(file):
            result.members += 1
            data = _restored(file, member, source, result, restorer, quality)
            if data is None:
                out.write(member.header)
                _copy(file, out, member)
            else:
                out.write(member.resized(len(data)))
                out.write(data)
                out.write(bytes(_filled(len(data)) - len(data)))
            if progress is not None and (member.end >> 20) > seen:
                seen = member.end >> 20
                progress.report(seen, max(seen, length >> 20), "MB")
        while chunk := _read(file, _CHUNK):
            if chunk.strip(b"\0"):
                raise PictureError("something follows its end; write it anew, with all members in one archive")
        out.write(bytes(2 * _BLOCK))
        out.write(bytes(-out.tell() % _END))
    return result


def members(file: BinaryIO) -> Iterator[Member]:
    """The members of an archive up to its end mark; each may be read meanwhile. Raises PictureError for a damaged archive."""
    length, position = file.seek(0, os.SEEK_END), 0
    while True:
        file.seek(position)
        member = _next(file, length)
        if member is None:
            return
        yield member
        position = member.end


def _next(file: BinaryIO, length: int) -> Member | None:
    """The member whose header begins here, or None at the end mark."""
    header, name, size = bytearray(), "", -1
    has_more = False  # a pax header says something about the size
    while True:
        block = _exactly(file, _BLOCK)
        if not header and not block.strip(b"\0"):
            return None
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            is_first = file.tell() == _BLOCK
            raise PictureError(f"{'it is not a tar archive' if is_first else 'the file is damaged'} ({shown(error)})") from error
        header += block
        more = _filled(info.size) if info.type in _EXTENSIONS else 0
        if info.size < 0 or len(header) + more > _MOST_HEADER:
            raise PictureError(f"the file is damaged (a header of {info.size} bytes)")
        if info.type not in _EXTENSIONS:
            break
        data = _exactly(file, more)
        header += data
        if info.type in _LONG_NAME:
            name = data[: info.size].partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif info.type in _PAX:
            values = dict(_pax(data[: info.size]))
            name = values.get("path", name)
            has_more |= any(key == "size" or key.startswith("GNU.sparse.") for key in values)
            if values.get("size", "").isdecimal():
                size = int(values["size"][:20])
    if info.type == tarfile.GNUTYPE_SPARSE:
        is_extended = block[482]
        while is_extended:
            block = _exactly(file, _BLOCK)
            header += block
            is_extended = block[504]
            if len(header) > _MOST_HEADER:
                raise PictureError("the file is damaged (a header without an end)")
    has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES  # as tarfile sees it: links and folders have none
    stored = (info.size if size < 0 else size) if has_data else 0
    member = Member(
        name or info.name, bytes(header), file.tell(), stored, info.isreg() and info.type != tarfile.GNUTYPE_SPARSE and not has_more
    )
    if member.end > length:
        raise PictureError("the file is cut short")
    return member


def _pax(data: bytes) -> Iterator[tuple[str, str]]:
    """The entries of a pax header: "LENGTH KEY=VALUE" a line."""
    position = 0
    while position < len(data) and data[position]:
        digits = data[position : position + 8].partition(b" ")[0]
        end = position + (int(digits) if digits.isdigit() else 0)
        start = position + len(digits) + 1
        key, equals, value = data[start : max(start, end - 1)].partition(b"=")
        if not equals or end > len(data):
            raise PictureError("the file is damaged (a pax header)")
        yield key.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
        position = end


def _restored(file: BinaryIO, member: Member, source: Path, result: TarResult, restorer: FaceRestorer, quality: int) -> bytes | None:
    """The restored picture's file, or None if the member stays as it is."""
    path, label = PurePosixPath(member.name), Path(f"{source}: {shown(member.name)}")
    if not is_picture_path(path) or not (member.is_plain or member.size):
        return None
    if path.suffix.lower() not in WRITE_SUFFIXES or not member.is_plain:
        return _kept(result, source, f"{path.suffix} files" if member.is_plain else "sparse files")
    result.pictures += 1
    try:
        if member.size > _MOST_PICTURE:
            raise PictureError(f"the file is too large (at most {_MOST_PICTURE >> 30} GiB in an archive)")
        picture = decode_picture(_exactly(file, member.size), label)
        if picture.form.frames > 1:
            result.pictures -= 1
            return _kept(result, source, "animations and files of several pages")
        restored = restorer(picture)
        is_same = restored.image.pixels.shape == picture.pixels.shape and bool((restored.image.pixels == picture.pixels).all())
        data = None if is_same else encode_picture(restored.image, label, quality)
        result.faces.update(face.status for face in restored.faces)
        for face in restored.faces:
            count_face(face.to_json(), result.sizes, result.scores)
        return data
    except Exception as error:  # a bug or lack of memory in one picture must not stop the others
        stop = device_error(error, restorer.options.device) or error
        if isinstance(stop, DeviceError):
            raise stop from None
        result.failed += 1
        text = describe(stop)
        if len(result.errors) < ERRORS:
            result.errors.append((shown(member.name, 300), text))
        log.warning("%s stays as it is: %s", label, text)
        log.debug("%s failed", label, exc_info=error)
    return None


def _kept(result: TarResult, source: Path, what: str) -> None:
    if not result.kept:
        log.warning("%s: %s stay as they are in an archive", source, what)
    result.kept += 1


def _copy(file: BinaryIO, out: BinaryIO, member: Member) -> None:
    """Copies the member's data, with what fills it up."""
    file.seek(member.start)
    for left in range(_filled(member.size), 0, -_CHUNK):
        out.write(_exactly(file, min(left, _CHUNK)))


def _filled(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


@contextmanager
def opened(path: Path) -> Generator[BinaryIO, None, None]:
    """The open file. Names it in every error inside that is about its content."""
    try:
        try:
            file = path.open("rb")
        except OSError as error:
            raise PictureError(str(error.strerror)) from error
        with file:
            yield file
    except PictureError as error:
        raise PictureError(f"Cannot read the archive {path}: {error}.") from error


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = _read(file, size)
    if len(data) < size:
        raise PictureError("the file is cut short")
    return data


def _read(file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except OSError as error:  # must not look like an error of the file that is being written
        raise PictureError(f"it cannot be read ({error.strerror})") from error
