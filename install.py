"""Run by the WebUI at every start, by ComfyUI-Manager once, or by hand: installs what is missing, changes nothing that is there.

What is installed is installed without its dependencies, so that no package of the host is ever replaced. Of what this project needs, hosts
lack OpenCV at most. torch, NumPy and Pillow are never installed here: which build of them fits is the host's business.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

# The four names under which OpenCV comes. They share the folder cv2: one overwrites another's, and uninstalling one breaks the other.
OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
# The build that needs no desktop. OpenCV 4.12 and later need NumPy 2, which older hosts do not have; 4.11 works with both.
HEADLESS = "opencv-python-headless>=4.8,<4.12"
# Import name -> what to install for it.
INSTALLABLE = {"safetensors": "safetensors>=0.3.1", "tqdm": "tqdm>=4.60", "filelock": "filelock>=3.0"}
THE_HOSTS_OWN = {"torch": "torch", "numpy": "NumPy", "PIL": "Pillow"}


def missing(names: dict[str, str]) -> list[str]:
    """What is to be installed for those that cannot be imported. Nothing is imported: that would take seconds."""
    return [package for name, package in names.items() if importlib.util.find_spec(name) is None]


def opencv_trouble() -> tuple[bool, str]:
    """(whether OpenCV's files are there, why it cannot be used or ''). Imported, since it may be there and still not start."""
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        return False, str(error)
    except Exception as error:  # a desktop's library that is not there, a NumPy that it was not built for
        return True, str(error).partition("\n")[0]
    # What uninstalling one of two leaves behind is a folder without a module, which Python imports all the same.
    return (True, "") if hasattr(cv2, "resize") else (False, "its folder is there, its files are not")


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Those that pip has a record of, with their versions."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def pip(*arguments: str) -> bool:
    """Whether pip did it; where not, a line says how to do it by hand."""
    index = os.environ.get("INDEX_URL", "")  # what A1111's launcher obeys
    options = ["--no-deps", "--prefer-binary", *(["--index-url", index] if index else [])]
    command = [sys.executable, "-m", "pip", "install", *options, *arguments]
    if subprocess.run(command, check=False).returncode == 0:
        return True
    print(f"GPEN: that failed. Install it yourself with the same Python: {' '.join(command[1:])}")
    return False


def mend_opencv(files_are_there: bool, trouble: str, recorded: dict[str, str]) -> bool:
    """For an OpenCV that is there and cannot be used: a second one is never put beside it. Whether it can be used now."""
    if not recorded:
        print(f"GPEN: OpenCV is installed (not by pip) but does not start: {trouble}")
        return False
    name, version = next(iter(recorded.items()))
    if not files_are_there:
        print(f"GPEN: the files of {name} {version} are gone (another OpenCV was uninstalled); installing the same version again")
        return pip("--force-reinstall", f"{name}=={version}")
    print(f"GPEN: OpenCV is installed ({name} {version}) but does not start: {trouble}")
    print("Install what it needs (on Debian and Ubuntu: apt install libgl1 libglib2.0-0), or use the build that needs no desktop: "
          f'"{sys.executable}" -m pip uninstall -y {" ".join(recorded)}, then '
          f'"{sys.executable}" -m pip install --no-deps "{HEADLESS}"')  # fmt: skip
    return False


def main() -> int:
    """0: all is there now. 1: something could not be installed; a line says what to do."""
    lacking = missing(THE_HOSTS_OWN)
    if lacking:
        print(f"GPEN: {', '.join(lacking)} cannot be imported. Run this with the Python of your WebUI or ComfyUI; "
              "outside of both, `python quickstart.py` makes an environment of its own.")  # fmt: skip
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
