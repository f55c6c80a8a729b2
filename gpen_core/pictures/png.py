"""PNG: its chunks, reading it at full depth, and writing it with its metadata."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

from ..errors import PictureError
from .arrays import tidy_dpi
from .form import AnyArray, Form, Picture, fitting_profile, numbers
from .libraries import Decoded, check_size, opencv
from .metadata import EXIF_PREFIX, TextChunk, prefixed_exif, take_orientation

log = logging.getLogger(__name__)

_PALETTE, _GREY_AND_ALPHA = 3, 4  # colour types
_SAMPLE = 16  # rows in each of four samples
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_NOTE, _MOST_NOTES = 16 << 20, 64 << 20  # limits in bytes for one unpacked text or profile, and for all together


# --- chunks ----------------------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each chunk of the PNG `data` up to IEND. Raises PictureError if the file is cut short or damaged."""
    position = len(PNG_SIGNATURE)
    while True:
        if position + 12 > len(data):
            raise PictureError("the file is cut short")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            raise PictureError("the file is cut short")
        content = data[position + 8 : end]
        if zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(data[end : end + 4], "big"):
            raise PictureError("the file is damaged (a checksum inside it is wrong)")
        yield kind, content
        if kind == b"IEND":
            return
        position = end + 4


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Encodes one PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _pixel_chunks(packed: bytes) -> list[bytes]:
    """Splits pixel data into IDAT chunks of at most 1 MiB, because OpenCV refuses very long ones."""
    return [png_chunk(b"IDAT", packed[start : start + 2**20]) for start in range(0, len(packed), 2**20)]


class _Notes:
    """The texts and the profile of one PNG. Limits the unpacked size of each and of all: a few kilobytes can become gigabytes."""

    def __init__(self) -> None:
        self.texts: list[TextChunk] = []
        self._left = _MOST_NOTES
        self._lost: list[str] = []

    def profile(self, content: bytes) -> bytes | None:
        """The ICC profile in an iCCP chunk; None if it is damaged."""
        return self._tried("the colour profile", lambda: self._inflate(content.split(b"\0", 1)[1][1:]))

    def add_text(self, kind: bytes, content: bytes) -> None:
        """Adds the text in a tEXt, zTXt or iTXt chunk."""
        text = self._tried("a text", lambda: self._text(kind, content))
        self.texts += [text] if text else []

    def say_what_is_lost(self) -> None:
        """Logs one line for all lost entries."""
        if self._lost:
            log.warning("%d metadata entries are damaged or too long and left out (%s).", len(self._lost), self._lost[0])

    def _tried(self, what: str, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (ValueError, IndexError, zlib.error) as error:  # damaged metadata must not lose the picture
            self._lost.append(f"{what}: {error}")
            return None

    def _text(self, kind: bytes, content: bytes) -> TextChunk:
        key, rest = content.split(b"\0", 1)
        if kind == b"iTXt":
            _language, _translated, value = rest[2:].split(b"\0", 2)
            text = (self._inflate(value) if rest[0] else self._taken(value)).decode("utf-8")
        else:
            text = (self._inflate(rest[1:]) if kind == b"zTXt" else self._taken(rest)).decode("latin-1")
        return TextChunk(key.decode("latin-1"), text, kind.decode("ascii"))

    def _inflate(self, data: bytes) -> bytes:
        unpacker = zlib.decompressobj()
        most = min(_MOST_NOTE, self._left)
        result = unpacker.decompress(data, most + 1)
        if len(result) > most:
            raise ValueError(f"longer than {most >> 20} MiB")
        if not unpacker.eof:
            raise ValueError("cut short")
        return self._taken(result)

    def _taken(self, data: bytes) -> bytes:
        if len(data) > self._left:
            raise ValueError(f"more than {_MOST_NOTES >> 20} MiB in total")
        self._left -= len(data)
        return data


def text_chunk(text: TextChunk) -> bytes:
    """`text` as a PNG chunk: of its own kind, or iTXt if its characters need it."""
    key = text.key.encode("latin-1", "replace")[:79]
    try:
        value = text.value.encode("latin-1")
    except UnicodeEncodeError:
        value = b"\0"
    if text.kind == "iTXt" or b"\0" in value:
        return png_chunk(b"iTXt", key + b"\0\0\0\0\0" + text.value.encode("utf-8", "replace"))
    if text.kind == "zTXt":
        return png_chunk(b"zTXt", key + b"\0\0" + zlib.compress(value))
    return png_chunk(b"tEXt", key + b"\0" + value)


# --- reading ---------------------------------------------------------------------------------------------------------


def decode_png(data: bytes) -> Decoded:
    """Decodes the PNG `data`: a uint8 or uint16 array and the metadata. Raises PictureError if it is cut short or damaged."""
    # OpenCV gets only the bare picture: texts, animation and colour chunks would make it warn, convert or refuse.
    bare = [PNG_SIGNATURE]
    form: dict[str, Any] = {}
    notes = _Notes()
    colour: list[tuple[bytes, bytes]] = []
    orientation, transparent, head = 1, b"", b""
    for kind, content in png_chunks(data):
        if kind == b"IHDR":
            head = content
            check_size(*struct.unpack_from(">II", content))
        if kind == b"IDAT":
            bare += _pixel_chunks(content)
        elif kind in (b"IHDR", b"PLTE", b"IEND") or (kind == b"tRNS" and head[9] == _PALETTE):
            bare.append(png_chunk(kind, content))
        elif kind == b"tRNS":
            transparent = content
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            notes.add_text(kind, content)
        elif kind == b"iCCP":
            form["icc_profile"] = notes.profile(content)
        elif kind == b"eXIf":
            tiff, orientation = take_orientation(content.removeprefix(EXIF_PREFIX))
            form["exif"] = prefixed_exif(tiff)
        elif kind == b"pHYs" and len(content) == 9 and content[8] == 1:
            form["dpi"] = tidy_dpi([metre * 0.0254 for metre in struct.unpack_from(">II", content)])
        elif kind in (b"sRGB", b"gAMA", b"cHRM", b"cICP"):
            colour.append((kind, content))
        elif kind == b"acTL":
            form["frames"], form["plays"] = struct.unpack_from(">II", content)
    notes.say_what_is_lost()
    form["text"], form["colour_chunks"] = tuple(notes.texts), tuple(colour)
    array = _pixels(b"".join(bare), head)
    if transparent:
        array = _with_transparent_colour(array, transparent, head[8])
    return Decoded(array, orientation, form)


def animated_part(data: bytes) -> bytes:
    """The PNG `data` reduced to pixels, palette and animation."""
    kept = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND")
    return b"".join([PNG_SIGNATURE, *(png_chunk(kind, content) for kind, content in png_chunks(data) if kind in kept)])


def _pixels(plain: bytes, head: bytes) -> AnyArray:
    """The array of a PNG that holds only pixels."""
    array = opencv(plain)  # unlike Pillow, it reads 16-bit colour and refuses missing rows
    return array[:, :, 2:] if head[9] == _GREY_AND_ALPHA else array  # OpenCV expands grey and alpha to four channels


def _with_transparent_colour(array: AnyArray, transparent: bytes, depth: int) -> AnyArray:
    """`array` with an alpha channel that is 0 for pixels of the PNG's `transparent` colour."""
    colour = np.frombuffer(transparent, dtype=">u2").astype(np.int64)
    if depth < 8:  # OpenCV scales 1, 2 and 4 bits to 0..255
        colour = colour * (255 // (2**depth - 1))
    values = array if array.ndim == 3 else array[:, :, None]
    if colour.size != values.shape[2]:
        return array
    full = np.iinfo(values.dtype).max
    alpha = np.where((values == colour).all(axis=2, keepdims=True), 0, full).astype(values.dtype)
    return np.concatenate([values, alpha], axis=2)


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_png(picture: Picture) -> bytes:
    """Encodes `picture` as PNG: 8 bits if the original had 8, otherwise 16, with ICC profile, EXIF, dpi and texts."""
    values = png_numbers(picture)
    return b"".join([*head_of_png(picture.form, values), *_pixel_chunks(packed_pixels(values)), png_chunk(b"IEND", b"")])


def packed_pixels(values: AnyArray) -> bytes:
    """Packs an (H, W, 1..4) uint8 or uint16 array into the zlib stream of a PNG's IDAT."""
    channels = values.shape[2]
    if channels == 2:  # OpenCV cannot write two channels
        pixels = values.astype(values.dtype.newbyteorder(">")).view(np.uint8)
        rows = np.diff(pixels, axis=1, prepend=np.uint8(0)).reshape(len(pixels), -1)
        return zlib.compress(np.insert(rows, 0, 1, axis=1).tobytes())  # each row begins with its filter: 1, the difference to the left
    if channels > 1:
        values = cv2.cvtColor(values, cv2.COLOR_RGB2BGR if channels == 3 else cv2.COLOR_RGBA2BGRA)
    # In photographs Deflate's search for repeats takes most of the time and finds almost nothing, so run lengths suffice. A sample shows
    # which strategy is shorter. `python -m benchmarks.png` measures it.
    tops = np.linspace(0, max(0, len(values) - _SAMPLE), 4, dtype=int)
    sample = np.concatenate([values[top : top + _SAMPLE] for top in tops])
    strategies = (cv2.IMWRITE_PNG_STRATEGY_RLE, cv2.IMWRITE_PNG_STRATEGY_DEFAULT)
    shorter = min(strategies, key=lambda strategy: len(_by_opencv(sample, strategy)))
    return b"".join(content for kind, content in png_chunks(_by_opencv(values, shorter)) if kind == b"IDAT")


def _by_opencv(values: AnyArray, strategy: int) -> bytes:
    return cv2.imencode(".png", values, (cv2.IMWRITE_PNG_COMPRESSION, 4, cv2.IMWRITE_PNG_STRATEGY, strategy))[1].tobytes()


def png_numbers(picture: Picture) -> AnyArray:
    """An (H, W, 1..4) array: uint8 if the original had 8 bits, otherwise uint16."""
    return numbers(picture, np.dtype(np.uint8 if picture.form.dtype == np.uint8 else np.uint16))


def head_of_png(form: Form, values: AnyArray) -> list[bytes]:
    """The signature and all chunks before the pixels of a PNG with these values."""
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    chunks = [PNG_SIGNATURE, png_chunk(b"IHDR", header)]
    if (profile := fitting_profile(form)) is not None:
        chunks.append(png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    chunks += [png_chunk(kind, content) for kind, content in form.colour_chunks]
    if form.dpi is not None:
        x, y = (round(value / 0.0254) for value in form.dpi)
        chunks.append(png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if form.exif is not None:
        chunks.append(png_chunk(b"eXIf", form.exif.removeprefix(EXIF_PREFIX)))
    return chunks + [text_chunk(text) for text in form.text]
