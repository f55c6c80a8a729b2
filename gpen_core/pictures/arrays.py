"""Converts arrays and PIL images to Pictures and back."""

from __future__ import annotations

import io
import logging
from typing import Any

import numpy as np
from PIL import Image

from ..errors import PictureError
from .form import AnyArray, Form, Picture, build, fitting_profile, numbers
from .metadata import ONCE, TextChunk, prefixed_exif

try:
    from PIL import ImageCms
except ImportError:  # Pillow can be built without colour management
    ImageCms = None

log = logging.getLogger(__name__)

_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
_UINT8 = np.dtype(np.uint8)
# Modes whose values can be used directly; all others are converted first.
_PLAIN_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I;16L", "I;16B", "I;16N", "F")


def from_array(array: Any) -> Picture:
    """Makes a Picture from an array or a PIL image.

    Arrays: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16 (0..65535) or float16/32/64 (0..1; a small overshoot is
    kept). The dtype alone sets the value range. Everything that numpy can read without a device copy counts as an array (a CPU tensor).
    PIL images: any mode; the EXIF orientation is not applied (the size stays), and EXIF, ICC profile and texts are kept unchanged.
    Raises PictureError for every other shape or dtype, an empty picture, invalid values (NaN), and floats clearly outside 0..1.
    """
    if isinstance(array, Image.Image):
        return _from_pil(array)
    try:
        values: Any = np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PictureError(f"A {type(array).__name__} cannot be used as a picture: {error}") from error
    if values.dtype.name not in _DTYPES:
        raise PictureError(f"An array of {values.dtype} is not a picture: use uint8, uint16 (0..65535) or float (0..1).")
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)):
        hint = " Channels go last." if values.ndim == 3 and values.shape[0] in (1, 3, 4) else ""
        raise PictureError(f"A picture must have the shape (height, width) or (height, width, 1, 3 or 4), not {values.shape}.{hint}")
    _check_range(values)
    return build(values, Form())


def _check_range(values: AnyArray) -> None:
    """Raises PictureError for floats that are clearly in 0..255, which would give a white picture."""
    if values.dtype.kind == "f" and values.size and (values.max() > 2 or values.min() < -1):
        raise PictureError(f"Floats must be between 0 and 1; these range from {values.min():g} to {values.max():g}. Scale them first.")


def _from_pil(image: Image.Image) -> Picture:
    info: dict[Any, Any] = dict(image.info)
    try:
        values = pil_numbers(image)
        exif = prefixed_exif(image.getexif().tobytes() if "exif" not in info and len(image.getexif()) else info.get("exif"))
    except PictureError:
        raise
    except Exception as error:  # Pillow loads lazily, so a damaged file can raise anything here
        raise PictureError(f"The PIL image cannot be read: {error}") from error
    _check_range(values)
    texts = tuple(
        TextChunk(key, str(value), "tEXt")
        for key, value in info.items()
        if isinstance(key, str) and isinstance(value, str) and key not in ("srgb", "gamma", "compression")
    )
    converted = image.mode == "CMYK"
    form = Form(
        mode=image.mode,
        icc_profile=None if converted else info.get("icc_profile"),
        exif=exif,
        text=texts,
        dpi=tidy_dpi(info.get("dpi")),
    )
    return build(values, form)


def pil_numbers(image: Image.Image) -> AnyArray:
    """The values of a PIL image of any mode as an array: (H, W) or (H, W, 2..4) of uint8, uint16 or float32.

    Palettes become RGB (RGBA if anything is transparent), CMYK becomes sRGB through its ICC profile. PictureError for 32-bit integers.
    """
    mode = image.mode
    if mode == "CMYK":
        image = _cmyk_to_rgb(image)
    elif mode in ("P", "PA"):
        palette_alpha = image.palette is not None and image.palette.mode.endswith("A")
        image = image.convert("RGBA" if mode == "PA" or palette_alpha or "transparency" in image.info else "RGB")
    elif mode == "I":
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise PictureError("32-bit integers are not supported: save the picture with 16 bits.")
        return values.astype(np.uint16)
    elif mode in ("L", "RGB") and "transparency" in image.info:  # one colour counts as transparent
        image = image.convert(mode + "A")
    elif mode not in _PLAIN_MODES:
        plain = {"1": "L", "La": "LA", "RGBa": "RGBA"}.get(mode, "RGB")
        try:
            image = image.convert(plain)
        except (ValueError, OSError) as error:
            raise PictureError(f"The colour mode {mode} is not supported: save the picture as RGB.") from error
    values = np.asarray(image)
    return values.astype(np.uint16) if image.mode.startswith("I;16") else values


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    log.warning("The CMYK colours are converted to sRGB.", extra=ONCE)
    profile = image.info.get("icc_profile")
    if profile and ImageCms is not None:
        try:
            cms: Any = ImageCms
            source = cms.ImageCmsProfile(io.BytesIO(profile))
            converted: Image.Image | None = cms.profileToProfile(image, source, cms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError) as error:
            log.warning("The picture's CMYK profile is unusable (%s); the colours are converted without it.", error)
    return image.convert("RGB")


def tidy_dpi(dpi: Any) -> tuple[float, float] | None:
    """(x, y) dots per inch, or None if they are missing or invalid."""
    try:
        x, y = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def to_array(picture: Picture) -> AnyArray:
    """The picture as an array with its original dtype and channels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).

    uint8 and uint16 are rounded half to even and clipped; floats stay floats (float64: the original values where the picture is
    unchanged, float32 accuracy elsewhere). Grey with alpha, which only files and PIL images have, is (H, W, 2).
    """
    values = numbers(picture, picture.form.dtype)
    return values if picture.form.channel_axis or values.shape[2] > 1 else values[:, :, 0]


def to_pil(picture: Picture) -> Image.Image:
    """The picture as a PIL image: L, LA, RGB or RGBA; 16-bit grey is I;16 (I if it was I) and grey floats are F.

    PIL has no colour deeper than 8 bits, so deeper pictures are rounded. `.info` holds EXIF, ICC profile, dpi and texts, as usual in PIL.
    """
    form = picture.form
    deep_grey = form.grey and picture.alpha is None and form.dtype != _UINT8
    if deep_grey and form.dtype.kind == "f":
        image = Image.fromarray(numbers(picture, np.dtype(np.float32))[:, :, 0])
    elif deep_grey:
        values = numbers(picture, np.dtype(np.uint16))[:, :, 0]
        image = Image.fromarray(values.astype(np.int32) if form.mode == "I" else values)
    else:
        image = eight_bit_image(picture)
    image.info.update({text.key: text.value for text in form.text})
    beside = {"icc_profile": fitting_profile(form), "exif": form.exif, "dpi": form.dpi}
    image.info.update({key: value for key, value in beside.items() if value is not None})
    return image


def eight_bit_image(picture: Picture) -> Image.Image:
    """A PIL image of mode L, LA, RGB or RGBA without any info."""
    values = numbers(picture, _UINT8)
    return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
