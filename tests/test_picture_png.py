"""How a PNG's pixels are packed: for every reader the same, in few enough bytes."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_help import RNG, noise
from PIL import Image

from gpen_core.pictures import from_array, read_picture, to_array, write_picture
from gpen_core.pictures.png import packed_pixels


def unfiltered(stream, height, pixel):
    """The rows of a zlib stream, PNG's filters undone number by number, as its specification has them."""
    rows = np.frombuffer(zlib.decompress(stream), np.uint8).reshape(height, -1)
    above = [0] * (rows.shape[1] - 1)
    result = []
    for kind, *row in rows.tolist():
        done: list[int] = []
        for n, value in enumerate(row):
            a, c = (done[n - pixel], above[n - pixel]) if n >= pixel else (0, 0)
            b = above[n]
            distances = [abs(a + b - c - near) for near in (a, b, c)]
            paeth = (a, b, c)[distances.index(min(distances))]
            done.append((value + (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
        result.append(done)
        above = done
    return np.array(result, np.uint8)


def drawing(height, width, channels=3):
    """Few colours, straight edges, a repeated pattern: what deflate's search is for."""
    small = RNG.integers(0, 4, (8, 8, channels)) * 60
    return np.tile(small, (height // 8 + 1, width // 8 + 1, 1))[:height, :width].astype(np.uint8)


def smooth(height, width, channels=3):
    y, x = np.indices((height, width))
    return np.stack([(y * (c + 1) // 3 + x) % 256 for c in range(channels)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("make", [noise, drawing, smooth])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 3), (40, 1, 4), (37, 23, 2), (64, 48, 3)])
def test_the_filters_are_pngs(make, shape, dtype):
    values = make(*shape).astype(dtype) * dtype(257 if dtype is np.uint16 else 1)
    seen = unfiltered(packed_pixels(values), shape[0], shape[2] * values.itemsize)
    np.testing.assert_array_equal(seen.reshape(-1), values.astype(values.dtype.newbyteorder(">")).view(np.uint8).reshape(-1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_others_read_it(tmp_path, dtype, channels):
    values = noise(700, 900, channels, dtype=dtype)
    values[200:500] = 7
    path = write_picture(from_array(values), tmp_path / "a.png")
    np.testing.assert_array_equal(to_array(read_picture(path)).reshape(values.shape), values)
    seen = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED).reshape(values.shape)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    np.testing.assert_array_equal(seen[:, :, order], values)


def length(values):
    """Of the same pixels as Pillow writes them."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return len(buffer.getvalue())


@pytest.mark.parametrize("make", [drawing, smooth])
def test_drawings_are_about_as_short_as_pillows(make):
    values = make(600, 800)
    assert len(packed_pixels(values)) < 1.3 * length(values) + 1000


def test_photographs_are_about_as_short_as_pillows():
    portrait = to_array(read_picture(Path(__file__).resolve().parents[1] / "examples" / "portrait.png"))
    for values in (portrait, cv2.resize(portrait, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)):
        assert len(packed_pixels(values)) < 1.08 * length(values)
