"""Pillow and OpenCV, asked in the one way that suits all formats."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile

from ..errors import PictureError
from .arrays import pil_numbers, tidy_dpi
from .form import AnyArray
from .metadata import EXIF_PREFIX, prefixed_exif, take_orientation

log = logging.getLogger(__name__)

# Ours instead of Pillow's limit, which is one number for the whole process and belongs to the host. Pillow applies its own in
# Image.open, so the plugins are called directly here.
MAX_PIXELS = 512 * 1024 * 1024
_most_pixels: ContextVar[int | None] = ContextVar("most_pixels", default=None)
# Two plugins (WebP, TIFF) ask for Pillow's limit themselves; what they refuse goes to OpenCV.
TOO_BIG_FOR_PILLOW = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass
class Decoded:
    """What a decoder hands back: the numbers as stored, how they must be turned, and what travels along (fields of Form)."""

    array: AnyArray
    orientation: int = 1
    form: dict[str, Any] = field(default_factory=lambda: {})


def check_size(width: int, height: int) -> None:
    """PictureError for a picture without pixels or with more than MAX_PIXELS."""
    if width <= 0 or height <= 0:
        raise PictureError(f"the file is damaged (a size of {width}x{height})")
    most = _most_pixels.get() or MAX_PIXELS
    if width * height > most:
        raise PictureError(f"{width}x{height} pixels are too many (at most {most // 1024 // 1024} megapixels)")


@contextmanager
def pixels_at_most(most: int) -> Generator[None, None, None]:
    """Pictures read within are refused where they have more pixels, before any is decoded. For doors that serve others."""
    token = _most_pixels.set(most)
    try:
        yield
    finally:
        _most_pixels.reset(token)


def open_image(plugin: Callable[[BinaryIO], ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    """A PIL image of `data`, its size looked at and its pixels not decoded yet."""
    image = plugin(io.BytesIO(data))
    check_size(image.width, image.height)
    return image


def load(plugin: Callable[[BinaryIO], ImageFile.ImageFile], data: bytes) -> ImageFile.ImageFile:
    """A PIL image of `data`, decoded."""
    image = open_image(plugin, data)
    image.load()
    return image


def from_pillow(image: ImageFile.ImageFile) -> Decoded:
    """The numbers of a loaded image with its EXIF, ICC profile and dpi."""
    info: dict[Any, Any] = dict(image.info)
    if image.mode == "CMYK":  # becomes sRGB
        info.pop("icc_profile", None)
    return with_info(pil_numbers(image), info)


def with_info(array: AnyArray, info: dict[Any, Any]) -> Decoded:
    """`array` with the `exif`, `icc_profile` and `dpi` of `info`, named as Pillow names them."""
    form: dict[str, Any] = {"dpi": tidy_dpi(info.get("dpi")), "icc_profile": info.get("icc_profile")}
    orientation = 1
    if exif := prefixed_exif(info.get("exif")):
        tiff, orientation = take_orientation(exif.removeprefix(EXIF_PREFIX))
        form["exif"] = prefixed_exif(tiff)
    return Decoded(array, orientation, form)


def opencv(data: bytes) -> AnyArray:
    """(H, W) or (H, W, 3 or 4) numbers, RGB, as deep as stored."""
    array: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise PictureError("the file is damaged")
    if array.ndim == 3 and array.dtype == np.float64:  # which cvtColor does not know
        array = array[:, :, [2, 1, 0, 3][: array.shape[2]]]
    elif array.ndim == 3:
        cv2.cvtColor(array, cv2.COLOR_BGR2RGB if array.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, dst=array)
    return array


def or_none(read: Callable[[], Any]) -> Any:
    """What `read` gives, or None (and a log line): a picture is worth more than a damaged note in it."""
    try:
        return read()
    except Exception as error:
        log.warning("A profile or note of the picture is damaged and left out (%s).", error)
        return None
