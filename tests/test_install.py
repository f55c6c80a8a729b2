"""install.py, run as a host runs it: by the Python of a separate, minimal environment.

torch and pip are stand-ins: torch ends the process if it is imported; pip records its arguments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEADLESS = "opencv-python-headless>=4.8,<4.12"
WORKING = "def resize(): ..."
NO_LIBGL = "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')"


class Host:
    """The environment. `packages`: import name -> its source."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.folder = folder
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.site = next(folder.rglob("site-packages"))
        self.package("torch", "raise SystemExit('torch was imported')")
        for name in ("numpy", "PIL", "tqdm", "safetensors", "filelock"):
            self.package(name)
        self.pip(0)

    def package(self, name: str, source: str = "") -> None:
        (self.site / name).mkdir(exist_ok=True)
        (self.site / name / "__init__.py").write_text(source, encoding="utf-8")

    def without(self, name: str) -> None:
        (self.site / name / "__init__.py").unlink()
        (self.site / name).rmdir()

    def record(self, name: str, version: str) -> None:
        """pip's record of an installed distribution."""
        folder = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")

    def pip(self, returns: int) -> None:
        source = f"import sys; open({str(self.folder / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n'); sys.exit({returns})"
        (self.site / "pip.py").write_text(source, encoding="utf-8")

    def install(self, **environ: str) -> tuple[int, str, list[str]]:
        """Runs install.py. Returns (exit code, output, pip's arguments)."""
        elsewhere = self.folder / "started here"  # A1111 runs it in its own root
        elsewhere.mkdir(exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "INDEX_URL")} | environ
        command = [str(self.python), str(ROOT / "install.py")]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, encoding="utf-8", check=False)
        assert done.stderr == ""
        asked = self.folder / "asked"
        return done.returncode, done.stdout, asked.read_text("utf-8").splitlines() if asked.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.mark.parametrize("name", ["opencv-python", "opencv-python-headless", "opencv-contrib-python", ""])
def test_nothing_is_done_where_nothing_is_missing(host, name):
    """Any OpenCV works, under each of its names, including one that pip does not know (a Linux distribution's)."""
    host.package("cv2", WORKING)
    if name:
        host.record(name, "4.9.0.80")
    assert host.install() == (0, "", [])


@pytest.mark.parametrize("returns", [0, 1])
def test_only_what_is_missing_is_taken_and_nothing_along_with_it(host, returns):
    host.without("filelock")
    host.pip(returns)
    code, said, asked = host.install()
    assert (code, "Install it yourself" in said) == (returns, bool(returns))
    assert asked == [f"install --no-deps --prefer-binary {HEADLESS} filelock>=3.0"]


def test_what_is_the_hosts_is_never_touched(host):
    host.without("torch")
    code, said, asked = host.install()
    assert code == 1 and not asked and "torch cannot be imported" in said


def test_a_folder_left_behind_is_no_opencv(host):
    """Uninstalling one of two removes the module but leaves the folder, which Python can still import."""
    (host.site / "cv2").mkdir()
    assert host.install()[2] == [f"install --no-deps --prefer-binary {HEADLESS}"]


@pytest.mark.parametrize("left", ["folder", "nothing"])
def test_an_opencv_that_another_ones_end_broke_is_put_back_in_its_own_version(host, left):
    if left == "folder":
        (host.site / "cv2").mkdir()
    host.record("opencv-contrib-python", "4.10.0.84")
    code, said, asked = host.install()
    assert code == 0 and "opencv-contrib-python 4.10.0.84" in said
    assert asked == ["install --no-deps --prefer-binary --force-reinstall opencv-contrib-python==4.10.0.84"]


def test_nothing_is_put_beside_an_opencv_that_does_not_start(host):
    host.package("cv2", NO_LIBGL)
    host.record("opencv-python", "4.11.0.86")
    code, said, asked = host.install()
    assert code == 1 and not asked
    assert "libGL.so.1" in said and "apt install" in said and "-m pip uninstall -y opencv-python, then" in said and HEADLESS in said


def test_an_opencv_that_pip_does_not_know_and_does_not_start_is_named(host):
    host.package("cv2", NO_LIBGL)
    code, said, asked = host.install()
    assert code == 1 and not asked and "not by pip" in said and "libGL.so.1" in said


def test_a_mirror_that_the_host_uses_is_used(host):
    _, _, (asked,) = host.install(INDEX_URL="http://mirror/simple")
    assert asked == f"install --no-deps --prefer-binary --index-url http://mirror/simple {HEADLESS}"


def built(tmp_path, function: str) -> Path:
    """The result of setuptools' `function` on a copy of the project."""
    pytest.importorskip("setuptools", minversion="70.1")  # before that, it needs wheel as well
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "gpen_core", tmp_path / "gpen_core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "made").mkdir()
    code = f"from setuptools import build_meta; print(build_meta.{function}('made'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return tmp_path / "made"


def test_the_metadata_that_a_registry_reads_is_made(tmp_path):
    """pyproject has the dependencies of requirements.txt: no OpenCV package, no optional package."""
    text = next(built(tmp_path, "prepare_metadata_for_build_wheel").glob("*/METADATA")).read_text("utf-8")
    wanted = [line.removeprefix("Requires-Dist: ") for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    always = [line for line in wanted if "extra ==" not in line]
    listed = [line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert sorted(line.replace(" ", "") for line in always) == sorted(line.replace(" ", "") for line in listed)
    extras = {line.split("extra ==")[1].strip(" \"'") for line in wanted if "extra ==" in line}
    assert extras == {"opencv", "facexlib", "realesrgan", "video", "page", "ray"}
    assert "MIT License" in text and "Python :: 3.14" in text


def test_an_installed_core_is_whole(tmp_path):
    """`pip install .` installs every module of the core, the embedded weights and their licences, and none of the doors."""
    pytest.importorskip("setuptools", minversion="70.1")  # builds wheels without the package wheel
    (wheel,) = built(tmp_path, "build_wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert any(name.endswith("/LICENSE") for name in archive.namelist())
    made = ("__pycache__", ".pyc")
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gpen_core").rglob("*") if path.is_file()}
    assert packed == {name for name in here if not any(part in name for part in made)}
