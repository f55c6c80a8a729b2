"""The tree itself: what the README and the documents promise is there, and nothing is that must not be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from zlib import crc32

import pytest

ROOT = Path(__file__).resolve().parents[1]
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
BINARY = (*PICTURES, ".gif", ".ico", ".onnx", ".safetensors", ".npz", ".npy", ".ttf", ".woff2", ".mp4", ".pth", ".icc", ".zip")
CODE = (".py", ".js", ".mjs", ".css", ".sh")

# import name -> the package that brings it
PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "skimage": "scikit-image"}


@cache
def tracked() -> tuple[Path, ...]:
    """What git tracks; outside a clone, every file that is not made by a run."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        found = [ROOT / name for name in listed.decode("utf-8").split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        away = {".git", ".venv", "build", "out", "runs", "models", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
        found = [path for path in ROOT.rglob("*") if not away & set(path.relative_to(ROOT).parts)]
    return tuple(path for path in found if path.is_file())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def core_files() -> list[Path]:
    return sorted((ROOT / "gpen_core").rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere, by statement or by importlib.import_module("...")."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "find_spec") and isinstance(node.args[0].value, str):
                names.add(node.args[0].value)
    return {name.split(".")[0] for name in names if name}


def requirements() -> set[str]:
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    return {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in lines if line and not line.startswith("#")}


def test_every_package_is_required_or_documented():
    text = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    documented = {name.lower() for name in re.findall(r"^\| ([A-Za-z0-9_.-]+) \|", text, re.MULTILINE)}
    # torchvision: asked for by name only, where facexlib and spandrel bring it
    known = {*sys.stdlib_module_names, "gpen_core", "gpen_page", "torchvision"}
    for path in core_files():
        for name in imported(path) - known:
            package = PACKAGES.get(name, name).lower()
            assert package in documented, f"{_name(path)} imports {name}; docs/dependencies.md has no line about it"
    assert requirements() <= documented


def test_requirements_hold_no_host_back():
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        requirement = line.split("#")[0].split(";")[0]
        assert "==" not in requirement and "<" not in requirement, f"{line}: a bound that would change what a host has"
    assert {"torch", "numpy", "pillow"} <= requirements()


def test_requirements_bring_no_second_opencv_and_nothing_of_one_feature():
    """ComfyUI Manager hands every line to pip, whatever OpenCV is there: install.py looks first."""
    assert not [name for name in requirements() if name.startswith("opencv")]
    assert not requirements() & {"facexlib", "basicsr", "spandrel", "numba", "av", "torchvision"}
    for path in ("install.py", "quickstart.py"):
        assert "opencv-python-headless" in (ROOT / path).read_text("utf-8")


def test_constraints_pin_everything_needed_and_tested():
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert all(re.match(r"[a-z0-9.-]+==[0-9][0-9a-z.]*(; .+)?$", line) for line in lines)
    pinned = {line.split("==")[0] for line in lines}
    source = ast.parse((ROOT / "quickstart.py").read_text("utf-8"))
    lists = {
        target.id: ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == "TEST_TOOLS"
    }
    wanted = requirements() | {tool.split("[")[0] for tool in lists["TEST_TOOLS"]} | {"opencv-python-headless"}
    assert wanted <= pinned
    assert any(line.startswith("torch==2.13.0") for line in lines)


@pytest.mark.parametrize("path", core_files(), ids=_name)
def test_the_core_knows_no_host(path):
    hosts = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "modules", "modules_forge", "gradio", "nodes", "scripts", "server"}
    assert not imported(path) & hosts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "") or ""]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert not any(name.split(".")[0] in ("torchvision", "facexlib", "basicsr") for name in names), "optional: by importlib only"


def test_files_stay_short():
    long = {_name(path): n for path in tracked() if path.suffix in CODE and (n := len(path.read_text("utf-8").splitlines())) > 400}
    assert not long, "more than 400 lines wants to be two files"


def test_files_stay_small():
    assert not [_name(path) for path in tracked() if path.stat().st_size > 20_000_000]


def test_texts_are_utf8_with_unix_line_ends():
    for path in tracked():
        if path.suffix.lower() in BINARY:
            continue
        content = path.read_bytes()
        content.decode("utf-8")  # raises, naming the place
        assert b"\0" not in content, f"{_name(path)} is not a text; list its suffix as binary"
        assert path.suffix == ".bat" or b"\r\n" not in content, f"{_name(path)} has Windows line ends"


def taken(folder: Path, files: Iterable[Path]) -> list[Path]:
    """Those of the files that are a picture of the folder, or of an archive in it."""
    theirs: set[tuple[int, int]] = set()  # (bytes, CRC), which a zip lists without being unpacked
    for archive in folder.glob("*.zip"):
        with zipfile.ZipFile(archive) as members:
            theirs |= {(member.file_size, member.CRC) for member in members.infolist() if member.file_size}
    for path in folder.iterdir():
        if path.suffix.lower() in PICTURES:
            theirs.add((path.stat().st_size, crc32(path.read_bytes())))
    return [path for path in files if path.suffix.lower() in BINARY and (path.stat().st_size, crc32(path.read_bytes())) in theirs]


def test_a_picture_of_the_training_data_is_noticed(tmp_path):
    own, copied, unpacked = (tmp_path / name for name in ("own.png", "copied.jpg", "unpacked.webp"))
    for path in (own, copied, unpacked):
        path.write_bytes(path.name.encode())
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "another name.jpg").write_bytes(copied.read_bytes())
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        archive.write(unpacked, "a/b.webp")
    assert taken(folder, (own, copied, unpacked)) == [copied, unpacked]


def test_no_picture_of_the_training_data_is_here(people):
    assert taken(people, tracked()) == []


def test_a_clone_needs_nothing_beside_it():
    """Only the fixture `people` looks there, and skips where there is nothing."""
    beside = re.compile(r"\bROOT\.parent /|\.\./shared\b")
    code = [path for path in tracked() if path.suffix in CODE and path != Path(__file__)]
    assert [_name(path) for path in code if beside.search(path.read_text("utf-8"))] == ["tests/conftest.py"]


def test_nothing_of_one_machine_is_named():
    ours = re.compile(r"(?<![\w.])/(?:work|root|home/\w+)/|/opt/(?:pypi|wheels)|(?:pypi|files\.pythonhosted)\.org|download\.pytorch\.org")
    for path in tracked():
        if path.suffix.lower() in BINARY or path == Path(__file__):
            continue
        found = ours.search(path.read_text("utf-8"))
        assert not found, f"{_name(path)} names {found.group()}"


def _markdown() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def test_links_in_documents_lead_somewhere():
    for path in _markdown():
        text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
        for target in re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", text):
            link = (target[0] or target[1]).split("#")[0]
            if link and not re.match(r"[a-z][a-z0-9+.-]*:", link):
                assert (path.parent / link).exists(), f"{_name(path)} links to {link}"


def test_readme_gives_the_two_commands():
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    assert "python quickstart.py\n" in text and "python quickstart.py --test" in text
    for module in re.findall(r"python (?:-m )?([A-Za-z_][\w./]*)", text):
        named = ROOT / module if module.endswith(".py") else ROOT / module.replace(".", "/")
        assert named.exists() or named.with_suffix(".py").exists() or module in ("pip", "venv"), f"the README runs {module}"


def test_ci_runs_what_the_readme_says():
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "quickstart.py --test" in text and "set -euo pipefail" in text


def test_the_example_picture_is_small():
    from PIL import Image

    path = ROOT / "examples" / "portrait.png"
    assert path.stat().st_size < 400_000
    with Image.open(path) as picture:
        assert picture.size == (320, 320) and picture.mode == "RGB"


def test_types_are_checked_everywhere_but_in_tests():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    (listed,) = re.findall(r"^include = \[(.*?)\]", text.split("[tool.pyright]")[1], re.MULTILINE | re.DOTALL)
    included = set(re.findall(r'"([^"]+)"', listed))
    there = {path.relative_to(ROOT).parts[0] for path in tracked() if path.suffix == ".py"} - {"tests", "examples"}
    assert there == included
    assert not re.search(r"report(MissingImports|Unknown\w+|\w+Type) = ", text), "switched off for all"
    for path in tracked():
        if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts:
            for line in path.read_text("utf-8").splitlines():
                assert "# type: ignore" not in line, f"{_name(path)}: say which rule, as # pyright: ignore[rule]"
                assert not re.search(r"# pyright: ignore(?!\[\w+\])", line), f"{_name(path)}: {line.strip()} names no rule"


def test_every_setting_is_a_flag():
    from gpen_core.cli.main import flag_of
    from gpen_core.options import RestoreOptions

    command = [sys.executable, "-m", "gpen_core", "restore", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    for option in RestoreOptions.table():
        assert re.search(rf"{re.escape(flag_of(option))}\b", done.stdout), f"restore --help lacks {flag_of(option)}"
