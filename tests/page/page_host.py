"""The environment of the browser tests, .venv-page: gradio and playwright, beside the packages of the running environment."""

from __future__ import annotations

import os
import sysconfig
import venv
from pathlib import Path

import pip_help

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / ".venv-page"
READY = ENVIRONMENT / "ready.txt"


def environment() -> Path:
    """Makes the environment unless it is complete. Returns its Python. Skips the test if packages are not available."""
    python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    outer = sysconfig.get_path("purelib")
    wanted = f"{outer}\n{(HERE / 'requirements.txt').read_text('utf-8')}"
    if python.is_file() and READY.is_file() and READY.read_text("utf-8") == wanted:
        return python
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    scheme = "nt" if os.name == "nt" else "posix_prefix"
    site = Path(sysconfig.get_path("purelib", scheme, {"base": str(ENVIRONMENT), "platbase": str(ENVIRONMENT)}))
    (site / "outer.pth").write_text(f"{outer}\n", encoding="utf-8")
    pip_help.pip(python, "gradio", "install", "-r", str(HERE / "requirements.txt"))
    READY.write_text(wanted, encoding="utf-8")
    return python
