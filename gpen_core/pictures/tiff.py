"""TIFF: reading it at full depth and writing it with its metadata."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from ..errors import PictureError
from .arrays import pil_numbers, tidy_dpi
from .form import AnyArray, Picture, colour_profile, fitting_profile, numbers
from .libraries import TOO_BIG_FOR_PILLOW, Decoded, check_size, load, opencv
from .metadata import EXIF_IFD, exif_with_texts, or_none, parsed_exif, prefixed_exif, take_orientation

log = logging.getLogger(__name__)

# The tags that describe the picture, not the file: ImageDescription, Make, Model, Software, DateTime, Artist, Copyright
_DESCRIPTIVE_TAGS = (270, 271, 272, 305, 306, 315, 33432)
_YCBCR = 6  # several pixels may share one colour value
_SUBFILE_TYPE, _PREVIEW = 254, 1  # a tag, and its bit for previews


def tiff_pages(data: bytes) -> list[bytes]:
    """One header for each page of the TIFF `data` that makes it the first page. Leaves out previews, which show the old picture."""
    order = ">" if data[:2] == b"MM" else "<"
    place, count_format, entry_size, value_at = (8, "Q", 20, 12) if 43 in data[2:4] else (4, "H", 12, 8)
    link = order + ("Q" if place == 8 else "I")
    headers: list[bytes] = []
    seen = {0}
    try:
        (offset,) = struct.unpack_from(link, data, place)
        while offset not in seen:
            seen.add(offset)
            (count,) = struct.unpack_from(order + count_format, data, offset)
            first = offset + struct.calcsize(order + count_format)
            (tag,) = struct.unpack_from(order + "H", data, first)  # entries are sorted, so a subfile type comes first
            kind = struct.unpack_from(order + "I", data, first + value_at)[0] if tag == _SUBFILE_TYPE else 0
            if not headers or not kind & _PREVIEW:
                headers.append(data[:place] + struct.pack(link, offset))
            (offset,) = struct.unpack_from(link, data, first + count * entry_size)
    except struct.error:
        log.warning("The TIFF is damaged after page %d; later pages cannot be read.", len(headers))
    return headers


def decode_tiff(data: bytes) -> Decoded:
    """Decodes the first page of the TIFF `data`: uint8, uint16, float32 or float64. Raises PictureError for unsupported kinds."""
    # Remove the orientation before decoding, because libraries and their versions differ in whether they apply it.
    data, orientation = take_orientation(data)
    header = data[:8] if 42 in data[2:4] else data[:16]  # BigTIFF has the longer one
    ifd = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream = io.BytesIO(data)
    stream.seek(ifd.next)
    ifd.load(stream)
    tags: Any = ifd
    width, height = int(tags[256]), int(tags[257])
    check_size(width, height)
    starts, lengths = tags.get(273) or tags.get(324) or (), tags.get(279) or tags.get(325) or ()
    if any(start + length > len(data) for start, length in zip(starts, lengths, strict=False)):
        raise PictureError("the file is cut short")
    bits, samples = max(tags.get(258, (1,))), tags.get(277, 1)
    if tags.get(259, 1) == 1 and tags.get(262) != _YCBCR and sum(lengths) < height * ((width * samples * bits + 7) // 8):
        raise PictureError("the file is cut short")  # checked here, because hosts switch Pillow's own check off
    form = {
        "icc_profile": tags.get(34675),
        "exif": or_none(lambda: _exif_of_tiff(stream, header, tags)),
        "dpi": tidy_dpi([value * (2.54 if tags.get(296) == 3 else 1) for value in (tags.get(282, 0), tags.get(283, 0))]),
    }
    if bits > 8:  # Pillow would cut it down to 8 bits or refuse it
        return Decoded(_by_opencv(data, tags, bits, samples), orientation, form)
    try:
        image = load(TiffImagePlugin.TiffImageFile, data)
    except TOO_BIG_FOR_PILLOW:
        return Decoded(_by_opencv(data, tags, bits, samples), orientation, form)
    if image.mode == "CMYK":  # becomes sRGB
        form["icc_profile"] = None
    return Decoded(pil_numbers(image), orientation, form)


def _by_opencv(data: bytes, tags: Any, bits: int, samples: int) -> AnyArray:
    """Decodes a TIFF with OpenCV: (H, W) or (H, W, 3 or 4) of uint8, uint16, float32 or float64. Raises PictureError."""
    photometric = tags.get(262)
    kind = max(tags.get(339, (1,)))
    if samples not in (1, 3, 4) or photometric not in (0, 1, 2) or (bits, kind) not in ((8, 1), (16, 1), (32, 3), (64, 3)):
        raise PictureError(f"a TIFF with {samples} channels of {bits} bits of this kind is not supported; save it as 16-bit RGB")
    if samples > 1 and tags.get(284) == 2:  # OpenCV would silently mix up the planes
        raise PictureError("separate colour planes are not supported in a TIFF of this size or depth; save it as PNG")
    if bits == 8 and samples == 4:  # OpenCV would premultiply alpha here
        raise PictureError("it is too large for a TIFF with alpha; save it as PNG")
    array = opencv(data)
    if (array.ndim if samples == 1 else array.shape[-1]) != (2 if samples == 1 else samples) or array.dtype.itemsize * 8 != bits:
        raise PictureError("this kind of TIFF is not supported; save it as PNG")
    full = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1.0
    if photometric == 0:  # white is zero; OpenCV does not invert it
        array = (full - array).astype(array.dtype)
    if samples == 4 and 1 in tags.get(338, ()):  # undo premultiplied alpha
        alpha = array[:, :, 3:].astype(np.float64) / full
        colours = np.divide(array[:, :, :3], alpha, out=np.zeros((*array.shape[:2], 3)), where=alpha > 0)
        colours = np.minimum(np.rint(colours), full) if array.dtype.kind == "u" else colours
        array = np.concatenate([colours.astype(array.dtype), array[:, :, 3:]], axis=2)
    return array


def _exif_of_tiff(stream: BinaryIO, header: bytes, tags: Any) -> bytes | None:
    """The descriptive tags of a TIFF as EXIF data."""
    exif = Image.Exif()
    for tag in _DESCRIPTIVE_TAGS:
        if tag in tags:
            exif[tag] = tags[tag]
    for tag in (EXIF_IFD, 0x8825):  # the camera's own tags; GPS
        if tag in tags:
            part: Any = TiffImagePlugin.ImageFileDirectory_v2(header)
            stream.seek(int(tags[tag]))
            part.load(stream)
            exif[tag] = dict(part)
    return prefixed_exif(exif.tobytes()) if len(exif) else None


def encode_tiff(picture: Picture) -> bytes:
    """Encodes `picture` as TIFF (Deflate) in its original dtype (float16: float32), with ICC profile, EXIF and dpi."""
    table, _, pixels = tiff_page(picture, 8)
    return b"II*\0\x08\0\0\0" + table + pixels


def tiff_page(picture: Picture, start: int) -> tuple[bytes, int, bytes]:
    """One page that begins at offset `start` of a file: (its table, number of entries, its pixels, which must follow directly)."""
    form = picture.form
    dtype = np.dtype(np.float32) if form.dtype == np.float16 else form.dtype
    values = numbers(picture, dtype)
    if values.shape[2] == 2 and dtype != np.uint8:  # few programs read grey with alpha at more than 8 bits
        values = values[:, :, [0, 0, 0, 1]]
    height, width, channels = values.shape
    predictor = 1
    if dtype.kind == "u":  # differences along the row compress better
        values = np.concatenate([values[:, :1], np.diff(values, axis=1)], axis=1)
        predictor = 2
    pixels = zlib.compress(values.astype(np.dtype(f"<{dtype.kind}{dtype.itemsize}")).tobytes())
    tags: dict[int, Any] = {256: width, 257: height, 258: (dtype.itemsize * 8,) * channels}
    tags |= {259: 8, 317: predictor}  # Deflate
    tags |= {262: 2 if channels >= 3 else 1, 277: channels, 278: height, 284: 1, 339: ((3 if dtype.kind == "f" else 1),) * channels}
    if channels in (2, 4):
        tags[338] = 2  # alpha, not premultiplied
    if form.dpi is not None:
        tags |= {282: form.dpi[0], 283: form.dpi[1], 296: 2}
    profile = fitting_profile(form) if channels <= 2 or not form.grey else colour_profile(form.icc_profile)
    if profile is not None:
        tags[34675] = profile
    tags |= {273: 0, 279: len(pixels)}  # Pillow fills in the offset of the pixels: right after the table
    exif = exif_with_texts(form.exif, form.text, comfy=False)
    with_notes = None if exif is None else or_none(lambda: _table({**tags, **_tags_of_exif(exif)}, start))
    table, entries = with_notes or _table(tags, start)
    return table, entries, pixels


def _table(tags: dict[int, Any], start: int) -> tuple[bytes, int]:
    """(an encoded table of tags for offset `start` of a file, its number of entries)."""
    ifd: Any = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for tag, value in tags.items():
        ifd[tag] = value
    table = ifd.tobytes(start)
    return table, int.from_bytes(table[:2], "little")


def _tags_of_exif(data: bytes) -> dict[int, Any]:
    """EXIF data as tags of a TIFF. Raises any error of Pillow if it is damaged."""
    exif = parsed_exif(data)
    tags = {tag: exif[tag] for tag in _DESCRIPTIVE_TAGS if tag in exif}
    return tags | {tag: part for tag in (EXIF_IFD, 0x8825) if (part := dict(exif.get_ifd(tag)))}
