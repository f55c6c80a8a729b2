"""Writes picture files: encodes in memory, writes beside the target, then renames, so that no file is ever incomplete."""

from __future__ import annotations

import io
import logging
import os
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import PictureError, SettingsError
from . import animation
from .arrays import eight_bit_image
from .disk import check_free, whole_file
from .form import Form, Picture
from .libraries import MOST_IN_JPEG, pillow_save
from .metadata import COMMENT, ONCE, say_lost_texts
from .png import encode_png
from .tiff import encode_tiff
from .webp import encode_webp

log = logging.getLogger(__name__)


def write_picture(picture: Picture, path: str | os.PathLike[str], *, overwrite: bool = False, quality: int = 95) -> Path:
    """Writes `picture` in the format of the path's suffix (WRITE_SUFFIXES) and returns the path.

    Keeps ICC profile, EXIF, dpi and (PNG) texts; PNG (floats: 16 bits) and TIFF keep more than 8 bits. JPEG has no alpha: the background
    becomes white. `quality` (1..100) is for JPEG and lossy WebP. Creates missing folders. Keeps an existing file unless `overwrite`.
    Raises PictureError if the file cannot be written; then, and after Ctrl-C, nothing is left behind.
    """
    target = Path(path)
    encode = _encoder(target, quality)
    if picture.form.frames > 1:
        log.warning("%s contains only the first of %d frames or pages.", target, picture.form.frames)
    check_free(target, overwrite)
    with _encoding(target):
        data = encode(picture, quality)
    with whole_file(target, overwrite) as file:
        file.write(data)
    return target


def encode_picture(picture: Picture, name: Path, quality: int = 95) -> bytes:
    """The bytes of the file that write_picture writes. name: its suffix chooses the format; also for messages."""
    encode = _encoder(name, quality)
    with _encoding(name):
        return encode(picture, quality)
    raise AssertionError  # not reached: `_encoding` raises every error


def _encoder(target: Path, quality: int) -> Callable[[Picture, int], bytes]:
    if not 1 <= quality <= 100:
        raise SettingsError(f"The quality must be from 1 to 100, not {quality}.")
    encode = _ENCODERS.get(target.suffix.lower())
    if encode is None:
        raise PictureError(f"Cannot write {target}: the name must end with one of {', '.join(WRITE_SUFFIXES)}.")
    return encode


def check_frames(form: Form, target: Path) -> None:
    """Raises PictureError if `target` cannot store all frames (or pages) of a picture of that form."""
    suffixes = animation.suffixes_for(form)
    if form.frames > 1 and target.suffix.lower() not in suffixes:
        what = "pages" if form.format == "TIFF" else "frames"
        raise PictureError(f"It has {form.frames} {what}, and {target} cannot store them: the name must end with {' or '.join(suffixes)}.")


@contextmanager
def frame_file(
    form: Form, path: str | os.PathLike[str], *, overwrite: bool = False, quality: int = 95
) -> Generator[Callable[[Picture, float], None], None, None]:
    """Writes an animation (or a multi-page TIFF) of that form: yields a function that takes each frame and its milliseconds.

    Holds one frame in memory. Otherwise like write_picture: the file appears whole or not at all. Raises PictureError if the format
    cannot store the frames, or if their number differs from `form.frames`.
    """
    target, count = Path(path), 0
    check_frames(form, target)
    with whole_file(target, overwrite) as file:
        with _encoding(target):
            writer = animation.WRITERS[target.suffix.lower()](file, form, quality)

        def add(picture: Picture, milliseconds: float) -> None:
            nonlocal count
            with _encoding(target):
                writer.add(picture, milliseconds)
            count += 1

        yield add
        if count != form.frames:
            raise PictureError(f"Cannot write {target}: there are {count} frames instead of {form.frames}.")
        with _encoding(target):
            writer.finish()


@contextmanager
def _encoding(target: Path) -> Generator[None, None, None]:
    """Turns every error of an encoder into a PictureError that names the file. Lets disk errors through."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f"Cannot write {target}: {error}") from error
    except MemoryError as error:
        raise PictureError(f"Cannot write {target}: there is not enough memory.") from error
    except Exception as error:  # libraries raise all kinds of exceptions for unusual metadata and sizes
        if isinstance(error, OSError) and error.errno is not None:
            raise
        log.debug("Encoding %s failed", target, exc_info=True)
        raise PictureError(f"Cannot write {target}: the picture does not fit the format ({error}).") from error


# --- encoders: one per format ----------------------------------------------------------------------------------------


def _jpeg(picture: Picture, quality: int) -> bytes:
    form = picture.form
    _say_rounded(picture, "JPEG")
    picture = _on_white(picture, "JPEG")
    settings: dict[str, Any] = {}
    for text in form.text:
        comment = text.value.encode("latin-1" if text.value.isascii() or text.kind == "tEXt" else "utf-8", "replace")
        if text.key == COMMENT and len(comment) <= MOST_IN_JPEG:
            settings["comment"] = comment
    say_lost_texts("JPEG", form.text, "parameters", *([COMMENT] if settings else []))
    subsampling = form.jpeg_subsampling
    if subsampling is None:
        subsampling = 0 if quality >= 90 else 2
    image = eight_bit_image(picture)
    return pillow_save(image, "JPEG", form, comfy=False, quality=quality, subsampling=subsampling, **settings)


def _webp(picture: Picture, quality: int) -> bytes:
    _say_rounded(picture, "WebP")
    say_lost_texts("WebP", picture.form.text, "parameters", "prompt", "workflow")
    return encode_webp(picture, quality)


def _tiff(picture: Picture, quality: int) -> bytes:
    say_lost_texts("TIFF", picture.form.text, "parameters")
    return encode_tiff(picture)


def _bmp(picture: Picture, quality: int) -> bytes:
    _say_rounded(picture, "BMP")
    say_lost_texts("BMP", picture.form.text)
    if picture.form.exif is not None or picture.form.icc_profile is not None:
        log.warning("BMP cannot store EXIF and ICC profile, so they are left out. PNG keeps them.", extra=ONCE)
    image, dpi = eight_bit_image(picture), picture.form.dpi or (96.0, 96.0)
    if picture.alpha is None:
        buffer = io.BytesIO()
        image.save(buffer, "BMP", dpi=dpi)
        return buffer.getvalue()
    # Pillow writes BMP alpha without the header that declares it, so alpha would be lost: write a BITMAPV4HEADER with four masks.
    colours: Any = np.asarray(image.convert("RGBA"))
    pixels = colours[::-1, :, [2, 1, 0, 3]].tobytes()
    start = 14 + 108
    header = struct.pack("<2sIII", b"BM", start + len(pixels), 0, start)
    across, down = (round(value / 0.0254) for value in dpi)
    header += struct.pack("<IiiHHIIiiII", 108, picture.width, picture.height, 1, 32, 3, len(pixels), across, down, 0, 0)
    return header + struct.pack("<IIII4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + pixels


def _say_rounded(picture: Picture, format_name: str) -> None:
    bits = 8 * picture.form.dtype.itemsize
    if bits > 8:
        log.warning("%s has 8 bits: the picture's %d bits are rounded. PNG and TIFF keep them.", format_name, bits, extra=ONCE)


def _on_white(picture: Picture, format_name: str) -> Picture:
    if picture.alpha is None:
        return picture
    log.warning("%s has no transparency: the background becomes white. Use PNG or WebP to keep it.", format_name, extra=ONCE)
    alpha = picture.alpha[:, :, None]
    return Picture(picture.pixels * alpha + (1 - alpha), None, picture.form)


_ENCODERS: dict[str, Callable[[Picture, int], bytes]] = {
    ".png": lambda picture, quality: encode_png(picture),
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".jpe": _jpeg,
    ".jfif": _jpeg,
    ".webp": _webp,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".bmp": _bmp,
}
WRITE_SUFFIXES = tuple(_ENCODERS)
