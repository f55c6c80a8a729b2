"""The picture of a restored video: each frame fitted to the encoder, which is set up from the first, with its own time.

In segments, each begins with an encoder of its own, so that it depends on no other and can be kept.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..options import RestoreOptions
from . import card
from .codecs import VideoCodec
from .frames import Colours, format_change, from_rgb, pixel_format
from .parts import MisfitError, Record, Stored
from .rate import Rate
from .restored import turns_of, upright
from .span import Cut, open_options

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """How the encoder is set up. aspect: of a pixel. primaries, transfer: as AVCOL_PRI_* and AVCOL_TRC_*. scale: output over input size."""

    width: int
    height: int
    form: str
    base: Fraction
    aspect: Fraction | None
    colours: Colours
    primaries: int | None
    transfer: int | None
    scale: float

    def apply(self, context: Any) -> None:
        """Sets up an encoder that is not open yet."""
        context.width, context.height, context.pix_fmt, context.time_base = self.width, self.height, self.form, self.base
        if self.aspect:
            context.sample_aspect_ratio = self.aspect
        context.flags |= 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: the last frame keeps its duration
        self.colours.tag(context, SimpleNamespace(color_primaries=self.primaries, color_trc=self.transfer))

    def to_json(self) -> dict[str, Any]:
        """As text and numbers."""
        aspect = None if self.aspect is None else str(self.aspect)
        plain: dict[str, Any] = dict(self.__dict__)
        return {**plain, "base": str(self.base), "aspect": aspect, "colours": asdict(self.colours)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Setup:
        """From what to_json() returned."""
        aspect = None if values["aspect"] is None else Fraction(values["aspect"])
        own: dict[str, Any] = {"base": Fraction(values["base"]), "aspect": aspect, "colours": Colours(**values["colours"])}
        return cls(**{**values, **own})


class Encoding:
    """Encodes frames. begun: the first frame has set up the encoder. packets: how many were written."""

    def __init__(
        self,
        av: Any,
        source: Path,
        writing: Any,
        video: Any,
        options: RestoreOptions,
        crf: int,
        codec: VideoCodec,
        cut: Cut | None,
        rate: Rate | None,
    ) -> None:
        self._av, self._source, self._writing, self._video = av, source, writing, video
        self._options, self._crf, self._codec, self._cut, self._rate = options, crf, codec, cut, rate
        self._track: Any = None
        self._context: Any = None  # the encoder of this segment
        self._fresh: Callable[[], Any] = lambda: None
        self._setup: Setup | None = None
        self._first: list[tuple[int, int]] = []  # times of the first segment's packets
        self._due: deque[int] | None = None  # after that segment, the decoding times of the packets to come
        self._replay: Iterator[Stored] = iter(())
        self._next: Stored | None = None
        self.last_pts: int | None = None
        self.packets = 0
        self._keep: Callable[[Any], None] | None = None

    def in_segments(self, keep: Callable[[Any], None]) -> None:
        """Encodes in segments. keep: receives each packet before the container."""
        self._keep = keep

    def in_one(self) -> None:
        """What comes is one segment, and is not kept."""
        self._keep = None

    @property
    def begun(self) -> bool:
        return self._setup is not None

    @property
    def setup(self) -> Setup:
        if self._setup is None:
            raise RuntimeError("no frame was encoded yet")
        return self._setup

    @property
    def due(self) -> list[int]:
        """The decoding times of the next segment's first packets."""
        return list(self._due or ())

    def add_track(self, on_card: bool) -> None:
        """Adds the output's picture track."""
        rate = self._video.average_rate or self._video.guessed_rate or Fraction(25)
        rate = rate if self._rate is None else self._rate.limited(rate)
        if on_card and self._codec.encoder != "libx264":
            log.warning("the graphics card encodes only H.264 here; the CPU encodes %s", self._codec.label)
        on_card_options = self._card_options(rate) if on_card and self._codec.encoder == "libx264" else None
        name, chosen = self._codec.encoder, self._codec.options(self._crf)
        if on_card_options is not None:
            name, chosen = card.ENCODER, on_card_options
        self._track = track = self._writing.add_stream(name, rate=rate, options=chosen)
        if on_card_options is None:
            self._codec.tag(track, self._writing.format.name)
        self._context = first = track.codec_context

        def fresh() -> Any:
            context: Any = self._av.CodecContext.create(name, "w")
            context.options, context.framerate, context.flags = dict(chosen), rate, first.flags
            context.bit_rate, context.bit_rate_tolerance = first.bit_rate or 0, first.bit_rate_tolerance or 0
            self.setup.apply(context)
            return context

        self._fresh = fresh

    def _card_options(self, rate: Fraction) -> dict[str, str] | None:
        """The options for encoding on the card; None if it cannot."""
        # A decoder on the card does not say the file's own pixel format before the first frame, when the tracks are there already.
        with self._av.open(str(self._source), **open_options(self._av)) as again:
            source = again.streams[self._video.index].codec_context
            width, height = round(source.width * self._scale()), round(source.height * self._scale())
            form = pixel_format(source.format, width, height, self._codec.formats) if source.format else "unknown"
        return card.encoder_options(self._av, self._crf, width, height, form, rate)

    def write(self, frame: Any, pixels: Any, colours: Colours) -> None:
        """Writes a frame with its restored pixels, or unchanged if there are none."""
        self.reach(None)
        fitted = self._fitted(frame, pixels, colours)
        self._context = self._context or self._fresh()
        if self._due is not None:
            self._due.append(round(fitted.pts * fitted.time_base / self.setup.base))
        self._mux(self._context.encode(fitted))

    def end_segment(self) -> None:
        """Writes what the encoder still holds. The next frame begins a segment."""
        self.reach(None)
        if self._context is not None:
            self._mux(self._context.encode(None))
        self._context = None
        if self._due is None:  # encoders give the first few packets decoding times before any frame: so many are always due
            times = sorted(pts for pts, _ in self._first)
            self._due = deque(times[len(times) - sum(dts < times[0] for _, dts in self._first) :])

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            packet.stream = self._track
            if self._due:
                packet.dts = self._due.popleft()
            if self._keep is not None:
                if self._due is None:
                    self._first.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
                self._keep(packet)  # before the container changes its times
            self.packets += 1
            self._writing.mux(packet)

    # --- where an earlier run ended

    def go_on(self, setup: Setup, extra: str, record: Record, stored: Iterator[Stored]) -> None:
        """Begins with the packets of an earlier run. extra: its encoder's own data; MisfitError if this one's are others."""
        self._begin(setup)
        self._context, self._due, self.last_pts = None, deque(record.due), record.last
        self._writing.start_encoding()
        if self.extra != extra:
            raise MisfitError
        self._replay, self._next = stored, next(stored, None)

    @property
    def extra(self) -> str:
        """What the encoder says of itself; the same for every segment."""
        return (self._track.codec_context.extradata or b"").hex()

    def reach(self, time: Fraction | None) -> None:
        """Writes the earlier run's packets up to a time in seconds; None: all."""
        while self._next is not None:
            one, base = self._next, self.setup.base
            if time is not None and (one.pts if one.dts is None else one.dts) * base > time:
                return
            packet = self._av.Packet(one.data)
            packet.stream, packet.time_base = self._track, base
            packet.pts, packet.dts, packet.duration, packet.is_keyframe = one.pts, one.dts, one.duration, one.is_key
            self.packets += 1
            self._writing.mux(packet)
            self._next = next(self._replay, None)

    # --- frames

    def _fitted(self, frame: Any, pixels: Any, colours: Colours) -> Any:
        """The frame as it is written: with its restored pixels, if there are any, and its original time, ready for the encoder."""
        turns, done = turns_of(frame), frame  # unchanged, without a conversion to RGB
        if pixels is not None or turns:
            done = from_rgb(self._av, upright(frame, colours) if pixels is None else pixels, colours)
        if not self.begun:
            scale = 1.0 if pixels is not None else self._scale()
            self._begin(self._setup_of(frame, turns, round(done.width * scale), round(done.height * scale), colours))
        setup = self.setup
        fitted = done.reformat(width=setup.width, height=setup.height, format=setup.form, **colours.kept(done))
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
            pts = 0 if self.last_pts is None else self.last_pts + max(1, round(1 / (rate * base)))
        if self.last_pts is not None:
            pts = max(pts, self.last_pts + 1)
        duration = getattr(frame, "duration", 0)
        fitted.pts, fitted.time_base, self.last_pts = pts if self._cut is None else self._cut.moved(pts, base), base, pts
        if duration and hasattr(fitted, "duration"):
            fitted.duration = duration

    def _setup_of(self, frame: Any, turns: int, width: int, height: int, colours: Colours) -> Setup:
        """The encoder's setup by the first frame."""
        source, aspect = self._video.codec_context, self._video.sample_aspect_ratio
        form = pixel_format(frame.format, width, height, self._codec.formats)
        change = format_change(frame.format, form, self._codec.label)
        if change:
            log.warning("%s: %s", self._source, change)
        return Setup(
            width,
            height,
            form,
            frame.time_base or self._video.time_base,
            1 / aspect if aspect and turns % 2 else aspect or None,
            colours,
            getattr(source, "color_primaries", None),
            getattr(source, "color_trc", None),
            width / (frame.height if turns % 2 else frame.width),
        )

    def _begin(self, setup: Setup) -> None:
        """Sets up the output's own encoder, which encodes the first segment and describes all to the container."""
        self._setup = setup
        setup.apply(self._track.codec_context)
        self._track.time_base = setup.base
        self._track.metadata.update(self._video.metadata)
