"""Reads picture files. The content decides the format, never the name, and incomplete files are refused."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from ..errors import PictureError, shown
from .form import AnyArray, Form, Picture, build
from .libraries import Decoded, check_frames, frames_by_pillow, from_pillow, load, open_image
from .metadata import COMMENT, TextChunk, turn
from .png import PNG_SIGNATURE, animated_part, decode_png
from .tiff import decode_tiff, tiff_pages
from .webp import decode_webp, webp_claim
from .xmp import xmp_upright

try:
    from PIL import AvifImagePlugin
except ImportError:  # Pillow before 11.3
    AvifImagePlugin = None

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif")
_HEAD = 64 * 1024
_MOST_BYTES = 8 << 30  # largest file


def is_picture_path(path: str | os.PathLike[str]) -> bool:
    """True if the name has a picture suffix (see SUFFIXES). macOS's shadow files ("._name.jpg") do not count."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def read_picture(path: str | os.PathLike[str]) -> Picture:
    """Reads PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF at the file's full depth; for animations and pages, the first.

    Turns the pixels by the EXIF orientation; keeps the ICC profile without applying it, except that CMYK becomes sRGB.
    Raises PictureError, one sentence with path and reason, for anything that cannot be read whole. At most MAX_PIXELS pixels.
    """
    path = Path(path)
    with _explained(path):
        name, decode, data = _content(path)
        decoded = decode(data)
        return _picture(decoded.array, name, decoded)
    raise AssertionError  # not reached: `_explained` raises every error


def decode_picture(data: bytes, name: Path) -> Picture:
    """Like read_picture, from a file's bytes. name: for messages."""
    with _explained(name):
        format_name, decode = _decoder(data[:_HEAD])
        decoded = decode(data)
        return _picture(decoded.array, format_name, decoded)
    raise AssertionError  # not reached: `_explained` raises every error


def read_frames(path: str | os.PathLike[str]) -> Iterator[tuple[Picture, float]]:
    """Yields (picture, milliseconds) for every frame of an animation as displayed, or every page of a TIFF; otherwise the one picture.

    Holds one frame in memory at a time, besides the file itself. Otherwise like read_picture; each frame has its form.
    """
    path = Path(path)
    with _explained(path):
        name, decode, data = _content(path)
        check_frames(*_claim(name, data), len(data))  # before the first frame is decoded
        first = decode(data)
        frames = first.form.get("frames", 1)
        check_frames(first.array.shape[1], first.array.shape[0], frames, len(data))
        if frames == 1:
            yield _picture(first.array, name, first), 0.0
        elif name == "TIFF":
            for header in tiff_pages(data):
                page = decode_tiff(header + data[len(header) :])
                page.form["frames"] = frames
                yield _picture(page.array, name, page), 0.0
        elif first.array.dtype != np.uint8:
            raise PictureError("a 16-bit animation is not supported; save it with 8 bits")
        else:
            plugin = _ANIMATED[name]
            for array, milliseconds in frames_by_pillow(plugin, animated_part(data) if name == "PNG" else data):
                yield _picture(array, name, first), milliseconds


def _claim(name: str, data: bytes) -> tuple[int, int, int]:
    """(width, height, frames) that an animation's headers claim."""
    if name == "WEBP":  # Pillow refuses large ones by a limit that belongs to the host
        return webp_claim(data)
    if name not in _ANIMATED:
        return 0, 0, 1
    image: Any = open_image(_ANIMATED[name], animated_part(data) if name == "PNG" else data)
    return image.width, image.height, getattr(image, "n_frames", 1)


def _picture(array: AnyArray, name: str, decoded: Decoded) -> Picture:
    upright, form = turn(array, decoded.orientation), Form(format=name, **decoded.form)
    if decoded.orientation != 1:
        form = replace(form, text=xmp_upright(form.text))
    return build(upright, form.turned((upright.shape[1], upright.shape[0])) if decoded.orientation >= 5 else form)


def _content(path: Path) -> tuple[str, Callable[[bytes], Decoded], bytes]:
    """(name of the format, its decoder, all bytes) of a file."""
    if path.is_dir():
        raise PictureError("it is a folder")
    if path.exists() and not path.is_file():  # opening a pipe may wait for ever for a writer
        raise PictureError("it is a pipe or a device, not a file")
    with path.open("rb") as handle:
        if os.fstat(handle.fileno()).st_size > _MOST_BYTES:
            raise PictureError(f"the file is too large (at most {_MOST_BYTES >> 30} GiB)")
        head = handle.read(_HEAD)
        name, decode = _decoder(head)
        return name, decode, head + handle.read()


@contextmanager
def _explained(path: Path) -> Generator[None, None, None]:
    """Turns every error inside into a PictureError of one sentence."""
    try:
        yield
        return
    except FileNotFoundError:
        reason = "there is no such file"
    except PermissionError:
        reason = "you have no permission to read it"
    except PictureError as error:
        reason = str(error).rstrip(".")
    except MemoryError:
        reason = "there is not enough memory"
    except Exception as error:  # decoders raise all kinds of exceptions for damaged files
        reason = _damage(error)
        log.debug("Reading %s failed", path, exc_info=True)
    raise PictureError(f"Cannot read the picture {path}: {reason}.") from None


def _damage(error: Exception) -> str:
    text = shown(" ".join(str(error).split()), 200)  # OpenCV's end in a line break
    cut = "truncated" in text.lower() or isinstance(error, EOFError)
    return "the file is cut short" if cut else f"the file is damaged ({text or type(error).__name__})"


# --- recognising the format ------------------------------------------------------------------------------------------

_REFUSED = (
    (b"%PDF", "it is a PDF document, not a picture"),
    (b"8BPS", "it is a Photoshop document; save it as PNG or TIFF"),
    (b"PK\x03\x04", "it is a ZIP archive, not a picture"),
    (b"\x1aE\xdf\xa3", "it is a video, not a picture"),
    (b"\0\0\0\x0cJXL ", "JPEG XL is not supported; save it as PNG"),
    (b"\xff\x0a", "JPEG XL is not supported; save it as PNG"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000 is not supported; save it as PNG"),
    (b"version https://git-lfs", "it is only a Git LFS pointer; download the real file with `git lfs pull`"),
    (b"<!doctype html", "it is a web page, not a picture (the download answered with a page)"),
    (b"<html", "it is a web page, not a picture (the download answered with a page)"),
    (b"<svg", "SVG drawings are not supported; save it as PNG"),
)


def _decoder(head: bytes) -> tuple[str, Callable[[bytes], Decoded]]:
    """(name, decoder) for a file that begins with `head`. Raises PictureError, which says what any other file is."""
    if head.startswith(PNG_SIGNATURE):
        return "PNG", decode_png
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG", _jpeg
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP", decode_webp
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF", _tiff
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
        return "it contains only zeros (an unfinished download?)"
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
    return "it is not in a supported format (PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF)"


# --- decoders: one per format ----------------------------------------------------------------------------------------


def _jpeg(data: bytes) -> Decoded:
    # Checked here because hosts switch Pillow's own check off (LOAD_TRUNCATED_IMAGES) for the whole process.
    end = _end_of_jpeg(data)
    if end < 0:
        raise PictureError("the file is cut short")
    image = load(JpegImagePlugin.JpegImageFile, data)
    if _is_filled_up(image, data, end):
        raise PictureError("the file is cut short (rows of pixels are missing)")
    decoded = from_pillow(image)
    if image.mode != "CMYK":
        sampling = JpegImagePlugin.get_sampling(image)
        decoded.form["jpeg_subsampling"] = sampling if sampling in (0, 1, 2) else None
    if comment := image.info.get("comment"):
        decoded.form["text"] = (TextChunk(COMMENT, comment.decode("latin-1")),)
    return decoded


def _end_of_jpeg(data: bytes) -> int:
    """Offset of the end marker after the picture's own scan (an earlier one belongs to an embedded thumbnail), or -1."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return len(data)  # a marker is missing: the decoder decides
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == 0xDA:
            return data.find(b"\xff\xd9", position)
        position += 2 if 0xD0 <= marker <= 0xD8 or marker == 0x01 else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return -1


def _is_filled_up(image: Image.Image, data: bytes, end: int) -> bool:
    """True if a scan ends too early although an end marker follows: decoders silently fill the rest with middle grey.

    In that case other bytes before the marker change the picture; after a complete scan they are ignored.
    """
    last = np.asarray(image.crop((image.width - 1, image.height - 1, image.width, image.height)))
    if not np.isin(last, (127, 128)).all():
        return False
    other = load(JpegImagePlugin.JpegImageFile, data[:end] + bytes(range(128)) + data[end:])
    return image.tobytes() != other.tobytes()


def _tiff(data: bytes) -> Decoded:
    decoded = decode_tiff(data)
    decoded.form["frames"] = len(tiff_pages(data))
    return decoded


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


# The plugin that opens the animations of each format.
_ANIMATED: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
if AvifImagePlugin is not None:
    _ANIMATED["AVIF"] = AvifImagePlugin.AvifImageFile
