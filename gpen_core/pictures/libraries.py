"""Pillow and OpenCV, asked in the one way that suits all formats."""

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

# Ours instead of Pillow's limit, which is one number for the whole process and belongs to the host. Pillow applies its own in
# Image.open, so the plugins are called directly here.
MAX_PIXELS = 512 * 1024 * 1024
MAX_FRAME_PIXELS = 64 * MAX_PIXELS  # of an animation, which is only ever held frame by frame
_most_pixels: ContextVar[int | None] = ContextVar("most_pixels", default=None)
# Two plugins (WebP, TIFF) ask for Pillow's limit themselves; what they refuse goes to OpenCV.
TOO_BIG_FOR_PILLOW = (Image.DecompressionBombError, Image.DecompressionBombWarning)
MOST_IN_JPEG = 65533  # bytes of one note


@dataclass
class Decoded:
    """What a decoder hands back: the numbers as stored, how they must be turned, and what travels along (fields of Form)."""

    array: AnyArray
    orientation: int = 1
    form: dict[str, Any] = field(default_factory=lambda: {})


def check_size(width: int, height: int, frames: int = 1) -> None:
    """PictureError for a picture without pixels or with more than MAX_PIXELS, and for more than MAX_FRAME_PIXELS of all its frames."""
    if frames > 1 and width * height * frames > MAX_FRAME_PIXELS:
        raise PictureError(
            f"{frames} frames of {width}x{height} pixels are too many (the limit is {MAX_FRAME_PIXELS >> 20} megapixels in total)"
        )
    if width <= 0 or height <= 0:
        raise PictureError(f"the file is damaged (a size of {width}x{height})")
    most = _most_pixels.get() or MAX_PIXELS
    if width * height > most:
        raise PictureError(f"{width}x{height} pixels are too many (the limit is {most // 1024 // 1024} megapixels)")


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
    decoded = with_info(pil_numbers(image), info)
    frames: int = getattr(image, "n_frames", 1)
    if frames > 1:
        # A GIF counts how often it is shown again; without a number it is shown once.
        again = info.get("loop", 0) if image.format != "GIF" else info["loop"] + 1 if info.get("loop") else int("loop" not in info)
        decoded.form |= {"frames": frames, "plays": again}
    return decoded


def frames_by_pillow(plugin: Callable[[BinaryIO], ImageFile.ImageFile], data: bytes) -> Iterator[tuple[AnyArray, float]]:
    """The numbers of every frame of an animation as it is seen, and its milliseconds."""
    image: Any = open_image(plugin, data)
    still = int(bool(getattr(image, "default_image", False)))  # of a PNG: shown only where animations are not
    for index in range(still, image.n_frames):
        image.seek(index)
        image.load()
        # The first may be grey, or have a palette, where the others are in colour; what they are written to wants them alike.
        whole = image.convert("RGBA") if image.format == "GIF" else image
        yield pil_numbers(whole), float(image.info.get("duration") or 0)


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


def notes_of(form: Form, *, comfy: bool) -> dict[str, bytes]:
    """`exif` and `icc_profile`, as far as there are any, as they go into JPEG and WebP; see exif_with_texts."""
    beside = {"exif": exif_with_texts(form.exif, form.text, comfy=comfy), "icc_profile": fitting_profile(form)}
    return {key: value for key, value in beside.items() if value is not None}


def pillow_save(image: Image.Image, format_name: str, form: Form, *, comfy: bool, **settings: Any) -> bytes:
    """A file of `image` with the notes and the dpi of `form`."""
    notes: dict[str, Any] = notes_of(form, comfy=comfy)
    if format_name == "JPEG" and len(notes.get("exif", b"")) > MOST_IN_JPEG:
        log.warning("The picture's EXIF data is too long for a JPEG and is left out.")
        del notes["exif"]
    if form.dpi is not None:
        notes["dpi"] = tuple(round(value) for value in form.dpi)
    buffer = io.BytesIO()
    image.save(buffer, format_name, **settings, **notes)
    return buffer.getvalue()
