"""Lists the inputs of a job in bounded memory, and decides the name of every output: `inputs_of` streams, `Names` sorts and numbers.

Ten million paths do not fit into memory, so they pass through an SQLite file (Python brings SQLite) that is deleted afterwards. It sorts
the files of a folder, notices an input that is named twice, and notices two inputs that want the same output. Buckets of hashes would need
a second pass over all paths for each of these; a set of hashes in memory takes a gigabyte for ten million.
"""

from __future__ import annotations

import codecs
import os
import sqlite3
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import BinaryIO

from ..errors import SettingsError
from ..pictures import is_picture_path
from ..video.restore import is_video_path
from .plan import has_wildcards, is_input, output_name

_LONGEST = 1 << 16  # bytes of a line in a list of paths; systems allow at most 32 thousand letters
STDIN = Path("-")


@dataclass(frozen=True)
class Found:
    """An input. name: its output's name as far as the input decides it. rank: its place among those of the same argument.

    real: its path without symbolic links. For a line of a list it is the path as written, because to ask for ten million costs an hour.
    """

    source: Path
    name: Path
    rank: bytes
    real: Path
    error: str | None = None


@dataclass(frozen=True)
class Listed:
    """An input with its output's final name, relative to the output folder. sheet: the name of its before/after sheet."""

    source: Path
    name: Path
    sheet: Path | None = None
    error: str | None = None


def inputs_of(inputs: Sequence[Path], lists: Sequence[Path], out: Path, *, hidden: Sequence[Path] = ()) -> Iterator[tuple[int, Found]]:
    """(number of the argument, input) for every picture and video of files, folders, wildcards and lists of paths.

    Folders are searched as by plan_outputs. Files of a list keep their folders: relative ones from the working directory, absolute ones
    from the root of the drive, so that no folder of outputs gets them all. Raises SettingsError for an input inside the output folder
    (it could be an output), and for a list that cannot be read.
    """
    several = len(inputs) + len(lists) > 1
    away = [Path(os.path.realpath(item)) for item in (out, *hidden)]
    outs = tuple(os.path.normcase(Path(path) / "_")[:-1] for path in (away[0], absolute(out)))  # each with a slash at its end
    for number, path in enumerate(inputs):
        for one in _matching(path):
            below = Path(os.path.realpath(one)).name if several or one != path else ""
            for found in _below(one, Path(below), away):
                yield number, _outside(found, outs)
    for number, path in enumerate(lists, len(inputs)):
        for line, text in enumerate(_lines(path)):
            parts = [part for part in PurePath(os.path.normpath(text)).parts if part not in ("..", PurePath(text).anchor)]
            whole = absolute(text)
            yield number, _outside(Found(whole, Path(*parts), line.to_bytes(8, "big"), whole), outs)


def absolute(path: str | os.PathLike[str]) -> Path:
    """The path from the root on, without "..". Symbolic links stay as they are named."""
    return Path(os.path.normpath(Path(path).absolute()))


def _outside(found: Found, outs: tuple[str, ...]) -> Found:
    if os.path.normcase(found.real).startswith(outs):
        raise SettingsError(f"{found.source} is inside the output folder; a job needs an output folder without inputs")
    return found


def _matching(path: Path) -> Iterator[Path]:
    """As plan's: the path, or what its wildcards match, but one by one."""
    if not has_wildcards(path) or path.exists():
        yield path
        return
    start, nothing = Path(path.anchor), True
    with suppress(ValueError, OSError):  # invalid patterns, unreadable folders
        for item in start.glob(str(path.relative_to(start)).replace("[", "[[]")):
            if is_input(item):
                nothing = False
                yield item
    if nothing:
        yield path


def _below(path: Path, below: Path, hidden: Sequence[Path]) -> Iterator[Found]:
    """The file, or the files below the folder. Unlike os.walk, which holds the names of a whole folder."""
    root, real = absolute(path), Path(os.path.realpath(path))
    if not root.is_dir():
        yield Found(root, Path(root.name), os.fsencode(root), real)
        return
    nothing, waiting = True, [root]
    away = {item for item in hidden if real in item.parents}
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    item = Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        if not away or Path(os.path.realpath(item)) not in away:
                            waiting.append(item)
                    elif (is_picture_path(item) or is_video_path(item)) and not entry.is_dir():
                        nothing = False
                        inner = item.relative_to(root)
                        yield Found(
                            item, below / inner, os.fsencode(item), Path(os.path.realpath(item)) if entry.is_symlink() else real / inner
                        )
        except OSError as error:  # what is in it must not be missing without a word
            nothing = False
            yield Found(folder, below, os.fsencode(folder), folder, f"{folder} cannot be read ({error.strerror})")
    if nothing:
        yield Found(root, below, os.fsencode(root), root, f"there are no pictures or videos in the folder {root}")


def _lines(path: Path) -> Iterator[str]:
    """The paths in a text file, one a line, or of standard input."""
    if path == STDIN:
        yield from _paths(sys.stdin.buffer, path)
        return
    try:
        with path.open("rb") as file:
            yield from _paths(file, path)
    except OSError as error:
        raise SettingsError(f"the list {path} cannot be read ({error.strerror})") from error


def _paths(file: BinaryIO, path: Path) -> Iterator[str]:
    first = True
    for line in _lines_of(file):
        line = line.removeprefix(b"\xef\xbb\xbf") if first else line
        first = False
        if len(line) >= _LONGEST or b"\0" in line:
            raise SettingsError(f"{path} is not a list of paths (a text file with one path a line)")
        text = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")  # a name that is not UTF-8 is still a file's name on Linux
        if text.strip():
            yield text


def _lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines, about _LONGEST bytes of longer ones. UTF-16, in which PowerShell writes what a command lists, becomes UTF-8."""
    line = file.readline(_LONGEST)
    if not line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        while line:
            yield line
            line = file.readline(_LONGEST)
        return
    decoder, text = codecs.getincrementaldecoder("utf-16")("replace"), ""
    while line and len(text) < _LONGEST:
        *whole, text = (text + decoder.decode(line)).split("\n")
        yield from (one.encode() for one in whole)
        line = file.readline(_LONGEST)
    yield text.encode()


class Names:
    """Collects inputs, then gives them in order, each with an output of its own. `path`: the SQLite file, deleted at the end.

    The order is that of the arguments; within a folder or wildcard, of the paths; within a list, of its lines. It does not depend on the
    order in which the system lists a folder, so the names are the same every time: the first input gets the name that it wants, a later
    one is numbered (a-2.png). Names count as the same that are one file on a system that ignores case.
    """

    def __init__(self, path: Path) -> None:
        self.twice = 0  # inputs left out because they were named before
        self._path = path
        self._base = sqlite3.connect(path, isolation_level=None)
        self._rows: sqlite3.Cursor | None = None
        # Nothing here has to survive a crash: a list that was not finished is made anew.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -8192"):
            self._base.execute(f"PRAGMA {pragma}")
        columns = "root INT, rank BLOB, source BLOB, name BLOB, real BLOB, error TEXT, PRIMARY KEY (root, rank)"
        self._base.execute(f"CREATE TABLE inputs ({columns}) WITHOUT ROWID")
        self._base.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("CREATE TABLE taken (key BLOB PRIMARY KEY, following INT) WITHOUT ROWID")
        self._base.execute("BEGIN")

    def close(self) -> None:
        if self._rows is not None:
            self._rows.close()  # otherwise SQLite keeps the file open, and Windows removes no open file
            self._rows = None
        self._base.close()
        self._path.unlink(missing_ok=True)

    def add(self, root: int, found: Found) -> None:
        real = None if found.real == found.source else os.fsencode(found.real)
        row = (root, found.rank, os.fsencode(found.source), os.fsencode(found.name), real, found.error)
        self.twice += not self._base.execute("INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?, ?, ?)", row).rowcount

    def count(self) -> int:
        """How many inputs were added; some may be named twice."""
        return self._base.execute("SELECT COUNT(*) FROM inputs").fetchone()[0]

    def ordered(self, compare: bool = False) -> Iterator[Listed]:
        """Every input once. compare: pictures also get the name of a before/after sheet."""
        self._rows = self._base.execute("SELECT source, name, real, error FROM inputs ORDER BY root, rank")
        for source, name, real, error in self._rows:
            path, wanted = Path(os.fsdecode(source)), Path(os.fsdecode(name))
            if not self._is_new("seen", _digest(os.path.normcase(os.fsdecode(real or source)))):
                self.twice += 1
            elif error is not None:
                yield Listed(path, wanted, None, error)
            else:
                kind, wanted = output_name(wanted)
                final = self._free(wanted)
                sheet = self._free(final.with_name(f"{final.stem}-compare{final.suffix}")) if compare and kind == "picture" else None
                yield Listed(path, final, sheet)

    def _is_new(self, table: str, key: bytes, *more: object) -> bool:
        marks = ", ".join("?" * (1 + len(more)))
        return bool(self._base.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", (key, *more)).rowcount)  # noqa: S608

    def _free(self, wanted: Path) -> Path:
        """The name, or its first free number. The name remembers which number comes next: a thousand inputs may want the same."""
        own = _folded(wanted)
        if self._is_new("taken", own, 2):
            return wanted
        number = self._base.execute("SELECT following FROM taken WHERE key = ?", (own,)).fetchone()[0]
        while True:
            name = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            number += 1
            if self._is_new("taken", _folded(name), 2):
                self._base.execute("UPDATE taken SET following = ? WHERE key = ?", (number, own))
                return name


def _folded(name: Path) -> bytes:
    return _digest(unicodedata.normalize("NFC", name.as_posix().casefold()))


def _digest(text: str | Path) -> bytes:
    return blake2b(os.fsencode(text), digest_size=16).digest()
