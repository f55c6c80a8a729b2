"""Windows' habits on Linux, for the files and calls of this process. Not Windows: docs/testing.md says what is left out.

    python -m pytest -p tests.windows_habits tests/test_batch.py     # every test body under them
    with windows_habits.emulated(): ...                              # a piece of code

- A file that is open, by whatever library, cannot be renamed, replaced or removed, nor can a folder with such a file be renamed; nor can a
  file that is mapped into memory. A rename replaces nothing; a folder is never replaced.
- `A.png` and `a.png` are one file; `os.path.normcase` says so.
- CON, NUL and the like, names with ?, : or the like, or with a dot or space at the end, and paths of 260 letters are refused.
- Text files without an encoding are cp1252, and lines that are written as text end in CRLF unless the code says otherwise.
- For our code, `os.name` is "nt"; what only POSIX has is missing from `os` and `signal`, and `fcntl`, `resource`, `pwd` cannot be imported.
"""

# Path calls what is replaced here:
# ruff: noqa: PTH100, PTH110, PTH112, PTH114, PTH115, PTH118, PTH121

from __future__ import annotations

import builtins
import errno
import io
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARING, DENIED, NO_PATH, BAD_NAME = 32, 5, 3, 123  # Windows' numbers
LONGEST = 259

_POSIX_ONLY = {
    os: ("fork", "forkpty", "geteuid", "getuid", "getgid", "getegid", "getpgid", "killpg", "setsid", "sched_getaffinity", "posix_fallocate",
         "statvfs", "fstatvfs", "mkfifo", "sysconf", "chown", "fchown", "pread", "pwrite", "getloadavg", "uname", "WNOHANG", "O_NOFOLLOW",
         "O_DIRECTORY", "O_NONBLOCK", "O_CLOEXEC"),
    signal: ("SIGKILL", "SIGHUP", "SIGPIPE", "SIGUSR1", "SIGALRM", "alarm", "setitimer", "pthread_kill", "pthread_sigmask"),
}  # fmt: skip
_NO_MODULES = ("fcntl", "resource", "pwd", "grp", "termios")
_BAD_NAME = re.compile(r'[<>:"|?*\x00-\x1f\\]|[. ]$|^(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?$', re.IGNORECASE)
_NOT_OURS = ("/dev/", "/proc/", "/sys/", str(Path(sys.prefix)))

_stat, _lstat, _listdir, _open = os.stat, os.lstat, os.listdir, io.open
_active = 0
_hooked = False


def error(number: int, path: object, kind: type[OSError] = PermissionError) -> OSError:
    """The error that Python raises on Windows: its `winerror` is set."""
    words = {
        SHARING: "The process cannot access the file because it is being used by another process",
        DENIED: "Access is denied",
        NO_PATH: "The system cannot find the path specified",
        BAD_NAME: "The filename, directory name, or volume label syntax is incorrect",
    }
    code = {SHARING: errno.EACCES, DENIED: errno.EACCES, NO_PATH: errno.ENOENT, BAD_NAME: errno.EINVAL}[number]
    made = kind(code, words[number], str(path))
    made.winerror = number  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    return made


# --- open files: seen in /proc, whoever opened them --------------------------------------------------------------------


def is_open(path: str) -> bool:
    """True if this process has the file open or mapped, or (a folder) a file in it."""
    try:
        status = _lstat(path)
    except OSError:
        return False
    inside = os.path.realpath(path) + "/"
    folder = os.path.isdir(path) and not os.path.islink(path)
    for number in _listdir("/proc/self/fd"):
        try:
            if folder:
                found = os.readlink(f"/proc/self/fd/{number}").startswith(inside) and not os.path.isdir(f"/proc/self/fd/{number}")
            else:
                other = os.fstat(int(number))
                found = (other.st_dev, other.st_ino) == (status.st_dev, status.st_ino)
        except OSError:
            continue
        if found:
            return True
    with _open("/proc/self/maps", "rb") as maps:
        name = os.fsencode(os.path.realpath(path))
        return any(line.rstrip(b"\n").endswith(b" " + name) for line in maps)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _active or event not in ("os.rename", "os.remove", "os.mkdir", "open"):
        return
    if event == "open":
        if not isinstance(arguments[0], int):
            _check_name(_whole(arguments[0], -1))
        return
    if event == "os.mkdir":
        _check_name(_whole(arguments[0], arguments[2]))
        return
    source = _whole(arguments[0], arguments[2] if event == "os.rename" else arguments[1])
    if is_open(source):
        raise error(SHARING, source)
    if event == "os.rename":
        target = _whole(arguments[1], arguments[3])
        _check_name(target)
        if os.path.isdir(target) and not _same(source, target):
            raise error(DENIED, target)
        if is_open(target):
            raise error(DENIED, target)


def _whole(path: Any, folder: Any) -> str:
    text = os.fsdecode(path)
    if isinstance(folder, int) and folder >= 0:
        text = f"{os.readlink(f'/proc/self/fd/{folder}')}/{text}"
    return os.path.abspath(text)


def _same(one: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(one, other)


def _check_name(path: str) -> None:
    if path.startswith(_NOT_OURS):
        return
    if len(path) > LONGEST:
        raise error(NO_PATH, path, FileNotFoundError)
    if any(_BAD_NAME.search(part) for part in path.split("/")[1:] if part):
        raise error(BAD_NAME, path, OSError)


# --- names fold case ----------------------------------------------------------------------------------------------------


def actual(path: Any) -> Any:
    """The path as it is spelled on the disk, if it is there in another case."""
    if isinstance(path, int):
        return path
    text = os.fsdecode(path)
    if text.startswith(_NOT_OURS) or _there(text):
        return path
    head, tail = os.path.split(text.rstrip("/"))
    if not tail or tail in (".", ".."):
        return path
    folder = actual(head) if head else ""
    try:
        match = next((name for name in _listdir(folder or ".") if name.casefold() == tail.casefold()), tail)
    except OSError:
        match = tail
    return os.path.join(folder, match)


def _there(text: str) -> bool:
    try:
        _lstat(text)
    except (OSError, ValueError):
        return False
    return True


def _folding(work: Callable[..., Any], paths: int) -> Callable[..., Any]:
    def folded(*arguments: Any, **more: Any) -> Any:
        if any(more.get(name) is not None for name in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
            return work(*arguments, **more)
        return work(*map(actual, arguments[:paths]), *arguments[paths:], **more)

    return folded


def _renaming(work: Callable[..., Any]) -> Callable[..., Any]:
    def rename(source: Any, target: Any, **more: Any) -> None:
        if _there(os.fsdecode(target)) and not _same(os.fsdecode(source), os.fsdecode(target)):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", os.fsdecode(target))
        work(source, target, **more)

    return rename


def _opening(work: Callable[..., Any]) -> Callable[..., Any]:
    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        *more: Any,
        **rest: Any,
    ) -> Any:
        if "b" not in mode:
            encoding = "cp1252" if encoding in (None, "locale") else encoding
            newline = "\r\n" if newline is None and not set(mode).isdisjoint("wxa+") else newline
        return work(actual(file), mode, buffering, encoding, errors, newline, *more, **rest)

    opened.__module__, opened.__qualname__ = "io", "open"  # so that it can be pickled, as some tests do
    return opened


# --- what only POSIX has ---------------------------------------------------------------------------------------------


def _is_ours(frame: Any) -> bool:
    name = frame.f_code.co_filename
    return name.startswith(str(ROOT)) and not name.startswith((str(ROOT / "tests"), str(ROOT / ".venv")))


def _lacking(module: ModuleType, names: tuple[str, ...]) -> Callable[[], None]:
    """Takes the names from a module for our code, not for the libraries that run on this system. Returns what undoes it."""
    had = {name: module.__dict__.pop(name) for name in (*names, *(("name",) if module is os else ())) if name in module.__dict__}
    kind = module.__class__

    class Lacking(kind):  # type: ignore[misc, valid-type]
        def __getattr__(self, name: str) -> Any:
            if name not in had:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
            if not _is_ours(sys._getframe(1)):
                return had[name]
            if name == "name":
                return "nt"
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} on Windows")

    module.__class__ = Lacking

    def undo() -> None:
        module.__class__ = kind
        module.__dict__.update(had)

    return undo


def _importing(work: Callable[..., Any]) -> Callable[..., Any]:
    def imported(name: str, *more: Any, **rest: Any) -> Any:
        if name in _NO_MODULES and _is_ours(sys._getframe(1)):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return work(name, *more, **rest)

    return imported


class _Msvcrt(ModuleType):
    """Locks for whom Windows has them in another module than POSIX."""

    LK_UNLCK, LK_LOCK, LK_NBLCK, LK_RLCK, LK_NBRLCK = range(5)

    @staticmethod
    def locking(number: int, mode: int, count: int) -> None:
        import fcntl

        for _ in range(20 if mode == 1 else 1):  # LK_LOCK tries ten times, a second apart; nobody waits that long here
            with suppress(BlockingIOError):
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB if mode else fcntl.LOCK_UN)
                return
            time.sleep(0.01)
        raise OSError(errno.EDEADLK if mode == 1 else errno.EACCES, "Resource deadlock avoided")


# --- on and off --------------------------------------------------------------------------------------------------------


@contextmanager
def emulated() -> Iterator[None]:
    """Windows' habits for the block."""
    global _active, _hooked
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("Windows' habits are emulated on Linux only")
    if not _hooked:
        sys.addaudithook(_audit)  # it stays for the process, and does nothing outside of the block
        _hooked = True
    with pytest.MonkeyPatch.context() as patch:
        for name in ("stat", "lstat", "unlink", "remove", "mkdir", "rmdir", "open", "utime", "listdir"):
            patch.setattr(os, name, _folding(getattr(os, name), 1))
        for name in ("replace", "link"):
            patch.setattr(os, name, _folding(getattr(os, name), 2))
        patch.setattr(os, "rename", _folding(_renaming(os.rename), 2))
        patch.setattr(os.path, "normcase", lambda path: os.fspath(path).lower())
        patch.setattr(io, "open", _opening(io.open))
        patch.setattr(builtins, "open", io.open)
        # Which Path asks first, and which says utf-8 where Python runs in UTF-8 mode, as under quickstart.
        patch.setattr(io, "text_encoding", lambda encoding, stacklevel=2: "locale" if encoding is None else encoding)
        accessor = getattr(pathlib, "_NormalAccessor", None)
        if accessor is not None:  # Python 3.10's Path keeps its own references
            for name in ("open", "stat", "unlink", "mkdir", "rmdir", "listdir", "rename", "replace", "link"):
                patch.setattr(accessor, name, staticmethod(getattr(io if name == "open" else os, name)))
        patch.setitem(sys.modules, "msvcrt", _Msvcrt("msvcrt"))
        patch.setattr(builtins, "__import__", _importing(builtins.__import__))
        undo = [_lacking(module, names) for module, names in _POSIX_ONLY.items()]
        _active += 1
        try:
            yield
        finally:
            _active -= 1
            for one in reversed(undo):
                one()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """With -p tests.windows_habits: every test's body."""
    if __name__ != "tests.windows_habits" or item.get_closest_marker("skip_windows_habits"):
        return (yield)
    with emulated():
        return (yield)
