"""Converts video frames between PyAV's form and RGB arrays, with as little loss as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# swscale's default round trip loses one grey level on average; these flags lose none:
# SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND.
_EXACTLY = 0x4 | 0x2000 | 0x40000
_LIMITED, _FULL = 1, 2  # AVCOL_RANGE_MPEG and _JPEG
_UNSPECIFIED = 2  # AVCOL_SPC_, AVCOL_PRI_ and AVCOL_TRC_UNSPECIFIED
# AVCOL_SPC_* to SWS_CS_*: how YUV is computed from RGB.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}


@dataclass(frozen=True)
class Colours:
    """The colour coding of a video. matrix: SWS_CS_*. full: full value range. deep: more than 8 bits.
    space, label: AVCOL_SPC_* and AVCOL_RANGE_* for the output's labels."""

    matrix: int = 5
    full: bool = False
    deep: bool = False
    space: int = _UNSPECIFIED
    label: int = 0

    @classmethod
    def of(cls, frame: Any) -> Colours:
        """The colours of a decoded frame. Without a label, the default of players: BT.709 from 720 rows on, otherwise BT.601."""
        form = frame.format
        deep = form.components[0].bits > 8
        if form.is_rgb:  # a screen recording: converted to YUV and labelled as such
            return cls(1, False, deep, 1, _LIMITED)
        space = int(frame.colorspace)
        full = int(frame.color_range) == _FULL or form.name.startswith("yuvj")
        return cls(_MATRICES.get(space, 1 if frame.height >= 720 else 5), full, deep, space, _FULL if full else int(frame.color_range))

    @property
    def colour_range(self) -> int:
        """The value range, as AVCOL_RANGE_*."""
        return _FULL if self.full else _LIMITED

    def kept(self, frame: Any) -> dict[str, int]:
        """Arguments for `reformat` that change a frame's layout and size but not its colours."""
        result = {"dst_colorspace": self.matrix, "dst_color_range": self.colour_range, "interpolation": _EXACTLY}
        if frame.format.is_rgb:
            return {**result, "src_color_range": _FULL}
        return {**result, "src_colorspace": self.matrix, "src_color_range": self.colour_range}

    def tag(self, encoder: Any, source: Any) -> None:
        """Labels the encoder's output: space and range from these colours, primaries and transfer from the source."""
        encoder.colorspace = self.space
        encoder.color_range = self.label
        for name in ("color_primaries", "color_trc"):
            if hasattr(encoder, name):
                setattr(encoder, name, getattr(source, name))


def to_rgb(frame: Any, colours: Colours) -> Any:
    """Converts a frame to an RGB array (H, W, 3): uint8, or uint16 (0..65535) for more than 8 bits."""
    form = "rgb48le" if colours.deep else "rgb24"
    source = {} if frame.format.is_rgb else {"src_colorspace": colours.matrix, "src_color_range": colours.colour_range}
    return frame.reformat(format=form, dst_color_range=_FULL, interpolation=_EXACTLY, **source).to_ndarray()


def from_rgb(av: Any, pixels: Any, colours: Colours) -> Any:
    """Makes an RGB frame from such an array; `Colours.kept` gives the conversion to YUV."""
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb48le" if colours.deep else "rgb24")


def pixel_format(form: Any, width: int, height: int, kept: tuple[str, ...]) -> str:
    """The pixel format nearest to a frame's, of those that the codec keeps. Subsampling that would halve an odd side becomes 4:4:4."""
    deep = form.components[0].bits > 8
    name = _plain(form.name)
    if name not in kept:
        name = ("yuv444p" if form.is_rgb and "yuv444p" in kept else "yuv420p") + ("10le" if deep else "")
    odd = (width % 2 and "444" not in name) or (height % 2 and "420" in name)
    whole = name.replace("420", "444").replace("422", "444")
    return whole if odd and whole in kept else name


def format_change(form: Any, name: str, codec: str) -> str:
    """A message for users about storing frames of the format `form` as `name`; empty if nothing changes."""
    before = _plain(form.name)
    if before == name:
        return ""
    alpha = "; its transparency is left out" if _has_alpha(form) else ""
    if before.replace("420", "444").replace("422", "444") == name:
        return f"the pixel format {before} needs even sides in {codec}: the frames are stored as {name}, with their colours at full size"
    return f"the pixel format {before} cannot be kept in {codec}: the frames are stored as {name}{alpha}"


def _plain(name: str) -> str:
    """The encoders' name for the pixel format with the same values."""
    same = {"nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "p010le": "yuv420p10le", "p210le": "yuv422p10le"}
    name = name.replace("yuvj", "yuv")
    return same.get(name, name[:-2] + "le" if name.endswith("10be") else name)


def _has_alpha(form: Any) -> bool:
    return any(part.is_alpha for part in form.components)
