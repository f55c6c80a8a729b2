"""The picture of a restored video: each frame fitted to the encoder, which is set up from the first, with its own time."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..options import RestoreOptions
from . import card
from .codecs import VideoCodec
from .frames import Colours, format_change, from_rgb, pixel_format
from .restored import turns_of, upright
from .span import Cut

log = logging.getLogger(__name__)


class Encoding:
    """Encodes frames. scale: output size over input size. begun: the first frame has set up the encoder. packets: how many were written."""

    def __init__(
        self, av: Any, source: Path, writing: Any, video: Any, options: RestoreOptions, crf: int, codec: VideoCodec, cut: Cut | None
    ) -> None:
        self._av, self._source, self._writing, self._video = av, source, writing, video
        self._options, self._crf, self._codec, self._cut = options, crf, codec, cut
        self._track: Any = None
        self._last_pts: int | None = None
        self.scale, self.begun, self.packets = 1.0, False, 0

    def add_track(self, on_card: bool) -> None:
        """Adds the output's picture track."""
        rate = self._video.average_rate or self._video.guessed_rate or Fraction(25)
        if on_card and self._codec.encoder != "libx264":
            log.warning("the graphics card encodes only H.264 here; the CPU encodes %s", self._codec.label)
        chosen = self._card_options(rate) if on_card and self._codec.encoder == "libx264" else None
        if chosen is not None:
            self._track = self._writing.add_stream(card.ENCODER, rate=rate, options=chosen)
            return
        self._track = self._writing.add_stream(self._codec.encoder, rate=rate, options=self._codec.options(self._crf))
        self._codec.tag(self._track, self._writing.format.name)

    def _card_options(self, rate: Fraction) -> dict[str, str] | None:
        """The options for encoding on the card; None if it cannot."""
        # A decoder on the card does not say the file's own pixel format before the first frame, when the tracks are there already.
        with self._av.open(str(self._source), metadata_errors="replace") as again:
            source = again.streams[self._video.index].codec_context
            width, height = round(source.width * self._scale()), round(source.height * self._scale())
            form = pixel_format(source.format, width, height, self._codec.formats) if source.format else "unknown"
        return card.encoder_options(self._av, self._crf, width, height, form, rate)

    def write(self, frame: Any, pixels: Any, colours: Colours) -> None:
        """Writes a frame with its restored pixels, or unchanged if there are none."""
        self._mux(self._track.encode(self._fitted(frame, pixels, colours)))

    def end(self) -> None:
        """Writes what the encoder still holds."""
        self._mux(self._track.encode(None))

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self.packets += 1
            self._writing.mux(packet)

    def _fitted(self, frame: Any, pixels: Any, colours: Colours) -> Any:
        """The frame as it is written: with its restored pixels, if there are any, and its original time, ready for the encoder."""
        turns, done = turns_of(frame), frame  # unchanged, without a conversion to RGB
        if pixels is not None or turns:
            done = from_rgb(self._av, upright(frame, colours) if pixels is None else pixels, colours)
        if not self.begun:
            scale = 1.0 if pixels is not None else self._scale()
            self._begin(frame, turns, round(done.width * scale), round(done.height * scale), colours)
        track = self._track
        fitted = done.reformat(width=track.width, height=track.height, format=track.pix_fmt, **colours.kept(done))
        fitted.pict_type = 0  # the encoder chooses its own key frames
        self._set_time(frame, fitted)
        return fitted

    def _scale(self) -> float:
        return self._options.factor if self._options.output_size == "factor" else 1.0

    def _set_time(self, frame: Any, fitted: Any) -> None:
        """Sets the frame's own time, or the next possible one if it is missing or not increasing (damaged files)."""
        base: Fraction = frame.time_base or self._video.time_base
        rate = self._video.average_rate or Fraction(25)
        pts = frame.pts
        if pts is None:
            pts = 0 if self._last_pts is None else self._last_pts + max(1, round(1 / (rate * base)))
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        duration = getattr(frame, "duration", 0)
        fitted.pts, fitted.time_base, self._last_pts = pts if self._cut is None else self._cut.moved(pts, base), base, pts
        if duration and hasattr(fitted, "duration"):
            fitted.duration = duration

    def _begin(self, frame: Any, turns: int, width: int, height: int, colours: Colours) -> None:
        """Sets up the encoder from the first frame."""
        track, source = self._track, self._video.codec_context
        track.width, track.height = width, height
        track.pix_fmt = pixel_format(frame.format, width, height, self._codec.formats)
        change = format_change(frame.format, track.pix_fmt, self._codec.label)
        if change:
            log.warning("%s: %s", self._source, change)
        track.time_base = track.codec_context.time_base = frame.time_base or self._video.time_base
        aspect = self._video.sample_aspect_ratio
        if aspect:
            track.codec_context.sample_aspect_ratio = 1 / aspect if turns % 2 else aspect
        track.codec_context.flags |= 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: the last frame keeps its duration
        colours.tag(track.codec_context, source)
        track.metadata.update(self._video.metadata)
        self.begun = True
        self.scale = width / (frame.height if turns % 2 else frame.width)
