"""`Picture`, the picture inside the core, and `Form`, its original form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError
from ..pixels import Pixels
from .metadata import TextChunk, exif_of_size
from .xmp import xmp_of_size

AnyArray = NDArray[Any]

# The largest value of each integer type; floats range from 0 to 1.
_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0}
_ROWS = 16  # rows converted at once, few enough to stay in the processor's cache through several steps


@dataclass(frozen=True)
class Form:
    """The original form of a picture, so that it can be written the same way."""

    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))  # uint8, uint16, float16, float32 or float64
    grey: bool = False
    channel_axis: bool = True  # False: a grey array of shape (H, W)
    format: str = ""  # of a file: PNG, JPEG, WEBP, TIFF, BMP, GIF, AVIF
    mode: str = ""  # of a PIL image
    frames: int = 1  # number of frames of an animation or pages of a TIFF; this picture is the first
    plays: int = 0  # how often an animation plays; 0: for ever
    icc_profile: bytes | None = None
    exif: bytes | None = None  # begins with b"Exif\0\0"; from a file its orientation is 1, because the pixels are already turned
    text: tuple[TextChunk, ...] = ()  # of a PNG; the comment of a JPEG is the text "Comment"
    colour_chunks: tuple[tuple[bytes, bytes], ...] = ()  # of a PNG, unchanged: sRGB, gAMA, cHRM, cICP
    dpi: tuple[float, float] | None = None
    jpeg_subsampling: int | None = None  # 0 = 4:4:4, 1 = 4:2:2, 2 = 4:2:0
    lossless: bool = False  # of a WebP
    # The original float64 values (H, W, C), restored wherever the picture is unchanged, because float32 cannot hold them exactly.
    original: AnyArray | None = field(default=None, compare=False, repr=False)

    def resized(self, old: tuple[int, int], new: tuple[int, int]) -> Form:
        """The form after a change of size, each (width, height) in pixels: the same size in print; EXIF and XMP name the new one."""
        if old == new:
            return self
        x, y = new[0] / old[0], new[1] / old[1]
        dpi = None if self.dpi is None else (self.dpi[0] * x, self.dpi[1] * y)
        exif = None if self.exif is None else exif_of_size(self.exif, new, (x, y))
        return replace(self, dpi=dpi, exif=exif, text=xmp_of_size(self.text, new, (x, y)))

    def turned(self, size: tuple[int, int]) -> Form:
        """The form after a quarter turn to `size` (width, height)."""
        dpi = None if self.dpi is None else self.dpi[::-1]
        exif = None if self.exif is None else exif_of_size(self.exif, size, turned=True)
        return replace(self, dpi=dpi, exif=exif, text=xmp_of_size(self.text, size, turned=True))


@dataclass
class Picture:
    """A picture inside the core.

    `pixels`: float32 (H, W, 3), RGB, 0..1, C-contiguous (a float picture may overshoot; grey has three equal channels).
    `alpha`: float32 (H, W), 0..1, or None. Never premultiplied into the pixels.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    form: Form = field(default_factory=Form)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.pixels.shape[1]

    def with_pixels(self, pixels: AnyArray, alpha: AnyArray | None = None) -> Picture:
        """The same picture with other pixels (H, W, 3), 0..1.

        Without `alpha` the picture keeps its own. If the size has changed, give the alpha (H, W) at the new size (otherwise
        PictureError: alpha is never lost); the size in print stays, so there are more pixels per inch.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise PictureError(f"Pixels must have the shape (height, width, 3), not {pixels.shape}.")
        if alpha is None:
            alpha = self.alpha
        if alpha is not None and alpha.shape != pixels.shape[:2]:
            raise PictureError(f"The alpha channel has the size {alpha.shape}, the pixels {pixels.shape[:2]}: give alpha at the new size.")
        return Picture(
            np.ascontiguousarray(pixels, dtype=np.float32),
            None if alpha is None else np.ascontiguousarray(alpha, dtype=np.float32),
            self.form.resized((self.width, self.height), (pixels.shape[1], pixels.shape[0])),
        )

    def in_colour(self) -> Picture:
        """The same picture, to be written in colour even if it was grey (for colourising)."""
        original = self.form.original
        if original is not None and self.form.grey:
            original = np.concatenate([original[..., :1]] * 3 + [original[..., 1:]], axis=2)
        form = replace(self.form, grey=False, channel_axis=True, original=original, icc_profile=colour_profile(self.form.icc_profile))
        return Picture(self.pixels, self.alpha, form)


def colour_profile(profile: bytes | None) -> bytes | None:
    """Returns `profile` if it describes RGB pixels, otherwise None: a grey or CMYK profile would be wrong for them."""
    return profile if profile is not None and profile[16:20] == b"RGB " else None


def fitting_profile(form: Form) -> bytes | None:
    """The ICC profile that fits the written channels, or None."""
    return form.icc_profile if form.grey else colour_profile(form.icc_profile)


def build(array: Any, form: Form) -> Picture:
    """Makes a Picture from a (H, W) or (H, W, 1..4) array of uint8, uint16 or float; 2 channels are grey and alpha.

    `form` gets dtype and grey from the array. Raises PictureError for an empty picture and for invalid values (NaN or infinity).
    """
    values: Any = array[:, :, None] if array.ndim == 2 else array
    height, width, channels = values.shape
    if height == 0 or width == 0:
        raise PictureError(f"The picture is empty (height {height}, width {width}).")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise PictureError("The picture contains invalid values (NaN or infinity).")
    scale = np.float32(_FULL_SCALE.get(values.dtype.name, 1.0))
    colours = values[:, :, : 3 if channels >= 3 else 1]
    pixels = np.empty((height, width, 3), dtype=np.float32)
    for top in range(0, height, _ROWS):
        np.divide(colours[top : top + _ROWS], scale, out=pixels[top : top + _ROWS], dtype=np.float32, casting="unsafe")
    alpha = (values[:, :, -1].astype(np.float32) / scale).astype(np.float32) if channels in (2, 4) else None
    original = values.copy() if values.dtype.name == "float64" else None
    form = replace(form, dtype=values.dtype, grey=channels <= 2, channel_axis=array.ndim == 3, original=original)
    return Picture(pixels, alpha, form)


def numbers(picture: Picture, dtype: Any) -> AnyArray:
    """The picture as a (H, W, C) array of `dtype`: C is 1 (grey) or 3, plus 1 with alpha. Integers are rounded half to even."""
    dtype = np.dtype(dtype)
    colours: Any = grey_of(picture.pixels)[:, :, None] if picture.form.grey else picture.pixels
    if picture.alpha is not None:
        colours = np.concatenate([colours, picture.alpha[:, :, None]], axis=2)
    if dtype.kind == "f":
        return _put_back(colours.astype(dtype), colours, picture.form.original)
    scale = _FULL_SCALE[dtype.name]
    result = np.empty(colours.shape, dtype)
    for top in range(0, len(result), _ROWS):
        scaled: Any = colours[top : top + _ROWS] * np.float32(scale)
        np.rint(scaled, out=scaled)
        result[top : top + _ROWS] = scaled.clip(0, scale, out=scaled)
    return result


def _put_back(result: AnyArray, colours: Pixels, original: AnyArray | None) -> AnyArray:
    """`result` (float) with the original float64 values wherever the float32 picture is unchanged."""
    if original is not None and result.dtype.itemsize == 8 and original.shape == result.shape:
        untouched = colours == original.astype(np.float32)
        result[untouched] = original[untouched]
    return result


def grey_of(pixels: Any) -> Pixels:
    """(H, W) Rec. 601 luma of (H, W, 3); exact where the three channels are equal."""
    red, green, blue = pixels[:, :, 0], pixels[:, :, 1], pixels[:, :, 2]
    luma = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    np.copyto(luma, red, where=(red == green) & (green == blue))
    return luma
