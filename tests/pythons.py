"""Interpreters on this machine. Looked for in this order:

    GPEN_PYTHONS        interpreters, or folders that hold some (pyenv's `versions`), separated as in PATH
    this one            if it has the version
    PATH                python3.12 and so on; `py -3.12` on Windows; what uv has installed, if uv is there
    PYENV_ROOT          pyenv's versions, in ~/.pyenv if it is not set

One counts only if it starts and says that it has the version: pyenv leaves a `python3.12` in PATH that does neither.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")  # those that the project runs on
_ASK = "import sys; print(*sys.version_info[:2], sep='.'); print(sys.executable)"


@cache
def interpreter(version: str) -> Path | None:
    """An interpreter of that version ("3.12"), or None."""
    for command in _candidates(version):
        if (found := _answer(command, version)) is not None:
            return found
    return None


def _candidates(version: str) -> Iterator[list[str]]:
    """Commands that may start one."""
    for entry in filter(None, os.environ.get("GPEN_PYTHONS", "").split(os.pathsep)):
        yield from ([str(path)] for path in _in(Path(entry)))
    yield [sys.executable]
    named = shutil.which(f"python{version}")
    if named:
        yield [named]
    if os.name == "nt" and shutil.which("py"):
        yield ["py", f"-{version}"]
    if uv := shutil.which("uv"):
        done = _run([uv, "python", "find", "--no-python-downloads", "--system", version])
        if done is not None and done.returncode == 0 and done.stdout.strip():
            yield [done.stdout.strip().splitlines()[-1]]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from ([str(path)] for path in _in(pyenv))


def _in(place: Path) -> Iterator[Path]:
    """place itself if it is a file; else the interpreter of the installation in this folder, or of those in its folders."""
    if place.is_file():
        yield place
        return
    if not place.is_dir():
        return
    for folder in (place, *sorted(path for path in place.iterdir() if path.is_dir())):
        yield from (
            path for path in (folder / "bin" / "python3", folder / "python.exe", folder / "Scripts" / "python.exe") if path.is_file()
        )


def _answer(command: list[str], version: str) -> Path | None:
    """Where the interpreter lies, if it has this version."""
    done = _run([*command, "-I", "-c", _ASK])
    lines = [] if done is None or done.returncode else done.stdout.split("\n")
    return Path(lines[1].strip()) if len(lines) > 1 and lines[0].strip() == version else None


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
