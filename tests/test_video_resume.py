"""A video whose restoring was ended goes on where it was: the same frames, times and sound as in one go, and nothing twice."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import windows_habits
from stub_restorer import StubRestorer
from test_faces_together import Tinter
from test_restorer import face_at
from test_tracks import scene
from test_video_trim import LONG, long_video
from video_files import make_video, read_video
from video_kills import killed_until_done

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.faces.face import Face
from gpen_core.progress import Progress
from gpen_core.video import parts, restored
from gpen_core.video.parts import folder_of
from gpen_core.video.reading import Reading
from gpen_core.video.restore import restore_video

av = pytest.importorskip("av")
SEGMENT = 20


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SEGMENT", SEGMENT)


def ended(at: int, error: BaseException | None = None) -> StubRestorer:
    """A restorer that a frame ends."""
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {at}, error or KeyboardInterrupt()
    return restorer


def begun(source: Path, target: Path, at: int = 50, **more: Any) -> None:
    """Restores a video up to a frame."""
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, ended(at), resume=True, **more)
    assert not target.exists()


def same(one: Path, other: Path) -> None:
    """Two videos have the same frames, times and sound, all decoded. H.264 must be lossless: else x264 itself does not always make the
    same of the same frames."""
    a, b = read_video(one), read_video(other)
    assert a.times == b.times and a.streams == b.streams and (a.rate, a.duration, a.pix_fmt, a.colours) == (
        b.rate, b.duration, b.pix_fmt, b.colours,
    )  # fmt: skip
    assert all(np.array_equal(first, second) for first, second in zip(a.pixels, b.pixels, strict=True))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "codec", "trim", "audio"),
    [
        ("b.mp4", "h264", None, "aac"),
        ("b.mkv", "h264", "0.3-2.9", "aac"),
        ("b.mp4", "hevc", None, None),
        ("b.mp4", "av1", "0.1-", "aac"),
        ("b.mkv", "ffv1", None, "aac"),
    ],
)
def test_it_goes_on_after_the_last_whole_segment(tmp_path, caplog, name, codec, trim, audio):
    source, whole, target = long_video(tmp_path / "a.mkv"), tmp_path / f"whole{name[1:]}", tmp_path / name
    given = {"codec": codec, "trim": trim, "crf": 0 if codec == "h264" else 18}
    expected = restore_video(source, whole, StubRestorer(), resume=True, **given)
    begun(source, target, **given)
    folder = folder_of(target)
    assert names(folder)[:5] == ["000000.json", "000000.packets", "000001.json", "000001.packets", "begun.json"]
    assert not list(folder.glob(".*")) and "the first 40 frames are kept" in caplog.text
    caplog.clear()
    restorer, told = StubRestorer(), []

    class Told(Progress):
        def report(self, done, total, what, preview=None):
            told.append(done)

    result = restore_video(source, target, restorer, resume=True, progress=Told(), **given)
    assert result.resumed == 40 and restorer.calls == result.frames - 40 and told == list(range(40, result.frames + 1))
    assert (result.frames, result.kept, result.faces, result.scale) == (expected.frames, 0, expected.faces, expected.scale)
    assert caplog.text.count("goes on after the first 40 frames") == 1 == len(caplog.messages)
    same(whole, target)
    assert not folder.exists()


def test_segments_hold_the_frames_of_one_go(tmp_path):
    """Lossless, they are the very same."""
    moments = [index * index * 3 + index * 13 for index in range(12)]
    source = make_video(tmp_path / "a.mp4", times=moments)
    parts.SEGMENT = 4
    for codec in ("h264", "hevc"):
        restore_video(source, tmp_path / "one.mp4", StubRestorer(), crf=0, codec=codec, overwrite=True)
        restore_video(source, tmp_path / "segments.mp4", StubRestorer(), crf=0, codec=codec, overwrite=True, resume=True)
        one, other = read_video(tmp_path / "one.mp4"), read_video(tmp_path / "segments.mp4")
        assert one.times == other.times == [Fraction(time, 1000) for time in moments] and one.streams == other.streams
        assert codec == "hevc" or all(np.array_equal(a, b) for a, b in zip(one.pixels, other.pixels, strict=True))
        begun(source, tmp_path / "c.mp4", 10, crf=0, codec=codec)
        restore_video(source, tmp_path / "c.mp4", StubRestorer(), crf=0, codec=codec, resume=True)
        same(tmp_path / "segments.mp4", tmp_path / "c.mp4")
        (tmp_path / "c.mp4").unlink()


class Seeker:
    """A detector that misses faces now and then, and trembles; both by what the frame shows."""

    name = "seeker"

    def detect(self, picture: Any, threshold: float) -> list[Face]:
        number = round(float(picture[2:14, 2:14].mean()) * 100)
        found = []
        for which, x in enumerate((24, 84)):
            rng = np.random.default_rng(2 * number + which)
            if rng.random() > 0.25:
                dx, dy = rng.normal(0, 1.2, 2)
                found.append(face_at(x + 0.6 * number * (1 - 2 * which) + dx, 30 + dy, 56))
        return found


def faces_video(path: Path) -> Path:
    """Two faces that move towards each other and apart over 62 frames; their number is the grey of a corner."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 160, 112, "yuv444p"
        rng, still = np.random.default_rng(1), scene(3, (112, 160))
        for number in range(62):
            move = np.array([[1, 0, 0.6 * number], [0, 1, 0]])
            pixels = cv2.warpAffine(still, move, (160, 112), borderMode=cv2.BORDER_REFLECT)
            pixels = np.clip(pixels + 0.03 * rng.standard_normal(pixels.shape), 0, 1)
            pixels[:16, :16] = number / 100
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.rint(pixels * 255).astype(np.uint8), "rgb24")))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize(("steady", "faces", "fails"), [(0.0, 50, 0), (1.0, 50, 0), (1.0, 80, 0), (1.0, 80, 31)])
def test_steadied_faces_are_those_of_one_go(tmp_path, monkeypatch, steady, faces, fails):
    class Ended(Tinter):
        def forward(self, x: Any) -> Any:
            if len(self.sizes) == faces:
                raise KeyboardInterrupt
            return super().forward(x)

    def restorer(network: Any) -> FaceRestorer:
        return FaceRestorer(RestoreOptions(device="cpu", look_closer=False, steady=steady), network=network, detector=Seeker())

    def turned(frame: Any, colours: Any) -> Any:
        if fails and frame.pts == 40 * fails:
            raise ValueError("this frame cannot be converted")
        return upright(frame, colours)

    upright = restored.upright
    monkeypatch.setattr(restored, "upright", turned)
    source, target = faces_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    expected = restore_video(source, tmp_path / "whole.mkv", restorer(Tinter()), codec="ffv1", resume=True)
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, restorer(Ended()), codec="ffv1", resume=True)
    record = json.loads(max(folder_of(target).glob("0*.json")).read_text())
    assert sum(numbers is None for _, _, numbers in record["lead"]) == ((1 if fails else 0) if steady else len(record["lead"]))
    network = Tinter()
    result = restore_video(source, target, restorer(network), codec="ffv1", resume=True)
    assert result.resumed in (20, 40) and result.faces == expected.faces and len(result.faces) > 80
    same(tmp_path / "whole.mkv", target)
    frames = 62 - result.resumed + (min(parts.LEAD, result.resumed) if steady else 0)
    assert frames < len(network.sizes) <= 2 * frames


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"crf": 30}, "other values (crf)"),
        ({"codec": "hevc"}, "other values (codec)"),
        ({"trim": "0-2.8"}, "other values (trim)"),
        ({"fps": 12}, "other values (fps)"),
        ({"strength": 0.5}, "other values (strength)"),
        ({"weights": b"other"}, "other values (weights)"),
        ({"source": True}, "other values (source)"),
    ],
)
def test_with_anything_else_it_begins_anew_and_says_so(tmp_path, caplog, change, says):
    source, target, weights = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv", tmp_path / "w.pth"
    weights.write_bytes(b"one")
    first = ended(50)
    first.weights, first.options.strength = weights, 1.0
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, first, resume=True)
    caplog.clear()
    again = StubRestorer()
    again.weights, again.options.strength = weights, change.pop("strength", 1.0)
    weights.write_bytes(change.pop("weights", b"one"))
    if change.pop("source", False):
        os.utime(source, ns=(1, 1))
    result = restore_video(source, target, again, resume=True, **change)
    assert result.resumed == 0 and again.calls == result.frames and says in caplog.text and len(caplog.messages) == 1
    assert not folder_of(target).exists()


def test_restart_forgets_and_without_resume_nothing_is_kept(tmp_path, caplog):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    begun(source, target)
    caplog.clear()
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, ended(30), restart=True)
    assert "the first 20 frames are kept" in caplog.text
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, tmp_path / "c.mkv", ended(50))
    assert names(tmp_path) == [".b.mkv.parts", "a.mkv"]
    assert restore_video(source, target, StubRestorer(), resume=True).resumed == 20


def test_a_stop_before_the_first_segment_leaves_nothing(tmp_path, caplog):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    with pytest.raises(KeyboardInterrupt):
        restore_video(source, target, ended(SEGMENT - 1), resume=True)
    assert names(tmp_path) == ["a.mkv"] and not caplog.messages


@pytest.mark.parametrize("damage", ["packets", "record", "no packets", "begun"])
def test_what_is_damaged_is_made_again(tmp_path, damage):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    restore_video(source, tmp_path / "whole.mkv", StubRestorer(), resume=True, crf=0)
    begun(source, target, 70, crf=0)
    folder = folder_of(target)
    packets = folder / "000001.packets"
    (folder / f".{'0' * 32}.part").touch()  # of a kill
    if damage == "packets":
        data = bytearray(packets.read_bytes())
        data[-5] ^= 1
        packets.write_bytes(data)
    elif damage == "no packets":
        packets.unlink()
    else:
        path = folder / ("000001.json" if damage == "record" else "begun.json")
        path.write_bytes(path.read_bytes()[:-9])
    if damage != "begun":
        begun(source, target, 5, crf=0)
        assert not list(folder.glob(".*"))
    assert restore_video(source, target, StubRestorer(), resume=True, crf=0).resumed == (0 if damage == "begun" else 20)
    same(tmp_path / "whole.mkv", target)
    assert names(tmp_path) == ["a.mkv", "b.mkv", "whole.mkv"]


@pytest.mark.parametrize("windows", [False, True])
def test_frames_that_cannot_be_found_by_a_key_frame_are_counted_and_others_begin_anew(tmp_path, caplog, windows):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    restore_video(source, tmp_path / "whole.mkv", StubRestorer(), resume=True, crf=0)
    for change, resumed in (("key", 40), ("sum", 0)):
        begun(source, target, crf=0)
        path = folder_of(target) / "000001.json"
        record = json.loads(path.read_text())
        assert record["key"] == 15  # the lead begins at frame 16
        if change == "key":
            record["key"] += 5  # no key frame
        else:
            record["lead"][3][1] = "0" * 32
        path.write_text(json.dumps(record))
        caplog.clear()
        restorer = StubRestorer()
        with windows_habits.emulated() if windows else nullcontext():
            assert restore_video(source, target, restorer, resume=True, crf=0).resumed == resumed
        assert restorer.calls == LONG - resumed and ("it begins anew" in caplog.text) == (resumed == 0)
        same(tmp_path / "whole.mkv", target)
        target.unlink()


def test_only_what_leads_to_the_place_is_decoded(tmp_path, monkeypatch):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    begun(source, target, 70)
    seen = []
    decoded = Reading._decoded

    def noted(self, decode):
        frames = decoded(self, decode)
        seen.extend(frames)
        return frames

    monkeypatch.setattr(Reading, "_decoded", noted)
    assert restore_video(source, target, StubRestorer(), resume=True).resumed == 60
    assert len(seen) == LONG - 30  # the lead begins at 36, and a key frame is at 30


def test_a_part_that_is_decoded_from_its_beginning_is_the_same_part(tmp_path):
    source, target, given = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv", {"trim": "0.7-2.9", "crf": 0}
    restore_video(source, tmp_path / "whole.mkv", StubRestorer(), resume=True, **given)
    begun(source, target, **given)
    path = folder_of(target) / "000001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "key": None}))
    assert restore_video(source, target, StubRestorer(), resume=True, **given).resumed == 40
    same(tmp_path / "whole.mkv", target)


def test_what_another_encoder_made_is_not_mixed_in(tmp_path, caplog):
    source, target = long_video(tmp_path / "a.mkv"), tmp_path / "b.mkv"
    begun(source, target)
    path = folder_of(target) / "begun.json"
    path.write_text(path.read_text().replace('"extra": "', '"extra": "00'))
    assert restore_video(source, target, StubRestorer(), resume=True).resumed == 0 and "it begins anew" in caplog.text


def test_killed_three_times(tmp_path):
    """`python -m tests.soak videos` does so fifty times."""
    figures = killed_until_done(tmp_path, 60, 3, longest=0.4, seed=2)
    assert (figures.lost, figures.doubled, figures.broken) == (0, 0, 0) and figures.kills == 3 and figures.resumed
