"""quickstart.py's decisions, without installing anything."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem + "_under_test", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quickstart() -> ModuleType:
    return _load(ROOT / "quickstart.py")


@pytest.fixture
def elsewhere(quickstart: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """quickstart with its .venv, out and constraints in a folder of the test's."""
    for name, path in (("VENV", ".venv"), ("STAMP", ".venv/quickstart.json"), ("OUT", "out")):
        monkeypatch.setattr(quickstart, name, tmp_path / path)
    for name, text in (("REQUIREMENTS", "torch>=2.0\nnumpy\n"), ("CONSTRAINTS", "torch==2.13.0\n")):
        monkeypatch.setattr(quickstart, name, tmp_path / name)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 11), (3, 12, 4), (3, 13, 0), (3, 14, 1)])
def test_our_pythons_are_taken(quickstart, version):
    assert quickstart.version_trouble(version) is None


@pytest.mark.parametrize("version", [(2, 7), (3, 9, 18), (3, 15), (4, 0)])
def test_other_pythons_are_refused_in_words(quickstart, version):
    trouble = quickstart.version_trouble(version)
    assert "3.10 to 3.14" in trouble and f"{version[0]}.{version[1]}" in trouble


def test_older_pythons_can_read_the_file(quickstart):
    """They must come as far as the sentence."""
    compile((ROOT / "quickstart.py").read_text("utf-8"), "quickstart.py", "exec", dont_inherit=True)
    import ast

    ast.parse((ROOT / "quickstart.py").read_text("utf-8"), feature_version=(3, 8))


def test_requirement_lines_and_names(quickstart):
    text = '# a comment\ntorch>=2.0\n\nBasic_SR[x]>=1 ; python_version < "3.13"  # why\n-r other.txt\n'
    lines = quickstart.requirement_lines(text)
    assert lines == ["torch>=2.0", 'Basic_SR[x]>=1 ; python_version < "3.13"']
    assert [quickstart.name_of(line) for line in lines] == ["torch", "basic-sr"]


def test_only_what_a_restoration_needs_is_installed(quickstart):
    lines = quickstart.requirement_lines((ROOT / "requirements.txt").read_text("utf-8"))
    names = [quickstart.name_of(line) for line in lines]
    assert {"torch", "numpy", "pillow"} <= set(names)
    assert not set(names) & {*quickstart.OPTIONAL, *quickstart.OPENCV}


class Child:
    """Stands in for .venv's Python: notes its commands, in short, and fails for those that hold one of `broken`."""

    def __init__(self, quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.broken: tuple[str, ...] = ()
        monkeypatch.setattr(quickstart, "child", self.run)
        monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)

    def run(self, command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
        self.asked.append(" ".join(command[1:]))
        failed = any(word in self.asked[-1] for word in self.broken)
        return subprocess.CompletedProcess(command, int(failed), "", "ERROR: No matching distribution found" if failed else "")


@pytest.fixture
def child(quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Child:
    return Child(quickstart, monkeypatch)


def test_an_opencv_that_works_stays_alone(quickstart, child):
    quickstart.install_opencv()
    assert child.asked == ["-c import cv2; cv2.resize"]


def test_an_opencv_that_does_not_work_goes_before_the_headless_one_comes(quickstart, child):
    child.broken = ("import cv2", "-c " + str(ROOT / "constraints.txt"))  # and the tested one is not made for this machine
    quickstart.install_opencv()
    _, away, *installed = child.asked
    assert away.startswith("-m pip uninstall -y") and away.split()[-4:] == list(quickstart.OPENCV)
    assert len(installed) == 2 and all(command.endswith("--no-deps opencv-python-headless>=4.8") for command in installed)


def test_optional_packages_bring_no_second_opencv(quickstart, child):
    """facexlib asks for opencv-python."""
    quickstart.install_optional()
    commands = [command for command in child.asked if "facexlib" in command]
    assert commands and all("--no-deps" in command for command in commands), commands
    assert all(any(name in command for command in child.asked) for name in quickstart.OPTIONAL)


def test_stamp_changes_with_everything_that_matters(quickstart, elsewhere):
    key = quickstart.stamp_key(["test"], (3, 11, 7))
    assert key == quickstart.stamp_key(["test"], (3, 11, 9))
    others = [quickstart.stamp_key([], (3, 11)), quickstart.stamp_key(["test"], (3, 12)), quickstart.stamp_key(["test"], (3, 11), "u")]
    (elsewhere / "CONSTRAINTS").write_text("torch==2.14.0\n", encoding="utf-8")
    others.append(quickstart.stamp_key(["test"], (3, 11, 7)))
    assert len({key, *others}) == 5


def test_stamp_is_the_same_with_windows_line_ends(quickstart, elsewhere):
    key = quickstart.stamp_key([], (3, 11))
    (elsewhere / "CONSTRAINTS").write_bytes(b"torch==2.13.0\r\n")
    assert quickstart.stamp_key([], (3, 11)) == key


def test_stamp_survives_damage(quickstart, elsewhere):
    assert quickstart.read_stamp() == {}
    (elsewhere / ".venv").mkdir()
    quickstart.write_stamp({"key": "k"})
    assert quickstart.read_stamp() == {"key": "k"}
    quickstart.STAMP.write_text("[1", encoding="utf-8")
    assert quickstart.read_stamp() == {}


def test_pip_command(quickstart):
    command = quickstart.pip_install(["torch>=2.0"], options=["--index-url", "u"])
    assert command[0] == str(quickstart.venv_python()) and command[1:4] == ["-m", "pip", "install"]
    assert command[command.index("-c") + 1] == str(ROOT / "constraints.txt")
    assert command[-3:] == ["--index-url", "u", "torch>=2.0"]
    assert "-c" not in quickstart.pip_install(["x"], constraints=None)


def test_children_get_a_clean_environment(quickstart):
    environment = quickstart.clean_environment({"PYTHONPATH": "x", "PIP_TARGET": "y", "PATH": "z"})
    assert environment["PATH"] == "z" and environment["PYTHONUTF8"] == "1"
    assert not {"PYTHONPATH", "PIP_TARGET"} & set(environment)


def test_restore_command_uses_the_embedded_weights(quickstart):
    command = quickstart.restore_command(Path("a b.png"), Path("out/ü.png"))
    assert command[1:5] == ["-m", "gpen_core", "restore", "a b.png"]
    assert command[command.index("--model") + 1] == "GPEN-BFR-256-lite" and "--overwrite" in command


class Steps:
    """Stands in for everything that install() would do; notes what it was asked."""

    def __init__(self, quickstart: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.trouble = ""
        self.runs = False
        self.quickstart = quickstart
        monkeypatch.setattr(quickstart, "runs", lambda python: self.runs)
        monkeypatch.setattr(quickstart, "make_venv", self.make)
        monkeypatch.setattr(quickstart, "install_torch", lambda requirement, index: self.done.append("torch"))
        self.install_tested = quickstart.install_tested
        monkeypatch.setattr(quickstart, "install_tested", self.tested)
        for name in ("install_opencv", "check_imports"):
            monkeypatch.setattr(quickstart, name, lambda: None)
        monkeypatch.setattr(quickstart, "install_optional", lambda: self.done.append("optional"))

    def make(self) -> None:
        self.done.append("venv")
        self.quickstart.VENV.mkdir(exist_ok=True)
        self.runs = True

    def tested(self, what: str, packages: list[str], **how: object) -> None:
        if what == "gradio":
            self.install_tested(what, packages, **how)
            return
        assert "numpy" in packages and not any(self.quickstart.name_of(package) == "torch" for package in packages)
        if self.trouble:
            raise self.quickstart.Trouble(self.trouble)
        self.done.append("rest+tests" if "pytest" in packages else "rest")


@pytest.fixture
def steps(quickstart: ModuleType, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(quickstart, monkeypatch)


def test_the_second_run_installs_nothing(quickstart, steps):
    quickstart.install([], "")
    assert steps.done == ["venv", "torch", "rest"]
    quickstart.install([], "")
    assert len(steps.done) == 3


def test_test_tools_come_on_demand_and_stay(quickstart, steps):
    quickstart.install([], "")
    quickstart.install(["test"], "")
    assert steps.done[3:] == ["torch", "rest+tests"]
    quickstart.install([], "")
    assert len(steps.done) == 5


def test_the_page_brings_gradio_alone_and_opens_it(quickstart, steps, monkeypatch):
    pips, commands = [], []
    monkeypatch.setattr(quickstart, "pip", lambda packages, **how: pips.append((packages, how)) or "")
    monkeypatch.setattr(quickstart, "run", lambda command: commands.append(command) or 7)
    assert quickstart.main(["--page", "--", "--port", "8000"]) == 7
    assert pips == [(("gradio>=6", "av"), {"constraints": None, "options": ()})]  # the tested Pillow is too new for it
    assert commands == [[str(quickstart.venv_python()), "-m", "gpen_core", "page", "--port", "8000"]]
    assert quickstart.main(["--page"]) == 7 and len(pips) == 1


def test_a_page_that_cannot_be_installed_is_one_sentence(quickstart, steps, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(quickstart, "pip", lambda packages, **how: asked.append(packages) or "ERROR: No matching distribution found for x")
    assert quickstart.main(["--page"]) == 1
    out = capsys.readouterr().out
    assert "gradio could not be installed: ERROR: No matching distribution" in out and "newest" not in out and len(asked) == 1


def test_an_interrupted_run_is_made_anew(quickstart, steps, monkeypatch):
    def interrupted(what: str, packages: list[str]) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(quickstart, "install_tested", interrupted)
        with pytest.raises(KeyboardInterrupt):
            quickstart.install([], "")
    steps.done.clear()
    quickstart.install([], "")
    assert steps.done == ["venv", "torch", "rest"]


def test_a_renewal_that_failed_keeps_the_environment(quickstart, steps, elsewhere):
    quickstart.install([], "")
    before = quickstart.read_stamp()
    (elsewhere / "CONSTRAINTS").write_text("torch==2.14.0\n", encoding="utf-8")
    steps.trouble = "no network"
    with pytest.raises(quickstart.Trouble, match="no network"):
        quickstart.install([], "")
    assert quickstart.read_stamp() == before


def test_an_environment_of_somebody_else_is_not_touched(quickstart, elsewhere):
    (elsewhere / ".venv").mkdir()
    (elsewhere / ".venv" / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(quickstart.Trouble, match="was not made by quickstart"):
        quickstart.make_venv()
    assert (elsewhere / ".venv" / "mine.txt").is_file()


def test_versions_that_are_not_made_for_the_machine_give_way(quickstart, monkeypatch, capsys):
    asked = []

    def pip(packages, constraints, **how):
        asked.append(constraints)
        return "ERROR: No matching distribution found for torch==2.13.0" if constraints else ""

    monkeypatch.setattr(quickstart, "pip", pip)
    quickstart.install_tested("torch", ["torch"])
    assert asked == [quickstart.CONSTRAINTS, None] and "newest ones" in capsys.readouterr().out


@pytest.mark.parametrize("reason", ["No matching distribution found for torch", "ResolutionImpossible: for help visit", "no space left"])
def test_what_cannot_be_installed_is_one_sentence(quickstart, monkeypatch, reason):
    monkeypatch.setattr(quickstart, "pip", lambda packages, **how: f"WARNING: x\nERROR: {reason}\n")
    with pytest.raises(quickstart.Trouble, match=f"torch could not be installed: ERROR: {reason}\nCheck the network"):
        quickstart.install_tested("torch", ["torch"])


def test_a_missing_picture_is_one_sentence(quickstart, steps, tmp_path, capsys):
    assert quickstart.main([str(tmp_path / "no.png")]) == 1
    assert "There is no picture" in capsys.readouterr().out


@pytest.mark.parametrize(("encoding", "seen"), [("ascii", "gr\\xfc\\xdf \\u4f60"), ("cp1252", "grüß \\u4f60"), ("utf-8", "grüß 你")])
def test_any_console_shows_any_path(quickstart, monkeypatch, encoding, seen):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    quickstart.say("grüß 你")
    assert stream.buffer.getvalue().decode(encoding).strip() == seen


@pytest.mark.skipif(os.name == "nt", reason="holds the lock through fcntl")
def test_the_second_of_two_waits(quickstart, elsewhere, capfd):
    code = (
        "import importlib.util, sys; s = importlib.util.spec_from_file_location('q', sys.argv[1]); q = importlib.util.module_from_spec(s);"
        "s.loader.exec_module(q); from pathlib import Path; q.OUT = Path(sys.argv[2]);\nwith q.only_one(): print('inside', flush=True)"
    )
    with quickstart.only_one():
        second = subprocess.Popen(
            [sys.executable, "-c", code, str(ROOT / "quickstart.py"), str(elsewhere / "out")], stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert second.stdout and "waiting" in second.stdout.readline()
    out, _ = second.communicate(timeout=30)
    assert out.strip() == "inside"


def test_sheet_shows_both_pictures_and_the_face():
    from PIL import Image

    sheet = _load(ROOT / "examples" / "sheet.py")
    before, after = Image.new("RGB", (100, 80), "red"), Image.new("RGB", (200, 160), "blue")
    report = {"inputs": [{"faces": [{"box": [40, 10, 60, 40]}, {"box": [0, 0, 5, 5]}]}]}
    faces = list(sheet.boxes(report))
    assert len(faces) == 2
    drawn = sheet.sheet(before, after, faces)
    plain = sheet.sheet(before, after, [])
    assert drawn.height > plain.height
    for picture in (plain, drawn):
        assert picture.getpixel((picture.width // 4, sheet.TITLE + 20)) == (255, 0, 0)
        assert picture.getpixel((picture.width * 3 // 4, sheet.TITLE + 20)) == (0, 0, 255)


def test_sheet_of_an_unturned_photograph(tmp_path):
    """EXIF rotation is applied, as the restorer does."""
    from PIL import Image

    sheet = _load(ROOT / "examples" / "sheet.py")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert sheet._read(str(tmp_path / "turned.jpg")).size == (20, 40)


@pytest.mark.parametrize(("version", "checked"), [((3, 10, 14), False), ((3, 11, 0), True), ((3, 13, 1), True)])
def test_types_are_checked_where_numpy_describes_its_arrays_as_the_code_does(quickstart, monkeypatch, version, checked):
    commands: list[list[str]] = []
    monkeypatch.setattr(quickstart, "output_of", lambda command: commands.append(command) or (1, "an error"))
    monkeypatch.setattr(quickstart.sys, "version_info", version)
    code, found = quickstart.check_types("python")
    assert (code, len(commands)) == ((1, 1) if checked else (0, 0))
    assert ("not checked" in found) is not checked


@pytest.mark.parametrize("failing", [(), ("ruff",), ("pyright",), ("ruff", "pyright"), ("pytest",)])
def test_what_failed_is_said_after_the_tests(quickstart, monkeypatch, capfd, failing):
    """CI once showed 4831 passed tests, and types that had failed were thousands of lines above."""
    monkeypatch.setattr(quickstart, "output_of", lambda command: (int(command[2] in failing), f"what {command[2]} found"))
    monkeypatch.setattr(quickstart, "run", lambda command: print("all tests passed") or int("pytest" in failing))
    monkeypatch.setattr(quickstart.sys, "version_info", (3, 11, 0))
    assert quickstart.test([]) == int(bool(failing))
    before, after = capfd.readouterr().out.split("all tests passed")
    for tool in ("ruff", "pyright"):
        assert f"what {tool} found" in before
        assert (f"what {tool} found" in after) is (tool in failing)
