"""Files that claim more than they hold, and odd kinds of pictures: each ends at once, in a picture or in a sentence."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from picture_help import chunk
from PIL import Image

from gpen_core.errors import PictureError
from gpen_core.pictures import libraries, read_frames, read_picture, to_array, write_picture


def refused(path: Path, word: str = "too many") -> None:
    """In a sentence, in a moment, and with little memory."""
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match=word):
            for _ in read_frames(path):
                pass
        assert tracemalloc.get_traced_memory()[1] < 32 << 20 and time.perf_counter() - started < 5
    finally:
        tracemalloc.stop()


def riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def claiming_webp(side: int, frames: int) -> bytes:
    """A few dozen bytes for each frame, which is one pixel on a canvas of side x side."""
    still = b"\x2f\x00\x00\x00\x00\x88\x88\x08\x00"  # one pixel, lossless
    size = (side - 1).to_bytes(3, "little") * 2
    one = riff(b"ANMF", b"\0" * 6 + b"\0" * 6 + (40).to_bytes(3, "little") + b"\2" + riff(b"VP8L", still))
    body = b"WEBP" + riff(b"VP8X", b"\2\0\0\0" + size) + riff(b"ANIM", bytes(6)) + one * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("frames", [10, 124, 20_000])
def test_a_webp_that_claims_gigapixels(tmp_path, frames):
    """16384 x 16384 is a size that a still picture may have; 124 such frames are 33 gigapixels."""
    data = claiming_webp(16384, frames)
    assert len(data) < 48 * frames + 100
    (tmp_path / "a.webp").write_bytes(data)
    refused(tmp_path / "a.webp")


def test_a_png_and_a_gif_that_claim_gigapixels(tmp_path):
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    control = [(b"fcTL", struct.pack(">IIIIIHHBB", n, 20_000, 20_000, 0, 0, 1, 10, 0, 0)) for n in range(80)]
    pixels = (b"IDAT", zlib.compress(bytes(1000)))
    parts = [(b"IHDR", head), (b"acTL", struct.pack(">II", 80, 0)), control[0], pixels, *control[1:], (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    refused(tmp_path / "a.png")
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"  # one pixel
    gif = b"GIF89a" + struct.pack("<HHBBB", 20_000, 20_000, 0x80, 0, 0) + bytes(6) + frame * 90 + b";"
    (tmp_path / "a.gif").write_bytes(gif)
    refused(tmp_path / "a.gif")


def test_the_limit_counts_pixels_of_all_frames_for_each_byte():
    most = libraries.MAX_PIXELS + 1000 * (1 << 18)
    libraries.check_frames(1, most // 2, 2, 1000)
    with pytest.raises(PictureError, match="1,000 bytes"):
        libraries.check_frames(1, most // 2 + 1, 2, 1000)
    libraries.check_frames(1, most, 1, 0)  # one picture has a limit of its own
    libraries.check_frames(3840, 2160, 3000, 3000 * 40)  # where nothing moves, a frame takes few bytes: that is no attack


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
@pytest.mark.parametrize("shape", [(1, 65_500), (65_500, 1), (2, 40_000)])
def test_sides_of_65500_pixels(tmp_path, suffix, shape):
    """The most that a JPEG of Pillow's may have; the others have no limit that near."""
    values = np.random.default_rng(1).integers(0, 256, (*shape, 3)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / f"a{suffix}")
    picture = read_picture(tmp_path / f"a{suffix}")
    assert (picture.height, picture.width) == shape
    out = read_picture(write_picture(picture, tmp_path / f"b{suffix}"))
    assert suffix == ".jpg" or np.array_equal(to_array(out), values)


@pytest.mark.parametrize(("suffix", "more"), [(".png", {}), (".tif", {"compression": "group4"}), (".tif", {}), (".bmp", {}), (".gif", {})])
def test_one_bit(tmp_path, suffix, more):
    values = np.random.default_rng(2).random((37, 61)) > 0.5
    Image.fromarray(values).save(tmp_path / f"a{suffix}", **more)
    picture = read_picture(tmp_path / f"a{suffix}")
    assert np.array_equal(picture.pixels[..., 1], values.astype(np.float32)) and np.array_equal(
        picture.pixels[..., 0], picture.pixels[..., 2]
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_float_tiff_with_invalid_values(tmp_path, bad):
    values = np.full((8, 9), 0.5, np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(to_array(read_picture(tmp_path / "a.tif")), values)
    values[3, 4] = bad
    Image.fromarray(values).save(tmp_path / "b.tif")
    with pytest.raises(PictureError, match="invalid values"):
        read_picture(tmp_path / "b.tif")
