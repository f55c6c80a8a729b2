"""torch.compile with a separate folder for each run's compiled code.

The compiler writes libraries directly under their final names and later trusts any file with such a name. Killing a training run at that
moment would therefore permanently break the folder that all of a user's programs share.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from gpen_core.runtime import is_out_of_memory

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
FOLDER = "compiled"
MARK = "unfinished"
# Read now, as the user set it: torch sets the variable itself as soon as an optimiser is created.
NAMED = os.environ.get(VARIABLE)


def own_folder(run: Path) -> Path | None:
    """Sets the folder for this run's compiled code, for this process and its children. Call it before torch compiles anything.

    Returns None if the user's environment names a folder; that one is then used.
    """
    if NAMED:
        return None
    folder = _place(run)
    os.environ[VARIABLE] = str(folder)
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))
    return folder


def compiled(network: nn.Module, folder: Path | None, trial: Callable[[nn.Module], None]) -> nn.Module:
    """The network, compiled by torch. folder: see own_folder. trial: runs it once, forward and backward, which triggers the compilation.

    Reuses the code of an earlier start of this run, or compiles again if that is unfinished or does not run. Raises SystemExit with a
    message if this machine cannot compile.
    """
    if folder is not None and (folder / MARK).is_file():
        print("the last start ended during compilation: torch compiles again", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
    kept = folder is not None and folder.is_dir() and any(folder.iterdir())
    for may_be_broken in (True, False) if kept else (False,):
        try:
            return _tried(network, folder, trial)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if not may_be_broken or folder is None:
                reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
                raise SystemExit(f"torch cannot compile here ({reason[:300]}); --no-compile trains without") from error
        print("compiled code of an earlier start does not run: torch compiles again", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        torch.compiler.reset()
    raise AssertionError("the second attempt returns or raises")


def _tried(network: nn.Module, folder: Path | None, trial: Callable[[nn.Module], None]) -> nn.Module:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    result = cast(nn.Module, cast("Any", torch).compile(network))
    trial(result)
    if folder is not None:
        (folder / MARK).unlink(missing_ok=True)
    return result


def _place(run: Path) -> Path:
    folder = run.resolve() / FOLDER
    if not any(character.isspace() for character in str(folder)):
        return folder
    # Torch's command for the C++ compiler breaks on spaces, so a temporary folder is used, which is not kept.
    elsewhere = tempfile.mkdtemp(prefix="gpen-compiled-")
    atexit.register(shutil.rmtree, elsewhere, ignore_errors=True)
    return Path(elsewhere)
