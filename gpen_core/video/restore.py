"""Restores every frame of a video and keeps everything else. Needs PyAV (`pip install av`), imported for the first video.

Keeps the number of frames and the time of each (also variable rates), size, pixel aspect, colour space and range, bit depth, audio and
subtitles (copied without re-encoding), the order of all tracks, chapters and titles. A rotated video is stored upright, like pictures.
Log messages name what cannot be kept: pixel formats missing from H.264, and tracks that the container does not support.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FeatureMissingError, OutputExistsError, PictureError, SettingsError
from ..pictures.disk import part_beside
from ..progress import Progress
from ..replacing import replace
from . import card
from .codecs import DEFAULT, VideoCodec, check_codec, check_encoder
from .cut import is_cut_short
from .frames import format_change, from_rgb, pixel_format
from .restored import RestoredFrames, VideoResult, turns_of, upright
from .span import Cut, Span, check_span

if TYPE_CHECKING:
    from ..restore.restorer import FaceRestorer

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv")
CRF = 18  # x264's scale: 0 is lossless, 23 its default, 18 nearly indistinguishable from the original
_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
CONTAINER_SUFFIXES = tuple(_MUXERS)
_CUT = "the file is cut short, and the rest contains no complete frame"


def is_video_path(path: str | os.PathLike[str]) -> bool:
    """True if the name has a video suffix (see SUFFIXES)."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def container_suffix(path: str | os.PathLike[str]) -> str:
    """The output suffix for an input of this name: the same if its container supports H.264 and other audio, otherwise .mkv."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in _MUXERS else ".mkv"


def load_av() -> Any:
    """Imports PyAV. Raises FeatureMissingError if that fails."""
    try:
        return importlib.import_module("av")
    except Exception as error:  # a broken build can raise anything
        raise FeatureMissingError(f"videos need PyAV, which cannot be imported ({error}); install it with: pip install av") from error


def restore_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    restorer: FaceRestorer,
    *,
    overwrite: bool = False,
    crf: int = CRF,
    progress: Progress | None = None,
    on_card: bool = False,
    trim: str | None = None,
    codec: str = DEFAULT,
) -> VideoResult:
    """Restores all frames of a video; the target appears whole or not at all.

    target: .mp4, .m4v, .mov or .mkv. crf: 0 (lossless) to 51. progress: receives every frame; once its `stop` returns True, the
    remaining frames are written unchanged. on_card: decode and encode on an NVIDIA card; what it cannot do, the CPU does, and the log says
    so. trim: START-END (see `Span.parse`): only these frames are restored and written, with their sound and subtitles. codec: of CODECS;
    crf is on its encoder's own scale. A frame that fails keeps its pixels. If the file is cut short, all readable frames are kept
    and the result says so. Raises PictureError, SettingsError or FeatureMissingError.
    """
    source, target = Path(source), Path(target)
    if not 0 <= crf <= 51:
        raise SettingsError(f"crf must be between 0 (lossless) and 51; {crf} is not")
    span = None if trim is None else Span.parse(trim)
    av = load_av()
    if restorer.options.output_size == "native":
        raise PictureError(f"{source}: the output size 'native' would differ from frame to frame; use 'keep' or 'factor' for videos")
    if target.suffix.lower() not in _MUXERS:
        raise PictureError(f"cannot write the video {target}: its name must end with {', '.join(_MUXERS)}")
    if target.exists() and not overwrite:
        raise OutputExistsError(target)
    chosen = check_codec(codec, target)
    check_encoder(av, chosen)
    if span is not None:
        check_span(av, source, span)
    restorer.prepare()
    part = part_beside(target)
    try:
        with _opened(av, source, on_card) as reading, chosen.silent():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with _created(av, part, _MUXERS[target.suffix.lower()]) as writing:
                    work = _Work(av, source, reading, writing, restorer, crf, progress or Progress(), on_card, chosen, span)
                    result = work.run()
            except OSError as error:  # FFmpeg's disk errors are OSErrors too
                raise PictureError(f"cannot write the video {target}: {error.strerror or error}") from error
            except av.FFmpegError as error:
                raise PictureError(f"cannot create the video {target} from {source}: {error}") from error
        # The source is closed before: it may be the target, and Windows replaces no open file.
        if target.exists() and not overwrite:  # another program wrote it meanwhile
            raise OutputExistsError(target)
        try:
            replace(part, target)
        except OSError as error:
            raise PictureError(f"cannot write the video {target}: {error.strerror or error}") from error
    finally:  # also after Ctrl-C; after success there is nothing left to remove
        part.unlink(missing_ok=True)
    return result


@contextmanager
def _opened(av: Any, source: Path, on_card: bool) -> Generator[Any, None, None]:
    """Opens the container for reading. Raises PictureError if it is not a video."""
    try:
        options = {"metadata_errors": "replace"}
        container = card.opened(av, str(source), **options) if on_card else av.open(str(source), **options)
    except FileNotFoundError:
        raise PictureError(f"cannot read the video {source}: there is no such file") from None
    except (av.FFmpegError, OSError, IndexError) as error:  # IndexError: the file ends before its first track
        reason = _CUT if is_cut_short(source) else getattr(error, "strerror", None) or error
        raise PictureError(f"cannot read the video {source}: {reason}") from error
    try:
        yield container
    finally:
        container.close()


@contextmanager
def _created(av: Any, part: Path, muxer: str) -> Generator[Any, None, None]:
    """Opens the container for writing."""
    options = {"movflags": "+faststart"} if muxer in ("mp4", "mov") else {}
    container = av.open(str(part), "w", format=muxer, options=options)
    try:
        yield container
    except BaseException:
        try:
            container.close()
        except Exception:  # the file is discarded, and only the first error matters
            log.debug("closing the unfinished video failed", exc_info=True)
        raise
    container.close()


class _Work:
    """Transfers one video from the input container to the output container."""

    def __init__(
        self,
        av: Any,
        source: Path,
        reading: Any,
        writing: Any,
        restorer: FaceRestorer,
        crf: int,
        progress: Progress,
        on_card: bool,
        codec: VideoCodec,
        span: Span | None,
    ) -> None:
        self.av, self.source, self.reading, self.writing = av, source, reading, writing
        self.restorer, self.crf, self.progress, self.on_card, self.codec = restorer, crf, progress, on_card, codec
        pictures = [stream for stream in reading.streams.video if not _is_cover(stream)]
        if not pictures:
            raise PictureError(f"cannot read the video {source}: {_CUT if is_cut_short(source) else 'it contains no video track'}")
        if len(pictures) > 1:
            log.warning("%s: only the first of %d video tracks is used", source, len(pictures))
        self.video = pictures[0]
        self.result = VideoResult(cut=is_cut_short(source))
        self.encoder: Any = None  # the output's picture track
        self.begun = False  # True once the first frame has set the encoder's size
        self.copies: dict[int, Any] = {}  # output tracks by index of the input track
        self.cut = None if span is None else Cut(span, reading, self.video)
        self._add_tracks()
        self.restored = RestoredFrames(source, restorer, self.result, self.progress)
        self.waiting: list[Any] = []  # packets to copy that came before the first frame
        self.last_pts: int | None = None
        self.packets = self.damaged = 0

    def run(self) -> VideoResult:
        total = self._expected_frames()
        for frame, pixels in self.restored.each(self._frames()):
            self._encode(self._fitted(frame, pixels))
            self.result.frames += 1
            self.progress.report(self.result.frames, total, "frame")
        if not self.begun and self.cut is not None and self.cut.has_read:
            raise PictureError(f"{self.source}: no frame lies in the span {self.cut.span}")
        if not self.begun:
            raise PictureError(f"cannot read the video {self.source}: {_CUT if self.result.cut else 'no frame can be decoded'}")
        if self.result.kept == self.result.frames:
            raise PictureError(f"{self.source}: no frame could be restored ({self.restored.last_error})") from self.restored.last_error
        self._mux(self.encoder.encode(None))
        if self.packets != self.result.frames:
            raise PictureError(f"{self.source}: {self.result.frames} frames were read, but {self.packets} written")
        if self.result.cut:
            log.warning("%s: the file is cut short; the %d frames that could be read are kept", self.source, self.result.frames)
        if self.damaged:
            log.warning("%s: %d damaged packets were skipped", self.source, self.damaged)
        if self.result.kept:
            log.warning("%s: %d frames could not be restored and are unchanged", self.source, self.result.kept)
        return self.result

    def _frames(self) -> Generator[Any, None, None]:
        """Yields the readable frames of the picture track, and copies the packets of other tracks on the way."""
        if self.cut is None:
            yield from self._read()
            return
        self.cut.waits = {index for index, copy in self.copies.items() if copy.type == "audio"}
        self.cut.seek(self.av, self.source, self.reading)
        yield from filter(self.cut.has_frame, self._read())
        if self.cut.over:
            self.result.cut = False  # the file may be cut short, but not the span

    def _read(self) -> Generator[Any, None, None]:
        """As _frames, of all that is read."""
        packets = self.reading.demux([self.video, *(self.reading.streams[index] for index in self.copies)])
        while True:
            try:
                packet = next(packets, None)
            except (self.av.error.InvalidDataError, EOFError) as error:  # FFmpeg cannot read any further
                log.debug("%s: reading ended early: %s", self.source, error)
                self.result.cut = True
                yield from self._decoded(self.video.codec_context.decode)  # the frames still in the decoder
                return
            except (self.av.FFmpegError, OSError) as error:
                raise PictureError(f"cannot read the video {self.source}: {getattr(error, 'strerror', None) or error}") from error
            if packet is None or (self.cut is not None and self.cut.ends_with(packet)):
                return
            if packet.stream.index == self.video.index:
                if self.cut is not None and self.cut.over:
                    continue  # only sound is still to come
                yield from self._decoded(packet.decode)
            else:
                self._copy(packet)

    def _decoded(self, decode: Callable[[], Any]) -> Any:
        try:
            return decode()
        except self.av.error.InvalidDataError:
            self.damaged += 1
            return ()

    # --- the frames

    def _fitted(self, frame: Any, pixels: Any) -> Any:
        """The frame as it is written: with its restored pixels, if there are any, and its original time, ready for the encoder."""
        turns = turns_of(frame)
        if pixels is not None or turns:
            done = from_rgb(self.av, upright(frame, self.restored.colours) if pixels is None else pixels, self.restored.colours)
        else:
            done = frame  # unchanged, without a conversion to RGB
        if not self.begun:
            scale = 1.0 if pixels is not None else self._scale()
            self._begin(frame, turns, round(done.width * scale), round(done.height * scale))
        encoder: Any = self.encoder
        fitted = done.reformat(width=encoder.width, height=encoder.height, format=encoder.pix_fmt, **self.restored.colours.kept(done))
        fitted.pict_type = 0  # the encoder chooses its own key frames
        self._set_time(frame, fitted)
        return fitted

    def _scale(self) -> float:
        options = self.restorer.options
        return options.factor if options.output_size == "factor" else 1.0

    def _set_time(self, frame: Any, fitted: Any) -> None:
        """Sets the frame's own time, or the next possible one if it is missing or not increasing (damaged files)."""
        base: Fraction = frame.time_base or self.video.time_base
        rate = self.video.average_rate or Fraction(25)
        pts = frame.pts
        if pts is None:
            pts = 0 if self.last_pts is None else self.last_pts + max(1, round(1 / (rate * base)))
        if self.last_pts is not None:
            pts = max(pts, self.last_pts + 1)
        duration = getattr(frame, "duration", 0)
        fitted.pts, fitted.time_base, self.last_pts = pts if self.cut is None else self.cut.moved(pts, base), base, pts
        if duration and hasattr(fitted, "duration"):
            fitted.duration = duration

    def _begin(self, frame: Any, turns: int, width: int, height: int) -> None:
        """Sets up the encoder from the first frame."""
        encoder, source = self.encoder, self.video.codec_context
        encoder.width, encoder.height = width, height
        encoder.pix_fmt = pixel_format(frame.format, width, height, self.codec.formats)
        change = format_change(frame.format, encoder.pix_fmt, self.codec.label)
        if change:
            log.warning("%s: %s", self.source, change)
        encoder.time_base = encoder.codec_context.time_base = frame.time_base or self.video.time_base
        aspect = self.video.sample_aspect_ratio
        if aspect:
            encoder.codec_context.sample_aspect_ratio = 1 / aspect if turns % 2 else aspect
        encoder.codec_context.flags |= 1 << 8  # AV_CODEC_FLAG_FRAME_DURATION: the last frame keeps its duration
        self.restored.colours.tag(encoder.codec_context, source)
        encoder.metadata.update(self.video.metadata)
        self.begun = True
        self.result.scale = width / (frame.height if turns % 2 else frame.width)

    def _encode(self, frame: Any) -> None:
        self._mux(self.encoder.encode(frame))
        for packet in self.waiting:
            self._mux_copy(packet)
        self.waiting.clear()

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self.packets += 1
            self.writing.mux(packet)

    def _expected_frames(self) -> int:
        """The expected number of frames, from the file's header; 0: unknown."""
        if self.cut is not None:
            return self.cut.frames(Fraction(self.reading.duration or 0, 1_000_000))
        if self.video.frames:
            return self.video.frames
        seconds = self.reading.duration and self.reading.duration / 1_000_000
        return round(seconds * float(self.video.average_rate)) if seconds and self.video.average_rate else 0

    # --- everything else

    def _add_tracks(self) -> None:
        """Adds the output tracks in the input's order: the picture, and all sound and subtitles that the container supports."""
        self.writing.metadata.update(self.reading.metadata)
        if hasattr(self.writing, "set_chapters") and self.reading.chapters():
            chapters = self.reading.chapters()
            self.writing.set_chapters(chapters if self.cut is None else self.cut.chapters(chapters))
        for stream in self.reading.streams:
            if stream.index == self.video.index:
                self.encoder = self._new_encoder()
            elif stream.type in ("audio", "subtitle"):
                self._add_copy(stream)

    def _new_encoder(self) -> Any:
        rate = self.video.average_rate or self.video.guessed_rate or Fraction(25)
        if self.on_card and self.codec.encoder != "libx264":
            log.warning("the graphics card encodes only H.264 here; the CPU encodes %s", self.codec.label)
        chosen = self._card_options(rate) if self.on_card and self.codec.encoder == "libx264" else None
        if chosen is not None:
            return self.writing.add_stream(card.ENCODER, rate=rate, options=chosen)
        stream = self.writing.add_stream(self.codec.encoder, rate=rate, options=self.codec.options(self.crf))
        self.codec.tag(stream, self.writing.format.name)
        return stream

    def _card_options(self, rate: Fraction) -> dict[str, str] | None:
        """The options for encoding on the card; None if it cannot."""
        # A decoder on the card does not say the file's own pixel format before the first frame, when the tracks are there already.
        with self.av.open(str(self.source), metadata_errors="replace") as again:
            source = again.streams[self.video.index].codec_context
            width, height = round(source.width * self._scale()), round(source.height * self._scale())
            form = pixel_format(source.format, width, height, self.codec.formats) if source.format else "unknown"
        return card.encoder_options(self.av, self.crf, width, height, form, rate)

    def _add_copy(self, stream: Any) -> None:
        decoder: Any = stream.codec_context  # None if FFmpeg does not know the format
        name = getattr(decoder, "name", "unknown")
        try:
            if decoder.codec.canonical_name not in self.writing.supported_codecs:
                raise ValueError(name)
            copy = self.writing.add_stream_from_template(stream, opaque=True)
        except (AttributeError, ValueError, self.av.FFmpegError):
            log.warning("%s: the %s track (%s) cannot be stored in %s and is left out; .mkv can store it",
                        self.source, stream.type, name, self.writing.format.name)  # fmt: skip
            return
        copy.metadata.update(stream.metadata)
        self.copies[stream.index] = copy

    def _copy(self, packet: Any) -> None:
        if packet.dts is None and packet.pts is None:  # the empty packet that ends a stream
            return
        if self.cut is not None and not self.cut.might_need(packet):
            return
        packet.stream = self.copies[packet.stream.index]
        if not self.begun:
            self.waiting.append(packet)
        else:
            self._mux_copy(packet)

    def _mux_copy(self, packet: Any) -> None:
        if self.cut is None or self.cut.take(packet, packet.stream.type):
            self.writing.mux(packet)


def _is_cover(stream: Any) -> bool:
    """True if a picture track is only a cover (AV_DISPOSITION_ATTACHED_PIC)."""
    return bool(int(getattr(stream, "disposition", 0)) & 0x400)
