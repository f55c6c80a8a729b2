"""What travels along with the pixels of a file; odd sizes and names."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_help import SRGB, chunk, noise, put, raw_png, raw_tiff, round_trip
from PIL import Image, ImageOps, PngImagePlugin

from gpen_core.pictures import SUFFIXES, TextChunk, from_array, is_picture_path, read_picture, to_array, write_picture

# --- what travels along ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", "16.tif", "16.png"])
def test_exif_orientation(tmp_path, suffix, orientation):
    values = np.zeros((16, 32, 3), np.uint8)
    values[:8, :8], values[8:, :8], values[:8, 24:] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05"}
    path = tmp_path / f"in{suffix}"
    if suffix == "16.tif":
        path.write_bytes(raw_tiff(values.astype(np.uint16) * 257, orientation))
    elif suffix == "16.png":
        path.write_bytes(raw_png(values.astype(np.uint16) * 257, chunk(b"eXIf", exif.tobytes()[6:])))
    elif suffix == ".tif":
        path.write_bytes(raw_tiff(values, orientation))
    else:
        Image.fromarray(values).save(path, exif=exif.tobytes(), **({"lossless": True} if suffix == ".webp" else {"quality": 100}))
    plain = Image.fromarray(values)
    method = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}.get(orientation)
    expected = np.asarray(plain if method is None else plain.transpose(method)).astype(int)
    picture = read_picture(path)
    seen = to_array(picture).astype(int)
    seen = seen // 257 if seen.max() > 255 else seen
    assert seen.shape == expected.shape
    assert np.abs(seen - expected).mean() < 12
    out = write_picture(picture, tmp_path / f"out.{suffix.split('.')[1]}")
    with Image.open(out) as image:
        kept = image.getexif()
        assert kept.get(0x0112, 1) == 1
        if "tif" not in suffix:
            assert kept[0x010F] == "Maker" and kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
            assert ImageOps.exif_transpose(image).size == expected.shape[1::-1]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".webp", ".tif"])
def test_icc_exif_and_dpi_are_kept(tmp_path, suffix, target):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05"}
    exif[0x8825] = {1: "N"}
    path = tmp_path / f"in{suffix}"
    Image.fromarray(noise(16, 16, 3)).save(path, icc_profile=SRGB, dpi=(300, 300), exif=exif.tobytes())
    out = write_picture(read_picture(path), tmp_path / f"out{target}")
    with Image.open(out) as image:
        assert image.info["icc_profile"] == SRGB
        if "webp" not in suffix + target:
            assert [round(float(x)) for x in image.info["dpi"]] == [300, 300]
        kept = image.getexif()
        assert kept[0x010F] == "Maker" and kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05" and kept.get_ifd(0x8825)[1] == "N"


def test_a_grey_profile_stays_with_grey_only(tmp_path):
    grey_profile = b"\0" * 16 + b"GRAY" + b"\0" * 200
    path = put(tmp_path, "in.png", raw_png(noise(5, 6), chunk(b"iCCP", b"x\0\0" + zlib.compress(grey_profile))))
    picture = read_picture(path)
    assert read_picture(write_picture(picture, tmp_path / "grey.png")).form.icc_profile == grey_profile
    assert read_picture(write_picture(picture.in_colour(), tmp_path / "colour.png")).form.icc_profile is None
    assert read_picture(write_picture(picture, tmp_path / "out.webp")).form.icc_profile is None


PARAMETERS = "a portrait, großes Bild, 肖像\nNegative prompt: blur\nSteps: 20, Sampler: Euler a"


def test_png_texts(tmp_path):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("plain", "héllo")
    notes.add_text("packed", "x" * 2_000_000, zip=True)  # more than Pillow would unpack
    notes.add_itxt("parameters", PARAMETERS)
    notes.add_itxt("workflow", '{"a": "é"}', zip=True)
    notes.add_text("prompt", '{"1": {}}')
    Image.fromarray(noise(5, 6, 3)).save(tmp_path / "in.png", pnginfo=notes)
    picture = read_picture(tmp_path / "in.png")
    wanted = (
        TextChunk("plain", "héllo", "tEXt"),
        TextChunk("packed", "x" * 2_000_000, "zTXt"),
        TextChunk("parameters", PARAMETERS, "iTXt"),
        TextChunk("workflow", '{"a": "é"}', "iTXt"),
        TextChunk("prompt", '{"1": {}}', "tEXt"),
    )
    assert picture.form.text == wanted
    out = write_picture(picture, tmp_path / "out.png")
    assert read_picture(out).form.text == wanted
    deep = write_picture(from_array(noise(4, 4, 3, dtype=np.uint16)).with_pixels(noise(4, 4, 3, dtype=np.float32)), tmp_path / "deep.png")
    assert read_picture(deep).form.dtype == np.uint16
    (tmp_path / "small.png").write_bytes(raw_png(noise(4, 4, 3), chunk(b"iTXt", b"parameters\0\0\0\0\0" + PARAMETERS.encode())))
    with Image.open(write_picture(read_picture(tmp_path / "small.png"), tmp_path / "small_out.png")) as image:
        assert image.text == {"parameters": PARAMETERS}


@pytest.mark.parametrize("target", [".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_parameters_go_where_a1111_looks_for_them(tmp_path, target, with_exif):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05"}
    extra = chunk(b"tEXt", b"workflow\0{}") + chunk(b"iTXt", b"parameters\0\0\0\0\0" + PARAMETERS.encode())
    if with_exif:
        extra += chunk(b"eXIf", exif.tobytes()[6:])
    path = put(tmp_path, "in.png", raw_png(noise(16, 16, 3), extra))
    with Image.open(write_picture(read_picture(path), tmp_path / f"out{target}")) as image:
        kept = image.getexif()
        comment = kept.get_ifd(0x8769)[0x9286]
        assert comment[:8] == b"UNICODE\0" and comment[8:].decode("utf-16-be") == PARAMETERS
        if with_exif:
            assert kept[0x010F] == "Maker" and kept.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
        elif target == ".webp":
            assert kept[0x010F] == "workflow:{}"


def test_exif_too_long_for_jpeg_does_not_stop_the_picture(tmp_path, caplog):
    path = put(tmp_path, "in.png", raw_png(noise(16, 16, 3), chunk(b"tEXt", b"parameters\0" + b"x" * 70000)))
    read_picture(write_picture(read_picture(path), tmp_path / "out.jpg"))
    assert "too long" in caplog.text


def test_colour_chunks_of_a_png_are_kept(tmp_path):
    chunks = ((b"gAMA", struct.pack(">I", 100000)), (b"sRGB", b"\0"))
    path = put(tmp_path, "in.png", raw_png(noise(5, 6, 3, dtype=np.uint16), b"".join(chunk(*one) for one in chunks)))
    assert read_picture(write_picture(read_picture(path), tmp_path / "out.png")).form.colour_chunks == chunks


def test_damaged_notes_do_not_cost_the_picture(tmp_path):
    extra = chunk(b"zTXt", b"key\0\0rubbish") + chunk(b"iCCP", b"nothing") + chunk(b"eXIf", b"II*\0\xff\xff\0\0") + chunk(b"tEXt", b"nokey")
    values = noise(5, 6, 3)
    _, again = round_trip(put(tmp_path, "in.png", raw_png(values, extra)), tmp_path)
    np.testing.assert_array_equal(again, values)


# --- sizes and names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg", ".webp"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 20000, 3), (20000, 8, 3)])
def test_odd_sizes(tmp_path, suffix, shape):
    shape = tuple(min(side, 16383) for side in shape) if suffix == ".webp" else shape  # WebP ends there
    values = np.full(shape, 200, np.uint8)
    out = write_picture(from_array(values), tmp_path / f"out{suffix}")
    assert np.abs(to_array(read_picture(out)).astype(int) - 200).max() <= 2


def test_more_pixels_than_pillow_allows(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        out = write_picture(from_array(noise(30, 40, 3)), tmp_path / f"out{suffix}")
        assert read_picture(out).pixels.shape == (30, 40, 3)
    values = noise(30, 40, 3)
    np.testing.assert_array_equal(to_array(read_picture(put(tmp_path, "plain.tif", raw_tiff(values)))), values)
    values = noise(30, 40, 4)
    Image.fromarray(values).save(tmp_path / "in.webp", lossless=True, exact=True, icc_profile=SRGB)
    np.testing.assert_array_equal(to_array(read_picture(tmp_path / "in.webp")), values)
    assert read_picture(tmp_path / "in.webp").form.icc_profile == SRGB
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("name", ["Großmutter 祖母 👵.png", "with  spaces .jpg", "UPPER.PNG", "dots.in.name.webp", "-o.png"])
def test_names(tmp_path, name):
    folder = tmp_path / "Ordner für 写真" / "new"
    out = write_picture(from_array(noise(5, 6, 3)), folder / name)
    assert out == folder / name and read_picture(str(out)).pixels.shape == (5, 6, 3)
    assert [p.name for p in folder.iterdir()] == [name]


def test_suffixes():
    assert all(is_picture_path(f"a{suffix}") and is_picture_path(f"a{suffix.upper()}") for suffix in SUFFIXES)
    assert not any(is_picture_path(name) for name in ("a.txt", "png", "a.mp4", "._a.png", "a.png.part"))


def test_content_decides_not_the_name(tmp_path):
    Image.fromarray(noise(5, 6, 3)).save(tmp_path / "in.bmp")
    (tmp_path / "in.bmp").rename(tmp_path / "in.jpg")
    assert read_picture(tmp_path / "in.jpg").form.format == "BMP"


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 9),
    channels=st.sampled_from([(), (1,), (3,), (4,)]),
    dtype=st.sampled_from(["uint8", "uint16"]),
    suffix=st.sampled_from([".png", ".tif"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_lossless_file_comes_back(tmp_path_factory, height, width, channels, dtype, suffix, seed):
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, *channels)).astype(dtype)
    out = write_picture(from_array(values), tmp_path_factory.mktemp("any") / f"out{suffix}")
    np.testing.assert_array_equal(to_array(read_picture(out)), values[:, :, 0] if channels == (1,) else values)


# --- what cannot go along is said ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("comment", [b"a cat", "Großmutter".encode(), bytes(range(1, 256))])
def test_the_comment_of_a_jpeg_is_kept(tmp_path, comment):
    Image.fromarray(noise(9, 13, 3)).save(tmp_path / "in.jpg", comment=comment)
    out = write_picture(read_picture(tmp_path / "in.jpg"), tmp_path / "out.jpg")
    assert Image.open(out).info["comment"] == comment
    again = write_picture(read_picture(out), tmp_path / "out.png")
    assert read_picture(again).form.text[0].value.encode("latin-1") == comment
    assert Image.open(write_picture(read_picture(again), tmp_path / "again.jpg")).info["comment"] == comment


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".bmp"])
def test_a_comment_that_a_format_has_no_place_for_is_told_of(tmp_path, caplog, suffix):
    Image.fromarray(noise(9, 13, 3)).save(tmp_path / "in.jpg", comment=b"a cat")
    write_picture(read_picture(tmp_path / "in.jpg"), tmp_path / f"out{suffix}")
    assert "Comment" in caplog.text and len(caplog.records) == 1 and caplog.records[0].once


def test_notes_that_a_format_keeps_are_not_told_of(tmp_path, caplog):
    picture = from_array(noise(4, 5, 3))
    picture.form = replace(picture.form, text=(TextChunk("parameters", "a cat"),))
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        write_picture(picture, tmp_path / f"out{suffix}")
    assert not caplog.text


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp"])
def test_depth_that_a_format_has_no_place_for_is_told_of(tmp_path, caplog, suffix):
    write_picture(from_array(noise(9, 13, 3, dtype=np.uint16)), tmp_path / f"out{suffix}")
    assert "16 bits are rounded" in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_told_of(tmp_path, caplog, suffix):
    Image.new("CMYK", (16, 8)).save(tmp_path / f"in{suffix}")
    read_picture(tmp_path / f"in{suffix}")
    assert "CMYK" in caplog.text and len(caplog.records) == 1 and caplog.records[0].once
