"""Small videos for tests: made, and read back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

FRAMES = 12


def make_video(
    path: Path,
    *,
    codec="libx264",
    pix_fmt="yuv420p",
    size=(96, 64),
    rate=Fraction(25),
    times=None,
    audio="aac",
    turn=0,
    tags=None,
    index_first=False,
):
    """FRAMES frames, frame i of grey 40 + 10 i with its right half darker, and a sine. times: pts in 1/1000 s (variable rate)."""
    av = pytest.importorskip("av")
    options = {"movflags": "+faststart"} if index_first and path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as container:
        video = container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        if times:
            video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        if turn:
            if not hasattr(video, "set_display_rotation"):
                pytest.skip("this PyAV cannot make a turned video")
            video.set_display_rotation(turn)
        sound = container.add_stream(audio, rate=48000, layout="mono") if audio else None
        for index in range(FRAMES):
            pixels = np.full((size[1], size[0], 3), 40 + 10 * index, np.uint8)
            pixels[:, size[0] // 2 :] = 20
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            wave = (np.sin(np.arange(24000) / 20) * 8000).astype(np.int16)[None]
            samples = av.AudioFrame.from_ndarray(wave, "s16", "mono")
            samples.rate, samples.pts = 48000, 0
            container.mux(sound.encode(samples))
            container.mux(sound.encode(None))
    return path


def read_video(path: Path):
    import av

    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frames = list(container.decode(video))
        context = video.codec_context
        found = SimpleNamespace(
            times=[frame.pts * frame.time_base for frame in frames],
            pixels=[frame.to_ndarray(format="rgb24") for frame in frames],
            rate=video.average_rate, codec=context.name, pix_fmt=context.pix_fmt, colours=(context.colorspace, context.color_range),
            rotation=frames[0].rotation, duration=container.duration,
        )  # fmt: skip
    with av.open(str(path)) as container:
        copied = [stream for stream in container.streams if stream.type in ("audio", "subtitle")]
        packets = {stream.index: [] for stream in copied}
        for packet in container.demux(copied) if copied else ():
            if packet.dts is not None:
                packets[packet.stream.index].append((packet.pts * packet.time_base, bytes(packet)))
        found.streams = [(stream.type, packets[stream.index]) for stream in copied]
    return found
