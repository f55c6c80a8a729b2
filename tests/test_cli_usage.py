"""The command line: what is said before any work, what is said once, and animations, pipes and wildcards."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_help import picture, run, stub_restorers
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.faces.face import Face
from gpen_core.pictures.disk import part_beside


def animation(path: Path, frames=3, **settings) -> Path:
    first, *others = (Image.fromarray(np.full((16, 24, 3), 20 * number, np.uint8)) for number in range(frames))
    first.save(path, save_all=True, append_images=others, **({"duration": 40} if path.suffix != ".tif" else {}), **settings)
    return path


def frames_of(path: Path) -> int:
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1)


@pytest.fixture
def made(monkeypatch):
    face = Face((2.0, 2.0, 12.0, 14.0), np.full((5, 2), 8, np.float32), 0.99)
    monkeypatch.setattr(StubRestorer, "detect", lambda self, picture: [face, face])  # faces that can be drawn
    return stub_restorers(monkeypatch)


# --- before any work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["name.xyz", "name.jpgg", "v1.2", "-"])
def test_an_ending_that_cannot_be_written_makes_no_folder(made, tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    code, _, err = run(capsys, "restore", "a.png", "-o", out)
    assert code == 2 and err.count("\n") == 1 and (".webp" in err if out != "-" else "standard output" in err)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and not made


@pytest.mark.parametrize("out", ["name", "v1.2/", "name.png/"])
def test_a_name_without_an_ending_or_with_a_slash_is_a_folder(made, tmp_path, capsys, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    assert run(capsys, "restore", "a.png", "-o", out)[0] == 0
    assert (tmp_path / out / "a.png").is_file()
    assert run(capsys, "restore", "a.png", "-o", out.rstrip("/"), "--overwrite")[0] == 0  # as it exists now, even without the slash
    assert [path.name for path in (tmp_path / out).iterdir()] == ["a.png"]


@pytest.mark.parametrize("flags", [["--compare"], ["--output-size", "native"]])
@pytest.mark.parametrize("as_folder", [False, True])
def test_what_a_video_cannot_have_is_wrong_usage(made, tmp_path, capsys, monkeypatch, flags, as_folder):
    monkeypatch.setitem(sys.modules, "av", SimpleNamespace())
    video, a = tmp_path / "in" / "v.mp4", picture(tmp_path / "in" / "a.png")
    video.write_bytes(b"x")
    code, _, err = run(capsys, "restore", *([tmp_path / "in"] if as_folder else [a, video]), "-o", tmp_path / "out", *flags)
    assert code == 2 and str(video) in err and err.count("\n") == 1
    assert not made and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "package"),
    [
        (["--mask", "parsing"], "facexlib"),
        (["--background", "realesrgan", "--output-size", "factor"], "spandrel"),
        (["--background", "realesrgan"], "spandrel"),
    ],
)
def test_a_missing_package_is_named_before_missing_weights(tmp_path, capsys, monkeypatch, flags, package):
    for name in ("facexlib", "basicsr", "spandrel"):
        monkeypatch.setitem(sys.modules, name, None)
    a = picture(tmp_path / "a.png")
    # The detector's file and the model are missing too: nobody should fetch those for nothing.
    others = ["--detector", "yunet", "--model", "GPEN-BFR-512", "--models-dir", tmp_path / "models"]
    code, _, err = run(capsys, "restore", a, "-o", tmp_path / "b.png", *flags, *others)
    assert code == 2 and package in err and err.count("\n") == 1


def test_existing_faces_and_sheets_are_met_before_the_work(made, tmp_path, capsys):
    a, faces = picture(tmp_path / "a.png"), tmp_path / "faces"
    assert run(capsys, "restore", a, "-o", tmp_path / "1", "--faces-dir", faces, "--compare")[0] == 0
    before = {path: path.read_bytes() for path in faces.iterdir()}
    code, _, err = run(capsys, "restore", a, "-o", tmp_path / "2", "--faces-dir", faces)
    assert code == 1 and "a.png-0-" in err and "--overwrite" in err and not (tmp_path / "2").exists() and made[-1].calls == 0
    (tmp_path / "1" / "a.png").unlink()
    code, _, err = run(capsys, "restore", a, "-o", tmp_path / "1", "--compare")
    assert code == 1 and "a-compare.png already exists" in err and not (tmp_path / "1" / "a.png").exists() and made[-1].calls == 0
    # Another picture's faces are in nobody's way, nor is a folder that exists.
    assert run(capsys, "restore", picture(tmp_path / "b.png"), "-o", tmp_path / "2", "--faces-dir", faces)[0] == 0
    for flag in ("--skip-existing", "--overwrite"):
        assert run(capsys, "restore", a, "-o", tmp_path / "2", "--faces-dir", faces, flag)[:1] == (0,)
    assert (tmp_path / "2" / "a.png").is_file() and all(path.read_bytes() == data for path, data in before.items())


def test_the_picture_is_written_last(made, tmp_path, capsys):
    """So that a run that goes on with --skip-existing leaves nothing out."""
    (tmp_path / "faces").write_text("I am a file")
    a = picture(tmp_path / "a.png")
    code, _, err = run(capsys, "restore", a, "-o", tmp_path / "b.png", "--faces-dir", tmp_path / "faces")
    assert code == 1 and "faces" in err and not (tmp_path / "b.png").exists()


# --- what inputs are -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("command", ["restore", "detect"])
def test_a_pipe_is_refused_and_nobody_waits_for_it(made, tmp_path, capsys, command):
    picture(tmp_path / "in" / "a.png")
    for name in ("p.png", "v.mp4"):
        os.mkfifo(tmp_path / "in" / name)
    out = [] if command == "detect" else ["-o", tmp_path / "out"]
    code, _, err = run(capsys, command, tmp_path / "in", *out)
    assert code == 1 and "p.png is a pipe or a device" in err
    code, _, err = run(capsys, "inpaint", picture(tmp_path / "a.png"), "-o", tmp_path / "b.png", "--hole-mask", tmp_path / "in" / "p.png")
    assert code == 1 and "p.png: it is a pipe or a device" in err


def test_wildcards_are_looked_up(made, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b[1]/1.png", "b[1]/2.png", "b[1]/c/3.jpg", "b[1]/.hidden.png", "x*.txt"):
        picture(tmp_path / name) if name.endswith(("png", "jpg")) else (tmp_path / name).write_text("notes")
    code, out, _ = run(capsys, "restore", "b[1]/?.png", "-o", "out")
    assert code == 0 and sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.png", "2.png"]
    code, out, _ = run(capsys, "restore", tmp_path / "b*" / "*", "-o", "all", "--json")
    assert code == 0 and [Path(item["input"]).name for item in json.loads(out)["inputs"]] == ["1.png", "2.png", "3.jpg"]
    assert run(capsys, "restore", "b[1]/1.p*", "-o", "one.png")[0] == 0  # it fits one file
    code, _, err = run(capsys, "restore", "*.gif", "x*.txt", "b[1]/1.png", "-o", "out2")
    assert code == 1 and "no picture, video or folder that matches *.gif" in err
    assert "x*.txt" in err and "text file" in err  # the name itself, for there is such a file
    assert (tmp_path / "out2" / "1.png").is_file()


# --- what is said ----------------------------------------------------------------------------------------------------


def test_detect_tells_the_detector_as_such(made, tmp_path, capsys):
    told = json.loads(run(capsys, "detect", picture(tmp_path / "a.png"), "--json")[1])
    assert told["detector"] == "retinaface-mobile" and told["model"] is None


def test_what_is_true_of_many_pictures_is_said_once_a_run(made, tmp_path, capsys):
    inputs = [picture(tmp_path / f"{number}.jpg", mode="CMYK") for number in range(3)]
    for run_number in range(2):
        code, _, err = run(capsys, "restore", *inputs, "-o", tmp_path / str(run_number))
        assert code == 0 and err.count("CMYK") == err.count("\n") == 1
    assert run(capsys, "restore", *inputs, "-o", tmp_path / "quiet", "--quiet")[2] == ""


def test_seg2face_says_that_it_looks_for_no_face(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpen_core.network.load", SimpleNamespace(load_network=lambda name, **settings: "network"))
    task = SimpleNamespace(segmentation_to_face=lambda picture, network, **_: picture)
    monkeypatch.setitem(sys.modules, "gpen_core.restore.whole_picture", task)
    assert "no face detection" in run(capsys, "seg2face", "--help")[1]
    assert "without looking for faces" in " ".join(run(capsys, "colorize", "--help")[1].split())  # --aligned
    gif = animation(tmp_path / "c.gif")
    assert run(capsys, "seg2face", gif, "-o", tmp_path / "out", "--device", "cpu")[0] == 0
    assert frames_of(tmp_path / "out" / "c.png") == 3


# --- animations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif"])
def test_all_frames_are_restored_in_place(made, tmp_path, capsys, name):
    a = animation(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    code, out, err = run(capsys, "restore", a, "-o", a, "--overwrite", "--json")
    told = json.loads(out)["inputs"][0]
    assert (code, err) == (0, "") and told["frames"] == 3 and [face["frame"] for face in told["faces"]] == [0, 1, 2]
    with Image.open(a) as image:
        for number in range(3):
            image.seek(number)
            pixels = np.asarray(image.convert("RGB"))
            assert pixels[0, 0].tolist() == [255] * 3 and pixels[-1, -1].tolist() == [20 * number] * 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_sheets_and_faces_of_all_frames(made, tmp_path, capsys):
    a = animation(tmp_path / "a.gif")
    assert run(capsys, "restore", a, "-o", tmp_path / "out", "--compare", "--faces-dir", tmp_path / "faces")[0] == 0
    assert {path.name: frames_of(path) for path in (tmp_path / "out").iterdir()} == {"a.png": 3, "a-compare.png": 3}
    names = [f"a.png-{frame}-0-{what}.png" for frame in range(3) for what in ("after", "before")]
    assert sorted(path.name for path in (tmp_path / "faces").iterdir()) == names
    code, _, err = run(capsys, "restore", a, "-o", tmp_path / "out2", "--faces-dir", tmp_path / "faces")
    assert code == 1 and "a.png-" in err and "exists" in err


@pytest.mark.parametrize(("out", "flags", "says"), [("b.jpg", [], ".webp"), ("b.png", ["--output-size", "native"], "keep")])
def test_frames_that_cannot_be_kept_are_refused_before_the_work(made, tmp_path, capsys, out, flags, says):
    code, _, err = run(capsys, "restore", animation(tmp_path / "a.gif"), "-o", tmp_path / out, *flags)
    assert code == 1 and says in err and "frame" in err and made[0].calls == 0 and not (tmp_path / out).exists()


def test_detect_looks_at_all_frames(made, tmp_path, capsys):
    a = animation(tmp_path / "a.webp")
    for out in ([], ["-o", tmp_path / "out"]):
        code, text, _ = run(capsys, "detect", a, *out)
        assert code == 0 and "3 frames, 6 faces" in text and "frame 2   1  " in text
    assert frames_of(tmp_path / "out" / "a.webp") == 3


# --- what a killed run left ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["restore", "detect"])
def test_what_a_killed_run_left_is_removed_after_a_day(made, tmp_path, capsys, command):
    a, out = picture(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    ours, fresh = part_beside(out / "x.png"), part_beside(out / "y.png")
    others = [out / name for name in (".download.part", f".{'A' * 32}.part", f".{'a' * 31}.part", f"{'a' * 32}.part", ours.name + "x")]
    folder = out / f".{'b' * 32}.part"
    folder.mkdir()
    for path in (ours, fresh, *others):
        path.write_bytes(b"x")
    for path in (ours, folder, *others):
        os.utime(path, (time.time() - 90_000,) * 2)
    assert run(capsys, command, a, "-o", out)[0] == 0
    assert not ours.exists() and all(path.exists() for path in (fresh, folder, *others))
