"""A host's process is as it was after the project was imported and used in it: unharmed_host.py does it, host_state.py compares.

ComfyUI's is tests/comfyui/test_unharmed.py.
"""

from __future__ import annotations

import colorsys
import json
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import host_state
import numpy as np
import pytest
import torch
from PIL import Image

HERE = Path(__file__).resolve().parent
QUIET = {name: value for name, value in os.environ.items() if not name.startswith(("GPEN_", "HF_"))}


def told_by(python: Path | str, host: str, folder: Path, **more: str) -> dict[str, Any]:
    command = [str(python), str(HERE / "unharmed_host.py"), host, str(folder)]
    environ = {**QUIET, "GPEN_OFFLINE": "1", "PYTHONUTF8": "1", **more}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environ, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("host", ["core", "webui"])
def test_a_host_is_as_it_was(tmp_path, host):
    told = told_by(sys.executable, host, tmp_path)
    assert told["compared"] > 20_000, "functions and classes of torch, numpy, OpenCV, Pillow and the host, and settings"
    assert told["connections"] == [], "nothing is fetched while it is imported, and its lists are made"
    assert told["loading"] == [] and told["using"] == [], told


class Hosts:
    """Something of a host's, which the changes below are made to."""

    def work(self) -> None: ...

    @staticmethod
    def help() -> None: ...


def changed_function() -> None: ...


LOOKED_AT = (__name__, "cv2", "colorsys")


CHANGES: dict[str, Callable[[pytest.MonkeyPatch], Any]] = {
    "torch: grad": lambda patch: torch.set_grad_enabled(False),
    "torch: threads": lambda patch: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch: default dtype": lambda patch: torch.set_default_dtype(torch.float64),
    "torch: matmul precision": lambda patch: torch.set_float32_matmul_precision("medium"),
    "torch: cudnn.benchmark": lambda patch: patch.setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark),
    "torch: random": lambda patch: torch.rand(1),
    "torch: print": lambda patch: torch.set_printoptions(precision=3),
    "numpy random": lambda patch: np.random.rand(),
    "numpy errors": lambda patch: np.seterr(under="raise"),
    "cv2 threads": lambda patch: cv2.setNumThreads(cv2.getNumThreads() + 2),
    "PIL.Image.MAX_IMAGE_PIXELS": lambda patch: patch.setattr(Image, "MAX_IMAGE_PIXELS", None),
    "PIL.Image.OPEN": lambda patch: patch.setitem(Image.OPEN, "PNG", (changed_function, None)),
    "names in os.environ": lambda patch: patch.setenv("SOMETHING_NEW", "1"),
    "os.environ PATH": lambda patch: patch.setenv("PATH", "elsewhere"),
    "sys.path": lambda patch: patch.syspath_prepend("elsewhere"),
    "working directory": lambda patch: patch.chdir(HERE),
    "warnings.filters": lambda patch: warnings.simplefilter("ignore"),
    "root logger": lambda patch: logging.getLogger().addHandler(logging.NullHandler()),
    "logger a.hosts.own": lambda patch: logging.getLogger("a.hosts.own").setLevel(5),
    "signals": lambda patch: signal.signal(signal.SIGINT, lambda *_: None),
    "random": lambda patch: random.random(),
    "test_host_unharmed.Hosts.work": lambda patch: patch.setattr(Hosts, "work", lambda self: None),
    "test_host_unharmed.Hosts.help": lambda patch: patch.setattr(Hosts, "help", staticmethod(changed_function)),
    "test_host_unharmed.told_by": lambda patch: patch.setattr(sys.modules[__name__], "told_by", changed_function),
    "colorsys.rgb_to_hsv": lambda patch: patch.delattr(colorsys, "rgb_to_hsv"),
    "module colorsys": lambda patch: patch.setitem(sys.modules, colorsys.__name__, ModuleType("colorsys")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_would_be_noticed(name, monkeypatch):
    logging.getLogger("a.hosts.own")
    Image.preinit()
    before = host_state.snapshot(LOOKED_AT)
    kept = signal.getsignal(signal.SIGINT), random.getstate(), np.random.get_state(), np.geterr(), torch.get_rng_state()
    filters = list(warnings.filters)
    try:
        CHANGES[name](monkeypatch)
        changes = host_state.changes(before, host_state.snapshot(LOOKED_AT))
        assert [line.split(": ")[0] for line in changes if line.startswith(name)] and len(changes) < 12, changes
    finally:
        monkeypatch.undo()
        signal.signal(signal.SIGINT, kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])
        np.seterr(**kept[3])
        torch.set_rng_state(kept[4])
        warnings.filters[:] = filters
        torch.set_grad_enabled(True)
        torch.set_num_threads(before["torch: threads"])
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision(before["torch: matmul precision"])
        vars(torch._tensor_str.PRINT_OPTS).update(before["torch: print"])
        cv2.setNumThreads(before["cv2 threads"])
        logging.getLogger("a.hosts.own").setLevel(0)
        logging.getLogger().handlers[:] = before["root logger"][1]
    assert host_state.changes(before, host_state.snapshot(LOOKED_AT)) == [], "and is put back"
