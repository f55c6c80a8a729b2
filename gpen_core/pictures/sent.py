"""Pictures that come to an API and go from it: in base64, and with limits, because anyone who may call it can send anything."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from ..errors import PictureError
from .form import Picture
from .libraries import pixels_at_most
from .reading import decode_picture
from .writing import encode_picture

# A few kilobytes can unpack to gigabytes, so both limits are checked before anything is decoded.
MAX_BYTES = 128 << 20  # of a picture's file
MAX_PIXELS = 64 << 20  # 8K twice over


class TooLargeError(PictureError):
    """A picture's file is larger than an API takes."""


def longest() -> int:
    """Characters of the largest file in base64, including the prefix of a data: URI."""
    return MAX_BYTES * 4 // 3 + 1024


def largest_request(pictures: int) -> int:
    """Bytes of a request with so many pictures, and its settings."""
    return pictures * longest() + 64 * 1024


def too_large(what: str) -> TooLargeError:
    return TooLargeError(f"{what} is too large: the limit for a picture is {MAX_BYTES >> 20} MiB")


def from_base64(text: object, name: str) -> bytes:
    """A picture's file, from base64 or a data: URI. name: the request's field. Raises PictureError; TooLargeError before it decodes."""
    if not isinstance(text, str):
        raise PictureError(f"{name} must be text: a picture in base64")
    if len(text) > longest():
        raise too_large(name)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PictureError(f"{name} is not base64: {error}") from error


def picture_from(data: bytes, name: str) -> Picture:
    """The picture in a file's bytes, at full depth with all its metadata. name: the request's field. Raises PictureError."""
    with pixels_at_most(MAX_PIXELS):
        return decode_picture(data, Path(f"in `{name}`"))


def to_base64(picture: Picture) -> str:
    """The picture as a PNG in base64."""
    return base64.b64encode(encode_picture(picture, Path("restored.png"))).decode("ascii")
