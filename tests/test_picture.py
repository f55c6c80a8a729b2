"""Arrays and PIL images in and out."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gpen_core import pictures
from gpen_core.errors import PictureError
from gpen_core.pictures import TextChunk, from_array, to_array, to_pil

RNG = np.random.default_rng(3)


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


# --- arrays ------------------------------------------------------------------------------------------------------------

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 7)).flatmap(lambda s: st.sampled_from([s, (*s, 1), (*s, 3), (*s, 4)]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whole_numbers_come_back(data):
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.dtype(">u2")]))
    values = data.draw(hnp.arrays(dtype, SHAPES))
    back = to_array(from_array(values))
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_floats_come_back_bit_for_bit(data):
    width = data.draw(st.sampled_from([16, 32, 64]))
    values = data.draw(hnp.arrays(f"float{width}", SHAPES, elements=st.floats(0, 1, width=width)))
    back = to_array(from_array(values))
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_number_of_a_kind_comes_back(dtype):
    count = np.iinfo(dtype).max + 1
    values = np.arange(count, dtype=dtype).reshape(-1, 256)
    np.testing.assert_array_equal(to_array(from_array(values)), values)
    colour = np.stack([values, values[::-1], np.roll(values, 3)], axis=2)
    np.testing.assert_array_equal(to_array(from_array(colour)), colour)


def test_the_picture_inside():
    picture = from_array(noise(5, 6, 4)[:, ::2].transpose(1, 0, 2))  # not contiguous
    assert picture.pixels.dtype == np.float32 and picture.pixels.flags.c_contiguous and (picture.height, picture.width) == (3, 5)
    assert picture.alpha is not None and picture.alpha.shape == (3, 5) and picture.alpha.dtype == np.float32
    assert picture.pixels.min() >= 0 and picture.pixels.max() <= 1


def test_the_picture_is_a_copy():
    values = noise(5, 6, 3)
    before = values.copy()
    picture = from_array(values)
    picture.pixels[:] = 0
    np.testing.assert_array_equal(values, before)
    floats = values / 255
    picture = from_array(floats)
    kept = floats.copy()
    floats[:] = 0.5
    np.testing.assert_array_equal(to_array(picture), kept)


def test_half_to_even_and_clipping():
    picture = from_array(np.zeros((1, 6, 3), np.uint8))
    new = np.array([0.5, 1.5, 2.5, -9, 300, 254.6], np.float32) / 255
    out = to_array(picture.with_pixels(np.repeat(new[None, :, None], 3, axis=2)))
    assert out[0, :, 0].tolist() == [0, 2, 2, 0, 255, 255]


def test_grey_is_rec601_where_touched_and_exact_elsewhere():
    values = RNG.random((4, 5)).astype(np.float32)
    picture = from_array(values)
    pixels = picture.pixels.copy()
    pixels[0, 0] = (1, 0, 0)
    out = to_array(picture.with_pixels(pixels))
    assert out[0, 0] == np.float32(0.299)
    np.testing.assert_array_equal(out.ravel()[1:], values.ravel()[1:])
    assert to_array(picture.in_colour()).shape == (4, 5, 3)


def test_float64_is_exact_where_untouched():
    values = RNG.random((4, 5, 4))
    picture = from_array(values)
    pixels = picture.pixels.copy()
    pixels[1, 2] = 0.25
    out = to_array(picture.with_pixels(pixels))
    assert (out[1, 2, :3] == 0.25).all()
    out[1, 2] = values[1, 2]
    np.testing.assert_array_equal(out, values)
    larger = picture.with_pixels(np.zeros((8, 10, 3), np.float32), np.ones((8, 10), np.float32))
    assert to_array(larger).shape == (8, 10, 4) and to_array(larger).dtype == np.float64


def test_alpha_is_never_lost():
    values = noise(4, 5, 4)
    picture = from_array(values)
    touched = to_array(picture.with_pixels(np.zeros((4, 5, 3))))
    np.testing.assert_array_equal(touched[:, :, 3], values[:, :, 3])
    with pytest.raises(PictureError, match="alpha"):
        picture.with_pixels(np.zeros((8, 10, 3)))
    with pytest.raises(PictureError, match="shape"):
        picture.with_pixels(np.zeros((4, 5)))
    added = from_array(values[:, :, :3]).with_pixels(picture.pixels, picture.alpha)
    np.testing.assert_array_equal(to_array(added), values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((4,), np.uint8), "shape"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((3, 4, 5), np.uint8), "last"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0), np.float32), "empty"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.full((4, 4, 3), 255.0), "between 0 and 1"),
        (np.full((4, 4, 3), np.nan, np.float32), "invalid values"),
        (np.full((4, 4, 3), np.inf, np.float16), "invalid values|between 0 and 1"),
        ([[1, 2], [3]], "."),
        ("portrait.png", "not a picture"),
        (None, "not a picture"),
    ],
)
def test_what_is_no_picture(values, words):
    with pytest.raises(PictureError, match=words):
        from_array(values)


def test_torch_on_the_cpu():
    torch = pytest.importorskip("torch")
    values = torch.rand(4, 5, 3)
    np.testing.assert_array_equal(to_array(from_array(values)), values.numpy())
    with pytest.raises(PictureError):
        from_array(values.requires_grad_())


# --- PIL images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_pil_comes_back(mode):
    image = Image.fromarray(noise(5, 6, len(mode)) if len(mode) > 1 else noise(5, 6))
    assert image.mode == mode
    back = to_pil(from_array(image))
    assert back.mode == mode and back.tobytes() == image.tobytes()


@pytest.mark.parametrize("mode", ["1", "P", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa", "PA"])
def test_other_pil_modes_become_plain(mode):
    source = Image.fromarray(noise(8, 8, 4))
    if mode in ("La", "PA"):
        source = source.convert("LA")
    image = source.convert("P").convert("PA") if mode == "PA" else source.convert("RGBA" if mode in ("RGBa", "La") else "RGB")
    image = image.convert("LA").convert("La") if mode == "La" else image.convert(mode)
    target = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(mode, "RGB")
    back = to_pil(from_array(image))
    assert back.mode == target and back.tobytes() == image.convert(target).tobytes()


def test_deep_pil_modes():
    values = RNG.integers(0, 65536, (5, 6)).astype(np.uint16)
    deep = Image.fromarray(values)
    assert deep.mode == "I;16"
    back = to_pil(from_array(deep))
    assert back.mode == "I;16" and np.array_equal(np.asarray(back), values)
    wide = Image.fromarray(values.astype(np.int32))
    back = to_pil(from_array(wide))
    assert back.mode == "I" and np.array_equal(np.asarray(back), values)
    big_endian = Image.frombytes("I;16B", (6, 5), values.astype(">u2").tobytes())
    assert np.array_equal(np.asarray(to_pil(from_array(big_endian))), values)
    floats = RNG.random((5, 6)).astype(np.float32)
    back = to_pil(from_array(Image.fromarray(floats)))
    assert back.mode == "F" and np.array_equal(np.asarray(back), floats)
    assert to_pil(from_array(np.full((2, 2, 3), 65535, np.uint16))).getpixel((0, 0)) == (255, 255, 255)
    for bad in (Image.fromarray(values.astype(np.int32) + 70000), Image.fromarray(floats * 255)):
        with pytest.raises(PictureError):
            from_array(bad)


def test_pil_palette_with_transparency():
    image = Image.fromarray(noise(8, 8, 3)).quantize(8)
    image.info["transparency"] = 2
    back = to_pil(from_array(image))
    assert back.mode == "RGBA" and back.tobytes() == image.convert("RGBA").tobytes()


def test_pil_notes_travel_and_its_size_stays():
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(noise(8, 16, 3)).save(stream, "PNG", exif=exif, dpi=(300, 300))
    image = Image.open(stream)
    image.info["parameters"] = "a portrait"
    picture = from_array(image)
    assert picture.form.text == (TextChunk("parameters", "a portrait", "tEXt"),)
    back = to_pil(picture)
    assert back.size == (16, 8) and back.info["parameters"] == "a portrait" and round(back.info["dpi"][0]) == 300
    assert back.getexif()[0x0112] == 6


def test_a_pil_image_of_a_cut_file():
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(stream, "JPEG")
    with pytest.raises(PictureError):
        from_array(Image.open(io.BytesIO(stream.getvalue()[:2000])))


def test_public_names():
    assert all(hasattr(pictures, name) for name in pictures.__all__)
