"""Writes animations and multi-page TIFFs frame by frame: encodes each frame as a still picture and puts it into the container.

Every frame is complete and replaces the previous one, so nothing needs disposal or blending.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import BinaryIO, Protocol

from ..errors import PictureError
from .form import AnyArray, Form, Picture
from .libraries import notes_of
from .metadata import EXIF_PREFIX
from .png import head_of_png, packed_pixels, png_chunk, png_numbers
from .tiff import tiff_page
from .webp import encode_webp, webp_chunks


class Writer(Protocol):
    """Writes the frames of one file."""

    def __init__(self, file: BinaryIO, form: Form, quality: int) -> None: ...

    def add(self, picture: Picture, milliseconds: float) -> None:
        """Adds the next frame and its display time."""
        ...

    def finish(self) -> None:
        """Completes the file after the last frame."""
        ...


class _Apng:
    """An animated PNG. Colours, depth and metadata are those of the first frame."""

    def __init__(self, file: BinaryIO, form: Form, quality: int) -> None:
        self._file, self._form = file, form
        self._number = 0  # of the next fcTL or fdAT chunk
        self._layout: tuple[object, ...] = ()

    def add(self, picture: Picture, milliseconds: float) -> None:
        values = png_numbers(picture)
        first = not self._layout
        if first:
            self._layout = (values.shape, values.dtype)
            control = png_chunk(b"acTL", struct.pack(">II", self._form.frames, self._form.plays))
            self._file.write(b"".join([*head_of_png(picture.form, values), control]))
        _check_alike(self._layout, (values.shape, values.dtype))
        self._file.write(self._frame_control(values, milliseconds))
        packed = packed_pixels(values)
        for start in range(0, len(packed), 2**20):
            part = packed[start : start + 2**20]
            self._file.write(png_chunk(b"IDAT", part) if first else png_chunk(b"fdAT", self._next_number() + part))

    def _frame_control(self, values: AnyArray, milliseconds: float) -> bytes:
        seconds = min(max(0.0, milliseconds / 1000), 65535.0)
        delay = Fraction(seconds).limit_denominator(max(1, min(1000, int(65535 / max(seconds, 1)))))
        height, width = values.shape[:2]
        # 0, 0: each frame replaces the previous one
        content = struct.pack(">IIIIHHBB", width, height, 0, 0, delay.numerator, delay.denominator, 0, 0)
        return png_chunk(b"fcTL", self._next_number() + content)

    def _next_number(self) -> bytes:
        self._number += 1
        return struct.pack(">I", self._number - 1)

    def finish(self) -> None:
        self._file.write(png_chunk(b"IEND", b""))


class _AnimatedWebp:
    _ICC, _ALPHA, _EXIF, _ANIMATED = 0x20, 0x10, 0x08, 0x02
    _NO_BLENDING = 0x02

    def __init__(self, file: BinaryIO, form: Form, quality: int) -> None:
        self._file, self._form, self._quality = file, form, quality
        self._size = (0, 0)
        self._flags = self._ANIMATED
        self._notes: dict[str, bytes] = {}

    def add(self, picture: Picture, milliseconds: float) -> None:
        if self._size == (0, 0):
            self._begin(picture)
        _check_alike(self._size, (picture.width, picture.height))
        if picture.alpha is not None:
            self._flags |= self._ALPHA
        still = encode_webp(picture, self._quality)
        pixels = b"".join(_webp_chunk(name, content) for name, content in webp_chunks(still) if name in (b"ALPH", b"VP8 ", b"VP8L"))
        shown = min(max(0, round(milliseconds)), 2**24 - 1)
        where = b"\0" * 6 + _in_24_bits(picture.width - 1) + _in_24_bits(picture.height - 1) + _in_24_bits(shown)
        self._file.write(_webp_chunk(b"ANMF", where + bytes([self._NO_BLENDING]) + pixels))

    def _begin(self, picture: Picture) -> None:
        self._size = (picture.width, picture.height)
        self._notes = notes_of(picture.form, comfy=True)
        self._file.write(self._head())
        if "icc_profile" in self._notes:
            self._flags |= self._ICC
            self._file.write(_webp_chunk(b"ICCP", self._notes["icc_profile"]))
        background = bytes(4)  # never visible, because every frame covers it
        self._file.write(_webp_chunk(b"ANIM", background + struct.pack("<H", min(self._form.plays, 65535))))

    def _head(self, length: int = 0) -> bytes:
        size = _in_24_bits(self._size[0] - 1) + _in_24_bits(self._size[1] - 1)
        return b"RIFF" + struct.pack("<I", length) + b"WEBP" + _webp_chunk(b"VP8X", bytes([self._flags, 0, 0, 0]) + size)

    def finish(self) -> None:
        if "exif" in self._notes:
            self._flags |= self._EXIF
            self._file.write(_webp_chunk(b"EXIF", self._notes["exif"].removeprefix(EXIF_PREFIX)))
        length = self._file.tell() - 8
        self._file.seek(0)
        self._file.write(self._head(length))  # now that the length and the flags are known


class _TiffPages:
    """A multi-page TIFF. Pages may differ in size, depth and metadata."""

    def __init__(self, file: BinaryIO, form: Form, quality: int) -> None:
        self._file = file
        self._file.write(b"II*\0\0\0\0\0")
        self._link = 4  # where to write the offset of the next page

    def add(self, picture: Picture, milliseconds: float) -> None:
        start = self._file.seek(0, 2)
        table, entries, pixels = tiff_page(picture, start)
        self._file.write(table + pixels + b"\0" * (len(pixels) % 2))  # tables begin at even offsets
        self._file.seek(self._link)
        self._file.write(struct.pack("<I", start))
        self._link = start + 2 + 12 * entries

    def finish(self) -> None:
        pass


def _check_alike(first: object, this: object) -> None:
    if first != this:
        raise PictureError("its frames differ in size, depth or transparency, which the format does not support")


def _webp_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _in_24_bits(number: int) -> bytes:
    return number.to_bytes(3, "little")


WRITERS: dict[str, type[Writer]] = {".png": _Apng, ".webp": _AnimatedWebp, ".tif": _TiffPages, ".tiff": _TiffPages}


def suffixes_for(form: Form) -> tuple[str, ...]:
    """The file suffixes that can store all frames or pages of a picture of that form."""
    return (".tif", ".tiff") if form.format == "TIFF" else (".png", ".webp")
