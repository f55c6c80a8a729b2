"""Small files beside the weights: read within bounds, written whole and never through a link, by one process at a time."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Generator
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast

MOST_BYTES = 1 << 20


def read_table(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises FileNotFoundError, another OSError, or ValueError where it holds something else."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no file")  # a pipe would be waited for without end
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES:,} bytes")
    try:
        content: Any = json.loads(data.decode("utf-8-sig"))  # Windows' editors put a mark before the first character
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("it holds no table")
    return cast("dict[str, Any]", content)


def write_table(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object under a temporary name, then gives it its own. Raises OSError."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(json.dumps(content, indent=2) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_plain(path: Path) -> bool:
    """Whether there is a file that writing to changes no other: no link, no folder, no pipe."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return S_ISREG(status.st_mode) and status.st_nlink <= 1


@contextlib.contextmanager
def locked(path: Path, seconds: float) -> Generator[None, None, None]:
    """Holds the lock file `path`: of all processes and threads one at a time.

    The system frees the lock when a process dies, but not on file systems without locks, where the file itself is the lock.
    Raises TimeoutError where another still holds it after `seconds`, and OSError where the file cannot be made.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    if path.is_symlink():
        path.unlink()  # older versions of filelock empty what it leads to
    lock: Any = FileLock(str(path))
    try:
        try:
            lock.acquire(timeout=seconds)
        except NotImplementedError:  # a file system without locks
            lock = SoftFileLock(f"{path}ed")
            lock.acquire(timeout=seconds)
    except Timeout:
        raise TimeoutError(f"another process holds {lock.lock_file}; delete that file if none is at work") from None
    try:
        yield
    finally:
        lock.release()
