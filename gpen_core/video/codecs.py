"""The codecs in which restored videos can be stored, with the settings of their encoders."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FeatureMissingError, SettingsError

DEFAULT = "h264"
_DEEP = tuple(f"yuv{sampling}p{bits}le" for bits in (10, 12) for sampling in (420, 422, 444))
_PLAIN = ("yuv420p", "yuv422p", "yuv444p")
# SVT-AV1's own speed is for live pictures: its files are larger, and in some frames plain areas move by up to 14 of 1023.
_OWN = {"libx265": {"x265-params": "log-level=error"}, "libsvtav1": {"preset": "6"}}


@dataclass(frozen=True)
class VideoCodec:
    """label: for messages. formats: pixel formats to keep. suffixes: of files that can store it. best: the lowest crf, or None."""

    label: str
    encoder: str
    formats: tuple[str, ...]
    suffixes: tuple[str, ...]
    best: int | None = 0

    def options(self, crf: int) -> dict[str, str]:
        """The encoder's options."""
        if self.best is None:
            return {"level": "3", "slicecrc": "1"}  # FFV1's third version notices damage
        own = _OWN.get(self.encoder, {})
        return {"crf": str(max(crf, self.best)), **own}

    def tag(self, stream: Any, muxer: str) -> None:
        """Apple's players open HEVC only by this name."""
        if self.encoder == "libx265" and muxer in ("mp4", "mov"):
            stream.codec_context.codec_tag = "hvc1"

    @contextmanager
    def silent(self) -> Generator[None, None, None]:
        """Without the encoder's chatter. SVT-AV1 has no other switch than a variable, which is as it was afterwards."""
        if self.encoder != "libsvtav1" or "SVT_LOG" in os.environ:
            yield
            return
        os.environ["SVT_LOG"] = "1"  # errors only
        try:
            yield
        finally:
            os.environ.pop("SVT_LOG", None)


CODECS = {
    "h264": VideoCodec("H.264", "libx264", _PLAIN + _DEEP[:3], (".mp4", ".m4v", ".mov", ".mkv")),
    "hevc": VideoCodec("HEVC", "libx265", _PLAIN + _DEEP, (".mp4", ".m4v", ".mov", ".mkv")),
    "av1": VideoCodec("AV1", "libsvtav1", ("yuv420p", "yuv420p10le"), (".mp4", ".m4v", ".mkv"), best=1),  # SVT-AV1 takes 0 for "not given"
    "ffv1": VideoCodec("FFV1", "ffv1", _PLAIN + _DEEP, (".mkv",), best=None),
}


def check_codec(name: str, target: Path) -> VideoCodec:
    """The codec of that name. Raises SettingsError if there is none, or if the target cannot store it."""
    codec = CODECS.get(name)
    if codec is None:
        raise SettingsError(f"there is no codec {name!r} for videos; choose one of {', '.join(CODECS)}")
    if target.suffix.lower() not in codec.suffixes:
        raise SettingsError(f"{target} cannot store {codec.label}: its name must end with {' or '.join(codec.suffixes)}")
    return codec


def check_encoder(av: Any, codec: VideoCodec) -> None:
    """Raises FeatureMissingError if this PyAV has no encoder for the codec."""
    if not _is_there(av, codec):
        there = ", ".join(name for name, one in CODECS.items() if _is_there(av, one)) or "none"
        raise FeatureMissingError(
            f"this PyAV has no {codec.label} encoder ({codec.encoder}); it has: {there}. The usual PyAV has all: pip install av"
        )


def _is_there(av: Any, codec: VideoCodec) -> bool:
    try:
        av.codec.Codec(codec.encoder, "w")
    except ValueError:
        return False
    return True
