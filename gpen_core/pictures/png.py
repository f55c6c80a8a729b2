"""PNG: its chunks, reading it at full depth, writing it with all that travels along."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import PngImagePlugin

from ..errors import PictureError
from .arrays import pil_numbers, tidy_dpi
from .form import AnyArray, Picture, fitting_profile, numbers
from .libraries import Decoded, check_size, load, opencv, or_none
from .metadata import EXIF_PREFIX, TextChunk, prefixed_exif, take_orientation
from .pngpixels import packed_pixels

log = logging.getLogger(__name__)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 64 * 1024 * 1024  # a compressed text or profile may not blow up beyond this


# --- chunks ----------------------------------------------------------------------------------------------------------


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each chunk of the PNG `data` up to IEND. PictureError where the file is cut short or damaged."""
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
    """One PNG chunk as it stands in a file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _pixel_chunks(packed: bytes) -> list[bytes]:
    """IDAT chunks of at most 1 MiB: OpenCV balks at very long ones."""
    return [png_chunk(b"IDAT", packed[start : start + 2**20]) for start in range(0, len(packed), 2**20)]


def inflate(data: bytes) -> bytes:
    """zlib data unpacked; zlib.error where it is damaged or unpacks to more than 64 MiB."""
    unpacker = zlib.decompressobj()
    result = unpacker.decompress(data, _MAX_TEXT)
    if unpacker.unconsumed_tail:
        raise zlib.error("too large")
    return result


def read_text(kind: bytes, content: bytes) -> TextChunk | None:
    """The text in a tEXt, zTXt or iTXt chunk; None (and a log line) where it is damaged, for a picture is worth more than its notes."""
    try:
        key, rest = content.split(b"\0", 1)
        if kind == b"iTXt":
            _language, _translated, value = rest[2:].split(b"\0", 2)
            text = (inflate(value) if rest[0] else value).decode("utf-8")
        else:
            text = (inflate(rest[1:]) if kind == b"zTXt" else rest).decode("latin-1")
        return TextChunk(key.decode("latin-1"), text, kind.decode("ascii"))
    except (ValueError, IndexError, zlib.error) as error:
        log.warning("A text chunk of the picture is damaged and left out (%s).", error)
        return None


def text_chunk(text: TextChunk) -> bytes:
    """`text` as a PNG chunk: of its own kind, or iTXt where its letters ask for it."""
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
    """The PNG `data`: uint8 or uint16 numbers, and all that travels along. PictureError where it is cut short or damaged."""
    # Pillow and OpenCV get the bare picture only: texts, animation and colour chunks would make them warn, convert or refuse.
    bare = [PNG_SIGNATURE]
    form: dict[str, Any] = {"text": ()}
    texts: list[TextChunk] = []
    colour: list[tuple[bytes, bytes]] = []
    orientation, depth, colour_type, transparent = 1, 8, 2, b""
    for kind, content in png_chunks(data):
        if kind == b"IHDR":
            width, height, depth, colour_type = struct.unpack_from(">IIBB", content)
            check_size(width, height)
        if kind == b"IDAT":
            bare += _pixel_chunks(content)
        elif kind in (b"IHDR", b"PLTE", b"IEND") or (kind == b"tRNS" and colour_type == 3):
            bare.append(png_chunk(kind, content))
        elif kind == b"tRNS":
            transparent = content
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            text = read_text(kind, content)
            texts += [text] if text else []
        elif kind == b"iCCP":
            form["icc_profile"] = or_none(lambda content=content: inflate(content.split(b"\0", 1)[1][1:]))
        elif kind == b"eXIf":
            tiff, orientation = take_orientation(content.removeprefix(EXIF_PREFIX))
            form["exif"] = prefixed_exif(tiff)
        elif kind == b"pHYs" and len(content) == 9 and content[8] == 1:
            form["dpi"] = tidy_dpi([metre * 0.0254 for metre in struct.unpack_from(">II", content)])
        elif kind in (b"sRGB", b"gAMA", b"cHRM", b"cICP"):
            colour.append((kind, content))
    form["text"], form["colour_chunks"] = tuple(texts), tuple(colour)
    plain = b"".join(bare)
    # Pillow knows no 16 bits of colour; large pictures it copies once more than OpenCV does.
    by_opencv = depth == 16 or (depth == 8 and colour_type == 2)
    array = opencv(plain) if by_opencv else pil_numbers(load(PngImagePlugin.PngImageFile, plain))
    if depth == 16 and colour_type == 4:  # OpenCV spreads grey and alpha over four channels
        array = array[:, :, 2:]
    if transparent:
        array = _with_transparent_colour(array, transparent, depth)
    return Decoded(array, orientation, form)


def _with_transparent_colour(array: AnyArray, transparent: bytes, depth: int) -> AnyArray:
    """`array` with an alpha channel that is 0 where the pixel has the one `transparent` colour of a PNG."""
    colour = np.frombuffer(transparent, dtype=">u2").astype(np.int64)
    if depth < 8:  # Pillow spreads 1, 2 and 4 bits over 0..255
        colour = colour * (255 // (2**depth - 1))
    values = array if array.ndim == 3 else array[:, :, None]
    if colour.size != values.shape[2]:
        return array
    full = np.iinfo(values.dtype).max
    alpha = np.where((values == colour).all(axis=2, keepdims=True), 0, full).astype(values.dtype)
    return np.concatenate([values, alpha], axis=2)


# --- writing ---------------------------------------------------------------------------------------------------------


def encode_png(picture: Picture) -> bytes:
    """A PNG of `picture`: 8 bits where 8 came in, otherwise 16, with ICC profile, EXIF, dpi and texts."""
    form = picture.form
    values = numbers(picture, np.dtype(np.uint8 if form.dtype == np.uint8 else np.uint16))
    height, width, channels = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    chunks: list[bytes] = []
    if (profile := fitting_profile(form)) is not None:
        chunks.append(png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    chunks += [png_chunk(kind, content) for kind, content in form.colour_chunks]
    if form.dpi is not None:
        x, y = (round(value / 0.0254) for value in form.dpi)
        chunks.append(png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if form.exif is not None:
        chunks.append(png_chunk(b"eXIf", form.exif.removeprefix(EXIF_PREFIX)))
    chunks += [text_chunk(text) for text in form.text]
    return b"".join([PNG_SIGNATURE, png_chunk(b"IHDR", header), *chunks, *_pixel_chunks(packed_pixels(values)), png_chunk(b"IEND", b"")])
