"""Videos that are cut short: said to be, and kept as far as they can be read."""

from __future__ import annotations

import numpy as np
import pytest
from stub_restorer import StubRestorer
from video_files import FRAMES, make_video, read_video

from gpen_core.batch.run import Job, run_batch
from gpen_core.errors import PictureError
from gpen_core.video import cut as videocut
from gpen_core.video.cut import is_cut_short
from gpen_core.video.restore import restore_video


def test_a_video_that_is_cut_short(tmp_path):
    whole = make_video(tmp_path / "whole.ts", codec="mpeg2video", audio=None)
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.8)])
    result = restore_video(cut, tmp_path / "b.mkv", StubRestorer())
    assert 0 < result.frames < FRAMES and len(read_video(tmp_path / "b.mkv").times) == result.frames


WHOLE = [("a.mp4", "mpeg4"), ("a.mov", "mjpeg"), ("a.mkv", "mpeg4"), ("a.webm", "libvpx"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video")]


@pytest.mark.parametrize(("name", "codec"), WHOLE)
def test_a_cut_video_is_said_to_be_cut_and_a_whole_one_is_not(tmp_path, caplog, name, codec):
    source = make_video(tmp_path / name, codec=codec, pix_fmt="yuvj420p" if codec == "mjpeg" else "yuv420p", audio=None, index_first=True)
    whole = restore_video(source, tmp_path / "b.mkv", StubRestorer())
    assert not whole.cut and whole.frames == FRAMES and not caplog.messages
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.8)])
    cut = restore_video(source, tmp_path / "c.mkv", StubRestorer())
    told = [message for message in caplog.messages if "cut short" in message]
    assert cut.cut and told == [f"{source}: the file is cut short; the {cut.frames} frames that could be read are kept"]
    assert 0 < cut.frames < FRAMES and len(read_video(tmp_path / "c.mkv").times) == cut.frames


def test_a_cut_video_without_its_table_of_frames(tmp_path):
    source = make_video(tmp_path / "a.mp4")
    for share in (0.8, 0.4):
        source.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
        with pytest.raises(PictureError, match=r"cannot read the video .*cut short"):
            restore_video(source, tmp_path / "b.mkv", StubRestorer())


def test_what_fails_while_it_is_read(tmp_path, monkeypatch):
    """FFmpeg lost its way: what came before is kept. The disk failed: the video that is read is named, not the one that is written."""
    import av

    source = make_video(tmp_path / "a.mkv", audio=None)

    class Container:
        def __init__(self, error):
            self.container, self.error = real(str(source)), error

        def __getattr__(self, name):
            return getattr(self.container, name)

        def demux(self, streams):
            for count, packet in enumerate(self.container.demux(streams)):
                if count == 8:
                    raise self.error
                yield packet

    real = av.open

    def opened(file, mode="r", **more):
        return real(file, mode, **more) if mode == "w" else Container(error)

    for kind in (av.error.InvalidDataError, av.error.EOFError):
        error = kind(1, "lost")
        monkeypatch.setattr(av, "open", opened)
        result = restore_video(source, tmp_path / "b.mkv", StubRestorer(), overwrite=True)
        monkeypatch.undo()
        assert result.cut and result.frames == len(read_video(tmp_path / "b.mkv").times) == 8  # every frame that was read
    monkeypatch.setattr(av, "open", opened)
    error = OSError(5, "Input/output error")
    with pytest.raises(PictureError, match=r"cannot read the video .*a\.mkv: Input/output error"):
        restore_video(source, tmp_path / "c.mkv", StubRestorer())


@pytest.mark.parametrize("seed", range(4))
def test_looking_for_a_cut_takes_any_file(tmp_path, seed):
    """Bytes that begin like a container: an answer, and no endless walk."""
    rng = np.random.default_rng(seed)
    for start in (
        b"\0\0\0\x18ftyp",
        b"\0\0\0\x08moov",
        b"RIFF\0\0\0\0",
        b"\x1aE\xdf\xa3",
        b"\x1aE\xdf\xa3\x01",
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        b"G",
    ):
        for length in (0, 3, 17, 2000):
            file = tmp_path / "a.mp4"
            file.write_bytes(start + rng.bytes(length))
            assert is_cut_short(file) in (True, False)


def test_looking_for_a_cut_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(videocut, "_PIECES", 100)
    file = tmp_path / "a.mp4"
    file.write_bytes(b"\0\0\0\x08moov" * 98 + b"\0\0\0\x09moov")
    assert is_cut_short(file)
    file.write_bytes(b"\0\0\0\x08moov" * 100 + b"\0\0\0\x09moov")
    assert not is_cut_short(file) and not is_cut_short(tmp_path / "none.mp4")


def test_a_job_says_that_its_video_is_cut(tmp_path):
    source = make_video(tmp_path / "a.mkv", codec="mpeg4", audio=None)
    for cut in (False, True):
        (done,) = run_batch([Job(source, tmp_path / "b.mkv", "video")], StubRestorer(), overwrite=True)
        assert done.error is None and done.to_json()["cut"] is cut
        source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.8)])
