"""Picture files of every named format and mode, read and written back."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from picture_help import RNG, chunk, noise, put, raw_png, raw_tiff, round_trip
from PIL import Image, ImageCms, features

from gpen_core.errors import PictureError
from gpen_core.pictures import from_array, read_picture, to_array, write_picture

# --- lossless formats come back bit-identical -------------------------------------------------------------------------

MODES = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}


EIGHT_BITS = [(suffix, mode) for suffix in (".png", ".tif", ".bmp", ".webp") for mode in MODES]
EIGHT_BITS.remove((".bmp", "LA"))  # BMP has no grey with alpha


@pytest.mark.parametrize(("suffix", "mode"), EIGHT_BITS)
def test_eight_bits(tmp_path, suffix, mode):
    values = noise(9, 13, *MODES[mode])
    path = tmp_path / f"in{suffix}"
    if suffix == ".bmp" and mode == "RGBA":
        write_picture(from_array(values), path)
    else:
        settings = {"lossless": True, "exact": True} if suffix == ".webp" else {}
        image = Image.fromarray(values)
        (image.convert({"L": "RGB", "LA": "RGBA"}.get(mode, mode)) if suffix == ".webp" else image).save(path, **settings)
    if suffix == ".webp" and mode == "L":
        values = np.repeat(values[:, :, None], 3, axis=2)
    if suffix == ".webp" and mode == "LA":
        values = values[:, :, [0, 0, 0, 1]]
    picture = read_picture(path)
    assert picture.pixels.dtype == np.float32 and picture.pixels.shape == (9, 13, 3) and picture.pixels.flags.c_contiguous
    assert picture.form.dtype == np.uint8
    np.testing.assert_array_equal(to_array(picture), values)
    out, again = round_trip(path, tmp_path)
    np.testing.assert_array_equal(again, values)
    seen = np.asarray(Image.open(out))
    np.testing.assert_array_equal(seen, values)  # what another program sees


@pytest.mark.parametrize("mode", MODES)
def test_sixteen_bit_png(tmp_path, mode):
    values = noise(70, 13, *MODES[mode], dtype=np.uint16)
    path = put(tmp_path, "in.png", raw_png(values))
    picture = read_picture(path)
    assert picture.form.dtype == np.uint16 and picture.form.grey == (mode[0] == "L") and (picture.alpha is not None) == mode.endswith("A")
    np.testing.assert_array_equal(to_array(picture), values)
    out, again = round_trip(path, tmp_path)
    np.testing.assert_array_equal(again, values)
    seen = cv2.imdecode(np.frombuffer(out.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    if mode == "LA":
        np.testing.assert_array_equal(seen[:, :, 2:], values)
    else:
        np.testing.assert_array_equal(seen if mode == "L" else seen[:, :, [2, 1, 0, 3][: values.shape[2]]], values)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_deep_tiff(tmp_path, mode, dtype):
    values = noise(9, 13, *MODES[mode], dtype=dtype)
    path = put(tmp_path, "in.tif", raw_tiff(values))
    np.testing.assert_array_equal(to_array(read_picture(path)), values)
    out, again = round_trip(path, tmp_path)
    assert again.dtype == values.dtype
    np.testing.assert_array_equal(again, values)
    seen = cv2.imdecode(np.frombuffer(out.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(seen if mode == "L" else seen[:, :, [2, 1, 0, 3][: values.shape[2]]], values)


def test_deep_tiff_by_tifffile(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    for values in (noise(9, 13, 3, dtype=np.uint16), noise(9, 13, 4), noise(9, 13), noise(9, 13, 3, dtype=np.float32)):
        out = write_picture(from_array(values), tmp_path / "out.tiff", overwrite=True)
        np.testing.assert_array_equal(tifffile.imread(out), values)


def test_values_of_float_tiff_outside_0_1_are_kept(tmp_path):
    values = noise(5, 6, dtype=np.float32) * 40 - 3
    _, again = round_trip(put(tmp_path, "in.tif", raw_tiff(values)), tmp_path)
    np.testing.assert_array_equal(again, values)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_white_is_zero_tiff(tmp_path, dtype):
    values = noise(5, 6, dtype=dtype)
    white = 65535 if dtype == "uint16" else np.float32(1)
    np.testing.assert_array_equal(to_array(read_picture(put(tmp_path, "in.tif", raw_tiff(values, photometric=0)))), white - values)


def test_multiplied_alpha_of_deep_tiff(tmp_path):
    values = np.array([[[1000, 2000, 3000, 32768], [0, 0, 0, 0], [5, 6, 7, 65535]]], np.uint16)
    seen = to_array(read_picture(put(tmp_path, "in.tif", raw_tiff(values, extra=1))))
    assert np.abs(seen[0, 0].astype(int) - [2000, 4000, 6000, 32768]).max() <= 1
    assert seen[0, 1].tolist() == [0, 0, 0, 0] and seen[0, 2].tolist() == [5, 6, 7, 65535]


def test_deep_grey_alpha_into_tiff_becomes_rgba(tmp_path):
    values = noise(5, 6, 2, dtype=np.uint16)
    _, again = round_trip(put(tmp_path, "in.png", raw_png(values)), tmp_path, ".tif")
    np.testing.assert_array_equal(again, values[:, :, [0, 0, 0, 1]])


def test_deep_tiffs_opencv_would_read_wrongly_are_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = noise(3, 40, 50, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "planes.tif", values, photometric="rgb", planarconfig="separate")
    put(tmp_path, "grey_alpha.tif", raw_tiff(noise(4, 5, 2, dtype=np.uint16)))
    for name in ("planes.tif", "grey_alpha.tif"):
        with pytest.raises(PictureError, match="not supported"):
            read_picture(tmp_path / name)


@pytest.mark.parametrize("layout", [{"bigtiff": True}, {"tile": (16, 16)}, {"byteorder": ">"}, {"compression": "zlib", "predictor": True}])
def test_layouts_of_deep_tiff(tmp_path, layout):
    tifffile = pytest.importorskip("tifffile")
    values = noise(40, 50, 3, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", values, photometric="rgb", **layout)
    np.testing.assert_array_equal(to_array(read_picture(tmp_path / "in.tif")), values)


def test_a_deep_png_in_one_very_long_chunk(tmp_path, capfd):
    values = noise(1300, 1300, 3, dtype=np.uint16)
    seen = to_array(read_picture(put(tmp_path, "in.png", raw_png(values))))
    np.testing.assert_array_equal(seen, values)
    assert "too large" not in capfd.readouterr().err


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_and_a_transparent_grey(tmp_path, bits):
    values = RNG.integers(0, 2**bits, (5, 11)).astype(np.uint8)
    spread = values * (255 // (2**bits - 1))
    np.testing.assert_array_equal(to_array(read_picture(put(tmp_path, "in.png", raw_png(values, bits=bits)))), spread)
    path = put(tmp_path, "key.png", raw_png(values, chunk(b"tRNS", struct.pack(">H", 1)), bits))
    _, seen = round_trip(path, tmp_path)
    np.testing.assert_array_equal(seen[:, :, 0], spread)
    np.testing.assert_array_equal(seen[:, :, 1], np.where(values == 1, 0, 255))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_transparent_colour(tmp_path, dtype):
    values = noise(4, 5, 3, dtype=dtype)
    key = chunk(b"tRNS", struct.pack(">HHH", *values[2, 3].tolist()))
    seen = to_array(read_picture(put(tmp_path, "in.png", raw_png(values, key))))
    np.testing.assert_array_equal(seen[:, :, :3], values)
    assert seen[2, 3, 3] == 0 and np.count_nonzero(seen[:, :, 3]) == 19


def test_one_bit_bmp_and_tiff(tmp_path):
    bits = noise(9, 13) > 127
    for suffix in (".bmp", ".tif"):
        path = tmp_path / f"in{suffix}"
        Image.fromarray(bits).save(path)
        _, again = round_trip(path, tmp_path)
        np.testing.assert_array_equal(again, bits * np.uint8(255))


@pytest.mark.parametrize("suffix", [".png", ".gif", ".bmp", ".tif"])
def test_palette(tmp_path, suffix):
    image = Image.fromarray(noise(9, 13, 3)).quantize(16)
    path = tmp_path / f"in{suffix}"
    image.save(path)
    np.testing.assert_array_equal(to_array(read_picture(path)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 160, 10))])
def test_palette_with_transparency(tmp_path, transparency):
    image = Image.fromarray(noise(9, 13, 3)).quantize(16)
    path = tmp_path / "in.png"
    image.save(path, transparency=transparency)
    expected = np.asarray(Image.open(path).convert("RGBA"))
    assert expected[:, :, 3].min() < 255
    _, again = round_trip(path, tmp_path)
    np.testing.assert_array_equal(again, expected)


def test_gif_with_transparency_and_frames_gives_the_first(tmp_path):
    first, second = (Image.fromarray(noise(9, 13, 3)).quantize(16) for _ in range(2))
    first.save(tmp_path / "in.gif", save_all=True, append_images=[second], transparency=2)
    picture = read_picture(tmp_path / "in.gif")
    np.testing.assert_array_equal(to_array(picture)[:, :, :3], np.asarray(Image.open(tmp_path / "in.gif").convert("RGBA"))[:, :, :3])
    assert picture.alpha is not None


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif(tmp_path):
    Image.new("RGB", (16, 8), (200, 30, 60)).save(tmp_path / "in.avif")
    assert np.abs(to_array(read_picture(tmp_path / "in.avif")).astype(int) - [200, 30, 60]).max() <= 4


# --- JPEG --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg(tmp_path, mode, progressive):
    values = noise(40, 56, *MODES[mode])
    Image.fromarray(values).save(tmp_path / "in.jpg", quality=83, subsampling=1 if mode == "RGB" else -1, progressive=progressive)
    picture = read_picture(tmp_path / "in.jpg")
    np.testing.assert_array_equal(to_array(picture), np.asarray(Image.open(tmp_path / "in.jpg")))
    assert picture.form.grey == (mode == "L")
    out = write_picture(picture, tmp_path / "out.jpg")
    with Image.open(out) as image:
        assert image.mode == mode
        Image.fromarray(values).save(tmp_path / "as_good.jpg", quality=95)
        with Image.open(tmp_path / "as_good.jpg") as as_good:
            assert image.quantization[0] == as_good.quantization[0]
    if mode == "RGB":
        assert picture.form.jpeg_subsampling == read_picture(out).form.jpeg_subsampling == 1


def cmyk_profile():
    """No CMYK profile can be made with Pillow: a damaged one must do."""
    return b"\0" * 16 + b"CMYK" + b"\0" * 200


@pytest.mark.parametrize("profile", [None, cmyk_profile()])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(tmp_path, profile, suffix):
    image = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
    image.save(tmp_path / f"in{suffix}", icc_profile=profile)
    picture = read_picture(tmp_path / f"in{suffix}")
    assert np.abs(to_array(picture).astype(int) - [255, 0, 0]).max() <= 2  # red, not its opposite
    assert picture.form.icc_profile is None
    write_picture(picture, tmp_path / f"out{suffix}")
    assert Image.open(tmp_path / f"out{suffix}").mode == "RGB"


def test_cmyk_goes_through_its_profile(tmp_path, monkeypatch):
    seen = []

    def convert(image, source, target, outputMode):
        seen.append((image.mode, outputMode))
        return Image.new("RGB", image.size, (1, 2, 3))

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda stream: stream)
    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    Image.new("CMYK", (16, 8)).save(tmp_path / "in.jpg", icc_profile=cmyk_profile())
    assert to_array(read_picture(tmp_path / "in.jpg"))[0, 0].tolist() == [1, 2, 3] and seen == [("CMYK", "RGB")]


def test_alpha_into_jpeg_is_laid_on_white_with_a_line(tmp_path, caplog):
    values = np.zeros((16, 16, 4), np.uint8)
    values[:, 8:, 3] = 255
    out = write_picture(from_array(values), tmp_path / "out.jpg")
    seen = to_array(read_picture(out))
    assert seen[:, :6].min() > 245 and seen[:, 10:].max() < 10
    assert "white" in caplog.text


def test_quality_is_obeyed(tmp_path):
    picture = from_array(noise(64, 64, 3))
    sizes = [write_picture(picture, tmp_path / f"{q}.{s}", quality=q).stat().st_size for s in ("jpg", "webp") for q in (30, 95)]
    assert sizes[0] < sizes[1] and sizes[2] < sizes[3]


def test_lossy_webp_keeps_alpha_exactly_and_lossless_is_remembered(tmp_path):
    values = noise(20, 20, 4)
    out = write_picture(from_array(values), tmp_path / "out.webp")
    picture = read_picture(out)
    assert not picture.form.lossless
    np.testing.assert_array_equal(to_array(picture)[:, :, 3], values[:, :, 3])
    Image.fromarray(values).save(tmp_path / "in.webp", lossless=True, exact=True)
    assert read_picture(tmp_path / "in.webp").form.lossless
    np.testing.assert_array_equal(round_trip(tmp_path / "in.webp", tmp_path / "b")[1], values)
