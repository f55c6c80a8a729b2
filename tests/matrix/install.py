"""Makes an environment with its versions, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.matrix.environments import TOOLS, Environment


class NotHere(Exception):
    """The environment cannot be had on this machine; the text says why."""


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make(environment: Environment, interpreter: Path, folder: Path, torch_index: str = "") -> Path:
    """The environment's interpreter. Installs only what is not there yet. Raises NotHere."""
    python, stamp = python_of(folder), folder / "installed.json"
    wanted = json.dumps([environment.python, dict(environment.packages), dict(environment.tools), TOOLS, torch_index])
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return python
    if not python.exists():
        _ask([str(interpreter), "-m", "venv", str(folder)])
    pins = [f"{name}=={version}" for name, version in {**environment.packages, **environment.tools}.items()]
    if torch_index:
        _pip(python, ["--index-url", torch_index, *(pin for pin in pins if pin.startswith("torch=="))])
    # In one go, so that pip finds versions of the rest that fit; onnx and scikit-image would otherwise replace the NumPy that is tried.
    _pip(python, [*pins, *(name for name in TOOLS if name not in environment.tools)])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def _pip(python: Path, what: list[str]) -> None:
    _ask([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input", "--only-binary=:all:", *what])


def _ask(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=surroundings())
    if done.returncode:
        lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
        raise NotHere(next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else f"{command[0]} said nothing"))


def surroundings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment variables of everything that runs: one thread, UTF-8, nothing from other Pythons."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1", **(more or {})}


def gently() -> None:
    """Lets everything else on this machine go first."""
    if sys.platform != "win32":
        os.nice(10)
