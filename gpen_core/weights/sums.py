"""sha256 sums of weight files: pinned in the catalogue if published, otherwise recorded at first use in checksums.json beside the file."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, cast

from ..errors import WeightsError, shown
from .catalog import WeightFile
from .small_files import is_full, locked, read_table, write_table

LOG = logging.getLogger("gpen_core.weights")

RECORD_FILE = "checksums.json"
_BLOCK = 1 << 20
_LOCK_SECONDS = 60.0  # a write takes a few milliseconds


def sha256_of(path: Path) -> str:
    """The sha256 of a file in lower-case hex. Takes about a second for the largest weights."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Record:
    """The checksums.json of a folder: sha256, length, address and day of first use for every file name."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD_FILE

    def read(self) -> dict[str, dict[str, Any]]:
        """All entries. Raises WeightsError if the file cannot be read, because an unchecked sum must not pass."""
        try:
            content = read_table(self.path)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error
        for name, entry in content.items():
            if not isinstance(entry, dict) or not re.fullmatch(r"[0-9a-f]{64}", str(cast("dict[str, Any]", entry).get("sha256"))):
                raise _damaged(self.path, f"its entry '{name[:80]}' holds no sha256")
        return content

    def add(self, filename: str, sha256: str, size_bytes: int, source: str) -> None:
        """Writes an entry, unless the same sum is already there. Safe when several processes write at the same time."""
        today = datetime.now(timezone.utc).date().isoformat()
        try:
            with locked(self.path.with_name(f".{self.path.name}.lock"), _LOCK_SECONDS):
                content = self.read()
                if content.get(filename, {}).get("sha256") == sha256:
                    return
                content[filename] = {"sha256": sha256, "bytes": size_bytes, "from": source, "first_seen": today}
                write_table(self.path, content)
        except TimeoutError as error:  # its words say what to do
            raise WeightsError(f"{self.path} cannot be written: {error}.", reason=f"{RECORD_FILE} cannot be written") from error
        except OSError as error:
            what = f"{shown(self.path, 300)} cannot be written ({error.strerror or error})"
            todo = "free some space and try again" if is_full(error) else "choose another folder"
            raise WeightsError(f"{what}; {todo}.", reason=f"{RECORD_FILE} cannot be written") from error


def _damaged(path: Path, what: str) -> WeightsError:
    return WeightsError(f"{shown(path, 300)} cannot be read ({what}); repair or delete it.", reason=f"{path.name} cannot be read")


def known_sum(folder: Path, filename: str, pinned: str | None) -> tuple[str | None, str]:
    """(the sum that a file must have, or None; its source in words)."""
    if pinned is not None:
        return pinned, "pinned in the catalogue"
    entry = Record(folder).read().get(filename, {})
    if "sha256" in entry:
        where = f"recorded in {folder / RECORD_FILE} since {entry.get('first_seen')}"
        return str(entry["sha256"]), f"{where} (delete its entry there if you trust the new file)"
    return None, ""


@dataclass(frozen=True)
class VerifyResult:
    """Result of `verify`. ok: False if the sum differs. basis: the kind of sum compared ("unknown": none). message: for users."""

    ok: bool
    path: Path
    sha256: str
    size_bytes: int
    expected: str | None
    basis: Literal["pinned", "recorded", "unknown"]
    message: str


def verify(path: Path, entry: WeightFile | None = None, *, record: bool = False) -> VerifyResult:
    """Compares a file's sha256 with the catalogue's, or, if that has none, with the sum recorded at first use.

    record: record the sum if there was nothing to compare with. Raises WeightsError if the file cannot be read.
    """
    path = Path(path)
    try:
        size, sha256 = path.stat().st_size, sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{shown(path, 300)} cannot be read ({error.strerror}).") from error
    if entry is not None and sha256 in entry.known_sums:
        return VerifyResult(True, path, sha256, size, sha256, "pinned", f"{shown(path, 300)}: sha256 {sha256}, as pinned for {entry.name}.")
    # A pinned sum applies only to the file it was published for; the same weights also exist in unpublished forms.
    pinned = entry.sha256 if entry is not None and path.name.lower() == entry.filename.lower() else None
    expected, where = known_sum(path.parent, path.name, pinned)
    if expected is None:
        if record:
            Record(path.parent).add(path.name, sha256, size, "placed by hand")
        told = "recorded now" if record else "nothing to compare it with"
        return VerifyResult(True, path, sha256, size, None, "unknown", f"{shown(path, 300)}: sha256 {sha256}, {told}.")
    basis: Literal["pinned", "recorded"] = "pinned" if pinned else "recorded"
    if sha256 == expected:
        return VerifyResult(True, path, sha256, size, expected, basis, f"{shown(path, 300)}: sha256 {sha256}, as {basis}.")
    message = f"{shown(path, 300)} has the sha256 {sha256}, but {expected} is {where}; delete the file to download it again."
    return VerifyResult(False, path, sha256, size, expected, basis, message)
