"""Picture files of every named format and mode, read and written back."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, TiffImagePlugin, features

from gpen_core.errors import PictureError
from gpen_core.picture import SUFFIXES, TextChunk, from_array, is_picture_path, read_picture, to_array, write_picture

RNG = np.random.default_rng(7)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape, dtype=np.uint8):
    if np.dtype(dtype).kind == "f":
        return RNG.random(shape).astype(dtype)
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(values, extra=b"", bits=None):
    """A PNG of any depth and channels, written without a library."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    depth = bits or values.dtype.itemsize * 8
    header = struct.pack(">IIBBBBB", width, height, depth, (0, 4, 2, 6)[channels - 1], 0, 0, 0)
    if depth < 8:
        unpacked = np.unpackbits(values[:, :, None], axis=2)[:, :, 8 - depth :].reshape(height, -1)
        rows = [np.packbits(row).tobytes() for row in unpacked]
    else:
        rows = [row.astype(">u2" if depth == 16 else "u1").tobytes() for row in values]
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def raw_tiff(values, orientation=None, photometric=None, extra=2):
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd[256], ifd[257], ifd[259] = width, height, 1
    ifd[258] = (values.dtype.itemsize * 8,) * channels
    ifd[262] = photometric if photometric is not None else (2 if channels >= 3 else 1)
    ifd[277], ifd[278], ifd[284] = channels, height, 1
    ifd[339] = ((3 if values.dtype.kind == "f" else 1),) * channels
    if channels in (2, 4):
        ifd[338] = extra
    if orientation:
        ifd[274] = orientation
    ifd[273], ifd[279] = 0, values.nbytes
    buffer = io.BytesIO()
    ifd.save(buffer)
    return buffer.getvalue() + values.tobytes()


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def round_trip(path, folder, suffix=None):
    out = write_picture(read_picture(path), folder / ("out" + (suffix or path.suffix)))
    return out, to_array(read_picture(out))


# --- lossless formats come back bit-identical -------------------------------------------------------------------------

MODES = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
def test_eight_bits(tmp_path, suffix, mode):
    if suffix == ".bmp" and mode == "LA":
        pytest.skip("BMP has no grey with alpha")
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
    assert picture.form.kind == "file" and picture.form.bits == 8
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
    assert picture.form.bits == 16 and picture.form.grey == (mode[0] == "L") and (picture.alpha is not None) == mode.endswith("A")
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
    assert picture.form.grey == (mode == "L") and picture.form.jpeg_quality == 83
    out = write_picture(picture, tmp_path / "out.jpg")
    with Image.open(out) as image:
        assert image.mode == mode
    if mode == "RGB":
        assert picture.form.jpeg_subsampling == read_picture(out).form.jpeg_subsampling == 1
    assert read_picture(out).form.jpeg_quality == 95


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
    assert read_picture(deep).form.bits == 16
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
    if suffix == ".webp" and max(shape) > 16383:
        pytest.skip("WebP is smaller")
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
