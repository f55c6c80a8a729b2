"""Picture metadata: EXIF with its orientation, and the texts of image generators."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

log = logging.getLogger(__name__)

# For log lines that apply to many pictures of a run: a door may show only the first.
ONCE = {"once": True}
COMMENT = "Comment"  # the text key of a JPEG's comment
EXIF_PREFIX = b"Exif\0\0"
EXIF_IFD = 0x8769
USER_COMMENT = 0x9286
_ORIENTATION = 0x0112
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)  # ImageWidth and PixelXDimension; ImageLength and PixelYDimension
_X_RESOLUTION, _Y_RESOLUTION = 0x011A, 0x011B
_SHORT, _LONG, _RATIONAL = 3, 4, 5


class TextChunk(NamedTuple):
    """One text of a PNG. `kind`: tEXt, zTXt or iTXt."""

    key: str
    value: str
    kind: str = "tEXt"


def take_orientation(tiff: bytes) -> tuple[bytes, int]:
    """(`tiff` with orientation 1, its original orientation, 1..8) for EXIF data or a whole TIFF file, which begin alike.

    Changes only this number: everything else, including maker notes, keeps every byte. Damaged data counts as orientation 1.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return tiff, 1
    try:
        if struct.unpack_from(order + "H", tiff, 2)[0] == 43:  # BigTIFF
            start_at, count_format, entry_size, value_at = (8, "Q", 20, 12)
        else:
            start_at, count_format, entry_size, value_at = (4, "H", 12, 8)
        start = struct.unpack_from(order + ("Q" if start_at == 8 else "I"), tiff, start_at)[0]
        count = struct.unpack_from(order + count_format, tiff, start)[0]
        first = start + struct.calcsize(order + count_format)
        for entry in range(first, first + min(count, 65535) * entry_size, entry_size):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _ORIENTATION and kind in (3, 4):
                value_format = order + ("H" if kind == 3 else "I")
                value = struct.unpack_from(value_format, tiff, entry + value_at)[0]
                if value == 1:
                    return tiff, 1
                changed = bytearray(tiff)
                struct.pack_into(value_format, changed, entry + value_at, 1)
                return bytes(changed), value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return tiff, 1


def exif_of_size(exif: bytes, size: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0), *, turned: bool = False) -> bytes:
    """EXIF whose entries agree with a picture that was resized, or turned by a quarter, to `size` (width, height).

    Its width and height become the new ones, its resolution is multiplied by `scale` (x, y): the printed size stays. Adds no entry, and
    every other byte, such as those of maker notes, stays. Damaged data is returned as it is.
    """
    prefix = EXIF_PREFIX if exif.startswith(EXIF_PREFIX) else b""
    tiff = exif.removeprefix(prefix)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    changed = bytearray(tiff)
    try:
        if order is None:
            return exif
        outer = dict(_entries(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0]))
        inner: dict[int, int] = {}
        if EXIF_IFD in outer:
            inner = dict(_entries(tiff, order, struct.unpack_from(order + "I", tiff, outer[EXIF_IFD] + 8)[0]))
        for tags, pixels in zip((_WIDTHS, _HEIGHTS), size, strict=True):
            for entry in (entries[tag] for tag, entries in zip(tags, (outer, inner), strict=True) if tag in entries):
                kind = struct.unpack_from(order + "H", tiff, entry + 2)[0]
                if kind == _SHORT and pixels < 65536:
                    struct.pack_into(order + "H", changed, entry + 8, pixels)
                elif kind in (_SHORT, _LONG):  # a long number has room in the same entry
                    struct.pack_into(order + "HII", changed, entry + 2, _LONG, 1, pixels)
        # Read from the old bytes, because both may share one number.
        for tag, factor in zip((_X_RESOLUTION, _Y_RESOLUTION), scale, strict=True):
            source = _X_RESOLUTION + _Y_RESOLUTION - tag if turned else tag
            if tag in outer and source in outer:
                above, below = (_place_of_rational(tiff, order, outer[each]) for each in (tag, source))
                numerator, denominator = struct.unpack_from(order + "II", tiff, below)
                struct.pack_into(order + "II", changed, above, *_rational(numerator, denominator, factor))
    except (struct.error, ValueError):
        return exif
    return prefix + bytes(changed)


def _entries(tiff: bytes, order: str, start: int) -> Iterator[tuple[int, int]]:
    """(tag, offset of its entry) of each entry of the table at offset `start`."""
    (count,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        yield struct.unpack_from(order + "H", tiff, entry)[0], entry


def _place_of_rational(tiff: bytes, order: str, entry: int) -> int:
    """The offset of an entry's fraction. Raises ValueError if it holds something else."""
    kind, count, place = struct.unpack_from(order + "HII", tiff, entry + 2)
    if kind != _RATIONAL or count != 1:
        raise ValueError("not one fraction")
    return place


def _rational(numerator: int, denominator: int, factor: float) -> tuple[int, int]:
    """The fraction times `factor`, in 32 bits each. Without a value (denominator 0) or room it stays as it is."""
    if factor == 1 or denominator == 0:
        return numerator, denominator
    value = Fraction(numerator, denominator) * Fraction(factor)
    for most in (denominator * 1000, 1000, 1):
        near = value.limit_denominator(most)
        if max(near.numerator, near.denominator) < 2**32:
            return near.numerator, near.denominator
    return numerator, denominator


def turn(array: Any, orientation: int) -> Any:
    """Applies the EXIF `orientation` (1..8) to `array` (H, W, ...)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def exif_with_texts(exif: bytes | None, texts: tuple[TextChunk, ...], *, comfy: bool) -> bytes | None:
    """EXIF that also holds the texts of image generators from a PNG, where their own programs look for them.

    `parameters` goes into UserComment, as in A1111; with `comfy`, `prompt` and `workflow` go into Model and Make, as in ComfyUI's WebP.
    Existing EXIF entries are kept.
    """
    values = {text.key: text.value for text in texts}
    wanted = {"parameters", "prompt", "workflow"} if comfy else {"parameters"}
    if not wanted & values.keys():
        return exif
    result = Image.Exif()
    inner: dict[Any, Any] = {}
    if exif is not None and (known := or_none(lambda: parsed_exif(exif))) is not None:
        result, inner = known, dict(known.get_ifd(EXIF_IFD))
    if comfy:
        for tag, key in ((0x0110, "prompt"), (0x010F, "workflow")):
            if key in values and tag not in result:
                result[tag] = f"{key}:{values[key]}"
    if "parameters" in values and USER_COMMENT not in inner:
        inner[USER_COMMENT] = b"UNICODE\0" + values["parameters"].encode("utf-16-be", "replace")
        result[EXIF_IFD] = inner
    return or_none(lambda: prefixed_exif(result.tobytes())) or exif


def parsed_exif(data: bytes) -> Image.Exif:
    """Parses EXIF data, including the camera's own part. Raises any error of Pillow if it is damaged."""
    exif = Image.Exif()
    exif.load(data)
    exif.get_ifd(EXIF_IFD)
    return exif


def say_lost_texts(format_name: str, texts: tuple[TextChunk, ...], *kept: str) -> None:
    """Logs one line about the texts (and comments) that a format cannot store."""
    lost = sorted({text.key for text in texts}.difference(kept))
    if lost:
        names = ", ".join(lost[:5]) + (", ..." if len(lost) > 5 else "")
        log.warning("%s cannot store this metadata (%s), so it is left out. PNG keeps it.", format_name, names, extra=ONCE)


def or_none(read: Callable[[], Any]) -> Any:
    """The result of `read`, or None (and a log line): damaged metadata must not lose the picture."""
    try:
        return read()
    except Exception as error:
        log.warning("A colour profile or metadata entry is damaged and left out (%s).", error)
        return None


def prefixed_exif(data: bytes | None) -> bytes | None:
    """EXIF data with the prefix b"Exif\\0\\0", added if missing; None if there is no data."""
    if not data:
        return None
    return data if data.startswith(EXIF_PREFIX) else EXIF_PREFIX + data
