"""Picture metadata: EXIF with its orientation, and the texts of image generators."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
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
