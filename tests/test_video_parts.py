"""What a video that was stopped leaves in the folder beside its target: all that is of use, and nothing else."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from stub_restorer import StubRestorer
from test_video_resume import SEGMENT, begun, names
from test_video_trim import LONG, long_video
from video_files import read_video

from gpen_core.errors import PictureError
from gpen_core.progress import Progress
from gpen_core.video import parts
from gpen_core.video.parts import folder_of
from gpen_core.video.restore import restore_video

av = pytest.importorskip("av")


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SEGMENT", SEGMENT)


def test_a_second_process_is_refused(tmp_path):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"

    class Meeting(StubRestorer):
        def __call__(self, picture, **more):
            if self.calls == 30:
                code = f"""
                    import sys; sys.path[:0] = {[*sys.path[:3], str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
                    from stub_restorer import StubRestorer
                    from gpen_core.video.restore import restore_video
                    restore_video({str(source)!r}, {str(target)!r}, StubRestorer(), resume=True)
                """
                ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, encoding="utf-8", check=False)
                assert "because another process is restoring to it" in ran.stderr and ran.returncode
            return super().__call__(picture, **more)

    assert restore_video(source, target, Meeting(), resume=True).frames == LONG
    assert names(tmp_path) == ["a.mkv", "b.mkv"]


@pytest.mark.parametrize("moment", range(12))
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_stop_at_any_rename_or_record_loses_nothing_but_the_segment(tmp_path, monkeypatch, moment, error):
    """Of three segments: each has two renames, each with flushes before and after."""
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    count = 0

    def counted(real):
        def call(*given):
            nonlocal count
            count += 1
            if count == moment + 1:
                raise error
            return real(*given)

        return call

    monkeypatch.setattr(parts, "replace", counted(parts.replace))
    monkeypatch.setattr(parts, "flush", counted(parts.flush))
    monkeypatch.setattr(parts, "SEGMENT", 30)
    with pytest.raises((KeyboardInterrupt, PictureError)) as caught:
        restore_video(source, target, StubRestorer(), resume=True)
    assert isinstance(caught.value, KeyboardInterrupt) or "No space left on device" in str(caught.value)
    assert not target.exists()
    result = restore_video(source, target, StubRestorer(), resume=True)
    assert result.resumed in (0, 30, 60) and [face["frame"] for face in result.faces] == list(range(LONG))
    after = read_video(target)
    assert len(after.times) == LONG and after.streams == read_video(source).streams and names(tmp_path) == ["a.mkv", "b.mkv"]


def test_after_a_kill_between_the_name_and_the_folder_nothing_is_left(tmp_path, monkeypatch):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    for overwrite in (False, True):
        begun(source, target)
        target.write_bytes(b"whole")
        (folder_of(target) / "done").touch()
        if overwrite:
            assert restore_video(source, target, StubRestorer(), resume=True, overwrite=True).resumed == 0
        else:
            with pytest.raises(PictureError, match="already exists"):
                restore_video(source, target, StubRestorer(), resume=True)
        assert names(tmp_path) == ["a.mkv", "b.mkv"]
        target.unlink()


def test_folders_of_no_use_go_after_a_day(tmp_path):
    for name, files in {
        "old": ["lock", f".{'0' * 32}.part"],
        "useful": ["begun.json", "000000.json"],
        "theirs": ["photo.jpg"],
        "new": ["lock"],
    }.items():
        folder = tmp_path / f".{name}.mp4.parts"
        folder.mkdir()
        for file in files:
            (folder / file).touch()
        if name != "new":
            for path in (*folder.iterdir(), folder):
                os.utime(path, (1, 1))
    parts.remove_abandoned(tmp_path)
    assert names(tmp_path) == [".new.mp4.parts", ".theirs.mp4.parts", ".useful.mp4.parts"]


def test_frames_written_after_a_stop_are_not_kept(tmp_path):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"

    class Stopping(Progress):
        done = 0

        def report(self, done, total, what, preview=None):
            self.done = done
            if done == 70:
                raise KeyboardInterrupt

        def stop(self):
            return self.done >= 25

    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, StubRestorer(), resume=True, progress=Stopping())
    result = restore_video(source, target, StubRestorer(), resume=True)
    assert result.resumed == 20 and len(result.faces) == LONG


def test_a_long_name_has_a_folder_too(tmp_path):
    folder = folder_of(tmp_path / ("ü" * 120 + ".mp4"))
    folder.mkdir()
    assert len(folder.name) < 50 and folder != folder_of(tmp_path / ("ü" * 119 + ".mp4"))


def test_it_says_why_when_everything_failed(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    restorer = StubRestorer()
    restorer.fail_at = set(range(LONG))
    with pytest.raises(PictureError, match="no frame could be restored"):
        restore_video(long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv", restorer, resume=True)
    assert names(tmp_path) == ["a.mkv"]


def test_a_target_that_cannot_be_replaced_costs_nothing_that_was_made(tmp_path, monkeypatch):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    replaced = parts.replace

    def refused(part: Path, to: Path) -> None:
        if to == target:
            raise PermissionError(13, "Permission denied")
        replaced(part, to)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "replace", refused)
        with pytest.raises(PictureError, match="cannot write the video"):
            restore_video(source, target, StubRestorer(), resume=True)
    (folder_of(target) / "mine.txt").touch()  # of somebody else, and stays
    assert restore_video(source, target, StubRestorer(), resume=True).resumed == 60
    assert names(folder_of(target)) == ["done", "lock", "mine.txt"]
