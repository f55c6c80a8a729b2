"""XMP, a picture's metadata as XML, which PNG keeps as a text: its numbers agree with the pixels. Nothing else in it changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from .metadata import TextChunk

XMP = "XML:com.adobe.xmp"  # the text's key
_WIDTHS, _HEIGHTS = ("tiff:ImageWidth", "exif:PixelXDimension"), ("tiff:ImageLength", "exif:PixelYDimension")
_X, _Y, _ORIENTATION = "tiff:XResolution", "tiff:YResolution", "tiff:Orientation"
# As an attribute, tiff:ImageWidth="9", or an element, <tiff:ImageWidth>9<. Prefixes are free in XML, but all programs use these.
_NAMES = "|".join((*_WIDTHS, *_HEIGHTS, _X, _Y, _ORIENTATION))
_NUMBER = re.compile(rf"""(?<![/\w:-])({_NAMES})(=["']|>)([0-9]{{1,10}}(?:/[0-9]{{1,10}})?)(?=["'<])""")


def xmp_of_size(
    texts: tuple[TextChunk, ...], size: tuple[int, int], scale: tuple[float, float] = (1.0, 1.0), *, turned: bool = False
) -> tuple[TextChunk, ...]:
    """The texts of a picture that was resized, or turned by a quarter, to `size` (width, height): XMP names the new size.

    Its resolution is multiplied by `scale` (x, y), so the printed size stays. Adds nothing.
    """

    def numbers(found: dict[str, str]) -> dict[str, str]:
        new = {**dict.fromkeys(_WIDTHS, str(size[0])), **dict.fromkeys(_HEIGHTS, str(size[1]))}
        for name, other, factor in ((_X, _Y, scale[0]), (_Y, _X, scale[1])):
            source = other if turned else name
            if source in found:
                new[name] = _times(found[source], factor)
        return new

    return _changed(texts, numbers)


def xmp_upright(texts: tuple[TextChunk, ...]) -> tuple[TextChunk, ...]:
    """The texts of a picture whose pixels have been turned as its orientation said."""
    return _changed(texts, lambda found: {_ORIENTATION: "1"})


def _times(number: str, factor: float) -> str:
    above, _, below = number.partition("/")
    if factor == 1 or int(below or 1) == 0:
        return number
    value = (Fraction(int(above), int(below or 1)) * Fraction(factor)).limit_denominator(1000)
    return f"{value.numerator}/{value.denominator}" if below or value.denominator > 1 else str(value.numerator)


def _changed(texts: tuple[TextChunk, ...], numbers: Callable[[dict[str, str]], dict[str, str]]) -> tuple[TextChunk, ...]:
    """The texts, in the XMP of which `numbers` gives those that replace the found ones, by name."""

    def changed(text: TextChunk) -> TextChunk:
        new = numbers({match[1]: match[3] for match in _NUMBER.finditer(text.value)})
        return text._replace(value=_NUMBER.sub(lambda match: f"{match[1]}{match[2]}{new.get(match[1], match[3])}", text.value))

    return tuple(changed(text) if text.key == XMP else text for text in texts)
