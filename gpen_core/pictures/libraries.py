"""Calls to Pillow and OpenCV that all formats share."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from ..errors import PictureError
from .arrays import pil_numbers, tidy_dpi
from .form import AnyArray, Form, fitting_profile
from .metadata import EXIF_PREFIX, exif_with_texts, prefixed_exif, take_orientation

log = logging.getLogger(__name__)

# Our own limit, because Pillow's is global and belongs to the host. Pillow applies its limit in Image.open, so this module calls
# the plugins directly.
MAX_PIXELS = 512 * 1024 * 1024
MAX_FRAME_PIXELS = 64 * MAX_PIXELS  # all frames of an animation, of which only one is in memory
_PIXELS_A_BYTE = 1 << 18  # of all frames; a still 4K film that repeats its picture in 40 bytes a frame has 200,000
_most_pixels: ContextVar[int | None] = ContextVar("most_pixels", default=None)
# Two plugins (WebP, TIFF) apply Pillow's limit themselves; OpenCV reads the pictures they refuse.
TOO_BIG_FOR_PILLOW = (Image.DecompressionBombError, Image.DecompressionBombWarning)
MOST_IN_JPEG = 65533  # bytes of one metadata entry


@dataclass
class Decoded:
    """The result of a decoder: the array as stored, its EXIF orientation, and its metadata (fields of Form)."""

    array: AnyArray
    orientation: int = 1
    form: dict[str, Any] = field(default_factory=lambda: {})


def check_frames(width: int, height: int, frames: int, size_bytes: int) -> None:
    """Raises PictureError for more than MAX_FRAME_PIXELS in all frames together, or more than a file of so many bytes can mean.

    The second is for files of some kilobytes that claim hours of work.
    """
    if frames > 1 and width * height * frames > min(MAX_FRAME_PIXELS, MAX_PIXELS + size_bytes * _PIXELS_A_BYTE):
        raise PictureError(
            f"{frames} frames of {width}x{height} pixels are too many for a file of {size_bytes:,} bytes (the limit is "
            f"{min(MAX_FRAME_PIXELS, MAX_PIXELS + size_bytes * _PIXELS_A_BYTE) >> 20} megapixels in total)"
        )


def check_size(width: int, height: int) -> None:
    """Raises PictureError for no pixels, or more than MAX_PIXELS."""
    if width <= 0 or height <= 0:
        raise PictureError(f"the file is damaged (its size is {width}x{height})")
    most = _most_pixels.get() or MAX_PIXELS
    if width * height > most:
        raise PictureError(f"{width}x{height} pixels are too many (the limit is {most // 1024 // 1024} megapixels)")


@contextmanager
def pixels_at_most(most: int) -> Generator[None, None, None]:
    """Refuses pictures with more pixels inside this context, before decoding. For doors that serve other users."""
    token = _most_pixels.set(most)
    try:
        yield
    finally:
        _most_pixels.reset(token)


def open_image(plugin: Callable[[BinaryIO], ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    """Opens `data` as a PIL image and checks its size, without decoding the pixels."""
    image = plugin(io.BytesIO(data))
    check_size(image.width, image.height)
    return image


def load(plugin: Callable[[BinaryIO], ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    """Decodes `data` as a PIL image."""
    image = open_image(plugin, data)
    image.load()
    return image


def from_pillow(image: ImageFile.ImageFile) -> Decoded:
    """The array of a loaded image with its EXIF, ICC profile and dpi."""
    info: dict[Any, Any] = dict(image.info)
    if image.mode == "CMYK":  # becomes sRGB
        info.pop("icc_profile", None)
    decoded = with_info(pil_numbers(image), info)
    frames: int = getattr(image, "n_frames", 1)
    if frames > 1:
        # A GIF counts its repeats; without a number it plays once.
        again = info.get("loop", 0) if image.format != "GIF" else info["loop"] + 1 if info.get("loop") else int("loop" not in info)
        decoded.form |= {"frames": frames, "plays": again}
    return decoded


def frames_by_pillow(plugin: Callable[[BinaryIO], ImageFile.ImageFile], data: bytes) -> Iterator[tuple[AnyArray, float]]:
    """(array, milliseconds) of every frame of an animation, as displayed."""
    image: Any = open_image(plugin, data)
    still = int(bool(getattr(image, "default_image", False)))  # of a PNG: only for viewers without animation
    for index in range(still, image.n_frames):
        image.seek(index)
        image.load()
        # The first frame may be grey or have a palette while others are in colour; writers need them all alike.
        whole = image.convert("RGBA") if image.format == "GIF" else image
        yield pil_numbers(whole), float(image.info.get("duration") or 0)


def with_info(array: AnyArray, info: dict[Any, Any]) -> Decoded:
    """`array` with the `exif`, `icc_profile` and `dpi` of `info`, under Pillow's names."""
    form: dict[str, Any] = {"dpi": tidy_dpi(info.get("dpi")), "icc_profile": info.get("icc_profile")}
    orientation = 1
    if exif := prefixed_exif(info.get("exif")):
        tiff, orientation = take_orientation(exif.removeprefix(EXIF_PREFIX))
        form["exif"] = prefixed_exif(tiff)
    return Decoded(array, orientation, form)


def opencv(data: bytes) -> AnyArray:
    """Decodes with OpenCV: (H, W) or (H, W, 3 or 4), RGB, at the stored depth. Raises PictureError."""
    array: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise PictureError("the file is damaged")
    if array.ndim == 3 and array.dtype == np.float64:  # cvtColor does not support float64
        array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    elif array.ndim == 3:
        cv2.cvtColor(array, cv2.COLOR_BGR2RGB if array.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, dst=array)
    return array


def notes_of(form: Form, *, comfy: bool) -> dict[str, bytes]:
    """`exif` and `icc_profile`, if any, for JPEG and WebP; see exif_with_texts."""
    beside = {"exif": exif_with_texts(form.exif, form.text, comfy=comfy), "icc_profile": fitting_profile(form)}
    return {key: value for key, value in beside.items() if value is not None}


def pillow_save(image: Image.Image, format_name: str, form: Form, *, comfy: bool, **settings: Any) -> bytes:
    """Encodes `image` with the metadata and the dpi of `form`."""
    notes: dict[str, Any] = notes_of(form, comfy=comfy)
    if format_name == "JPEG" and len(notes.get("exif", b"")) > MOST_IN_JPEG:
        log.warning("The picture's EXIF data is too long for a JPEG and is left out.")
        del notes["exif"]
    if form.dpi is not None:
        dpi = tuple(round(value) for value in form.dpi)
        if min(dpi) > 0 and max(dpi) < 65536:  # all that a JPEG has room for
            notes["dpi"] = dpi
    buffer = io.BytesIO()
    image.save(buffer, format_name, **settings, **notes)
    return buffer.getvalue()
