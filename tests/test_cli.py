"""The command line, in process, with a restorer that needs no weights."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_help import picture, run, stub_restorers
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.cli.main import flag_of
from gpen_core.errors import FeatureMissingError, GpenError, WeightsError, WeightsMissingError
from gpen_core.options import RestoreOptions

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def made(monkeypatch):
    return stub_restorers(monkeypatch)


# --- flags -----------------------------------------------------------------------------------------------------------


def test_every_setting_is_a_flag(made, tmp_path, capsys):
    values = {
        "model": "GPEN-BFR-512", "strength": "0.5", "auto_strength": "all", "fidelity": "0.25", "detail": "0.75", "min_likeness": "0.3",
        "detector": "yunet",
        "threshold": "0.6", "min_size": "8", "max_size": "900", "order": "left", "max_faces": "3", "faces": "0,2",
        "person": "p.png", "person_likeness": "0.4", "mask": "parsing",
        "feather": "0.35", "mask_regions": "skin,eyes", "occlusion": "change",
        "output_size": "factor", "factor": "3", "background": "realesrgan", "steady": "0.5", "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    switches = {"colour_match": True, "guard": True, "look_closer": False, "rotations": True, "aligned": True}
    assert set(values) | set(switches) == {option.name for option in RestoreOptions.table()}
    arguments = [part for name, value in values.items() for part in ("--" + name.replace("_", "-"), value)]
    arguments += [("--" if on else "--no-") + name.replace("_", "-") for name, on in switches.items()]
    code, _, err = run(capsys, "restore", picture(tmp_path / "a.png"), "-o", tmp_path / "b.png", *arguments)
    assert (code, err) == (0, "")
    assert made[0].options == RestoreOptions.from_mapping({**values, **switches})


def test_help_tells_every_setting(capsys):
    code, out, _ = run(capsys, "restore", "--help")
    assert code == 0
    for option in RestoreOptions.table():
        assert flag_of(option) in out
    assert "exit codes" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "COMMAND"),
        (["restore"], "IN"),
        (["restore", "a.png"], "-o"),
        (["repair"], "repair"),
        (["restore", "a.png", "-o", "b.png", "--strenght", "1"], "--strenght"),
        (["restore", "a.png", "-o", "b.png", "--strength", "2"], "strength must be between 0 and 1; 2 is not"),
        (["restore", "a.png", "-o", "b.png", "--strength", "-1"], "strength must be between 0 and 1; -1 is not"),
        (["restore", "a.png", "-o", "b.png", "--max-faces", "some"], "max_faces must be a whole number"),
        (["restore", "a.png", "-o", "b.png", "--detector", "yunett"], "did you mean yunet?"),
        (["restore", "a.png", "-o", "b.png", "--faces", "first"], "first"),
        (["restore", "a.png", "-o", "b.png", "--quality", "101"], "101"),
        (["restore", "a.png", "-o", "b.png", "--overwrite", "--skip-existing"], "not allowed with"),
        (["restore", "a.png", "c.png", "-o", "b.png"], "need an output folder"),
        (["colorize", "a.png", "-o", "b.png", "--model", "GPEN-BFR-512"], "another task"),
        (["models", "download", "GPEN-BFR-513"], "did you mean GPEN-BFR-512"),
    ],
)
def test_wrong_usage_is_one_line_and_2(made, capsys, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    code, out, err = run(capsys, *arguments)
    assert code == 2 and out == ""
    assert err.startswith("gpen: ") and err.count("\n") == 1 and says in err


# --- restore ---------------------------------------------------------------------------------------------------------


def test_one_picture(made, tmp_path, capsys):
    a, b = picture(tmp_path / "a.png"), tmp_path / "b.png"
    code, out, err = run(capsys, "restore", a, "-o", b, "--models-dir", tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith(f"{a} -> {b} (1 face, ") and out.count("\n") == 1
    assert np.asarray(Image.open(b))[0, 0].tolist() == [255, 255, 255]
    assert made[0].models_dir == tmp_path


def test_json_is_one_object_and_nothing_else(made, tmp_path, capsys):
    inputs = [picture(tmp_path / "a.png"), tmp_path / "none.png", picture(tmp_path / "b.jpg")]
    code, out, err = run(capsys, "restore", *inputs, "-o", tmp_path / "out", "--json", "--output-size", "factor")
    told = json.loads(out)
    assert code == 1 and told["failed"] == 1 and told["model"] == "stub"
    assert [item["input"] for item in told["inputs"]] == [str(path) for path in inputs]
    good, bad, _ = told["inputs"]
    assert good["output"] == str(tmp_path / "out" / "a.png") and good["error"] is None and good["scale"] == 2 and good["seconds"] >= 0
    assert set(good["faces"][0]) == {"box", "landmarks", "score", "status", "reason", "index"}
    assert bad["output"] is None and bad["error"] and bad["faces"] == []
    assert err == f"gpen: there is no file or folder {tmp_path / 'none.png'}\n"


def test_bad_inputs_never_stop_the_others(made, tmp_path, capsys):
    text, empty = tmp_path / "text.png", tmp_path / "empty"
    text.write_text("I am a text")
    empty.mkdir()
    good = picture(tmp_path / "in" / "sub" / "c.png").parent.parent
    code, out, err = run(capsys, "restore", text, empty, tmp_path / "none", good, "-o", tmp_path / "out")
    lines = err.splitlines()
    assert code == 1 and len(lines) == 3 and all(line.startswith("gpen: ") for line in lines)
    assert str(text) in lines[0] and "no pictures" in lines[1] and "none" in lines[2]
    assert (tmp_path / "out" / "in" / "sub" / "c.png").is_file()
    assert "1 of 4 inputs done, 3 failed" in out


def test_an_existing_output_is_kept(made, tmp_path, capsys):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    before = b.read_bytes()
    code, _, err = run(capsys, "restore", a, "-o", b)
    assert code == 1 and "--overwrite" in err and b.read_bytes() == before
    code, _, err = run(capsys, "restore", a, "-o", b, "--skip-existing")
    assert (code, err) == (0, "") and b.read_bytes() == before
    code, _, err = run(capsys, "restore", a, "-o", b, "--overwrite")
    assert (code, err) == (0, "") and b.read_bytes() != before


@pytest.mark.parametrize(
    ("command", "model", "says"),
    [
        ("restore", "GPEN-BFR-513", "GPEN-BFR-512"),
        ("restore", "GPEN-Inpainting-1024", "another task (inpaint)"),
        ("colorize", "GPEN-BFR-512", "another task (restore)"),
        ("colorize", "nonsense", "nonsense"),
    ],
)
def test_a_wrong_model_is_said_first_even_where_nothing_is_to_do(made, tmp_path, capsys, command, model, says):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    code, out, err = run(capsys, command, a, "-o", b, "--model", model, "--skip-existing")
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


def test_quiet_says_errors_only(made, tmp_path, capsys):
    a = picture(tmp_path / "a.png")
    assert run(capsys, "restore", a, "-o", tmp_path / "b.png", "--quiet") == (0, "", "")
    code, out, err = run(capsys, "restore", a, "-o", tmp_path / "b.png", "--quiet")
    assert code == 1 and out == "" and err.count("\n") == 1


def test_no_bars_in_a_pipe_and_bars_on_a_terminal(made, tmp_path, capsys, monkeypatch):
    inputs = [picture(tmp_path / f"{name}.png") for name in "ab"]
    assert run(capsys, "restore", *inputs, "-o", tmp_path / "out")[2] == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _, out, err = run(capsys, "restore", *inputs, "-o", tmp_path / "out2", "--json")
    assert "inputs: " in err and "0/2" in err and "a.png: " in err and "0/1" in err
    json.loads(out)
    assert run(capsys, "restore", *inputs, "-o", tmp_path / "out3", "--quiet")[2] == ""


def test_sheet_and_faces(made, tmp_path, capsys):
    picture(tmp_path / "a.png")
    code, _, _ = run(capsys, "restore", tmp_path / "a.png", "-o", tmp_path / "out", "--compare", "--faces-dir", tmp_path / "faces")
    assert code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-compare.png", "a.png"]
    assert sorted(path.name for path in (tmp_path / "faces").iterdir()) == ["a.png-0-after.png", "a.png-0-before.png"]


def test_warnings_of_the_core_name_the_input(made, tmp_path, capsys, monkeypatch):
    def warn(self, picture, *, faces=None):
        logging.getLogger("gpen_core.restore.restorer").warning("face 0 was not restored:\nNaN")
        return SimpleNamespace(image=picture, faces=[], crops=[], restored=[], scale=1.0)

    monkeypatch.setattr(StubRestorer, "__call__", warn)
    a = picture(tmp_path / "a.png")
    code, _, err = run(capsys, "restore", a, "-o", tmp_path / "b.png")
    assert (code, err) == (0, f"gpen: {a}: face 0 was not restored: NaN\n")
    assert logging.getLogger("gpen_core").handlers == [] and logging.getLogger("gpen_core").propagate


def test_warnings_of_the_writing_thread_name_its_own_input(made, tmp_path, capsys, monkeypatch):
    """What is said while a.png is written, and b.png restored, is about a.png."""
    from gpen_core.batch import run as batch

    plain, restore, second = batch.write_picture, StubRestorer.__call__, threading.Event()

    def write(image, path, **settings):
        if path.name == "a.png":
            assert second.wait(30)
            logging.getLogger("gpen_core.pictures").warning("the profile does not fit")
        return plain(image, path, **settings)

    def restored(self, picture, *, faces=None):
        if self.calls:
            second.set()
        return restore(self, picture, faces=faces)

    monkeypatch.setattr(batch, "write_picture", write)
    monkeypatch.setattr(StubRestorer, "__call__", restored)
    inputs = [picture(tmp_path / f"{name}.png") for name in "ab"]
    code, _, err = run(capsys, "restore", *inputs, "-o", tmp_path / "out")
    assert (code, err) == (0, f"gpen: {inputs[0]}: the profile does not fit\n")


# --- what ends a run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WeightsMissingError("GPEN-BFR-2048.pth is not on disk"), 3),
        (WeightsError("it is a discriminator"), 3),
        (FeatureMissingError("needs facexlib"), 2),
        (GpenError("no"), 1),
        (ZeroDivisionError("a bug"), 1),
    ],
)
def test_exit_codes(made, tmp_path, capsys, monkeypatch, error, code):
    def fail(self):
        raise error

    monkeypatch.setattr(StubRestorer, "prepare", fail)
    a = picture(tmp_path / "a.png")
    assert run(capsys, "restore", a, "-o", tmp_path / "b.png", "--json")[:2] == (code, "")
    _, _, err = run(capsys, "restore", a, "-o", tmp_path / "b.png")
    assert str(error) in err and err.count("\n") == 1 and "Traceback" not in err
    _, _, err = run(capsys, "restore", a, "-o", tmp_path / "b.png", "--debug")
    assert "Traceback" in err


def test_an_unexpected_error_in_one_input(made, tmp_path, capsys, monkeypatch):
    def fail(self, picture, *, faces=None):
        raise ZeroDivisionError("a bug\nin two lines")

    monkeypatch.setattr(StubRestorer, "__call__", fail)
    a = picture(tmp_path / "a.png")
    code, _, err = run(capsys, "restore", a, "-o", tmp_path / "b.png")
    assert code == 1 and err == f"gpen: {a}: unexpected ZeroDivisionError: a bug in two lines (--debug shows where)\n"
    _, _, err = run(capsys, "restore", a, "-o", tmp_path / "b.png", "--debug")
    assert "Traceback" in err


def test_ctrl_c_leaves_what_is_done_and_nothing_half(made, tmp_path, capsys, monkeypatch):
    plain = StubRestorer.__call__

    def interrupted(self, picture, *, faces=None):
        if self.calls:
            raise KeyboardInterrupt
        return plain(self, picture)

    monkeypatch.setattr(StubRestorer, "__call__", interrupted)
    inputs = [picture(tmp_path / f"{name}.png") for name in "abc"]
    code, out, err = run(capsys, "restore", *inputs, "-o", tmp_path / "out", "--json")
    assert (code, out, err) == (130, "", "gpen: interrupted\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_videos_without_pyav(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    video, a = tmp_path / "v.mp4", picture(tmp_path / "a.png")
    video.write_bytes(b"x")
    code, _, err = run(capsys, "restore", video, "-o", tmp_path / "out")
    assert code == 2 and "pip install av" in err
    code, _, err = run(capsys, "restore", video, a, "-o", tmp_path / "out")
    assert code == 1 and "pip install av" in err and (tmp_path / "out" / "a.png").is_file()


# --- the other commands ----------------------------------------------------------------------------------------------


def test_detect(made, tmp_path, capsys):
    a, video = picture(tmp_path / "a.png", (64, 64)), tmp_path / "v.mp4"
    video.write_bytes(b"x")
    code, out, err = run(capsys, "detect", a)
    assert (code, err) == (0, "") and out.startswith(f"{a}: 2 faces\n") and "1,2 to 30,40" in out
    code, out, err = run(capsys, "detect", a, video, "--json", "--threshold", "0.5")
    told = json.loads(out)
    assert code == 1 and "is a video" in err
    assert [face["index"] for face in told["inputs"][0]["faces"]] == [0, 1] and told["inputs"][0]["output"] is None
    assert made[1].options.threshold == 0.5 and made[1].options.model == "GPEN-BFR-256-lite"  # no 285 MB for a box


# --- as a program ----------------------------------------------------------------------------------------------------


def program(*arguments, **settings):
    command = [sys.executable, "-m", "gpen_core", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **settings)


def test_help_and_lists_need_no_torch():
    code = "import sys; sys.modules['torch'] = None; from gpen_core.cli.main import main; sys.exit(main(sys.argv[1:]))"
    for arguments in (["--help"], ["restore", "--help"], ["models", "list"], ["models", "where"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == "" and done.stdout


def test_a_closed_pipe_is_quiet():
    code = "import sys; from gpen_core.cli.main import main; sys.stdin.readline(); sys.exit(main(['models', 'list']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stdin.write("go\n")
    process.stdin.close()
    assert process.wait(60) == 141 and process.stderr.read() == ""


def test_info_survives_broken_packages(tmp_path):
    for name in ("facexlib", "spandrel"):
        (tmp_path / name).mkdir()
    (tmp_path / "facexlib" / "__init__.py").write_text("print('hello'); raise SystemExit('no torchvision')")
    (tmp_path / "spandrel" / "__init__.py").write_text("import torchvision_functional_tensor")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gpen_core.cli.main import main; sys.exit(main(['info', '--json']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert told["packages"]["numpy"]["imports"] is True
    assert "no torchvision" in told["packages"]["facexlib"]["problem"]
    assert "torchvision_functional_tensor" in told["packages"]["spandrel"]["problem"]
    assert told["devices"][0] == "cpu" and told["models_dir"]


def test_info_calls_optional_what_can_be_left_out():
    from gpen_core.cli.info import NEEDED, OPTIONAL

    listed = re.findall(r"^([\w-]+)[^;\n]*$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    wanted = {name.lower() for name in listed}
    assert "safetensors" in wanted and wanted <= {package.lower() for _, package in NEEDED}
    assert not wanted & {package.lower() for _, package in OPTIONAL}
