"""XMP in a PNG never contradicts the pixels: its size, resolution and orientation go with them, and every other letter stays."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gpen_core.pictures import TextChunk, from_array, read_picture, write_picture
from gpen_core.pictures.xmp import XMP, xmp_of_size

ATTRIBUTES = (
    '<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:ImageWidth="20" tiff:ImageLength=\'10\' '
    'exif:PixelXDimension="20" exif:PixelYDimension="10" tiff:XResolution="300/1" tiff:YResolution="150" tiff:Orientation="{turn}" '
    'dc:title="tiff:ImageWidth is 20" my:tiff:ImageWidth="20"><ä/></rdf:Description></x:xmpmeta>'
)
ELEMENTS = (
    "<rdf:Description><tiff:ImageWidth>20</tiff:ImageWidth>20<tiff:ImageLength>10</tiff:ImageLength><exif:PixelXDimension>20"
    "</exif:PixelXDimension><exif:PixelYDimension>10</exif:PixelYDimension><tiff:XResolution>300/1</tiff:XResolution>"
    "<tiff:YResolution>150</tiff:YResolution><tiff:Orientation>{turn}</tiff:Orientation></rdf:Description>"
)


def written(path: Path, packet: str, turned: int = 1) -> Path:
    note, exif = PngImagePlugin.PngInfo(), Image.Exif()
    note.add_itxt(XMP, packet)
    exif[0x0112] = turned
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(path, pnginfo=note, exif=exif)
    return path


def packet_of(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.info[XMP])


def said(packet: str) -> dict[str, str]:
    """The numbers, by the last part of their names."""
    return {match[1]: match[2] for match in re.finditer(r"(?<![:\w/])(?:tiff|exif):(\w+)(?:=.|>)([0-9/]+)", packet)}


@pytest.mark.parametrize("packet", [ATTRIBUTES, ELEMENTS])
def test_a_picture_that_is_enlarged(tmp_path, packet):
    packet = packet.replace("{turn}", "1")
    picture = read_picture(written(tmp_path / "in.png", packet))
    assert packet_of(write_picture(picture, tmp_path / "same.png")) == packet, "unchanged, it stays letter for letter"
    grown = packet_of(write_picture(picture.with_pixels(np.zeros((40, 50, 3), np.float32)), tmp_path / "out.png"))
    assert said(grown) == {
        "ImageWidth": "50", "ImageLength": "40", "PixelXDimension": "50", "PixelYDimension": "40", "XResolution": "750/1",
        "YResolution": "600", "Orientation": "1",
    }  # fmt: skip
    assert "tiff:ImageWidth is 20" in grown or packet is not ATTRIBUTES
    assert re.sub(r"[0-9/]+", "", grown) == re.sub(r"[0-9/]+", "", packet), "only numbers change"


@pytest.mark.parametrize("packet", [ATTRIBUTES, ELEMENTS])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_that_is_turned_when_it_is_read(tmp_path, packet, orientation):
    path = written(tmp_path / "in.png", packet.replace("{turn}", str(orientation)), orientation)
    out = said(packet_of(write_picture(read_picture(path), tmp_path / "out.png")))
    quarter = orientation == 6
    assert out["Orientation"] == "1", "its pixels are upright now"
    assert (out["ImageWidth"], out["PixelYDimension"]) == (("10", "20") if quarter else ("20", "10"))
    assert (out["XResolution"], out["YResolution"]) == (("150", "300/1") if quarter else ("300/1", "150"))


def test_other_texts_and_odd_packets_stay(tmp_path):
    odd = ('tiff:ImageWidth="1e9"', 'tiff:ImageWidth="20', "<tiff:ImageWidth> 20 </tiff:ImageWidth>", 'tiff:XResolution="0/0"', "", "\0<")
    for text in odd:
        assert xmp_of_size((TextChunk(XMP, text),), (5, 6), (2.0, 2.0))[0].value == text
    kept = TextChunk("parameters", 'tiff:ImageWidth="20"')
    assert xmp_of_size((kept,), (5, 6)) == (kept,)
    form = replace(from_array(np.zeros((4, 4, 3), np.uint8)).form, text=(TextChunk(XMP, odd[0], "iTXt"),))
    assert form.resized((4, 4), (8, 8)).text[0].value == odd[0]


def test_a_long_packet_takes_little_time():
    for piece in ("tiff:ImageWidth=", "tiff:ImageWidth>9", 'tiff:XResolution="1/', "9" * 50):
        started = time.perf_counter()
        xmp_of_size((TextChunk(XMP, piece * (1_000_000 // len(piece))),), (5, 6), (2.0, 2.0))
        assert time.perf_counter() - started < 5
