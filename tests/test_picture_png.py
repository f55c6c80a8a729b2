"""How a PNG's pixels are packed: in bands, on all processors, in few enough bytes."""

from __future__ import annotations

import io
import zlib

import cv2
import numpy as np
import pytest
from picture_help import RNG, noise
from PIL import Image

from gpen_core.pictures import from_array, pngpixels, read_picture, to_array, write_picture


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


@pytest.mark.parametrize("make", [noise, drawing, smooth])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 3), (40, 1, 4), (37, 23, 2), (64, 48, 3)])
def test_the_filters_are_pngs(monkeypatch, make, shape):
    monkeypatch.setattr(pngpixels, "_BAND", 1200)  # several bands, so that the first rows of bands count
    values = make(*shape)
    stream = pngpixels.packed_pixels(values)
    np.testing.assert_array_equal(unfiltered(stream, shape[0], shape[2]), values.reshape(shape[0], -1))


@pytest.mark.parametrize("kind", range(5))
def test_every_filter(kind):
    rows = RNG.integers(0, 256, (60, 3 + 90)).astype(np.uint8)
    rows[0], rows[:, :3] = 0, 0
    rows[20:40] //= 64  # ties between the neighbours
    kinds = np.full((59, 1), kind, np.uint8)
    filtered = np.hstack([kinds, pngpixels._filtered(kind, rows[:-1], rows[1:], 3)])
    np.testing.assert_array_equal(unfiltered(zlib.compress(filtered.tobytes()), 59, 3), rows[1:, 3:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_others_read_it_and_the_number_of_processors_does_not_show(monkeypatch, tmp_path, dtype, channels):
    values = noise(700, 900, channels, dtype=dtype)
    values[200:500] = 7
    streams = set()
    for processors in (1, 5):
        monkeypatch.setattr(pngpixels.os, "cpu_count", lambda processors=processors: processors)
        streams.add(pngpixels.packed_pixels(values))
    assert len(streams) == 1
    if channels == 2:  # pictures of grey with alpha come from files only
        return
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
def test_drawings_are_searched_and_about_as_short_as_pillows(make):
    values = make(600, 800)
    assert pngpixels._search_pays(values.tobytes())
    assert len(pngpixels.packed_pixels(values)) < 1.3 * length(values) + 1000


def test_photographs_are_about_as_short_as_pillows(portrait_numbers):
    for values in (portrait_numbers, cv2.resize(portrait_numbers, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)):
        assert len(pngpixels.packed_pixels(values)) < 1.08 * length(values)


def test_noise_is_not_searched():
    assert not pngpixels._search_pays(RNG.normal(0, 3, 1 << 18).astype(np.int8).tobytes())


@pytest.fixture
def portrait_numbers():
    from pathlib import Path

    return to_array(read_picture(Path(__file__).resolve().parents[1] / "examples" / "portrait.png"))
