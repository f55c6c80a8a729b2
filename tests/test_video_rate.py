"""`--fps N`: fewer frames a second. What stays keeps its time and pixels; the rest is not restored."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from cli_help import picture, run, stub_restorers
from hypothesis import assume, given
from hypothesis import strategies as st
from stub_restorer import StubRestorer
from test_video_resume import begun, same
from test_video_trim import LONG, long_video
from video_files import make_video, read_video

from gpen_core.errors import SettingsError
from gpen_core.video import parts
from gpen_core.video.rate import Rate, rate_of
from gpen_core.video.restore import restore_video

pytest.importorskip("av")


def kept(times: list[int], base: Fraction, fps: Fraction, rate: Fraction) -> list[int]:
    """The places of the frames that stay, of frames at these times in units of `base`."""
    chosen = Rate(fps, SimpleNamespace(average_rate=rate, time_base=base))
    frames = [SimpleNamespace(pts=time, time_base=base, duration=1) for time in times]
    return [place for place, frame in enumerate(frames) if chosen.keeps(frame)]


@given(
    st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60)]),
    st.integers(1, 80),
    st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 12800)]),
    st.integers(0, 5000),
)
def test_so_many_frames_a_second_stay_and_evenly(rate: Fraction, fps: int, base: Fraction, first: int) -> None:
    rounded = base == Fraction(1, 1000)  # a frame may seem to come half a millisecond early or late
    assume(not rounded or not rate * Fraction(9, 10) < fps < rate)  # which costs a few frames more where almost all stay
    times = [first + round(place / rate / base) for place in range(240)]
    places = kept(times, base, Fraction(fps), rate)
    assert places[0] == 0 and abs(len(places) - 240 * min(1, fps / rate)) <= 2
    steps = np.diff(places)
    if len(places) > 2:  # the first step is from wherever the video begins
        assert steps[1:].max() - steps[1:].min() <= 1 + rounded and (fps < rate or steps.max() == 1)


def test_half_the_rate_is_every_second_frame_also_in_milliseconds() -> None:
    times = [round(place * 1000 / 30) for place in range(60)]
    assert kept(times, Fraction(1, 1000), Fraction(15), Fraction(30)) == list(range(0, 60, 2))


def test_a_video_with_fewer_anyway_keeps_all_whatever_milliseconds_make_of_its_times() -> None:
    times = [round(place * 1000 / 60) for place in range(240)]
    assert kept(times, Fraction(1, 1000), Fraction(61), Fraction(60)) == list(range(240))


def test_frames_without_a_time_come_at_the_videos_rate() -> None:
    chosen = Rate(Fraction(5), SimpleNamespace(average_rate=Fraction(25), time_base=Fraction(1, 1000)))
    frames = [SimpleNamespace(pts=None, time_base=None, duration=None) for _ in range(50)]
    assert [frame.pts for frame in frames if chosen.keeps(frame)] == list(range(0, 2000, 200))


@pytest.mark.parametrize("fps", ["0", "-3", "many", "1/0", "nan", "inf", "1001", "", "3 fps"])
def test_what_is_no_rate_is_refused_before_any_work(tmp_path, capsys, fps) -> None:
    with pytest.raises(SettingsError, match="frames a second, above 0 and up to 1000, such as 12 or 30000/1001"):
        rate_of(fps)
    restorer = StubRestorer()
    with pytest.raises(SettingsError):
        restore_video(tmp_path / "none.mp4", tmp_path / "b.mp4", restorer, fps=fps)
    code, _, err = run(capsys, "restore", tmp_path, "-o", tmp_path / "out", f"--fps={fps}")
    assert restorer.prepared == 0 and code == 2 and err.count("\n") == 1 and "--fps" in err and "frames a second" in err


@pytest.mark.parametrize(("name", "trim"), [("b.mp4", None), ("b.mkv", "0.3-2.9")])
def test_the_frames_that_stay_are_those_of_the_whole(tmp_path, name, trim) -> None:
    source, restorer = long_video(tmp_path / "a.mkv"), StubRestorer()
    restore_video(source, tmp_path / f"whole{name[1:]}", StubRestorer(), crf=0, trim=trim)
    result = restore_video(source, tmp_path / name, restorer, crf=0, trim=trim, fps=12.5)
    whole, fewer = read_video(tmp_path / f"whole{name[1:]}"), read_video(tmp_path / name)
    places = [whole.times.index(time) for time in fewer.times]
    assert result.frames == restorer.calls == len(places) and abs(len(places) - len(whole.times) / 2) <= 1
    assert set(np.diff(places)) == {2} and fewer.streams == whole.streams
    assert all(np.array_equal(whole.pixels[place], pixels) for place, pixels in zip(places, fewer.pixels, strict=True))
    assert fewer.duration >= (fewer.times[-1] + Fraction(2, 25)) * 1_000_000, "the last frame is shown for as long as the others"
    assert fewer.rate == pytest.approx(12.5, abs=0.3)


def test_more_than_there_are_changes_nothing(tmp_path) -> None:
    source = make_video(tmp_path / "a.mp4")
    restore_video(source, tmp_path / "whole.mp4", StubRestorer(), crf=0)
    restore_video(source, tmp_path / "b.mp4", StubRestorer(), crf=0, fps=60)
    same(tmp_path / "whole.mp4", tmp_path / "b.mp4")


def test_it_goes_on_with_the_same_frames(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(parts, "SEGMENT", 10)
    source, more = long_video(tmp_path / "a.mkv"), {"crf": 0, "fps": "12"}
    expected = restore_video(source, tmp_path / "whole.mp4", StubRestorer(), resume=True, **more)
    begun(source, tmp_path / "b.mp4", 25, **more)
    result = restore_video(source, tmp_path / "b.mp4", StubRestorer(), resume=True, **more)
    assert result.resumed == 20 and result.frames == expected.frames < LONG
    same(tmp_path / "whole.mp4", tmp_path / "b.mp4")


@pytest.mark.parametrize("job", [False, True])
def test_on_the_command_line_and_in_jobs(tmp_path, capsys, monkeypatch, job) -> None:
    stub_restorers(monkeypatch)
    (tmp_path / "in").mkdir()
    make_video(tmp_path / "in" / "v.mp4")
    picture(tmp_path / "in" / "a.png")
    more = ["--job", tmp_path / "job"] if job else []
    code, _, _ = run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", "--model", "GPEN-BFR-256-lite", "--fps", "12.5", *more)
    assert code == 0 and len(read_video(tmp_path / "out" / "v.mp4").times) == 6 and (tmp_path / "out" / "a.png").is_file()
