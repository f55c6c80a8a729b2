"""What a video that is being restored has so far, in a folder beside its target: a run that was killed goes on from there.

    .NAME.mp4.parts/
      begun.json       what is restored, and how: a run with anything else begins anew
      000000.packets   the encoded frames of a segment, which begins with a key frame
      000000.json      its record, written when those are on the disk
      lock             held by the process that works on the video; the system frees it when that dies
      done             the video is whole; what is left here is of no use

The folder goes when the video is whole, and where a run ends before its first segment is.
"""

from __future__ import annotations

import json
import logging
import re
import struct
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, BinaryIO, cast

from ..errors import PictureError
from ..pictures.disk import flush, part_beside
from ..replacing import replace
from ..weights.small_files import locked, read_table

log = logging.getLogger(__name__)

FORMAT = 1
SEGMENT = 250  # frames; x264 and x265 begin anew after as many themselves
LEAD = 24  # frames before a segment that say where faces of its first frames are: 4 and 8 before those, and the widest gap

_HEAD = struct.Struct("<qqqI?")  # pts, dts, duration, length, whether it is a key frame
_NO_TIME = -(1 << 63)
_OURS = re.compile(r"lock(ed)?|done|begun\.json|\d{6}\.(packets|json)|\.[0-9a-f]{32}\.part")
_LONGEST = 240  # bytes of a folder's name
_ABANDONED = 24 * 60 * 60  # seconds


class MisfitError(Exception):
    """What an earlier run left does not fit the video as it is read now. Caught here, and the next way is tried."""


@dataclass(frozen=True)
class Stored:
    """An encoded frame, with times in the encoder's base."""

    pts: int
    dts: int | None
    duration: int
    is_key: bool
    data: bytes


@dataclass(frozen=True)
class Record:
    """What is known when a segment is whole.

    frames, kept, reason: how many were restored, how many failed, and why the last. packets, size, sum: of the encoded frames. due: what
    the next of them have as decoding times. last: the last time that was written. zero: time of the first frame, if there is a span.
    faces: of the frames. lead: for the last LEAD frames, (time, sum, numbers of the faces' tracks). key: the packet from which the
    first of those can be decoded, counted from 0; None: nobody knows.
    """

    frames: int
    kept: int
    reason: str
    packets: int
    size: int
    sum: str
    due: list[int]
    last: int
    zero: str | None
    faces: list[dict[str, Any]]
    lead: list[Any]
    key: int | None


@dataclass(frozen=True)
class Start:
    """Where an earlier run ended. setup: of its encoder. quick: skip what need not be decoded."""

    records: list[Record]
    setup: dict[str, Any]
    quick: bool

    @property
    def frames(self) -> int:
        return sum(record.frames for record in self.records)

    @property
    def last(self) -> Record:
        return self.records[-1]


def folder_of(target: Path) -> Path:
    """The folder for what a target has so far."""
    name = f".{target.name}.parts"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        name = f".{sha256(target.name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}.parts"
    return target.with_name(name)


class Parts:
    """The folder of one target. identity: what is restored and how; called once, and only where something is kept."""

    def __init__(self, target: Path, identity: Callable[[], dict[str, Any]]) -> None:
        self.target, self.folder = target, folder_of(target)
        self.frames = 0  # that are kept
        self._identity_of, self._identity = identity, None
        self._stack = ExitStack()
        self._held = False
        self._count = 0  # of segments
        self._file: _Packets | None = None
        self._whole: Path | None = None
        self._stored: Generator[Stored, None, None] | None = None  # has a file open

    @contextmanager
    def held(self) -> Generator[Parts, None, None]:
        """Leaves nothing of no use behind, however the block ends. After it has called finish(), nothing at all."""
        try:
            yield self
        finally:
            with suppress(OSError):  # what cannot be removed does no harm
                self._shut()
                if self._whole is not None:
                    self._whole.unlink(missing_ok=True)
            useless = self._held and not self.frames
            with suppress(OSError):
                if useless:
                    self._clear()
            self._stack.close()
            if useless:
                _remove(self.folder)

    def open(self) -> None:
        """Makes and locks the folder. Raises PictureError if another process works on the target, OSError if it cannot be made."""
        if self._held:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._stack.enter_context(locked(self.folder / "lock", 0))
        except TimeoutError as error:
            raise PictureError(f"cannot write the video {self.target}, because another process is restoring to it ({error})") from None
        self._held = True
        left = list(self.folder.glob(".*.part"))
        if (self.folder / "done").exists():  # and without the whole video here, that has its name
            if not left:
                self._clear()
            (self.folder / "done").unlink()
        for part in left:
            part.unlink(missing_ok=True)

    def starts(self) -> Iterator[Start | None]:
        """Where to begin, in the order to try: None is the beginning."""
        if self.folder.is_dir():
            self.open()
            start = self._found()
            if start is not None:
                self.frames, self._count = start.frames, len(start.records)
                log.warning("%s: goes on after the first %d frames, which an earlier run has restored", self.target, start.frames)
                if start.last.key is not None:
                    yield start
                yield Start(start.records, start.setup, False)
                log.warning("%s: what an earlier run has restored does not fit the video, and it begins anew", self.target)
            self.clear()
        yield None

    def clear(self) -> None:
        """Forgets what is kept."""
        self._shut()
        if self.folder.is_dir():
            self.open()
            self._clear()
        self.frames = self._count = 0

    def _shut(self) -> None:
        """Lets go of files that are being read or written: Windows removes no open file."""
        if self._stored is not None:
            self._stored.close()
        self.drop()

    def _clear(self) -> None:
        """Records go first: packets without one are of no use."""
        for pattern in ("*.json", "*.packets"):
            for path in sorted(self.folder.glob(pattern), reverse=True):
                path.unlink(missing_ok=True)

    def _found(self) -> Start | None:
        """What an earlier run with the same settings, weights and source has left."""
        try:
            begun = read_table(self.folder / "begun.json")
            before, setup = begun["identity"], begun["setup"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError) as error:
            log.warning("%s: what an earlier run has restored cannot be read (%s), and it begins anew", self.target, error)
            return None
        now = self._what()
        other = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        if other:
            log.warning("%s: an earlier run was begun with other values (%s), and it begins anew", self.target, ", ".join(other))
            return None
        records: list[Record] = []
        while (record := self._record(len(records))) is not None:
            records.append(record)
        return Start(records, setup, True) if records else None

    def _what(self) -> dict[str, Any]:
        if self._identity is None:
            self._identity = json.loads(json.dumps({"format": FORMAT, **self._identity_of()}))
        return cast("dict[str, Any]", self._identity)

    def _record(self, number: int) -> Record | None:
        """The record of a segment whose frames are whole."""
        try:
            record = Record(**json.loads((self.folder / f"{number:06}.json").read_text("utf-8")))
            with self._path(number).open("rb") as file:
                digest, size = blake2b(digest_size=16), 0
                while block := file.read(1 << 20):
                    digest.update(block)
                    size += len(block)
        except (OSError, ValueError, TypeError):
            return None
        return record if (size, digest.hexdigest()) == (record.size, record.sum) else None

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.packets"

    def stored(self, start: Start) -> Iterator[Stored]:
        """The encoded frames that are kept."""
        self._shut()
        self._stored = self._read(start)
        return self._stored

    def _read(self, start: Start) -> Generator[Stored, None, None]:
        for number in range(len(start.records)):
            with self._path(number).open("rb") as file:
                while head := file.read(_HEAD.size):
                    pts, dts, duration, size, is_key = _HEAD.unpack(head)
                    yield Stored(pts, None if dts == _NO_TIME else dts, duration, is_key, file.read(size))

    # --- what is new

    def whole(self) -> Path:
        """A new temporary name for the whole video."""
        self.open()
        self._whole = part_beside(self.folder / "whole")
        return self._whole

    def add(self, packet: Any) -> None:
        """Adds an encoded frame to the segment that is being made."""
        if self._file is None:
            self._file = _Packets(part_beside(self.folder / "packets"))
        self._file.add(packet)

    def drop(self) -> None:
        """Forgets the frames added since the last segment."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def keep(self, setup: dict[str, Any], record: Callable[[int, int, str], Record]) -> None:
        """Keeps the frames added as a segment. record: makes its record of their number, length and sum."""
        file, self._file = self._file, None
        if file is None:
            return
        with closing(file):
            if not self._count:
                _write(self.folder / "begun.json", {"identity": self._what(), "setup": setup})
            made = record(file.packets, file.size, file.digest.hexdigest())
            replace(file.done(), self._path(self._count))
            _write(self.folder / f"{self._count:06}.json", asdict(made))
        self._count += 1
        self.frames += made.frames

    def finish(self, whole: Path) -> None:
        """Gives the whole video its name."""
        done = self.folder / "done"
        done.touch()
        try:
            replace(whole, self.target)
        except BaseException:
            done.unlink(missing_ok=True)
            raise
        self.frames = 0


class _Packets:
    """A file of encoded frames under a temporary name."""

    def __init__(self, path: Path) -> None:
        self.path, self.packets, self.size, self.digest = path, 0, 0, blake2b(digest_size=16)
        self._file: BinaryIO = path.open("xb")

    def add(self, packet: Any) -> None:
        data = bytes(packet)
        dts = _NO_TIME if packet.dts is None else packet.dts
        head = _HEAD.pack(packet.pts, dts, packet.duration or 0, len(data), packet.is_keyframe)
        for piece in (head, data):
            self._file.write(piece)
            self.digest.update(piece)
        self.packets += 1
        self.size += len(head) + len(data)

    def done(self) -> Path:
        """The file, closed and on the disk."""
        self._file.close()
        flush(self.path)
        return self.path

    def close(self) -> None:
        """Removes the file, unless it has been renamed."""
        with suppress(OSError):  # of a full disk: what was buffered
            self._file.close()
        self.path.unlink(missing_ok=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object whole, to the disk."""
    part = part_beside(path)
    try:
        part.write_text(json.dumps(content), encoding="utf-8")
        flush(part)
        replace(part, path)
        flush(path)
    finally:
        part.unlink(missing_ok=True)


def forget_finished(target: Path) -> None:
    """Removes what a run left that was killed after the target had its name."""
    folder = folder_of(target)
    if (folder / "done").exists() and not any(folder.glob(".*.part")):
        _remove(folder)


def remove_abandoned(folder: Path) -> None:
    """Removes folders for parts that are of no use and unchanged for a day: without a record, or of a video that is whole."""
    oldest = time.time() - _ABANDONED
    with suppress(OSError):  # what cannot be read or removed does no harm
        for parts in folder.glob(".*.parts"):
            useless = (parts / "done").exists() or not any(parts.glob("*.json"))
            if parts.is_dir() and useless and max(path.stat().st_mtime for path in (parts, *parts.iterdir())) < oldest:
                _remove(parts)


def _remove(folder: Path) -> None:
    """Removes a folder for parts, if it has nothing else."""
    with suppress(OSError):
        if not folder.is_symlink() and all(_OURS.fullmatch(path.name) for path in folder.iterdir()):
            rmtree(folder, ignore_errors=True)
