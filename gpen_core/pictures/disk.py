"""Writes files whole or not at all: under a temporary name beside their target, then renamed."""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import OutputExistsError, PictureError
from ..replacing import replace

_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_PART = re.compile(r"\.[0-9a-f]{32}\.part")
_ABANDONED = 24 * 60 * 60  # seconds; any active writer is faster than that


def part_beside(target: Path) -> Path:
    """A new temporary name in the folder of `target`, for a file that is still incomplete."""
    return target.with_name(f".{uuid.uuid4().hex}.part")


def flush(path: Path) -> None:
    """Makes sure that a file, and its name in the folder, outlast a power cut."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    if os.name == "posix":  # elsewhere a folder cannot be flushed; nor can some network folders
        handle = os.open(path.parent, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(handle)
        os.close(handle)


def remove_abandoned_parts(folder: Path) -> None:
    """Removes files that a killed run left in the folder: named by `part_beside` and unchanged for a day."""
    oldest = time.time() - _ABANDONED
    with suppress(OSError), os.scandir(folder) as entries:  # files that cannot be read or removed do no harm
        for entry in entries:
            with suppress(OSError):
                is_ours = _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                if is_ours and entry.stat(follow_symlinks=False).st_mtime < oldest:
                    Path(entry.path).unlink()


def check_free(target: Path, overwrite: bool) -> None:
    """Raises PictureError if `target` is a folder, or an existing file that must be kept."""
    if target.is_dir():
        raise PictureError(f"Cannot write {target}: it is a folder.")
    if target.exists() and not overwrite:
        raise OutputExistsError(target)


@contextmanager
def whole_file(target: Path, overwrite: bool) -> Generator[BinaryIO, None, None]:
    """Opens a file for writing. It gets the name `target` if the block succeeds and is removed otherwise (also after Ctrl-C).

    Creates missing folders. Raises PictureError if the file cannot be written, or if the target exists and must be kept.
    """
    check_free(target, overwrite)
    folder, part = target.parent, part_beside(target)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as handle:
                yield handle
            if overwrite:
                replace(part, target)
            else:
                _place_new(part, target)
        finally:  # after success there is nothing left to remove
            part.unlink(missing_ok=True)
    except FileExistsError as error:
        if folder.is_dir():
            raise OutputExistsError(target) from error
        raise PictureError(f"Cannot write {target}: {folder} is a file, not a folder.") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            reason = f"there is no space left in the folder {folder}; free some space or choose another folder"
        elif isinstance(error, (PermissionError, NotADirectoryError)) or error.errno == errno.EROFS:
            reason = f"the folder {folder} (or the file in it) cannot be written to ({error.strerror}); choose another folder"
        else:
            reason = str(error.strerror or error)
        raise PictureError(f"Cannot write {target}: {reason}.") from error


def _place_new(part: Path, target: Path) -> None:
    """Gives `part` the name `target`. Raises FileExistsError if another program has taken it meanwhile."""
    try:
        target.hardlink_to(part)  # unlike a rename, this never replaces a file
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        replace(part, target)
