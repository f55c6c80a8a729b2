"""`--trim`: the frames, sound and subtitles of a span are those of the whole video, moved to the beginning."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_restorer import StubRestorer
from video_files import FRAMES, make_video, read_video

from gpen_core.errors import PictureError, SettingsError
from gpen_core.progress import Progress
from gpen_core.video.reading import Reading
from gpen_core.video.restore import restore_video
from gpen_core.video.span import Cut, Span, open_options

av = pytest.importorskip("av")
LONG = 75  # frames of 0.04 s, a key frame every 15: three seconds


# --- how a span is written


def written(milliseconds: int, form: str) -> str:
    seconds = Fraction(milliseconds, 1000)
    rest = f"{float(seconds % 60):06.3f}"
    if form == "seconds":
        return f"{float(seconds):.3f}"
    minutes = int(seconds // 60)
    return f"{minutes}:{rest}" if form == "minutes" else f"{minutes // 60}:{minutes % 60:02}:{rest}"


times = st.integers(0, 100 * 3600 * 1000)
forms = st.sampled_from(["seconds", "minutes", "hours"])


@given(times, times, forms, forms, st.booleans(), st.booleans())
def test_a_span_is_read_exactly_in_every_form(first, last, one, other, has_start, has_end):
    text = (written(first, one) if has_start else "") + "-" + (written(last, other) if has_end else "")
    begin = first if has_start else 0
    if text == "-" or (has_end and last <= begin):
        with pytest.raises(SettingsError):
            Span.parse(text)
        return
    span = Span.parse(text)
    assert span == Span(Fraction(begin, 1000), Fraction(last, 1000) if has_end else None)
    assert Span.parse(str(span)) == span


@given(st.text("0123456789:.- x\n٣", max_size=12))
def test_any_text_is_a_span_or_a_message(text):
    try:
        span = Span.parse(text)
    except SettingsError as error:
        assert "\n" not in str(error)
    else:
        assert span.start >= 0 and (span.end is None or span.end > span.start)


@pytest.mark.parametrize("text", ["", "-", "10", "5-5", "20-10", "1:60-", "1:5-", "1:99:00-", "a-b", "1-2-3", "-1-", "1e3-", "٣-"])
def test_what_is_no_span_is_refused_before_any_work(tmp_path, text):
    restorer = StubRestorer()
    with pytest.raises(SettingsError, match="span"):
        restore_video(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", restorer, trim=text)
    assert restorer.prepared == 0 and not (tmp_path / "b.mp4").exists()


# --- which frames it has


def long_video(path: Path, *, codec="libx264", rate=Fraction(25), audio="aac", subtitles=()) -> Path:
    """LONG frames, each of another grey, with a sine, interleaved as in real files. subtitles: (begin, end) in ms."""
    with av.open(str(path), "w") as container:
        options = {"g": "15", "bf": "2" if codec == "libx264" else "0", "sc_threshold": "0"}
        video = container.add_stream(codec, rate=rate, options=options)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream(audio, rate=48000, layout="mono")
        words = container.add_mux_stream("subrip") if subtitles else None
        if words is not None and hasattr(container, "set_chapters"):
            chapters = [("one", 0, 900), ("two", 900, 2100), ("three", 2100, 3000)]
            base = Fraction(1, 1000)
            container.set_chapters([
                {"id": number, "start": start, "end": end, "time_base": base, "metadata": {"title": title}}
                for number, (title, start, end) in enumerate(chapters)
            ])  # fmt: skip
        packets = []
        for index in range(LONG):
            pixels = np.full((64, 96, 3), 20 + 3 * index, np.uint8)
            packets += video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24"))
        packets += video.encode(None)
        wave = (np.sin(np.arange(int(48000 * LONG / rate)) / 20 * (1 + np.arange(int(48000 * LONG / rate)) / 48000)) * 8000).astype(
            np.int16
        )
        samples = av.AudioFrame.from_ndarray(wave[None], "s16", "mono")
        samples.rate, samples.pts = 48000, 0
        packets += [*sound.encode(samples), *sound.encode(None)]
        for begin, end in subtitles:
            line = av.Packet(f"from {begin}".encode())
            line.pts = line.dts = begin
            line.duration, line.time_base, line.stream = end - begin, Fraction(1, 1000), words
            packets.append(line)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            container.mux(packet)
    return path


def inside(found, start, end, origin=0):
    """The numbers of the frames of a span, counted by hand."""
    return [number for number, time in enumerate(found.times) if start <= time - origin and (end is None or time - origin < end)]


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """name, codec, audio -> a long video, and the same restored from beginning to end."""
    made: dict[str, tuple[Path, SimpleNamespace]] = {}

    def whole(name, codec, audio):
        if name not in made:
            folder = tmp_path_factory.mktemp("whole")
            source = long_video(folder / name, codec=codec, audio=audio)
            restore_video(source, folder / "whole.mkv", StubRestorer(), crf=0)
            made[name] = source, read_video(folder / "whole.mkv")
        return made[name]

    return whole


@pytest.mark.parametrize(
    ("name", "codec", "audio"),
    [("a.mp4", "libx264", "aac"), ("a.mkv", "libx264", "aac"), ("a.ts", "libx264", "aac"), ("a.avi", "mpeg4", "pcm_s16le")],
)
@pytest.mark.parametrize("trim", ["0.4-1", "1.62-2.5", "0:01.63-", "-0.9", "2.9-99", "1.185-1.225"])
def test_the_frames_of_a_span_are_those_of_the_whole(tmp_path, wholes, caplog, name, codec, audio, trim):
    (source, whole), target = wholes(name, codec, audio), tmp_path / "b.mkv"
    told: list[int] = []

    class Told(Progress):
        def report(self, done, total, what, preview=None):
            told.append(total)

    result = restore_video(source, target, StubRestorer(), crf=0, trim=trim, progress=Told())
    before, after = read_video(source), read_video(target)
    with av.open(str(source)) as container:
        origin = Fraction(container.start_time, 1_000_000)
    span = Span.parse(trim)
    numbers = inside(before, span.start, span.end, origin)
    assert len(numbers) == result.frames == len(after.times) and abs(told[0] - result.frames) <= 2
    assert [face["frame"] for face in result.faces] == list(range(result.frames))
    for number, pixels in zip(numbers, after.pixels, strict=True):
        assert np.array_equal(pixels, whole.pixels[number])
    moves = {new - whole.times[number] for number, new in zip(numbers, after.times, strict=True)}
    assert max(moves) - min(moves) <= Fraction(1, 1000)  # Matroska's clock
    if span.start:
        assert after.times[0] < Fraction(43, 1000)  # Matroska moves the picture to make room for a packet of sound that begins before
    assert not caplog.messages


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("trim", ["0.5-1.3", "2-", "-1"])
def test_sound_and_subtitles_stay_in_step(tmp_path, suffix, trim):
    source = long_video(tmp_path / "a.mkv", subtitles=[(100, 300), (400, 700), (1000, 2200), (2600, 2900)])
    restore_video(source, tmp_path / f"b{suffix}", StubRestorer(), trim=trim)
    before, after = read_video(source), read_video(tmp_path / f"b{suffix}")
    span = Span.parse(trim)
    first = inside(before, span.start, span.end)[0]
    begin, end = before.times[first], span.end or 99
    move = after.times[0] - begin
    assert suffix == ".mkv" or move == -begin
    length = Fraction(1024, 48000)
    expected = [
        (time, data) for time, data in before.streams[0][1] if time < end and (not span.start or time + length > begin + Fraction(1, 500))
    ]
    found = [(time, data) for time, data in after.streams[0][1] if time - move + length > begin + Fraction(1, 500) or not span.start]
    assert [data for _, data in found] == [data for _, data in expected] and len(found) > 30
    for (old, _), (new, _) in zip(expected, found, strict=True):
        assert abs(new - old - move) <= Fraction(2, 1000)
    if suffix == ".mkv":
        lines = {"0.5-1.3": [(520, 400), (1000, 1000)], "2-": [(2600, 2600)], "-1": [(100, 100), (400, 400)]}[trim]
        texts = [(round((time - move) * 1000), data.decode()) for time, data in after.streams[1][1]]
        wanted = [(time, f"from {begin}") for time, begin in lines]
        assert [text for text in texts if text[1] != "from 1000" or trim != "2-"] == wanted


def test_chapters_are_cut_too(tmp_path):
    source = long_video(tmp_path / "a.mkv", subtitles=[(100, 300)])
    restore_video(source, tmp_path / "b.mkv", StubRestorer(), trim="1-2.6")
    with av.open(str(tmp_path / "b.mkv")) as container:
        if not hasattr(container, "set_chapters"):
            pytest.skip("this PyAV cannot write chapters")
        chapters = [
            (one["metadata"]["title"], one["start"] * one["time_base"], one["end"] * one["time_base"]) for one in container.chapters()
        ]
    assert chapters == [("two", 0, Fraction(11, 10)), ("three", Fraction(11, 10), Fraction(16, 10))]


def test_variable_rates_keep_their_times(tmp_path):
    moments = [index * index * 7 + index * 13 for index in range(FRAMES)]
    source = make_video(tmp_path / "a.mp4", times=moments)
    restore_video(source, tmp_path / "b.mp4", StubRestorer(), trim="0.2-0.8")
    kept = [time for time in moments if 200 <= time < 800]
    assert [time * 1000 for time in read_video(tmp_path / "b.mp4").times] == [time - kept[0] for time in kept]


def test_what_comes_before_and_after_is_not_decoded(tmp_path, monkeypatch):
    source = long_video(tmp_path / "a.mp4")
    seen: list[Fraction] = []
    decoded = Reading._decoded

    def noted(self, decode):
        frames = decoded(self, decode)
        seen.extend(frame.pts * frame.time_base for frame in frames)
        return frames

    monkeypatch.setattr(Reading, "_decoded", noted)
    read: list[Fraction] = []
    ends_with = Cut.ends_with

    def reads(self, packet):
        if packet.dts is not None:
            read.append(packet.dts * packet.time_base)
        return ends_with(self, packet)

    monkeypatch.setattr(Cut, "ends_with", reads)
    result = restore_video(source, tmp_path / "b.mp4", StubRestorer(), trim="2.3-2.5")
    assert result.frames == 5
    assert seen[0] == Fraction(12, 10)  # the key frame at least a second before
    seen.clear()
    read.clear()
    result = restore_video(source, tmp_path / "c.mp4", StubRestorer(), trim="1.3-1.4")
    assert result.frames == 2 and seen[0] == 0
    # The decoder takes some frames more before it gives the first that lies beyond the end.
    assert seen[-1] < 2 and max(read) < 2.5


def test_a_span_beyond_the_end_is_refused_before_any_work(tmp_path):
    restorer = StubRestorer()
    source = make_video(tmp_path / "a.mp4")
    with pytest.raises(PictureError, match=r"span 0\.5- begins after the end of the video, which is 0\.50 seconds"):
        restore_video(source, tmp_path / "b.mp4", restorer, trim="0.5-")
    assert restorer.prepared == 0 and not (tmp_path / "b.mp4").exists()


def test_a_span_between_two_frames_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(PictureError, match=r"no frame lies in the span 0\.01-0\.03"):
        restore_video(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", StubRestorer(), trim="0.01-0.03")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_file_that_is_cut_short_behind_the_span_is_whole_enough(tmp_path, caplog):
    whole = long_video(tmp_path / "whole.mkv")
    cut = tmp_path / "a.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    assert not restore_video(cut, tmp_path / "b.mkv", StubRestorer(), trim="0.2-0.6").cut and not caplog.messages
    assert restore_video(cut, tmp_path / "c.mkv", StubRestorer(), trim="0.2-").cut and "cut short" in caplog.text


def test_enlarging_goes_with_a_span(tmp_path):
    restorer = StubRestorer(SimpleNamespace(output_size="factor", factor=2.0))
    result = restore_video(make_video(tmp_path / "a.mp4"), tmp_path / "b.mp4", restorer, trim="0.2-")
    assert result.scale == 2 and result.frames == FRAMES - 5


def test_a_subtitle_that_crosses_an_end_is_shortened(tmp_path):
    source = long_video(tmp_path / "a.mkv", subtitles=[(500, 900), (1000, 2200), (2300, 2500)])
    restore_video(source, tmp_path / "b.mkv", StubRestorer(), trim="0.8-1.6")
    with av.open(str(tmp_path / "b.mkv")) as container:
        words = [packet for packet in container.demux(container.streams.subtitles[0]) if packet.dts is not None]
        container.seek(0)
        first = next(container.decode(video=0))
    move = first.pts  # Matroska's clock has milliseconds
    assert [(bytes(packet).decode(), packet.pts - move, packet.duration) for packet in words] == [
        ("from 500", 0, 100),
        ("from 1000", 200, 600),
    ]


def test_without_sound_reading_ends_with_the_frames(tmp_path):
    source = make_video(tmp_path / "a.mkv", audio=None)
    result = restore_video(source, tmp_path / "b.mkv", StubRestorer(), trim="-0.1")
    assert result.frames == 3 and len(read_video(tmp_path / "b.mkv").times) == 3


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv"])
def test_a_search_that_ends_too_late_loses_no_frame(tmp_path, monkeypatch, name):
    """Files search by the order of decoding, in which a key frame comes before frames that are shown before it."""
    monkeypatch.setattr("gpen_core.video.span._MARGINS", (Fraction(0),))
    source = long_video(tmp_path / name)
    before = read_video(source)
    with av.open(str(source)) as container:
        origin = Fraction(container.start_time, 1_000_000)
    for trim in ("1.15-1.3", "1.83-2", "2.39-2.5"):
        span = Span.parse(trim)
        result = restore_video(source, tmp_path / "b.mkv", StubRestorer(), trim=trim, overwrite=True)
        assert result.frames == len(inside(before, span.start, span.end, origin))


@pytest.mark.parametrize(("version", "options"), [("17.1.0", {"metadata_errors": "replace"}), ("19.0.2", {})])
def test_pyav_19_has_no_option_for_wrong_letters_any_more(version: str, options: dict[str, str]) -> None:
    assert open_options(SimpleNamespace(__version__=version)) == options
