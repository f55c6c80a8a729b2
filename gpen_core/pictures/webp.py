"""WebP: its chunks, reading and writing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from PIL import WebPImagePlugin

from ..errors import PictureError
from .arrays import eight_bit_image
from .form import Picture
from .libraries import TOO_BIG_FOR_PILLOW, Decoded, from_pillow, load, opencv, pillow_save, with_info

MOST_PIXELS_A_SIDE = 16383


def webp_chunks(data: bytes, start: int = 12) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of each chunk of a WebP, from offset `start` on."""
    position = start
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        yield data[position : position + 4], data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def webp_claim(data: bytes) -> tuple[int, int, int]:
    """(width, height, frames) that a WebP claims to have; (0, 0, 1) for a still picture. Decodes nothing."""
    if data[12:16] != b"VP8X" or len(data) < 30:
        return 0, 0, 1
    width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    return width, height, sum(name == b"ANMF" for name, _ in webp_chunks(data))


def decode_webp(data: bytes) -> Decoded:
    """Decodes the WebP `data`; the first frame of an animation. Raises PictureError if it is cut short or damaged."""
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise PictureError("the file is cut short")
    chunks = dict(webp_chunks(data))
    try:
        decoded = from_pillow(load(WebPImagePlugin.WebPImageFile, data))
    except TOO_BIG_FOR_PILLOW:
        decoded = with_info(opencv(data), {"exif": chunks.get(b"EXIF"), "icc_profile": chunks.get(b"ICCP")})
    frame = chunks.get(b"ANMF", b"")  # 16 bytes of position and duration, then the chunks of a still picture
    decoded.form["lossless"] = b"VP8L" in chunks or b"VP8L" in dict(webp_chunks(frame, 16))
    return decoded


def encode_webp(picture: Picture, quality: int) -> bytes:
    """Encodes `picture` as WebP: lossless if the original was, otherwise with `quality`."""
    if max(picture.width, picture.height) > MOST_PIXELS_A_SIDE:
        raise PictureError(f"WebP allows at most {MOST_PIXELS_A_SIDE} pixels per side; save as PNG instead.")
    image = eight_bit_image(picture)
    if picture.form.grey:  # WebP has only colour
        image = image.convert("RGB" if picture.alpha is None else "RGBA")
    # exact: keep the colours of transparent pixels
    settings = {"lossless": True, "exact": True} if picture.form.lossless else {"quality": quality, "method": 4}
    return pillow_save(image, "WEBP", replace(picture.form, grey=False), comfy=True, **settings)
