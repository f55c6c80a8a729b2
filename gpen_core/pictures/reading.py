"""Reading picture files: what a file is is told by its content, never by its name, and nothing is read by half."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, WebPImagePlugin

from ..errors import PictureError
from .form import Form, Picture, build
from .libraries import TOO_BIG_FOR_PILLOW, Decoded, from_pillow, load, open_image, opencv, with_info
from .metadata import turn
from .png import PNG_SIGNATURE, decode_png
from .tiff import decode_tiff

try:
    from PIL import AvifImagePlugin
except ImportError:  # Pillow before 11.3
    AvifImagePlugin = None

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif")
_HEAD = 64 * 1024


def is_picture_path(path: str | os.PathLike[str]) -> bool:
    """Whether the name ends like a picture's (see SUFFIXES). macOS's shadow files ("._name.jpg") are none."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Read PNG, JPEG, WebP, TIFF, BMP, or the first frame of GIF and AVIF, at the full depth of the file.

    The pixels are turned as the file's EXIF says; the ICC profile is kept and not applied, except that CMYK becomes sRGB.
    PictureError, one sentence with the path and the reason, for whatever cannot be read whole. At most MAX_PIXELS pixels.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise PictureError("it is a folder")
        with path.open("rb") as handle:
            head = handle.read(_HEAD)
            name, decode = _decoder(head)
            data = head + handle.read()
        decoded = decode(data)
        picture = build(turn(decoded.array, decoded.orientation), Form(kind="file", format=name, **decoded.form))
        return replace(picture, form=replace(picture.form, channel_axis=False))
    except FileNotFoundError:
        reason = "there is no such file"
    except PermissionError:
        reason = "it may not be read by this user"
    except PictureError as error:
        reason = str(error).rstrip(".")
    except MemoryError:
        reason = "there is not enough memory for it"
    except Exception as error:  # decoders meet damaged files with every kind of exception
        reason = _damage(error)
        log.debug("Reading %s failed", path, exc_info=True)
    raise PictureError(f"Cannot read the picture {path}: {reason}.") from None


def _damage(error: Exception) -> str:
    text = str(error)
    cut = "truncated" in text.lower() or isinstance(error, EOFError)
    return "the file is cut short" if cut else f"the file is damaged ({text or type(error).__name__})"


# --- what is it ------------------------------------------------------------------------------------------------------

_REFUSED = (
    (b"%PDF", "it is a PDF document, not a picture"),
    (b"8BPS", "it is a Photoshop document; save it as PNG or TIFF"),
    (b"PK\x03\x04", "it is a ZIP archive, not a picture"),
    (b"\x1aE\xdf\xa3", "it is a video, not a picture"),
    (b"\0\0\0\x0cJXL ", "JPEG XL is not supported; save it as PNG"),
    (b"\xff\x0a", "JPEG XL is not supported; save it as PNG"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000 is not supported; save it as PNG"),
    (b"version https://git-lfs", "it is only a Git LFS pointer; fetch the real file with `git lfs pull`"),
    (b"<!doctype html", "it is a web page, not a picture (the download answered with a page)"),
    (b"<html", "it is a web page, not a picture (the download answered with a page)"),
    (b"<svg", "SVG drawings are not supported; save it as PNG"),
)


def _decoder(head: bytes) -> tuple[str, Callable[[bytes], Decoded]]:
    """(name, decoder) for a file that begins with `head`; PictureError says what it is where it is no picture."""
    if head.startswith(PNG_SIGNATURE):
        return "PNG", decode_png
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG", _jpeg
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP", _webp
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF", decode_tiff
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP", _bmp
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF", _gif
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF", _avif
    raise PictureError(_what_it_is(head))


def _what_it_is(head: bytes) -> str:
    if not head:
        return "the file is empty (0 bytes)"
    if not head.strip(b"\0"):
        return "it holds nothing but zeros (an unfinished download?)"
    for start, reason in _REFUSED:
        if head.startswith(start) or head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(start):
            return reason
    if head[4:8] == b"ftyp":
        if head[8:11] in (b"hei", b"hev", b"mif"):
            return "HEIC is not supported; save it as JPEG or PNG"
        return "it is a video, not a picture"
    if len(head) < 12 and (PNG_SIGNATURE.startswith(head) or head.startswith((b"\xff\xd8", b"RIFF"))):
        return "the file is cut short"
    if not set(head[:4096]) & (set(range(32)) - set(b"\t\n\r\f\x1b")):
        return "it is a text file, not a picture"
    return "it is no picture of a supported format (PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF)"


# --- decoders: one a format ------------------------------------------------------------------------------------------


def _jpeg(data: bytes) -> Decoded:
    # Asked of the file and not left to Pillow: hosts switch Pillow's own check off (LOAD_TRUNCATED_IMAGES) for the whole process.
    if not _jpeg_is_whole(data):
        raise PictureError("the file is cut short")
    image = load(JpegImagePlugin.JpegImageFile, data)
    decoded = from_pillow(image)
    if image.mode != "CMYK":
        decoded.form["jpeg_quality"] = _jpeg_quality(image)
        sampling = JpegImagePlugin.get_sampling(image)
        decoded.form["jpeg_subsampling"] = sampling if sampling in (0, 1, 2) else None
    return decoded


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether an end marker follows the picture's own scan (an end marker before it would belong to an embedded thumbnail)."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return True  # no marker where one should be: for the decoder to judge
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position) >= 0
        position += 2 if 0xD0 <= marker <= 0xD8 or marker == 0x01 else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _jpeg_quality(image: Any) -> int | None:
    """The libjpeg quality, 1..100, whose luminance table is as coarse as this one."""
    table = image.quantization.get(0)
    if not table:
        return None
    percent = 100 * sum(table) / 3689  # the sum of the standard table, which is quality 50
    quality = 5000 / percent if percent > 100 else (200 - percent) / 2
    return min(100, max(1, round(quality)))


def _webp(data: bytes) -> Decoded:
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise PictureError("the file is cut short")
    chunks = _webp_chunks(data)
    try:
        decoded = from_pillow(load(WebPImagePlugin.WebPImageFile, data))
    except TOO_BIG_FOR_PILLOW:
        decoded = with_info(opencv(data), {"exif": chunks.get(b"EXIF"), "icc_profile": chunks.get(b"ICCP")})
    decoded.form["lossless"] = b"VP8L" in chunks
    return decoded


def _webp_chunks(data: bytes) -> dict[bytes, bytes]:
    chunks: dict[bytes, bytes] = {}
    position = 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        chunks[data[position : position + 4]] = data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return chunks


def _bmp(data: bytes) -> Decoded:
    image = open_image(BmpImagePlugin.BmpImageFile, data)
    start, header = struct.unpack_from("<II", data, 10)
    if header >= 40:
        bits, compression = struct.unpack_from("<HI", data, 28)
        row_bytes = (image.width * bits + 31) // 32 * 4
        if compression in (0, 3) and start + row_bytes * image.height > len(data):
            raise PictureError("the file is cut short")
    image.load()
    return from_pillow(image)


def _gif(data: bytes) -> Decoded:
    return from_pillow(load(GifImagePlugin.GifImageFile, data))


def _avif(data: bytes) -> Decoded:
    if AvifImagePlugin is None or not getattr(AvifImagePlugin, "SUPPORTED", True):
        raise PictureError("this Pillow cannot read AVIF; install Pillow 11.3 or newer, or save it as PNG")
    return from_pillow(load(AvifImagePlugin.AvifImageFile, data))
