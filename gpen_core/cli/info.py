"""The command `info`: the facts about this machine for a bug report."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from typing import Any

from .. import __version__
from ..weights.folders import models_dir, search_folders
from .console import Console

# Imported packages: (module, name on the package index).
NEEDED = (
    ("torch", "torch"),
    ("numpy", "numpy"),
    ("cv2", "opencv-python"),
    ("PIL", "Pillow"),
    ("safetensors", "safetensors"),
    ("tqdm", "tqdm"),
    ("filelock", "filelock"),
)
OPTIONAL = (("av", "av"), ("facexlib", "facexlib"), ("spandrel", "spandrel"))


def info(arguments: argparse.Namespace, console: Console) -> int:
    """`info`: prints versions, devices and folders. Reports broken packages instead of failing."""
    with contextlib.redirect_stdout(console.err):  # some packages print while they are imported
        packages = {module: _package(module, name) for module, name in (*NEEDED, *OPTIONAL)}
        devices = list(_devices()) if packages["torch"]["imports"] else []
    folder = models_dir(arguments.models_dir)
    facts: dict[str, Any] = {
        "gpen_core": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "packages": packages,
        "devices": devices,
        "models_dir": str(folder),
        "search_folders": [str(item) for item in search_folders(folder)],
    }
    if console.as_json:
        console.show_json(facts)
        return 0
    for key in ("gpen_core", "python", "platform", "executable"):
        console.say(f"{key:<12} {facts[key]}")
    for module, state in packages.items():
        optional = " (optional)" if any(module == known for known, _ in OPTIONAL) else ""
        broken = f", broken: {state['problem']}" if state["problem"] else ""
        console.say(f"{module:<12} {state['version'] or 'not installed'}{optional}{broken}")
    console.say(f"{'devices':<12} {', '.join(devices)}")
    console.say(f"{'models':<12} {facts['models_dir']}")
    for item in facts["search_folders"]:
        console.say(f"{'':<12} {item}")
    return 0


def _package(module: str, name: str) -> dict[str, Any]:
    """The state of a module: {"version", "imports", "problem"}."""
    version = None
    try:
        imported = importlib.import_module(module)
        version = str(getattr(imported, "__version__", "") or importlib.metadata.version(name))
    except ModuleNotFoundError as error:
        if error.name == module:
            return {"version": None, "imports": False, "problem": ""}
        return {"version": _installed(name), "imports": False, "problem": _first_line(error)}
    except BaseException as error:  # a broken package may even try to leave Python
        if isinstance(error, KeyboardInterrupt):
            raise
        return {"version": version or _installed(name), "imports": False, "problem": _first_line(error)}
    return {"version": version, "imports": True, "problem": ""}


def _installed(name: str) -> str:
    with contextlib.suppress(Exception):
        return importlib.metadata.version(name)
    return "unknown version"


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _devices() -> Iterator[str]:
    """The possible values of --device, with device names."""
    yield "cpu"
    try:
        torch: Any = importlib.import_module("torch")
        for index in range(torch.cuda.device_count()):
            yield f"cuda:{index} ({torch.cuda.get_device_name(index)})"
        if torch.backends.mps.is_available():
            yield "mps"
        if hasattr(torch, "xpu") and torch.xpu.is_available():
            yield "xpu"
    except Exception as error:  # report a driver that does not respond
        yield f"({_first_line(error)})"
