"""Files that cannot be read or written: refused in one sentence, nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_help import chunk, put, raw_png, raw_tiff
from PIL import Image, ImageFile

from gpen_core.errors import PictureError, SettingsError
from gpen_core.pictures import TextChunk, from_array, pixels_at_most, read_picture, to_array, write_picture

RNG = np.random.default_rng(3)
# First column and row of each pass of an interlaced PNG, and its steps.
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def noise(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


# --- files that cannot be read -----------------------------------------------------------------------------------------


def refused(path, *words):
    with pytest.raises(PictureError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and message.endswith(".")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"just words, nothing else\n", "text file"),
        ("ein paar Wörter\n".encode(), "text file"),
        (b"\n  <!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (b"\0" * 3000, "zeros"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"\x89PNG", "cut short"),
        (bytes(range(1, 200)), "not in a supported format"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "damaged"),
        (b"\xff\xd8\xff\xe0", "cut short"),
        (b"II*\0\x08\0\0\0\0\0", "damaged"),
        (b"GIF89a\x01\0", ""),
        (b"BM" + b"\0" * 30, "damaged"),
    ],
)
def test_what_is_no_picture_file(tmp_path, data, word):
    path = tmp_path / "portrait.png"
    path.write_bytes(data)
    refused(path, word)


def test_missing_and_folder(tmp_path):
    refused(tmp_path / "missing.png", "no such file")
    refused(tmp_path, "folder")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything: run the tests as another user")
def test_unreadable(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    path.chmod(0)
    refused(path, "no permission to read")


def test_unreadable_by_force(tmp_path, monkeypatch):
    def no(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", no)
    refused(tmp_path / "a.png", "no permission to read")


@pytest.mark.parametrize("host_allows_cut_files", [False, True])
@pytest.mark.parametrize("suffix", [".jpg", "p.jpg", ".png", ".webp", ".tif", ".bmp", "16.png", "z.tif"])
def test_files_cut_short(tmp_path, monkeypatch, suffix, host_allows_cut_files):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", host_allows_cut_files)  # A1111 does this
    path = tmp_path / f"in{suffix}"
    image = Image.fromarray(noise(64, 64, 3))
    if suffix in ("16.png", "z.tif"):
        write_picture(from_array(RNG.integers(0, 65536, (64, 64, 3)).astype(np.uint16)), path)
    else:
        thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + b"\xff\xd8\xff\xd9"  # its end marker must not count
        image.save(path, **({"exif": thumbnail, "progressive": suffix[0] == "p"} if suffix.endswith("jpg") else {}))
    whole = path.read_bytes()
    read_picture(path)
    for part in (0.05, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * part)])
        refused(path, "" if part < 0.1 else "cut short" if suffix != ".webp" or part > 0.1 else "")


@pytest.mark.parametrize("host_allows_cut_files", [False, True])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 2), (40, 30, 3), (40, 30, 4), (1, 1), (3, 2, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_png_whose_last_rows_are_missing_though_every_sum_is_right(
    tmp_path, monkeypatch, dtype, shape, interlaced, host_allows_cut_files
):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", host_allows_cut_files)
    values = RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    if interlaced:  # every pass by itself, unfiltered
        passes = [values[top::down, left::across] for left, top, across, down in ADAM7]
        rows = [row for part in passes if part.size for row in part]
    else:
        rows = list(values)
    raw = [b"\0" + row.astype(">u2" if dtype == "uint16" else "u1").tobytes() for row in rows]
    head = struct.pack(">IIBBBBB", shape[1], shape[0], 8 * values.itemsize, (0, 4, 2, 6)[(*shape, 1)[2] - 1], 0, 0, interlaced)
    for kept in (len(raw), len(raw) - 1, len(raw) // 2):
        pixels = zlib.compress(b"".join(raw[:kept]))
        chunks = [(b"IHDR", head), (b"IDAT", pixels[:9]), (b"IDAT", pixels[9:]), (b"IEND", b"")]
        path = put(tmp_path, "in.png", b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks))
        if kept == len(raw):
            np.testing.assert_array_equal(to_array(read_picture(path)), values)
        else:
            refused(path)


@pytest.mark.parametrize("host_allows_cut_files", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_whose_last_rows_are_missing(tmp_path, monkeypatch, dtype, host_allows_cut_files):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", host_allows_cut_files)
    data = raw_tiff(RNG.integers(0, 200, (40, 30, 3)).astype(dtype))
    half = 40 * 30 * 3 * np.dtype(dtype).itemsize
    count = data.index(struct.pack("<I", half))
    refused(put(tmp_path, "in.tif", data[:count] + struct.pack("<I", half // 2) + data[count + 4 : -half // 2]))


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_whose_last_rows_are_missing_though_an_end_mark_follows(tmp_path, mode, subsampling):
    stream, values = io.BytesIO(), np.random.default_rng(5).integers(0, 256, (140, 101, 3)).astype(np.uint8)
    Image.fromarray(values).convert(mode).save(stream, "JPEG", subsampling=subsampling if mode == "RGB" else -1)
    whole = stream.getvalue()
    start = whole.index(b"\xff\xda")
    after_ff = whole.index(b"\xff\x00", start + 100) + 1  # what comes next decides what that byte means
    for cut in (*range(start + 200, len(whole) - 200, 1601), after_ff):
        refused(put(tmp_path, "in.jpg", whole[:cut] + b"\xff\xd9"), "rows of pixels are missing")
    read_picture(put(tmp_path, "in.jpg", whole))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_whole_jpeg_that_ends_in_middle_grey_is_read(tmp_path, mode, progressive):
    values = noise(64, 48, 3)
    values[40:] = 128
    image = Image.fromarray(values).convert(mode)
    image.save(tmp_path / "in.jpg", progressive=progressive)
    read_picture(tmp_path / "in.jpg")


def test_a_damaged_png(tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(noise(64, 64, 3)).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    refused(path, "damaged")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_rubbish_gives_a_picture_or_a_picture_error(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".webp", ".tif", ".bmp", ".gif"]))
    path = tmp_path_factory.mktemp("rubbish") / f"in{suffix}"
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(PictureError), pixels_at_most(1 << 20):  # a changed size may be allowed, and take minutes
        assert read_picture(path).pixels.shape[2] == 3


def test_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("gpen_core.pictures.libraries.MAX_PIXELS", 100)
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        Image.new("RGB", (20, 20)).save(tmp_path / f"in{suffix}")
        refused(tmp_path / f"in{suffix}", "too many")


def notes(kinds, unpacked):
    packed = zlib.compress(b"a" * unpacked)
    made = {
        b"tEXt": lambda number: b"key%d\0" % number + b"a" * unpacked,
        b"zTXt": lambda number: b"key%d\0\0" % number + packed,
        b"iTXt": lambda number: b"key%d\0\1\0\0\0" % number + packed,
        b"iCCP": lambda number: b"name\0\0" + packed,
    }
    return b"".join(chunk(kind, made[kind](number)) for number, kind in enumerate(kinds))


@pytest.mark.parametrize("kinds", [[b"zTXt"], [b"iTXt"], [b"iCCP"], [b"zTXt", b"iTXt"] * 10, [b"tEXt"] * 9])
def test_notes_that_unpack_to_more_than_there_is_room_for(tmp_path, monkeypatch, caplog, kinds):
    """A limit on each and on their sum; what fits is kept, and one line tells of the rest."""
    monkeypatch.setattr("gpen_core.pictures.png._MOST_NOTE", 1000)
    monkeypatch.setattr("gpen_core.pictures.png._MOST_NOTES", 5000)
    values = noise(4, 5, 3)
    for unpacked, fits in ((1000, min(5, len(kinds))), (1001, 4 if kinds[0] == b"tEXt" else 0), (1_000_000, 0)):
        caplog.clear()
        form = read_picture(put(tmp_path, "in.png", raw_png(values, notes(kinds, unpacked)))).form
        assert len(form.text) + (form.icc_profile is not None) == fits
        assert all(len(text.value) == unpacked for text in form.text)
        assert len(caplog.records) == int(fits < len(kinds))


def test_the_memory_that_notes_take_is_bounded(tmp_path):
    path = put(tmp_path, "in.png", raw_png(noise(4, 5, 3), notes([b"zTXt", b"iTXt", b"iCCP"] * 2, 40 << 20)))
    tracemalloc.start()
    try:
        read_picture(path)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=60, deadline=None)
@given(rubbish=st.binary(min_size=1, max_size=60), head=st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II"]))
def test_rubbish_for_exif_never_keeps_a_picture_from_being_written(tmp_path_factory, rubbish, head):
    folder, values = tmp_path_factory.mktemp("exif"), noise(4, 5, 3)
    form = replace(from_array(values).form, exif=b"Exif\0\0" + head + rubbish, text=(TextChunk("parameters", "a cat"),))
    for suffix in (".tif", ".png", ".jpg", ".webp", ".bmp"):
        out = write_picture(replace(from_array(values), form=form), folder / f"out{suffix}")
        seen = to_array(read_picture(out))
        assert seen.shape == values.shape and (suffix in (".jpg", ".webp") or np.array_equal(seen, values))


def test_exif_that_no_tiff_can_hold_is_left_out_with_a_line(tmp_path, caplog):
    values = noise(4, 5, 3)
    form = replace(from_array(values).form, exif=b"Exif\0\0no EXIF at all")
    out = write_picture(replace(from_array(values), form=form), tmp_path / "out.tif")
    np.testing.assert_array_equal(to_array(read_picture(out)), values)
    assert "left out" in caplog.text


# --- files that cannot be written --------------------------------------------------------------------------------------


@pytest.fixture
def picture():
    return from_array(noise(5, 6, 3))


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_existing_file_is_kept(tmp_path, picture):
    path = tmp_path / "out.png"
    path.write_bytes(b"precious")
    with pytest.raises(PictureError, match="already exists and is kept"):
        write_picture(picture, path)
    assert path.read_bytes() == b"precious"
    write_picture(picture, path, overwrite=True)
    np.testing.assert_array_equal(to_array(read_picture(path)), to_array(picture))
    assert left_in(tmp_path) == ["out.png"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, picture, monkeypatch):
    path = tmp_path / "out.png"
    monkeypatch.setattr(Path, "exists", lambda self, **_: False)
    path.write_bytes(b"precious")
    with pytest.raises(PictureError, match="already exists and is kept"):
        write_picture(picture, path)
    assert path.read_bytes() == b"precious" and left_in(tmp_path) == ["out.png"]


def test_a_disk_without_links(tmp_path, picture, monkeypatch):
    def no(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no)
    write_picture(picture, tmp_path / "out.png")
    assert left_in(tmp_path) == ["out.png"]


class FullDisk(io.FileIO):
    """A disk that is full after some bytes, or only when the file is closed, as on a network."""

    when = "write"

    def write(self, data):
        if self.when == "write":
            super().write(bytes(data[:10]))
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)

    def close(self):
        closed = self.closed
        super().close()
        if self.when == "close" and not closed:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("when", ["write", "close"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_no_space(tmp_path, picture, monkeypatch, suffix, when):
    monkeypatch.setattr(FullDisk, "when", when)
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", **kw: FullDisk(self, "xb") if "x" in mode else real(self, mode, **kw))
    (tmp_path / f"old{suffix}").write_bytes(b"precious")
    for name, overwrite in ((f"out{suffix}", False), (f"old{suffix}", True)):
        with pytest.raises(PictureError, match="no space") as caught:
            write_picture(picture, tmp_path / name, overwrite=overwrite)
        assert str(tmp_path) in str(caught.value)
    assert left_in(tmp_path) == [f"old{suffix}"] and (tmp_path / f"old{suffix}").read_bytes() == b"precious"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_for_real(tmp_path, picture, monkeypatch):
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", **kw: real(Path("/dev/full"), "wb") if "x" in mode else real(self, mode, **kw))
    with pytest.raises(PictureError, match="no space"):
        write_picture(picture, tmp_path / "out.png")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("step", ["hardlink_to", "replace"])
def test_ctrl_c_leaves_nothing(tmp_path, picture, monkeypatch, step):
    def stop(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, step, stop)
    with pytest.raises(KeyboardInterrupt):
        write_picture(picture, tmp_path / "out.png", overwrite=step == "replace")
    assert left_in(tmp_path) == []


def test_unwritable_folders(tmp_path, picture, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "file" / "out.png", tmp_path / "file" / "deeper" / "out.png"):
        with pytest.raises(PictureError, match="file"):
            write_picture(picture, target)

    def no(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", no)
    with pytest.raises(PictureError, match="cannot be written to"):
        write_picture(picture, tmp_path / "out.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere: run the tests as another user")
def test_read_only_folder(tmp_path, picture):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    with pytest.raises(PictureError, match="cannot be written to"):
        write_picture(picture, folder / "out.png")


def test_targets_that_make_no_sense(tmp_path, picture):
    for name in ("out.txt", "out", "out.gif"):
        with pytest.raises(PictureError, match=r"\.png"):
            write_picture(picture, tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PictureError, match="folder"):
        write_picture(picture, tmp_path / "folder.png", overwrite=True)
    for quality in (0, 101):
        with pytest.raises(SettingsError):
            write_picture(picture, tmp_path / "out.jpg", quality=quality)
    wide = from_array(np.zeros((1, 70000, 3), np.uint8))
    for suffix in (".jpg", ".webp"):
        with pytest.raises(PictureError):
            write_picture(wide, tmp_path / f"wide{suffix}")
    assert left_in(tmp_path) == ["folder.png"]


def test_a_decoders_words_are_one_short_line(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def fails(*_):
        raise cv2.error("OpenCV(5.0.0) loadsave.cpp:77: error: (-215:Assertion failed)\n in function 'validate'\n" + "x" * 5000)

    monkeypatch.setattr(cv2, "imdecode", fails)
    with pytest.raises(PictureError) as caught:
        read_picture(tmp_path / "a.png")
    assert "\ufffd" not in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 600
