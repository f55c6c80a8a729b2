"""One video from the input container to the output container."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DeviceError, PictureError
from ..progress import Progress
from . import parts as kept
from .codecs import VideoCodec
from .copying import Copies
from .cut import CUT, is_cut_short
from .encoding import Encoding, Setup
from .parts import Parts, Record, Start
from .rate import Rate
from .reading import Reading
from .restored import RestoredFrames, VideoResult
from .span import Cut, Span

if TYPE_CHECKING:
    from ..restore.restorer import FaceRestorer

log = logging.getLogger(__name__)


class Work:
    """Transfers one video. parts: where what is done is kept; None: nowhere. start: where an earlier run ended."""

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
        fps: Fraction | None,
        parts: Parts | None,
        start: Start | None,
    ) -> None:
        self.source, self.container, self.progress, self.parts, self.start = source, reading, progress, parts, start
        pictures = [stream for stream in reading.streams.video if not _is_cover(stream)]
        if not pictures:
            raise PictureError(f"cannot read the video {source}: {CUT if is_cut_short(source) else 'it contains no video track'}")
        if len(pictures) > 1:
            log.warning("%s: only the first of %d video tracks is used", source, len(pictures))
        self.video = pictures[0]
        self.result = VideoResult(cut=is_cut_short(source))
        self.cut = None if span is None else Cut(span, reading, self.video)
        self.rate = None if fps is None else Rate(fps, self.video)
        self.encoding = Encoding(av, source, writing, self.video, restorer.options, crf, codec, self.cut, self.rate)
        self.copies = Copies(av, source, writing, self.cut)
        self._add_tracks(on_card)
        self.restored = RestoredFrames(source, restorer, self.result, progress)
        self.reading = Reading(av, source, reading, self.video, self.copies, self.cut, self.rate, self.result, parts is not None)
        self.looks_back = getattr(restorer.options, "steady", 0) > 0 and not restorer.options.aligned
        self._segment = (0, 0)  # faces, and frames that failed, before this segment

    def _add_tracks(self, on_card: bool) -> None:
        """Adds the output tracks in the input's order: the picture, and all sound and subtitles that the container supports."""
        self.copies.add_titles(self.container)
        for stream in self.container.streams:
            if stream.index == self.video.index:
                self.encoding.add_track(on_card)
            elif stream.type in ("audio", "subtitle"):
                self.copies.add(stream)

    def run(self) -> VideoResult:
        total, encoding, result = self._expected_frames(), self.encoding, self.result
        parts = self.parts
        frames = self._begun(total)
        for frame, pixels in self.restored.each(frames):
            encoding.write(frame, pixels, self.restored.colours)
            self.copies.begin()
            result.frames += 1
            self.progress.report(result.frames, total, "frame")
            if parts is not None and result.frames % kept.SEGMENT == 0:
                encoding.end_segment()
                parts = parts if self._keep(parts) else None
        if not encoding.begun and self.cut is not None and self.cut.has_read:
            raise PictureError(f"{self.source}: no frame lies in the span {self.cut.span}")
        if not encoding.begun:
            raise PictureError(f"cannot read the video {self.source}: {CUT if result.cut else 'no frame can be decoded'}")
        if result.kept == result.frames:
            raise PictureError(f"{self.source}: no frame could be restored ({self.restored.last_error})") from self.restored.last_error
        encoding.end_segment()
        result.scale = encoding.setup.scale
        if encoding.packets != result.frames:
            raise PictureError(f"{self.source}: {result.frames} frames were read, but {encoding.packets} written")
        if result.cut:
            log.warning("%s: the file is cut short; the %d frames that could be read are kept", self.source, result.frames)
        if self.reading.damaged:
            log.warning("%s: %d damaged packets were skipped", self.source, self.reading.damaged)
        if result.kept:
            log.warning("%s: %d frames could not be restored and are unchanged", self.source, result.kept)
        return result

    # --- in segments

    def _begun(self, total: int) -> Any:
        """The frames to restore. Begins where an earlier run ended, if it did."""
        if self.parts is None:
            return self.reading.frames()
        self.encoding.in_segments(self.parts.add)
        if self.looks_back:
            from ..restore.trail import Trail

            self.restored.trail = Trail()
        if self.start is None:
            return self.reading.frames()
        start, last, setup = self.start, self.start.last, Setup.from_json(self.start.setup["encoder"])
        lead = len(last.lead) if self.looks_back else 0
        if self.cut is not None and last.zero is not None:
            self.cut.zero = Fraction(last.zero)
        result = self.result
        for record in start.records:
            result.frames += record.frames
            result.kept += record.kept
            result.faces += record.faces
        result.resumed = result.frames
        if last.reason:
            self.restored.last_error = PictureError(last.reason)
        self._segment = (len(result.faces), result.kept)
        self.restored.go_on(setup.colours, lead)
        if self.restored.trail is not None:
            self.restored.trail.first = start.frames - lead
            self.restored.trail.known.extend(numbers for _, _, numbers in last.lead)
        self.encoding.go_on(setup, self.start.setup["extra"], last, self.parts.stored(start))
        self.copies.begin()
        moved = self.cut.zero if self.cut is not None and self.cut.start is not None and self.cut.zero is not None else Fraction(0)
        self.reading.reached = lambda time: self.encoding.reach(time - moved)
        self.progress.report(result.frames, total, "frame")
        return self.reading.frames_from(start, lead > 0)

    def _keep(self, parts: Parts) -> bool:
        """Keeps what was encoded since the last segment. False, and for good, if another run would do better: this one was stopped, or
        its device was."""
        result, encoding = self.result, self.encoding
        faces, failed = self._segment
        is_lost = result.kept == result.frames or isinstance(self.restored.last_error, DeviceError)
        if is_lost or self.progress.stop():
            parts.drop()
            encoding.in_one()
            return False
        trail, (lead, key) = self.restored.trail, self.reading.lead_of(result.frames)
        first = result.frames - len(lead)
        marks = [(time, digest, None if trail is None else trail.of(first + place)) for place, (time, digest) in enumerate(lead)]
        zero = None if self.cut is None or self.cut.zero is None else str(self.cut.zero)

        def record(packets: int, size: int, digest: str) -> Record:
            reason = "" if self.restored.last_error is None else str(self.restored.last_error)
            return Record(
                frames=kept.SEGMENT, kept=result.kept - failed, reason=reason, packets=packets, size=size, sum=digest,
                due=encoding.due, last=encoding.last_pts or 0, zero=zero, faces=result.faces[faces:], lead=marks, key=key,
            )  # fmt: skip

        parts.keep({"encoder": encoding.setup.to_json(), "extra": encoding.extra}, record)
        self._segment = (len(result.faces), result.kept)
        return True

    def _expected_frames(self) -> int:
        """The expected number of frames, from the file's header; 0: unknown."""
        rate: Fraction | None = self.video.average_rate
        if self.rate is None or not rate:
            return self._frames_there()
        return round(self._frames_there() * self.rate.limited(rate) / rate)

    def _frames_there(self) -> int:
        if self.cut is not None:
            return self.cut.frames(Fraction(self.container.duration or 0, 1_000_000))
        if self.video.frames:
            return self.video.frames
        seconds = self.container.duration and self.container.duration / 1_000_000
        return round(seconds * float(self.video.average_rate)) if seconds and self.video.average_rate else 0


def _is_cover(stream: Any) -> bool:
    """True if a picture track is only a cover (AV_DISPOSITION_ATTACHED_PIC)."""
    return bool(int(getattr(stream, "disposition", 0)) & 0x400)
