"""The flags for videos on the command line, in process, with a restorer that needs no weights."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time

import numpy as np
import pytest
from cli_help import picture, run, stub_restorers
from stub_restorer import StubRestorer
from video_files import FRAMES, make_video, read_video

from gpen_core.batch import run as batch
from gpen_core.batch.job import JobFolder
from gpen_core.cli.console import Bars
from gpen_core.video import parts
from gpen_core.video.codecs import CODECS

av = pytest.importorskip("av")
LITE = ["--model", "GPEN-BFR-256-lite"]


@pytest.fixture
def made(monkeypatch):
    return stub_restorers(monkeypatch)


@pytest.mark.parametrize(
    ("flags", "frames"),
    [([], FRAMES), (["--trim", "0.2-0.36"], 4), (["--trim", "-0:00.2"], 5), (["--trim", "-.2"], None), (["--trim=0:00:00.2-"], FRAMES - 5)],
)
def test_a_part_of_a_video(made, tmp_path, capsys, flags, frames):
    source, a = make_video(tmp_path / "v.mp4"), picture(tmp_path / "a.png")
    code, out, err = run(capsys, "restore", source, a, "-o", tmp_path / "out", *flags, "--json")
    if frames is None:
        assert code == 2 and "'.2' in the span '-.2' is not a time" in err and err.count("\n") == 1
        return
    assert code == 0 and [one.get("frames") for one in json.loads(out)["inputs"]] == [frames, None]
    assert len(read_video(tmp_path / "out" / "v.mp4").times) == frames


def test_a_video_in_a_job_shows_its_rate_and_what_is_left(made, tmp_path, capsys, monkeypatch):
    """Beside the bar of the inputs, which moves once a video. An input that is written meanwhile does not begin the bar anew."""
    slow, write, calls, half = StubRestorer.__call__, batch.write_picture, [], threading.Event()

    def restore(self, picture, *, faces=None):
        time.sleep(0.03)
        if self.calls == 1 + FRAMES // 2:
            half.set()
            time.sleep(0.2)
        return slow(self, picture, faces=faces)

    def write_late(*given, **more):
        assert half.wait(30)
        return write(*given, **more)

    monkeypatch.setattr(StubRestorer, "__call__", restore)
    monkeypatch.setattr(batch, "write_picture", write_late)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bars = Bars._bar
    monkeypatch.setattr(Bars, "_bar", lambda self, total, unit, *more: calls.append(unit) or bars(self, total, unit, *more))
    picture(tmp_path / "in" / "a.png")
    make_video(tmp_path / "in" / "v.mp4")
    _, out, err = run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", "--job", tmp_path / "job", *LITE)
    assert "2 of 2 inputs done" in out and calls[-3:] == ["input", "face", "frame"]
    assert re.search(r"inputs: +0%.* 0/2 ", err)
    assert re.search(rf"v\.mp4: .* \d+/{FRAMES} \[00:00<00:00, +[\d.]+frame/s\]", err)


def test_a_flag_is_not_taken_for_a_span(made, tmp_path, capsys):
    code, _, err = run(capsys, "restore", make_video(tmp_path / "v.mp4"), "-o", tmp_path / "out", "--trim", "--overwrite")
    assert code == 2 and "--trim: expected one argument" in err


def test_without_flags_nothing_changes(made, tmp_path, capsys):
    source = make_video(tmp_path / "v.mp4")
    exact = ["--crf", "0"]  # on some processors x264 gives other bytes from run to run, so compare frames
    assert run(capsys, "restore", source, "-o", tmp_path / "a.mp4", *exact)[0] == 0
    assert run(capsys, "restore", source, "-o", tmp_path / "b.mp4", *exact, "--codec", "h264", "--trim", "0-")[0] == 0
    before, after, same = (read_video(tmp_path / name) for name in ("v.mp4", "a.mp4", "b.mp4"))
    assert np.array_equal(after.pixels, same.pixels) and (after.times, after.streams) == (same.times, same.streams)
    assert after.codec == "h264" and after.times == before.times and after.streams == before.streams


def test_a_video_that_ends_before_the_span_fails_before_any_work_and_alone(made, tmp_path, capsys):
    source, a = make_video(tmp_path / "v.mp4"), picture(tmp_path / "a.png")
    code, _, err = run(capsys, "restore", source, "-o", tmp_path / "out", "--trim", "1:00-")
    assert code == 1 and err == f"gpen: {source}: the span 60- begins after the end of the video, which is 0.50 seconds long\n"
    assert made[0].prepared == 0
    code, _, err = run(capsys, "restore", source, a, "-o", tmp_path / "out", "--trim", "1:00-")
    assert code == 1 and (tmp_path / "out" / "a.png").is_file() and not (tmp_path / "out" / "v.mp4").exists()


@pytest.mark.parametrize("job", [False, True])
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--codec", "ffv1"], "v.mp4 cannot store FFV1: its name must end with .mkv"),
        (["--codec", "vp9"], "vp9"),
        (["--trim", "20-10"], "empty"),
        (["--trim", "x"], "START-END"),
    ],
)
def test_what_cannot_be_is_wrong_usage_and_makes_nothing(made, tmp_path, capsys, flags, says, job):
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "v.mp4")
    more = ["--job", tmp_path / "job", *LITE] if job else []
    code, out, err = run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", *flags, *more)
    assert code == 2 and out == "" and says in err and err.count("\n") == 1
    assert not made and not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["one", "job"])
def test_an_encoder_that_is_missing_is_named_before_any_work(made, tmp_path, capsys, monkeypatch, command):
    hevc = CODECS["hevc"]
    monkeypatch.setitem(CODECS, "hevc", type(hevc)(hevc.label, "no_such_encoder", hevc.formats, hevc.suffixes))
    more = ["--job", tmp_path / "job", *LITE] if command == "job" else []
    code, _, err = run(capsys, "restore", make_video(tmp_path / "v.mkv"), "-o", tmp_path / "out", "--codec", "hevc", *more)
    assert code == 2 and "has no HEVC encoder" in err and "it has: h264" in err and not made


def test_a_job_keeps_its_span_and_codec(made, tmp_path, capsys):
    def command(*more: str) -> tuple[int, str, str]:
        return run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", "--job", tmp_path / "job", *LITE, *more)

    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "v.mkv")
    given = ["--trim", "-0:00.2", "--codec", "ffv1"]
    assert command(*given)[0] == 0
    after = read_video(tmp_path / "out" / "v.mkv")
    assert after.codec == "ffv1" and len(after.times) == 5
    assert command("--trim", "0-0.20", "--codec", "ffv1")[0] == 0  # the same span, written in another way
    for others, says in (
        (["--trim", "-0.2"], "codec ffv1 (now None)"),
        (["--codec", "ffv1"], "trim 0-0.2 (now None)"),
        ([*given[:1], "1-", *given[2:]], "now 1-"),
    ):
        code, _, err = command(*others)
        assert code == 2 and says in err and err.count("\n") == 1


def test_a_job_begun_before_there_were_these_flags_goes_on(made, tmp_path, capsys):
    picture(tmp_path / "in" / "a.png")
    assert run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", "--job", tmp_path / "job", *LITE)[0] == 0
    manifest = JobFolder(tmp_path / "job").manifest()
    assert manifest is not None and not {"trim", "codec"} & manifest.settings.keys()


# --- a video that was stopped -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", [False, True])
def test_the_same_command_goes_on_where_it_was_stopped(made, tmp_path, capsys, monkeypatch, job):
    monkeypatch.setattr(parts, "SEGMENT", 4)
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "v.mp4")
    folder = tmp_path / "out" / ".v.mp4.parts"

    def command(*more: object, stop_at: int = 99) -> tuple[int, str, str]:
        def stopped(self, picture, *, faces=None):
            if self.calls == stop_at:
                raise KeyboardInterrupt
            return call(self, picture, faces=faces)

        call = StubRestorer.__call__
        with monkeypatch.context() as patch:
            patch.setattr(StubRestorer, "__call__", stopped)
            jobs = ["--job", tmp_path / "job"] if job else []
            return run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", *LITE, "--steady", "0", *jobs, *more)

    code, out, err = command(stop_at=10)
    assert (code, out) == (130, "") and err.endswith("gpen: interrupted\n") and folder.is_dir()
    assert f"the first 8 frames are kept in {folder}; run the same again, and it goes on after them" in err
    code, out, err = command(stop_at=3)
    assert code == 130 and made[-1].calls == 3 and "goes on after the first 8 frames" in err
    code, _, err = command("--job-restart" if job else "--video-restart", stop_at=6)
    assert code == 130 and made[-1].calls == 6 and "the first 4 frames are kept" in err and "goes on after the first" not in err
    code, out, err = command("--json")
    assert code == 0 and made[-1].calls == FRAMES - 4 and not folder.exists() and err.count("\n") == 1
    found = next(JobFolder(tmp_path / "job").records(0)) if job else json.loads(out)["inputs"][0]
    assert (found["frames"], found["frames_resumed"], len(found["faces"])) == (FRAMES, 4, FRAMES)
    assert len(read_video(tmp_path / "out" / "v.mp4").times) == FRAMES
    if not job:
        old = folder.with_name(".old.mp4.parts")  # of no use, and unchanged for a day
        old.mkdir()
        os.utime(old, (1, 1))
        assert command("--overwrite")[0] == 0 and not old.exists()
        folder.mkdir()  # a kill after the video had its name
        (folder / "done").touch()
        assert command("--skip-existing")[0] == 0 and not folder.exists()
