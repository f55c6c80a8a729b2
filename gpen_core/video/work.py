"""One video from the input container to the output container."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PictureError
from ..progress import Progress
from .codecs import VideoCodec
from .copying import Copies
from .cut import CUT, is_cut_short
from .encoding import Encoding
from .restored import RestoredFrames, VideoResult
from .span import Cut, Span

if TYPE_CHECKING:
    from ..restore.restorer import FaceRestorer

log = logging.getLogger(__name__)


class Work:
    """Transfers one video."""

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
        self.av, self.source, self.reading, self.progress = av, source, reading, progress
        pictures = [stream for stream in reading.streams.video if not _is_cover(stream)]
        if not pictures:
            raise PictureError(f"cannot read the video {source}: {CUT if is_cut_short(source) else 'it contains no video track'}")
        if len(pictures) > 1:
            log.warning("%s: only the first of %d video tracks is used", source, len(pictures))
        self.video = pictures[0]
        self.result = VideoResult(cut=is_cut_short(source))
        self.cut = None if span is None else Cut(span, reading, self.video)
        self.encoding = Encoding(av, source, writing, self.video, restorer.options, crf, codec, self.cut)
        self.copies = Copies(av, source, writing, self.cut)
        self._add_tracks(on_card)
        self.restored = RestoredFrames(source, restorer, self.result, progress)
        self.damaged = 0

    def _add_tracks(self, on_card: bool) -> None:
        """Adds the output tracks in the input's order: the picture, and all sound and subtitles that the container supports."""
        self.copies.add_titles(self.reading)
        for stream in self.reading.streams:
            if stream.index == self.video.index:
                self.encoding.add_track(on_card)
            elif stream.type in ("audio", "subtitle"):
                self.copies.add(stream)

    def run(self) -> VideoResult:
        total, encoding = self._expected_frames(), self.encoding
        for frame, pixels in self.restored.each(self._frames()):
            encoding.write(frame, pixels, self.restored.colours)
            self.copies.begin()
            self.result.frames += 1
            self.progress.report(self.result.frames, total, "frame")
        if not encoding.begun and self.cut is not None and self.cut.has_read:
            raise PictureError(f"{self.source}: no frame lies in the span {self.cut.span}")
        if not encoding.begun:
            raise PictureError(f"cannot read the video {self.source}: {CUT if self.result.cut else 'no frame can be decoded'}")
        if self.result.kept == self.result.frames:
            raise PictureError(f"{self.source}: no frame could be restored ({self.restored.last_error})") from self.restored.last_error
        encoding.end()
        self.result.scale = encoding.scale
        if encoding.packets != self.result.frames:
            raise PictureError(f"{self.source}: {self.result.frames} frames were read, but {encoding.packets} written")
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
        self.cut.waits = {index for index, copy in self.copies.tracks.items() if copy.type == "audio"}
        self.cut.seek(self.av, self.source, self.reading)
        yield from filter(self.cut.has_frame, self._read())
        if self.cut.over:
            self.result.cut = False  # the file may be cut short, but not the span

    def _read(self) -> Generator[Any, None, None]:
        """As _frames, of all that is read."""
        packets = self.reading.demux([self.video, *(self.reading.streams[index] for index in self.copies.tracks)])
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
                self.copies.take(packet)

    def _decoded(self, decode: Callable[[], Any]) -> Any:
        try:
            return decode()
        except self.av.error.InvalidDataError:
            self.damaged += 1
            return ()

    def _expected_frames(self) -> int:
        """The expected number of frames, from the file's header; 0: unknown."""
        if self.cut is not None:
            return self.cut.frames(Fraction(self.reading.duration or 0, 1_000_000))
        if self.video.frames:
            return self.video.frames
        seconds = self.reading.duration and self.reading.duration / 1_000_000
        return round(seconds * float(self.video.average_rate)) if seconds and self.video.average_rate else 0


def _is_cover(stream: Any) -> bool:
    """True if a picture track is only a cover (AV_DISPOSITION_ATTACHED_PIC)."""
    return bool(int(getattr(stream, "disposition", 0)) & 0x400)
