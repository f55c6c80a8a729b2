"""A picture that is enlarged is as large in print as before: pixels per inch go up with the pixels, wherever a format keeps them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from cli_help import run
from hypothesis import given, settings
from hypothesis import strategies as st
from option_world import Drawn, World, draw, own_model
from picture_help import noise
from PIL import Image

from gpen_core.pictures import Picture, read_picture, write_picture
from gpen_core.pictures.metadata import exif_of_size, parsed_exif

FORMATS = [".png", ".jpg", ".tif", ".bmp"]


def enlarged(picture: Picture, width: int, height: int) -> Picture:
    alpha = None if picture.alpha is None else np.ones((height, width), np.float32)
    return picture.with_pixels(np.full((height, width, 3), 0.5, np.float32), alpha)


def inches(path: Path) -> tuple[float, float]:
    """Width and height in print, as Pillow understands the file."""
    with Image.open(path) as image:
        return image.width / float(image.info["dpi"][0]), image.height / float(image.info["dpi"][1])


def camera_exif(width: int, height: int, x: float, y: float, *, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0100], exif[0x0101] = "Maker", width, height
    exif[0x011A], exif[0x011B], exif[0x0128] = x, y, 2
    exif[0x8769] = {0x9003: "2020:01:02 03:04:05", 0x927C: b"a maker's own note", 0xA002: width, 0xA003: height}
    return exif.tobytes()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
@settings(max_examples=5, deadline=None)
@given(dpi=st.integers(50, 1200), other=st.integers(50, 1200), width=st.integers(8, 64), height=st.integers(8, 64))
def test_the_size_in_print_stays(tmp_path_factory, source, target, channels, dpi, other, width, height):
    folder = tmp_path_factory.mktemp("print")
    image = Image.fromarray(noise(8, 8, channels))
    path = folder / f"in{source}"
    (image.convert("RGB") if source in (".jpg", ".bmp") else image).save(path, dpi=(dpi, other))
    before = inches(path)
    kept = write_picture(read_picture(path), folder / f"kept{target}")
    assert inches(kept) == pytest.approx(before, rel=0.01)  # a JPEG has whole numbers only
    grown = write_picture(enlarged(read_picture(path), width, height), folder / f"grown{target}")
    assert Image.open(grown).size == (width, height)
    assert inches(grown) == pytest.approx(before, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(
    order=st.sampled_from("<>"),
    x=st.floats(1, 2400, allow_nan=False),
    y=st.floats(1, 2400, allow_nan=False),
    old=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    new=st.tuples(st.integers(1, 90000), st.integers(1, 90000)),
)
def test_exif_agrees_with_the_new_size(order, x, y, old, new):
    before = camera_exif(*old, x, y, order=order)
    after = exif_of_size(before, new, (new[0] / old[0], new[1] / old[1]))
    entries, known = parsed_exif(after), parsed_exif(before)
    inner = entries.get_ifd(0x8769)
    assert (entries[0x0100], entries[0x0101]) == (inner[0xA002], inner[0xA003]) == new
    for tag, length, was in ((0x011A, new[0], old[0]), (0x011B, new[1], old[1])):
        assert length / float(entries[tag]) == pytest.approx(was / float(known[tag]), rel=1e-3)
    assert len(after) == len(before) and inner[0x927C] == b"a maker's own note" and entries[0x010F] == "Maker"
    assert exif_of_size(before, old) == before, "nothing changes at the same size"
    assert exif_of_size(before.removeprefix(b"Exif\0\0"), new) == exif_of_size(before, new).removeprefix(b"Exif\0\0")


def test_exif_whose_two_resolutions_are_one_number():
    """Some writers let both entries point to the same fraction: it must not grow twice."""
    entries = [struct.pack("<HHII", tag, 5, 1, 38) for tag in (0x011A, 0x011B)]
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(entries) + bytes(4) + struct.pack("<II", 300, 1)
    assert exif_of_size(tiff, (20, 20), (2.0, 2.0))[-8:] == struct.pack("<II", 600, 1)


@settings(max_examples=100, deadline=None)
@given(start=st.integers(0, 400), rubbish=st.binary(max_size=40))
def test_damaged_exif_does_no_harm(start, rubbish):
    exif = bytearray(camera_exif(10, 10, 300, 300))
    exif[start : start + len(rubbish)] = rubbish
    assert len(exif_of_size(bytes(exif), (20, 30), (2.0, 3.0), turned=True)) == len(exif)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_files_carry_exif_of_their_size(tmp_path, suffix):
    path = tmp_path / "in.jpg"
    Image.fromarray(noise(16, 24, 3)).save(path, dpi=(300, 300), exif=camera_exif(24, 16, 300, 300))
    picture = read_picture(path)
    unchanged = write_picture(enlarged(picture, 24, 16), tmp_path / f"same{suffix}")
    grown = write_picture(enlarged(picture, 48, 32), tmp_path / f"out{suffix}")
    for file, size in ((unchanged, (24, 16)), (grown, (48, 32))):
        with Image.open(file) as image:
            inner = image.getexif().get_ifd(0x8769)
            assert (inner[0xA002], inner[0xA003]) == size == image.size
            if suffix not in (".tif", ".webp"):
                assert float(image.getexif()[0x011A]) == 300 * size[0] / 24
    assert read_picture(write_picture(picture, tmp_path / "again.jpg")).form.exif == picture.form.exif


def test_a_picture_turned_by_its_exif_keeps_its_size_in_print(tmp_path):
    exif = Image.Exif()
    exif.load(camera_exif(24, 16, 100, 200))
    exif.get_ifd(0x8769)
    exif[0x0112] = 6
    path = tmp_path / "in.jpg"
    Image.fromarray(noise(16, 24, 3)).save(path, dpi=(100, 200), exif=exif.tobytes())
    before = inches(path)
    out = write_picture(read_picture(path), tmp_path / "out.jpg")
    assert inches(out) == pytest.approx(before[::-1])
    with Image.open(out) as image:
        entries, inner = image.getexif(), image.getexif().get_ifd(0x8769)
        assert image.size == (16, 24) == (inner[0xA002], inner[0xA003])
        assert (float(entries[0x011A]), float(entries[0x011B])) == (200, 100)


def test_a_jpeg_has_no_room_for_more_than_65535_dots_per_inch(tmp_path):
    path = tmp_path / "in.tif"
    Image.fromarray(noise(8, 8, 3)).save(path, dpi=(30000, 30000))
    out = write_picture(enlarged(read_picture(path), 32, 32), tmp_path / "out.jpg")
    with Image.open(out) as image:
        assert "dpi" not in image.info, "a wrong number would be worse than none"


def test_pil_images_too():
    from gpen_core.pictures import from_array, to_pil

    stream = io.BytesIO()
    Image.fromarray(noise(8, 16, 3)).save(stream, "PNG", dpi=(300, 300))
    image = to_pil(enlarged(from_array(Image.open(stream)), 32, 16))
    assert [round(value) for value in image.info["dpi"]] == [600, 600]


@pytest.mark.parametrize(("size", "wanted"), [("keep", 150), ("factor", 450), ("native", 300)])
def test_restored_files(tmp_path, capsys, monkeypatch, size, wanted):
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    own_model(tmp_path)
    world = World(monkeypatch)
    world.size = 128  # twice the face's square
    Image.fromarray(draw((100, 100), Drawn("one", (50, 50))).pixels).save(tmp_path / "in.png", dpi=(150, 150))
    code, _, err = run(
        capsys, "restore", tmp_path / "in.png", "-o", tmp_path / "out.png", "--models-dir", tmp_path, "--output-size", size, "--factor", 3
    )
    assert code == 0, err
    dpi = read_picture(tmp_path / "out.png").form.dpi
    assert dpi is not None and dpi == pytest.approx((wanted, wanted), rel=0.15)  # native: by the box of the drawn face
    assert inches(tmp_path / "out.png") == pytest.approx(inches(tmp_path / "in.png"), rel=0.01)
