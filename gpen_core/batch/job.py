"""A job: a folder with the list of its pictures in shards, and a record of each that is done. A killed job goes on where it was.

    list/manifest.json         the settings, and how many pictures there are
    list/000012.jsonl          the inputs of a shard: {"input", "name"} a line
    records/000012.part.jsonl  the records of a shard that is being worked on, in the order of its list
    records/000012.done.jsonl  the same, when it is finished
    records/000012.lock        held by the process that works on the shard; the system frees it when that dies

The list is made in a folder of another name, which is renamed when it is whole: so it is whole where it exists, also for another machine.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import GpenError, SettingsError, shown
from ..replacing import replace
from ..weights.small_files import locked
from .listing import Found, Listed, Names
from .tars import is_tar_path

FORMAT = 1
SHARD = 1000  # pictures: seconds to list, minutes to an hour to restore, and one file of records
FEWEST = 10  # pictures of a shard in a small job, so that several workers share it; archives are work enough
_SHORT = 16  # letters of a sum in records


class JobChangedError(SettingsError):
    """A job was begun with other settings, weights or inputs (command line: exit code 2)."""


class JobStoppedError(GpenError):
    """A job cannot go on now, and goes on where it was when it is run again (command line: exit code 1)."""


@dataclass(frozen=True)
class Manifest:
    """What a job is. settings: by name, as text and numbers. weights: the sha256 of the model's file."""

    settings: dict[str, Any]
    weights: str
    pictures: int
    shard_size: int
    twice: int = 0

    @property
    def shards(self) -> int:
        return -(-self.pictures // self.shard_size)

    @property
    def out(self) -> Path:
        return Path(self.settings["out"])

    @property
    def sum(self) -> str:
        """The short sum of the settings."""
        return sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:_SHORT]

    def size_of(self, shard: int) -> int:
        """How many inputs a shard has."""
        return min(self.shard_size, self.pictures - shard * self.shard_size)

    def check(self, settings: dict[str, Any], weights: str, folder: Path) -> None:
        """Raises JobChangedError if these are not the job's own."""
        names = sorted(settings.keys() | self.settings.keys())
        other = [name for name in names if settings.get(name) != self.settings.get(name)]
        changed = [f"{name} {_brief(self.settings.get(name))} (now {_brief(settings.get(name))})" for name in other]
        if weights != self.weights:
            changed.append(f"other weights (sha256 {self.weights[:_SHORT]}, now {weights[:_SHORT]})")
        if changed:
            raise JobChangedError(
                f"the job in {folder} was begun with {'; '.join(changed)}: use the same, choose another folder, or begin it anew"
            )


def _brief(value: Any) -> str:
    return shown(", ".join(map(str, value)) if isinstance(value, list) else value, 80)  # pyright: ignore[reportUnknownArgumentType]


class JobFolder:
    """The files of a job in a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._list, self._records = path / "list", path / "records"

    # --- the list

    def manifest(self) -> Manifest | None:
        """What the job is, or None before its list is whole. Raises SettingsError if it cannot be read."""
        path = self._list / "manifest.json"
        try:
            values = json.loads(path.read_text("utf-8"))
            if values.pop("format") != FORMAT:
                raise ValueError("another version of this program made it")
            return Manifest(**values)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SettingsError(f"{path} cannot be read ({shown(error)}); choose another folder, or begin the job anew") from error

    def make_list(
        self,
        inputs: Iterable[tuple[int, Found]],
        settings: dict[str, Any],
        weights: str,
        *,
        compare: bool = False,
        shard_size: int | None = None,
        listed: Callable[[int], None] = lambda count: None,
    ) -> Manifest:
        """Makes the list. If another machine was quicker, its list counts. listed: receives the number of inputs so far."""
        try:
            self._make_list(inputs, settings, weights, compare, shard_size, listed)
        except (OSError, sqlite3.Error) as error:
            raise JobStoppedError(f"the list of the job cannot be written to {self.path} ({shown(error)})") from error
        made = self.manifest()
        if made is None:
            raise JobStoppedError(f"the list of the job cannot be placed in {self.path}; choose another folder")
        made.check(settings, weights, self.path)
        return made

    def _make_list(
        self,
        inputs: Iterable[tuple[int, Found]],
        settings: dict[str, Any],
        weights: str,
        compare: bool,
        shard_size: int | None,
        listed: Callable[[int], None],
    ) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned_lists()
        part = self.path / f".list-{platform.node()}-{uuid.uuid4().hex}"
        part.mkdir()
        names = Names(part / "names.sqlite3")
        fewest = FEWEST
        try:
            for count, (root, found) in enumerate(inputs, 1):
                names.add(root, found)
                fewest = 1 if is_tar_path(found.source) else fewest
                if count % SHARD == 0:
                    listed(count)
            if not names.count():
                raise SettingsError("there are no inputs: the lists of paths are empty")
            size = shard_size or max(fewest, min(SHARD, names.count() // 100))
            pictures = self._write_list(part, names.ordered(compare), size)
            manifest = Manifest(settings, weights, pictures, size, names.twice)
            names.close()
            values = {"format": FORMAT, **manifest.__dict__}
            write_durably(part / "manifest.json", [json.dumps(values, indent=1)])
            with suppress(OSError):  # the folder is there: another machine has made the same list
                replace(part, self._list)
        finally:
            names.close()
            shutil.rmtree(part, ignore_errors=True)

    @staticmethod
    def _write_list(folder: Path, listed: Iterator[Listed], size: int) -> int:
        count = 0
        while lines := [json.dumps(_values(one)) for one in islice(listed, size)]:
            write_durably(folder / f"{count // size:06}.jsonl", lines)
            count += len(lines)
        return count

    def _remove_abandoned_lists(self) -> None:
        """Lists that a killed process of this machine left. The caller holds `lock`."""
        for path in self.path.glob(f".list-{platform.node()}-*"):
            shutil.rmtree(path, ignore_errors=True)

    def lock(self) -> Any:
        """Holds the folder while a list is made, against other processes of this machine."""
        self.path.mkdir(parents=True, exist_ok=True)
        return locked(self.path / "list.lock", 24 * 60 * 60)

    def listed(self, shard: int) -> Iterator[Listed]:
        """The inputs of a shard."""
        with (self._list / f"{shard:06}.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                values = json.loads(line)
                sheet = Path(values["sheet"]) if "sheet" in values else None
                yield Listed(Path(values["input"]), Path(values["name"]), sheet, values.get("error"))

    # --- the records

    def done_path(self, shard: int) -> Path:
        """The records of a finished shard."""
        return self._records / f"{shard:06}.done.jsonl"

    def part_path(self, shard: int) -> Path:
        """The records of a shard that is not finished."""
        return self._records / f"{shard:06}.part.jsonl"

    def is_done(self, shard: int) -> bool:
        """Whether every input of a shard has a record."""
        return self.done_path(shard).exists()

    def lines(self, shard: int) -> Iterator[dict[str, Any]]:
        """The lines of a shard's records, finished or not: notes, and a record for each input in the order of the list."""
        path = next((path for path in (self.done_path(shard), self.part_path(shard)) if path.exists()), None)
        if path is not None:
            yield from (line for line, _ in whole_lines(path))

    def records(self, shard: int) -> Iterator[dict[str, Any]]:
        """The records of a shard, without the notes."""
        return (line for line in self.lines(shard) if "input" in line)

    def begun(self, manifest: Manifest, shards: range) -> int:
        """How many inputs of these shards have a record. Reads only unfinished shards."""
        return sum(manifest.size_of(shard) if self.is_done(shard) else sum(1 for _ in self.records(shard)) for shard in shards)

    @contextmanager
    def claimed(self, shard: int) -> Generator[bool, None, None]:
        """Gives True to one process at a time, and never for a shard that is done."""
        self._records.mkdir(parents=True, exist_ok=True)
        lock = self._records / f"{shard:06}.lock"
        try:
            with locked(lock, 0):
                yield not self.is_done(shard)
        except TimeoutError:
            yield False
        if self.is_done(shard):  # who opened the file before it was removed finds the shard done
            with suppress(OSError):
                lock.unlink()

    def forget(self) -> None:
        """Removes list and records, not the outputs. Raises JobStoppedError if a process works on the job, or a file cannot be removed."""
        try:
            for lock in self._records.glob("*.lock"):
                with locked(lock, 0):
                    pass
            for folder in (self._records, self._list):  # in this order: a list without records is a job that has not begun
                if folder.exists():
                    shutil.rmtree(folder)
        except TimeoutError:
            raise JobStoppedError(f"a process is working on the job in {self.path}; end it first") from None
        except OSError as error:
            raise JobStoppedError(
                f"the job in {self.path} cannot be begun anew ({shown(error)}); remove its list and records yourself"
            ) from error


def whole_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """(object, where it ends) for the lines of a file up to the first that is half or damaged, which a kill or a power cut left.

    Records count up. One that does not fit is left out: it is a second one of its input, by a machine that was thought lost.
    """
    end = expected = 0
    with path.open("rb") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                return
            if not line.endswith(b"\n"):
                return
            end += len(line)
            if "input" in value:
                if value["number"] != expected:
                    continue
                expected += 1
            yield value, end


def _values(one: Listed) -> dict[str, str]:
    values = {"input": str(one.source), "name": str(one.name)}
    more = {"sheet": None if one.sheet is None else str(one.sheet), "error": one.error}
    return {**values, **{name: value for name, value in more.items() if value is not None}}


def write_durably(path: Path, lines: list[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def now() -> float:
    """Seconds since 1970, as records have them."""
    return round(time.time(), 2)
