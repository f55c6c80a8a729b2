"""torch.compile, with a folder for compiled code that is the run's own.

The compiler writes libraries under their final names and later takes for whole whatever bears such a name. A training that is killed
meanwhile would so break the one folder that all programs of a user share, for good.
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
# What the user chose: torch itself fills the variable in as soon as an optimiser is made.
NAMED = os.environ.get(VARIABLE)


def own_folder(run: Path) -> Path | None:
    """The folder for this run's compiled code, told to torch for this process and its children alone; to be called before torch is at work.

    None where the user's environment names a folder, which is used as it is.
    """
    if NAMED:
        return None
    folder = _place(run)
    os.environ[VARIABLE] = str(folder)
    os.environ.setdefault("TRITON_CACHE_DIR", str(folder / "triton"))
    return folder


def compiled(network: nn.Module, folder: Path | None, trial: Callable[[nn.Module], None]) -> nn.Module:
    """The network as torch compiles it. folder: see own_folder. trial: runs it once, forward and back, for only then it is compiled.

    Code of an earlier start of this run is used again, and made anew where it was left unfinished or does not run. Raises SystemExit, with
    a sentence, where nothing can be compiled here.
    """
    if folder is not None and (folder / MARK).is_file():
        print("the last start was ended while torch compiled: it compiles anew", flush=True)
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
        print("compiled code of an earlier start does not run: torch compiles anew", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        torch.compiler.reset()
    raise AssertionError("the second time returns or raises")


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
    # Torch's command for the C++ compiler falls apart at a space. Elsewhere nothing is kept for the next start.
    elsewhere = tempfile.mkdtemp(prefix="gpen-compiled-")
    atexit.register(shutil.rmtree, elsewhere, ignore_errors=True)
    return Path(elsewhere)
