"""Run by the WebUI at every start, by ComfyUI-Manager once, or by hand: installs what is missing, changes nothing that is there.

What is installed is installed without its dependencies, so that no package of the host is ever replaced. Of what this project needs, hosts
lack OpenCV at most. torch, NumPy and Pillow are never installed here: which build of them fits is the host's business.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

# Import name -> what to install for it. OpenCV 4.12 and later need NumPy 2, which older hosts do not have; 4.11 works with both.
INSTALLABLE = {
    "cv2": "opencv-python-headless>=4.8,<4.12",
    "safetensors": "safetensors>=0.3.1",
    "tqdm": "tqdm>=4.60",
    "filelock": "filelock>=3.0",
}
THE_HOSTS_OWN = {"torch": "torch", "numpy": "NumPy", "PIL": "Pillow"}


def missing(names: dict[str, str]) -> list[str]:
    """What is to be installed for those that cannot be imported. Nothing is imported: that would take seconds."""
    return [package for name, package in names.items() if importlib.util.find_spec(name) is None]


def main() -> int:
    """0: all is there now. 1: something could not be installed; a line says what to do."""
    lacking = missing(THE_HOSTS_OWN)
    if lacking:
        print(f"GPEN: {', '.join(lacking)} cannot be imported here. Run this with the Python of your WebUI or ComfyUI; "
              "outside of both, `python quickstart.py` makes an environment of its own.")  # fmt: skip
        return 1
    wanted = missing(INSTALLABLE)
    if not wanted:
        return 0
    print(f"GPEN: installing {', '.join(wanted)}")
    index = os.environ.get("INDEX_URL", "")  # what A1111's launcher obeys
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--prefer-binary", *(["--index-url", index] if index else []), *wanted]
    if subprocess.run(command, check=False).returncode == 0:
        return 0
    print(f"GPEN: that failed. Install by hand, with the same Python: {' '.join(command[1:])}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
