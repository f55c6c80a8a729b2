"""Everything of a video but its picture: sound and subtitles are copied without re-encoding, titles and chapters are kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .span import Cut

log = logging.getLogger(__name__)


class Copies:
    """The tracks that are copied. tracks: of the output, by index of the input's. Packets wait until the picture has begun."""

    def __init__(self, av: Any, source: Path, writing: Any, cut: Cut | None) -> None:
        self._av, self._source, self._writing, self._cut = av, source, writing, cut
        self.tracks: dict[int, Any] = {}
        self._waiting: list[Any] | None = []  # packets that came before the first frame; None: it is there

    def add_titles(self, reading: Any) -> None:
        """Copies the file's own titles and chapters."""
        self._writing.metadata.update(reading.metadata)
        if hasattr(self._writing, "set_chapters") and reading.chapters():
            chapters = reading.chapters()
            self._writing.set_chapters(chapters if self._cut is None else self._cut.chapters(chapters))

    def add(self, stream: Any) -> None:
        """Adds a track of sound or subtitles, if the container supports it."""
        decoder: Any = stream.codec_context  # None if FFmpeg does not know the format
        name = getattr(decoder, "name", "unknown")
        try:
            if decoder.codec.canonical_name not in self._writing.supported_codecs:
                raise ValueError(name)
            copy = self._writing.add_stream_from_template(stream, opaque=True)
        except (AttributeError, ValueError, self._av.FFmpegError):
            log.warning("%s: the %s track (%s) cannot be stored in %s and is left out; .mkv can store it",
                        self._source, stream.type, name, self._writing.format.name)  # fmt: skip
            return
        copy.metadata.update(stream.metadata)
        self.tracks[stream.index] = copy

    def take(self, packet: Any) -> None:
        """Copies a packet of these tracks."""
        if packet.dts is None and packet.pts is None:  # the empty packet that ends a stream
            return
        if self._cut is not None and not self._cut.might_need(packet):
            return
        packet.stream = self.tracks[packet.stream.index]
        if self._waiting is not None:
            self._waiting.append(packet)
        else:
            self._mux(packet)

    def begin(self) -> None:
        """The picture has begun, so that the container can take packets."""
        waiting, self._waiting = self._waiting or [], None
        for packet in waiting:
            self._mux(packet)

    def _mux(self, packet: Any) -> None:
        if self._cut is None or self._cut.take(packet, packet.stream.type):
            self._writing.mux(packet)
