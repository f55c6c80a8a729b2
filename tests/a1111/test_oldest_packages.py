"""The adapter and the core with the oldest numpy, Pillow and OpenCV that a WebUI brings (A1111 1.5 to 1.7)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from pip_help import pip

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OLDEST = {"numpy": "1.23.5", "Pillow": "9.5.0", "opencv-python-headless": "4.8.0.76"}
CORE = ("test_picture.py", "test_paste.py", "test_align.py", "test_mask.py", "test_restorer.py", "test_fused.py")


def output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", cwd=ROOT)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with those three, and everything else from the running one."""
    if sys.version_info >= (3, 12):
        pytest.skip("numpy 1.23 is not made for this Python; no WebUI that has it runs on it")
    folder = tmp_path_factory.mktemp("oldest")
    venv.create(folder, with_pip=True)
    found = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = [f"{name}=={version}" for name, version in OLDEST.items()]
    pip(found, "the oldest packages", "install", "--no-deps", "--only-binary=:all:", *wanted)
    site = Path(output([str(found), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]).strip())
    (site / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")  # after its own packages
    return found


def test_the_oldest_are_what_is_imported(python: Path) -> None:
    code = "import numpy, PIL, cv2; print(numpy.__version__, PIL.__version__, cv2.__version__)"
    assert output([str(python), "-c", code]).split() == ["1.23.5", "9.5.0", "4.8.0"]


def test_adapter_and_core_work_with_them(python: Path) -> None:
    own = [path for path in sorted(HERE.glob("test_*.py")) if path.name not in (Path(__file__).name, "test_real_webui.py")]
    files = [str(path) for path in (*own, *(HERE.parent / name for name in CORE))]
    report = output([str(python), "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", *files])
    passed = re.search(r"(\d+) passed", report)
    assert passed is not None and int(passed[1]) > 200, report[-2000:]
