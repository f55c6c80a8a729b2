"""Writing picture files: encoded in memory, written beside the target, then moved onto it, so that nothing is ever half-written."""

from __future__ import annotations

import errno
import io
import logging
import os
import struct
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import PictureError, SettingsError
from .arrays import eight_bit_image
from .form import Form, Picture, fitting_profile
from .metadata import exif_with_texts
from .png import encode_png
from .tiff import encode_tiff

log = logging.getLogger(__name__)

_NO_SPACE = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def write_picture(picture: Picture, path: str | os.PathLike[str], *, overwrite: bool = False, quality: int = 95) -> Path:
    """Write `picture` in the format the name ends with (WRITE_SUFFIXES); returns the path.

    ICC profile, EXIF, dpi and (PNG) texts go along; pictures of more than 8 bits stay so in PNG (floats: 16 bits) and TIFF. JPEG has no
    alpha: the picture is laid on white. `quality` (1..100) is JPEG's and lossy WebP's. Missing folders are made. An existing file is kept
    unless `overwrite`. PictureError where it cannot be written; then, and after Ctrl-C, nothing is left behind.
    """
    target = Path(path)
    if not 1 <= quality <= 100:
        raise SettingsError(f"The quality must be from 1 to 100, not {quality}.")
    encode = _ENCODERS.get(target.suffix.lower())
    if encode is None:
        raise PictureError(f"Cannot write {target}: the name must end with one of {', '.join(WRITE_SUFFIXES)}.")
    if target.is_dir():
        raise PictureError(f"Cannot write {target}: it is a folder.")
    if target.exists() and not overwrite:
        raise _exists(target)
    try:
        data = encode(picture, quality)
    except PictureError as error:
        raise PictureError(f"Cannot write {target}: {error}") from error
    except (OSError, ValueError, struct.error, OverflowError) as error:
        raise PictureError(f"Cannot write {target}: the picture does not fit the format ({error}).") from error
    _store(data, target, overwrite)
    return target


def _exists(target: Path) -> PictureError:
    return PictureError(f"{target} exists already and is kept: use --overwrite (overwrite=True) to replace it.")


# --- the disk --------------------------------------------------------------------------------------------------------


def _store(data: bytes, target: Path, overwrite: bool) -> None:
    """Put `data` at `target`, whole or not at all."""
    folder = target.parent
    part = folder / f".{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as handle:
                handle.write(data)
            if overwrite:
                part.replace(target)
            else:
                _place_new(part, target)
        finally:  # after Ctrl-C too; when all went well there is nothing left to remove
            part.unlink(missing_ok=True)
    except FileExistsError as error:
        if folder.is_dir():
            raise _exists(target) from error
        raise PictureError(f"Cannot write {target}: {folder} is a file, not a folder.") from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            reason = f"there is no space left in the folder {folder}; free some or choose another one"
        elif isinstance(error, (PermissionError, NotADirectoryError)) or error.errno == errno.EROFS:
            reason = f"the folder {folder} (or the file in it) cannot be written to ({error.strerror}); choose another one"
        else:
            reason = str(error.strerror or error)
        raise PictureError(f"Cannot write {target}: {reason}.") from error


def _place_new(part: Path, target: Path) -> None:
    """Give `part` the name `target`; FileExistsError if somebody else took that name meanwhile."""
    try:
        target.hardlink_to(part)  # unlike a rename, this never replaces a file
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        part.replace(target)


# --- encoders: one a format ------------------------------------------------------------------------------------------


def _jpeg(picture: Picture, quality: int) -> bytes:
    form = picture.form
    picture = _on_white(picture, "JPEG")
    subsampling = form.jpeg_subsampling
    if subsampling is None:
        subsampling = 0 if quality >= 90 else 2
    image = eight_bit_image(picture)
    return _pillow_save(image, "JPEG", form, comfy=False, quality=quality, subsampling=subsampling)


def _webp(picture: Picture, quality: int) -> bytes:
    if max(picture.width, picture.height) > 16383:
        raise PictureError("WebP holds at most 16383 pixels a side; write PNG.")
    image = eight_bit_image(picture)
    if picture.form.grey:  # WebP knows colour only
        image = image.convert("RGB" if picture.alpha is None else "RGBA")
    # exact: the colours under transparent pixels stay
    settings = {"lossless": True, "exact": True} if picture.form.lossless else {"quality": quality, "method": 4}
    return _pillow_save(image, "WEBP", replace(picture.form, grey=False), comfy=True, **settings)


def _pillow_save(image: Image.Image, format_name: str, form: Form, *, comfy: bool, **settings: Any) -> bytes:
    exif = exif_with_texts(form.exif, form.text, comfy=comfy)
    if exif is not None and format_name == "JPEG" and len(exif) > 65533:
        log.warning("The notes (EXIF) of the picture are too long for a JPEG and are left out.")
        exif = None
    beside = {"exif": exif, "icc_profile": fitting_profile(form), "dpi": form.dpi and tuple(round(value) for value in form.dpi)}
    buffer = io.BytesIO()
    image.save(buffer, format_name, **settings, **{key: value for key, value in beside.items() if value is not None})
    return buffer.getvalue()


def _bmp(picture: Picture, quality: int) -> bytes:
    image = eight_bit_image(picture)
    if picture.alpha is None:
        buffer = io.BytesIO()
        image.save(buffer, "BMP", dpi=picture.form.dpi or (96.0, 96.0))
        return buffer.getvalue()
    # Pillow's BMP writes alpha without the header that says so, and it would be lost: a BITMAPV4HEADER with four masks.
    colours: Any = np.asarray(image.convert("RGBA"))
    pixels = colours[::-1, :, [2, 1, 0, 3]].tobytes()
    start = 14 + 108
    header = struct.pack("<2sIII", b"BM", start + len(pixels), 0, start)
    header += struct.pack("<IiiHHIIiiII", 108, picture.width, picture.height, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    return header + struct.pack("<IIII4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + pixels


def _on_white(picture: Picture, format_name: str) -> Picture:
    if picture.alpha is None:
        return picture
    log.warning("%s has no transparency: the picture is laid on white. Write PNG or WebP to keep it.", format_name)
    alpha = picture.alpha[:, :, None]
    return Picture(picture.pixels * alpha + (1 - alpha), None, picture.form)


_ENCODERS: dict[str, Callable[[Picture, int], bytes]] = {
    ".png": lambda picture, quality: encode_png(picture),
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".jpe": _jpeg,
    ".jfif": _jpeg,
    ".webp": _webp,
    ".tif": lambda picture, quality: encode_tiff(picture),
    ".tiff": lambda picture, quality: encode_tiff(picture),
    ".bmp": _bmp,
}
WRITE_SUFFIXES = tuple(_ENCODERS)
