"""Installs missing packages and changes no others. The WebUI runs it at every start, ComfyUI-Manager once; it also runs by hand.

Packages are installed without their dependencies, so none of the host's packages is ever replaced. Hosts usually lack only OpenCV.
torch, NumPy and Pillow are never installed here: only the host knows which build fits.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

# OpenCV has four package names. All share the folder cv2: they overwrite each other's files, and uninstalling one breaks the others.
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
# The build that needs no desktop. OpenCV 4.12 and later need NumPy 2, which older hosts do not have; 4.11 works with both.
HEADLESS = "opencv-python-headless>=4.8,<4.12"
# Import name -> requirement to install.
INSTALLABLE = {"safetensors": "safetensors>=0.3.1", "tqdm": "tqdm>=4.60", "filelock": "filelock>=3.0"}
THE_HOSTS_OWN = {"torch": "torch", "numpy": "NumPy", "PIL": "Pillow"}


def missing(names: dict[str, str]) -> list[str]:
    """The requirements whose modules are missing. Nothing is imported, which would take seconds."""
    return [package for name, package in names.items() if importlib.util.find_spec(name) is None]


def opencv_trouble() -> tuple[bool, str]:
    """(whether OpenCV's files exist, why it cannot be used or ''). Imports it, as an installed OpenCV can still fail to load."""
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        return False, str(error)
    except Exception as error:  # a missing desktop library, or a NumPy it was not built for
        return True, str(error).partition("\n")[0]
    # Uninstalling one of two leaves a folder without a module, which Python still imports.
    return (True, "") if hasattr(cv2, "resize") else (False, "its folder exists, but its files are missing")


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """The packages that pip knows, with their versions."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def pip(*arguments: str) -> bool:
    """Runs pip install. Returns whether it succeeded; if not, prints how to do it by hand."""
    index = os.environ.get("INDEX_URL", "")  # A1111's launcher uses this variable
    options = ["--no-deps", "--prefer-binary", *(["--index-url", index] if index else [])]
    command = [sys.executable, "-m", "pip", "install", *options, *arguments]
    if subprocess.run(command, check=False).returncode == 0:
        return True
    print(f"GPEN: that failed. Install it yourself with the same Python: {' '.join(command[1:])}")
    return False


def mend_opencv(files_are_there: bool, trouble: str, recorded: dict[str, str]) -> bool:
    """Repairs an installed but broken OpenCV, never adding a second one. Returns whether it works now."""
    if not recorded:
        print(f"GPEN: OpenCV is installed (not by pip) but does not load: {trouble}")
        return False
    name, version = next(iter(recorded.items()))
    if not files_are_there:
        print(f"GPEN: the files of {name} {version} are gone (another OpenCV was uninstalled); installing the same version again")
        return pip("--force-reinstall", f"{name}=={version}")
    print(f"GPEN: OpenCV is installed ({name} {version}) but does not load: {trouble}")
    print("Install what it needs (on Debian and Ubuntu: apt install libgl1 libglib2.0-0), or use the build that needs no desktop: "
          f'"{sys.executable}" -m pip uninstall -y {" ".join(recorded)}, then '
          f'"{sys.executable}" -m pip install --no-deps "{HEADLESS}"')  # fmt: skip
    return False


def main() -> int:
    """Returns 0 if everything is now installed, otherwise 1 after printing what to do."""
    lacking = missing(THE_HOSTS_OWN)
    if lacking:
        print(f"GPEN: {', '.join(lacking)} cannot be imported. Run this with the Python of your WebUI or ComfyUI; "
              "otherwise, `python quickstart.py` makes a separate environment.")  # fmt: skip
        return 1
    wanted = missing(INSTALLABLE)
    files_are_there, trouble = opencv_trouble()
    recorded = installed(OPENCV)
    lost = trouble and (files_are_there or recorded)
    if trouble and not lost:
        wanted.insert(0, HEADLESS)
    done = True
    if wanted:
        print(f"GPEN: installing {', '.join(wanted)}")
        done = pip(*wanted)
    if lost:
        done = mend_opencv(files_are_there, trouble, recorded) and done
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
