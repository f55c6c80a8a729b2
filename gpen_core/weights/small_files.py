"""Small files beside the weights: reads them with a size limit, writes them whole and never through a link, and locks them."""

from __future__ import annotations

import contextlib
import errno
import json
import uuid
from collections.abc import Generator
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast

from ..replacing import replace

MOST_BYTES = 1 << 20


def read_table(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, another OSError, or ValueError if it holds something else."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")  # reading a pipe could wait for ever
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
    try:
        content: Any = json.loads(data.decode("utf-8-sig"))  # Windows editors may add a byte order mark
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    return cast("dict[str, Any]", content)


def write_table(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object under a temporary name, then renames the file. Raises OSError."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
        replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """True if a file could not be written because the disk, or the user's share of it, is full."""
    return error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def is_plain(path: Path) -> bool:
    """True if writing to this path changes no other file: a regular file with one name, not a link, folder or pipe."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return S_ISREG(status.st_mode) and status.st_nlink <= 1


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Generator[None, None, None]:
    """Holds the lock file `path`, one process and thread at a time.

    The system frees the lock when a process dies, except on file systems without locks, where the file itself is the lock.
    Raises TimeoutError if another still holds it after `seconds`, and OSError if the file cannot be created.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    if path.is_symlink():
        path.unlink()  # older versions of filelock empty the link's target
    lock: Any = FileLock(str(path))
    try:
        try:
            lock.acquire(timeout=seconds)
        except NotImplementedError:  # a file system without locks
            lock = SoftFileLock(f"{path}ed")
            lock.acquire(timeout=seconds)
    except Timeout:
        raise TimeoutError(f"another process holds {lock.lock_file}; delete that file if no such process is running") from None
    try:
        yield
    finally:
        lock.release()
