"""Videos on the card by choice: what it cannot do, the CPU does, with the same result; a stand-in where there is no card."""

from __future__ import annotations

import types

import numpy as np
import pytest
from stub_restorer import StubRestorer
from video_files import FRAMES, make_video, read_video

from gpen_core.video import card
from gpen_core.video.restore import restore_video

av = pytest.importorskip("av")


def give(monkeypatch, hwaccel):
    """A stand-in for PyAV's HWAccel; None: an older PyAV, which has none."""
    module = types.SimpleNamespace(HWAccel=hwaccel) if hwaccel else types.SimpleNamespace()
    monkeypatch.setattr(card, "importlib", types.SimpleNamespace(import_module={"av.codec.hwaccel": module}.__getitem__))


def refuses(*args, **kwargs):
    raise PermissionError(1, "no such driver")


@pytest.mark.parametrize("missing", ["driver", "PyAV's part"])
def test_without_a_card_the_cpu_does_it_and_a_line_says_so(tmp_path, monkeypatch, caplog, missing):
    give(monkeypatch, refuses if missing == "driver" else None)
    monkeypatch.setattr(card, "ENCODER", "no_such_encoder")
    source = make_video(tmp_path / "a.mp4")
    restore_video(source, tmp_path / "cpu.mp4", StubRestorer())
    assert not caplog.records
    result = restore_video(source, tmp_path / "card.mp4", StubRestorer(), on_card=True)
    expected, found = read_video(tmp_path / "cpu.mp4"), read_video(tmp_path / "card.mp4")
    assert result.frames == FRAMES and found.times == expected.times
    assert np.array_equal(np.stack(found.pixels), np.stack(expected.pixels))
    assert caplog.text.count("the CPU decodes it") == caplog.text.count("the CPU encodes it") == 1


def test_a_card_is_given_decoding_and_encoding(tmp_path, monkeypatch, caplog):
    asked = []
    give(monkeypatch, lambda *args, **kwargs: asked.append((args, kwargs)))
    monkeypatch.setattr(card, "ENCODER", "libx264")
    source = make_video(tmp_path / "a.mp4")
    sizes = {}
    for crf in (5, 45):
        target = tmp_path / f"{crf}.mp4"
        restore_video(source, target, StubRestorer(), crf=crf, on_card=True)
        sizes[crf] = target.stat().st_size
        assert read_video(target).times == read_video(source).times
    assert asked == [(("cuda",), {"allow_software_fallback": True})] * 2
    assert sizes[5] > sizes[45]
    assert "CPU" not in caplog.text


def test_what_cards_encode_in_8_bits_only_the_cpu_keeps_whole(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(card, "ENCODER", "libx264")
    source = make_video(tmp_path / "a.mkv", pix_fmt="yuv420p10le")
    restore_video(source, tmp_path / "b.mkv", StubRestorer(), on_card=True)
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p10le"
    assert "it does not take the pixel format yuv420p10le" in caplog.text
