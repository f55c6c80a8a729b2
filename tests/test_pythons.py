"""The code under every Python that the project runs on, where an interpreter is at hand: tests/pythons.py looks for them.

What needs torch is tried by `python -m tests.matrix`, by hand.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import pythons
from matrix.names import FILES, FOLDERS
from pip_help import pip

ROOT = Path(__file__).resolve().parents[1]
ALL = (*FILES, *FOLDERS, "training", "benchmarks", "examples", "tests")
# What they test needs no package but pytest. ("sheet": two need Pillow.)
TESTS = ("-k", "not sheet", *(f"tests/test_{name}.py" for name in ("options_rules", "quickstart", "install", "catalog", "house")))
OURS = "{}.{}".format(*sys.version_info[:2])
COMPILES = """
import pathlib, sys
for name in sys.argv[1:]:
    place = pathlib.Path(name)
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
"""


@pytest.fixture(params=[version for version in pythons.VERSIONS if version != OURS])  # the other tests are run in ours
def python(request: pytest.FixtureRequest) -> Path:
    found = pythons.interpreter(request.param)
    if found is None:
        pytest.skip(f"no Python {request.param} was found: name it in GPEN_PYTHONS")
    return found


def ask(python: Path, *arguments: str, path: str = "") -> str:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    more = {"PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", **({"PYTHONPATH": path} if path else {})}
    done = subprocess.run(
        [str(python), *arguments], cwd=ROOT, env={**surroundings, **more}, capture_output=True, encoding="utf-8", errors="replace"
    )
    assert done.returncode == 0, f"{python} {' '.join(arguments)[:200]}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@cache
def _lacks(python: Path) -> set[str]:
    return set(json.loads(ask(python, "-m", "tests.matrix.names", "stdlib")))


def test_only_what_starts_and_has_the_version_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyenv leaves commands in PATH that end with an error."""
    shim = tmp_path / ("shim.bat" if os.name == "nt" else "shim")
    shim.write_text("@exit /b 127\n" if os.name == "nt" else "#!/bin/sh\nexit 127\n", encoding="utf-8")
    shim.chmod(0o755)
    real, wrong = os.path.realpath(sys.executable), next(version for version in pythons.VERSIONS if version != OURS)
    monkeypatch.setattr(pythons, "_candidates", lambda version: iter([[str(tmp_path / "none")], [str(shim)], [sys.executable]]))
    assert pythons.interpreter.__wrapped__(wrong) is None
    assert os.path.realpath(pythons.interpreter.__wrapped__(OURS)) == real


def test_every_file_compiles(python: Path) -> None:
    ask(python, "-W", "error", "-c", COMPILES, *ALL)


def test_the_standard_library_has_all_that_the_code_uses(python: Path) -> None:
    """What this system lacks as well, such as msvcrt, is behind a question that the code asks first."""
    assert not _lacks(python) - _lacks(Path(sys.executable))


@pytest.fixture(scope="module")
def its_pytest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pytest for any of them."""
    folder = tmp_path_factory.mktemp("pytest")
    oldest = ["--python-version", pythons.VERSIONS[0], "--only-binary=:all:"]
    # pip asks this Python, not the oldest, what pytest needs besides.
    more = ("exceptiongroup", "tomli", "typing-extensions")
    pip(Path(sys.executable), "pytest", "install", "--target", str(folder), *oldest, "pytest", *more)
    return folder


def test_the_core_imports_and_its_rules_hold(python: Path, its_pytest: Path) -> None:
    """In a bare interpreter: with pytest, and none of the packages."""
    report = ask(python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--tb=short", *TESTS, path=str(its_pytest))
    passed = re.search(r"(\d+) passed", report)
    assert passed is not None and int(passed[1]) > 90, report[-2000:]
