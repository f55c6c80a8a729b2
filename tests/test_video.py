"""Videos: no frame is lost or moved, sound and subtitles go along untouched, nothing is half-written."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from stub_restorer import StubRestorer
from video_files import FRAMES, make_video, read_video

from gpen_core.errors import FeatureMissingError, PictureError, SettingsError
from gpen_core.progress import Progress
from gpen_core.video.restore import container_suffix, is_video_path, restore_video
from gpen_core.video.restored import RestoredFrames, VideoResult


def test_names():
    assert is_video_path("A.MP4") and not is_video_path("a.png") and not is_video_path("._a.mp4")
    assert [container_suffix(f"a{suffix}") for suffix in (".mp4", ".MOV", ".webm", ".avi")] == [".mp4", ".mov", ".mkv", ".mkv"]


def test_every_frame_and_all_sound(tmp_path):
    source, target = make_video(tmp_path / "a.mp4"), tmp_path / "out" / "a.mp4"
    told: list[tuple[int, int]] = []

    class Told(Progress):
        def report(self, done, total, what, preview=None):
            told.append((done, total))

    result = restore_video(source, target, StubRestorer(), progress=Told())
    before, after = read_video(source), read_video(target)
    assert result.frames == FRAMES and result.kept == 0 and result.scale == 1
    assert [face["frame"] for face in result.faces] == list(range(FRAMES)) and "box" in result.faces[0]
    assert after.times == before.times and after.rate == before.rate and after.duration == before.duration
    assert after.streams == before.streams and len(after.streams[0][1]) > 10
    assert after.codec == "h264" and after.pix_fmt == "yuv420p"
    assert told == [(index + 1, FRAMES) for index in range(FRAMES)]
    for index in range(FRAMES):
        assert after.pixels[index][4:24, 4:40].mean() > 240  # restored
        assert abs(after.pixels[index][40:60, 4:40].mean() - before.pixels[index][40:60, 4:40].mean()) < 2
    assert list(target.parent.iterdir()) == [target]


def test_variable_frame_rate(tmp_path):
    times = [index * index * 7 + index * 13 for index in range(FRAMES)]
    source = make_video(tmp_path / "a.mp4", times=times)
    restore_video(source, tmp_path / "b.mp4", StubRestorer())
    assert [time * 1000 for time in read_video(tmp_path / "b.mp4").times] == times
    restore_video(source, tmp_path / "b.mkv", StubRestorer())
    after = read_video(tmp_path / "b.mkv")
    # Matroska knows no negative times: AAC's lead-in moves everything back by the same 21 ms, sound and pictures alike.
    assert [(time - after.times[0]) * 1000 for time in after.times] == times and after.times[0] < Fraction(22, 1000)


def test_frames_without_a_face_or_with_an_error_stay(tmp_path, caplog):
    restorer = StubRestorer()
    restorer.no_faces_at, restorer.fail_at = {2}, {5, 7}
    source = make_video(tmp_path / "a.mkv")
    result = restore_video(source, tmp_path / "b.mkv", restorer)
    before, after = read_video(source), read_video(tmp_path / "b.mkv")
    assert result.frames == FRAMES == len(after.times) and result.kept == 2
    for index in (2, 5, 7):
        assert np.abs(after.pixels[index].astype(int) - before.pixels[index]).mean() < 2
    assert "frame 5 is left unchanged: no memory" in caplog.text


def test_settings_that_suit_no_frame_end_it(tmp_path):
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {0}, SettingsError("too large")
    source = make_video(tmp_path / "a.mp4")
    with pytest.raises(SettingsError):
        restore_video(source, tmp_path / "b.mp4", restorer)
    restorer = StubRestorer()
    restorer.fail_at = set(range(FRAMES))
    with pytest.raises(PictureError, match="no frame"):
        restore_video(source, tmp_path / "b.mp4", restorer)
    native = StubRestorer(SimpleNamespace(output_size="native", factor=2.0))
    with pytest.raises(PictureError, match="native"):
        restore_video(source, tmp_path / "b.mp4", native)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("first_fails", [False, True])
def test_factor(tmp_path, first_fails):
    restorer = StubRestorer(SimpleNamespace(output_size="factor", factor=2.0))
    restorer.fail_at = {0} if first_fails else {3}
    result = restore_video(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", restorer)
    after = read_video(tmp_path / "b.mp4")
    assert result.scale == 2 and len(after.pixels) == FRAMES and all(frame.shape == (128, 192, 3) for frame in after.pixels)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_when_enlarging_frames_without_a_face_are_the_restorers_too(scale):
    """Or their background would look different from that of the others."""
    restorer = StubRestorer(SimpleNamespace(output_size="factor", factor=scale))
    restorer.no_faces_at = {1}
    av = pytest.importorskip("av")
    frames = [av.VideoFrame.from_ndarray(np.full((16, 16, 3), 50, np.uint8), "rgb24") for _ in range(3)]
    made = [pixels for _, pixels in RestoredFrames(Path("a.mp4"), restorer, VideoResult(), Progress()).each(iter(frames))]
    assert [pixels is None for pixels in made] == [False, scale == 1, False]
    assert all(pixels is None or pixels.shape == (16 * scale, 16 * scale, 3) for pixels in made)


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_a_turned_video_is_stored_upright(tmp_path, turn):
    source = make_video(tmp_path / "a.mp4", turn=turn)
    before = read_video(source)
    assert before.rotation % 360 == turn % 360
    seen = []

    class Seeing(StubRestorer):
        def __call__(self, picture):
            seen.append(picture)
            return super().__call__(picture)

    restorer = Seeing()
    restorer.no_faces_at = {1}
    restore_video(source, tmp_path / "b.mp4", restorer)
    after = read_video(tmp_path / "b.mp4")
    assert after.rotation == 0 and len(after.pixels) == FRAMES
    for index, upright in enumerate(after.pixels):
        expected = np.rot90(before.pixels[index], turn // 90)
        assert upright.shape == expected.shape == seen[index].shape
        rows, columns = expected.shape[0] // 2 + 6, expected.shape[1] // 2 + 6  # beyond the stub's corner
        if index == 1:
            rows = columns = 0
        assert np.abs(upright[rows:, columns:].astype(int) - expected[rows:, columns:]).mean() < 3


@pytest.mark.parametrize(
    ("pix_fmt", "size", "expected"),
    [
        ("yuv420p10le", (96, 64), "yuv420p10le"),
        ("yuv444p", (95, 63), "yuv444p"),
        ("yuv422p", (96, 64), "yuv422p"),
        ("yuvj420p", (96, 64), "yuv420p"),
    ],
)
def test_pixel_formats(tmp_path, pix_fmt, size, expected):
    source = make_video(tmp_path / "a.mkv", pix_fmt=pix_fmt, size=size, audio=None)
    dtypes = set()

    class Seeing(StubRestorer):
        def __call__(self, picture):
            dtypes.add(picture.dtype.name)
            return super().__call__(picture)

    restorer = Seeing()
    restorer.no_faces_at = {4}
    restore_video(source, tmp_path / "b.mkv", restorer, crf=1)
    before, after = read_video(source), read_video(tmp_path / "b.mkv")
    assert dtypes == {"uint16" if "10" in pix_fmt else "uint8"}
    assert after.pix_fmt in (expected, expected.replace("yuv", "yuvj")) and len(after.pixels) == FRAMES
    for old, new in zip(before.pixels, after.pixels, strict=True):
        assert np.abs(old[-20:].astype(int) - new[-20:]).mean() < 2.5


@pytest.mark.parametrize(("space", "colour_range"), [(1, 1), (1, 2), (5, 1), (9, 1)])
def test_colours_keep_their_meaning(tmp_path, space, colour_range):
    source = make_video(tmp_path / "a.mkv", audio=None, tags={"colorspace": space, "color_range": colour_range})
    restore_video(source, tmp_path / "b.mkv", StubRestorer(), crf=1)
    before, after = read_video(source), read_video(tmp_path / "b.mkv")
    assert after.colours == before.colours
    for old, new in zip(before.pixels, after.pixels, strict=True):
        assert np.abs(old[-20:].astype(int) - new[-20:]).mean() < 2


def test_sound_of_any_kind_goes_into_mkv(tmp_path):
    source = make_video(tmp_path / "a.avi", codec="mpeg4", audio="pcm_s16le")
    result = restore_video(source, tmp_path / "b.mkv", StubRestorer())
    before, after = read_video(source), read_video(tmp_path / "b.mkv")
    assert result.frames == len(after.times) == len(before.times)
    assert b"".join(data for _, data in after.streams[0][1]) == b"".join(data for _, data in before.streams[0][1])


def test_subtitles_go_along_or_are_missed_aloud(tmp_path, caplog):
    av = pytest.importorskip("av")
    plain, source = make_video(tmp_path / "plain.mp4"), tmp_path / "a.mkv"
    with av.open(str(plain)) as reading, av.open(str(source), "w") as writing:
        copies = {stream.index: writing.add_stream_from_template(stream, opaque=True) for stream in reading.streams}
        words = writing.add_mux_stream("subrip")
        for packet in reading.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                writing.mux(packet)
        line = av.Packet(b"Hello")
        line.pts = line.dts = 100
        line.duration, line.time_base, line.stream = 200, Fraction(1, 1000), words
        writing.mux(line)
    restore_video(source, tmp_path / "b.mkv", StubRestorer())
    assert read_video(tmp_path / "b.mkv").streams == read_video(source).streams
    assert [kind for kind, _ in read_video(source).streams] == ["audio", "subtitle"]
    restore_video(source, tmp_path / "b.mp4", StubRestorer())
    assert [kind for kind, _ in read_video(tmp_path / "b.mp4").streams] == ["audio"]
    assert "left out" in caplog.text


def test_what_is_no_video(tmp_path):
    pytest.importorskip("av")
    text = tmp_path / "a.mp4"
    text.write_text("I am a text")
    with pytest.raises(PictureError, match=r"cannot read the video .*a\.mp4"):
        restore_video(text, tmp_path / "b.mp4", StubRestorer())
    with pytest.raises(PictureError, match="no such file"):
        restore_video(tmp_path / "none.mp4", tmp_path / "b.mp4", StubRestorer())
    sound = tmp_path / "sound.mkv"
    import av

    with av.open(str(make_video(tmp_path / "v.mkv"))) as reading, av.open(str(sound), "w") as writing:
        copy = writing.add_stream_from_template(reading.streams.audio[0], opaque=True)
        for packet in reading.demux(reading.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copy
                writing.mux(packet)
    with pytest.raises(PictureError, match="no video track"):
        restore_video(sound, tmp_path / "b.mp4", StubRestorer())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "sound.mkv", "v.mkv"]


@pytest.mark.parametrize("first", ["audio", "video"])
def test_tracks_keep_their_order(tmp_path, first):
    import av

    made, source = make_video(tmp_path / "made.mp4"), tmp_path / "a.mkv"
    with av.open(str(made)) as reading, av.open(str(source), "w") as writing:
        streams = sorted(reading.streams, key=lambda stream: stream.type != first)
        copies = {stream.index: writing.add_stream_from_template(stream, opaque=True) for stream in streams}
        for packet in reading.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                writing.mux(packet)
    for target in (tmp_path / "b.mkv", tmp_path / "b.mp4"):
        restore_video(source, target, StubRestorer())
        with av.open(str(target)) as container:
            assert [stream.type for stream in container.streams] == [first, "audio" if first == "video" else "video"]


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size", "told"),
    [
        ("ffv1", "gray", (96, 64), "gray cannot be kept in H.264: the frames are stored as yuv420p"),
        ("libx264rgb", "rgb24", (96, 64), "gbrp cannot be kept in H.264: the frames are stored as yuv444p"),
        ("qtrle", "argb", (96, 64), "argb cannot be kept in H.264: the frames are stored as yuv444p; its transparency is left out"),
        ("ffv1", "yuv420p12le", (96, 64), "yuv420p12le cannot be kept in H.264: the frames are stored as yuv420p10le"),
        ("ffv1", "yuv420p", (95, 63), "yuv420p needs even sides in H.264: the frames are stored as yuv444p"),
        ("ffv1", "yuv444p", (95, 63), None),
        ("mjpeg", "yuvj420p", (96, 64), None),
    ],
)
def test_a_pixel_format_that_changes_is_said_once(tmp_path, caplog, codec, pix_fmt, size, told):
    source = make_video(tmp_path / ("a.mov" if codec == "qtrle" else "a.mkv"), codec=codec, pix_fmt=pix_fmt, size=size, audio=None)
    restore_video(source, tmp_path / "b.mkv", StubRestorer())
    assert len(caplog.messages) == (told is not None) and (told is None or told in caplog.text)
    assert told is None or read_video(tmp_path / "b.mkv").pix_fmt in caplog.text


@pytest.mark.parametrize("crf", [-1, 52])
def test_a_quality_that_cannot_be_is_refused_before_any_work(tmp_path, crf):
    restorer = StubRestorer()
    with pytest.raises(SettingsError, match="crf"):
        restore_video(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", restorer, crf=crf)
    native = StubRestorer(SimpleNamespace(output_size="native", factor=2.0))
    with pytest.raises(PictureError, match="native"):
        restore_video(tmp_path / "a.mp4", tmp_path / "b.mp4", native)
    assert restorer.prepared == restorer.calls == native.prepared == native.calls == 0


def test_what_exists_is_kept_and_ctrl_c_leaves_nothing(tmp_path):
    source, target = make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(PictureError, match="already exists"):
        restore_video(source, target, StubRestorer())
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {3}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, restorer, overwrite=True)
    assert target.read_bytes() == b"mine" and sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]
    restore_video(source, source, StubRestorer(), overwrite=True)  # onto itself, because it was asked for
    assert len(read_video(source).times) == FRAMES


def test_stopping_keeps_the_rest_as_it_is(tmp_path):
    class Stopping(Progress):
        done = 0

        def report(self, done, total, what, preview=None):
            self.done = done

        def stop(self):
            return self.done >= 4

    restorer = StubRestorer()
    result = restore_video(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", restorer, progress=Stopping())
    assert result.frames == FRAMES and restorer.calls == 4


def test_without_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FeatureMissingError, match="pip install av"):
        restore_video(tmp_path / "a.mp4", tmp_path / "b.mp4", StubRestorer())
