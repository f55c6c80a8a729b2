"""Animations and TIFFs of several pages: every frame goes in and out, with its time; where that cannot be, it is said."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_help import chunk, noise, put, raw_png
from PIL import Image, ImageSequence, features

from gpen_core.errors import PictureError
from gpen_core.pictures import frame_file, from_array, pixels_at_most, read_frames, read_picture, to_array, write_picture


def images(count, size=(13, 9), mode="RGB"):
    return [Image.fromarray(noise(size[1], size[0], {"RGB": 3, "RGBA": 4}[mode]), mode) for _ in range(count)]


def saved(path, frames, **settings):
    frames[0].save(path, save_all=True, append_images=frames[1:], **settings)
    return path


def seen(path, mode="RGBA"):
    """What another program sees: pixels of every frame, and how long each is shown."""
    with Image.open(path) as image:
        return [(np.asarray(frame.convert(mode)).copy(), frame.info.get("duration")) for frame in ImageSequence.Iterator(image)]


def copied(source, target, change=lambda picture: picture, **settings):
    with frame_file(read_picture(source).form, target, **settings) as add:
        for picture, milliseconds in read_frames(source):
            add(change(picture), milliseconds)
    return target


def plays(path):
    with Image.open(path) as image:
        return image.info.get("loop")


ANIMATED = {
    "in.gif": {"duration": [100, 250, 70], "loop": 0},
    "in.webp": {"duration": [100, 255, 71], "loop": 3, "lossless": True, "exact": True},
    "in.png": {"duration": [100, 255, 71], "loop": 3},
}


@pytest.mark.parametrize("target", ["out.png", "out.webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("name", ANIMATED)
def test_an_animation_keeps_every_frame_and_its_time(tmp_path, name, mode, target):
    source = saved(tmp_path / name, images(3, mode=mode), **ANIMATED[name])
    assert read_picture(source).form.frames == 3
    before, after = seen(source), seen(copied(source, tmp_path / target))
    assert [time for _, time in after] == ANIMATED[name]["duration"]
    if target == "out.png" or name == "in.webp":  # lossless
        for (old, _), (new, _) in zip(before, after, strict=True):
            np.testing.assert_array_equal(new, old)
    assert len(after) == 3 and plays(tmp_path / target) == ANIMATED[name]["loop"]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_an_animated_avif_becomes_an_animated_png(tmp_path):
    source = saved(tmp_path / "in.avif", images(3, (16, 16)), duration=[100, 250, 70])
    after = seen(copied(source, tmp_path / "out.png"))
    assert [time for _, time in after] == [100, 250, 70]
    for (old, _), (new, _) in zip(seen(source), after, strict=True):
        np.testing.assert_array_equal(new, old)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(0, 3), st.integers(1, 200)), min_size=2, max_size=6))
def test_frames_that_are_parts_with_any_disposal_are_kept_as_they_are_seen(tmp_path_factory, parts):
    """GIFs hold what changed and how to go on from there; every frame of ours is the whole of what a viewer shows."""
    folder = tmp_path_factory.mktemp("parts")
    frames, canvas = [], Image.new("P", (13, 9), 0)
    canvas.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    for number, (x, y, _, value) in enumerate(parts):
        canvas = canvas.copy()
        canvas.paste(value % 4, (x, y, 13, 9))
        canvas.putpixel((0, 0), 1 + number % 2)  # Pillow would leave out a frame that changes nothing
        frames.append(canvas)
    source = saved(folder / "in.gif", frames, duration=50, disposal=[part[2] for part in parts], transparency=0)
    before, after = seen(source), seen(copied(source, folder / "out.png"))
    assert [time for _, time in before] == [time for _, time in after]
    for (old, _), (new, _) in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_gif_that_begins_in_grey_is_kept(tmp_path):
    """Its first frame is read as grey, the others as colours."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    source = saved(tmp_path / "in.gif", [Image.fromarray(ramp), images(1, (16, 16))[0].quantize(16)], duration=50, optimize=False)
    with Image.open(source) as image:
        assert image.mode == "L"
    for (old, _), (new, _) in zip(seen(source), seen(copied(source, tmp_path / "out.png")), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(("given_loop", "shown"), [(None, 1), (0, 0), (2, 3)])
def test_a_gif_counts_its_repeats_and_others_how_often_it_is_shown(tmp_path, given_loop, shown):
    source = saved(tmp_path / "in.gif", images(2), duration=50, **({} if given_loop is None else {"loop": given_loop}))
    assert plays(copied(source, tmp_path / "out.png")) == shown == plays(copied(source, tmp_path / "out.webp"))


@settings(max_examples=40, deadline=None)
@given(milliseconds=st.floats(0, 1e8))
def test_any_time_can_be_written(tmp_path_factory, milliseconds):
    folder = tmp_path_factory.mktemp("time")
    form = read_picture(saved(folder / "in.png", images(2), duration=10)).form
    for suffix in (".png", ".webp"):
        with frame_file(form, folder / f"out{suffix}") as add:
            for _ in range(2):
                add(from_array(noise(4, 5, 3)), milliseconds)
        most = 65_535_000 if suffix == ".png" else 2**24 - 1
        wanted = min(milliseconds, most)
        assert all(abs(time - wanted) <= max(1, wanted / 60_000) for _, time in seen(folder / f"out{suffix}"))


@pytest.mark.parametrize("dtypes", [("uint8", "uint8", "uint8"), ("uint8", "uint16", "float32")])
def test_every_page_of_a_tiff_is_kept_whatever_its_kind(tmp_path, dtypes):
    tifffile = pytest.importorskip("tifffile")
    pages = [noise(9 + index, 13, 3, dtype=dtype) for index, dtype in enumerate(dtypes)]
    for name, layout in (("in.tif", {}), ("big.tif", {"bigtiff": True}), ("motorola.tif", {"byteorder": ">"})):
        with tifffile.TiffWriter(tmp_path / name, **layout) as writer:
            for page in pages:
                # Without tifffile's own second description, which Pillow 9.5 takes for the first.
                writer.write(page, photometric="rgb", description=f"page of {page.dtype}", metadata=None)
        assert read_picture(tmp_path / name).form.frames == 3
        out = copied(tmp_path / name, tmp_path / f"out-{name}")
        with tifffile.TiffFile(out) as written:
            assert [page.description for page in written.pages] == [f"page of {dtype}" for dtype in dtypes]
            for page, values in zip(written.pages, pages, strict=True):
                np.testing.assert_array_equal(page.asarray(), values)
        for (picture, _), values in zip(read_frames(out), pages, strict=True):
            np.testing.assert_array_equal(to_array(picture), values)


def test_the_preview_in_a_tiff_is_no_page(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        writer.write(noise(9, 13, 3), photometric="rgb")
        writer.write(noise(3, 4, 3), photometric="rgb", subfiletype=1)
        writer.write(noise(5, 6, 3), photometric="rgb")
    assert [picture.height for picture, _ in read_frames(tmp_path / "in.tif")] == [9, 5]


def test_pages_that_run_in_a_circle_or_nowhere_end(tmp_path, caplog):
    data = bytearray(saved(tmp_path / "in.tif", images(2)).read_bytes())
    first = struct.unpack_from("<I", data, 4)[0]
    link = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    for target, frames in ((first, 1), (len(data) - 1, 1), (0, 1)):
        struct.pack_into("<I", data, link, target)
        assert read_picture(put(tmp_path, "circle.tif", bytes(data))).form.frames == frames
    assert "damaged after page 1" in caplog.text


def test_notes_and_the_turn_of_an_animation_are_kept(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a cat", 6
    for name, lossless in (("in.webp", {"lossless": True, "exact": True}), ("in.png", {})):
        profile = b"\0" * 16 + b"RGB " + b"\0" * 100
        source = saved(tmp_path / name, images(2), duration=50, exif=exif.tobytes(), icc_profile=profile, **lossless)
        out = copied(source, tmp_path / f"out-{name}")
        with Image.open(out) as image:
            assert image.size == (9, 13) and image.info["icc_profile"] == profile
            assert image.getexif()[0x010E] == "a cat" and image.getexif().get(0x0112, 1) == 1
        for (old, _), (new, _) in zip(seen(source), seen(out), strict=True):
            np.testing.assert_array_equal(new, np.rot90(old, -1))


def test_only_one_frame_is_held_at_a_time(tmp_path):
    import weakref

    source, alive, most = saved(tmp_path / "in.webp", images(8), duration=20), [], 0

    def watched(picture):
        nonlocal most
        alive.append(weakref.ref(picture.pixels))
        most = max(most, sum(reference() is not None for reference in alive))
        return picture

    copied(source, tmp_path / "out.webp", watched)
    assert len(alive) == 8 and most <= 2


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("in.webp", "out.jpg", ".png or .webp"),
        ("in.gif", "out.bmp", ".png or .webp"),
        ("in.png", "out.tif", ".png or .webp"),
        ("in.tif", "out.png", ".tif or .tiff"),
    ],
)
def test_what_cannot_keep_the_frames_is_refused_before_anything_is_made(tmp_path, source, target, says):
    saved(tmp_path / source, images(2))
    form = read_picture(tmp_path / source).form
    with pytest.raises(PictureError, match=says), frame_file(form, tmp_path / "deeper" / target):
        pytest.fail("it was not refused")
    assert not (tmp_path / "deeper").exists()


def test_writing_only_the_first_frame_is_said(tmp_path, caplog):
    write_picture(read_picture(saved(tmp_path / "in.gif", images(3))), tmp_path / "out.png")
    assert "only the first of 3" in caplog.text


@pytest.mark.parametrize("name", ["in.webp", "in.png", "in.tif"])
def test_a_frame_too_few_or_another_one_leaves_the_file_as_it_was(tmp_path, name):
    source = saved(tmp_path / name, images(3))
    before, form = source.read_bytes(), read_picture(source).form
    with pytest.raises(PictureError, match="2 frames instead of 3"), frame_file(form, source, overwrite=True) as add:
        add(from_array(noise(9, 13, 3)), 10)
        add(from_array(noise(9, 13, 3)), 10)
    if name != "in.tif":
        with pytest.raises(PictureError, match="differ in size"), frame_file(form, source, overwrite=True) as add:
            add(from_array(noise(9, 13, 3)), 10)
            add(from_array(noise(9, 14, 3)), 10)
    with pytest.raises(PictureError, match="already exists and is kept"), frame_file(form, source):
        pytest.fail("it was not refused")
    assert source.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == [name]


def test_a_still_picture_has_one_frame(tmp_path):
    values = noise(9, 13, 3)
    ((picture, milliseconds),) = read_frames(write_picture(from_array(values), tmp_path / "in.png"))
    assert picture.form.frames == 1 and milliseconds == 0
    np.testing.assert_array_equal(to_array(picture), values)


def test_the_still_picture_of_a_png_that_is_no_frame_is_left_out(tmp_path):
    still, *frames = images(3)
    still.save(tmp_path / "in.png", save_all=True, append_images=frames, default_image=True, duration=30)
    pictures = [to_array(picture) for picture, _ in read_frames(tmp_path / "in.png")]
    assert len(pictures) == read_picture(tmp_path / "in.png").form.frames == 2
    for picture, frame in zip(pictures, frames, strict=True):
        np.testing.assert_array_equal(picture, np.asarray(frame))


def test_frames_that_would_lose_their_depth_or_are_too_many_are_refused(tmp_path, monkeypatch):
    deep = raw_png(noise(4, 5, 3, dtype=np.uint16), chunk(b"acTL", struct.pack(">II", 2, 0)))
    with pytest.raises(PictureError, match="16-bit"):
        list(read_frames(put(tmp_path, "deep.png", deep)))
    source = saved(tmp_path / "in.gif", images(3))
    monkeypatch.setattr("gpen_core.pictures.libraries.MAX_FRAME_PIXELS", 3 * 13 * 9 - 1)
    with pytest.raises(PictureError, match="too many"):
        list(read_frames(source))
    lying = raw_png(noise(4, 5, 3), chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))
    with pytest.raises(PictureError, match="too many"):
        list(read_frames(put(tmp_path, "lying.png", lying)))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_rubbish_gives_frames_or_a_picture_error(tmp_path_factory, data):
    suffix = data.draw(st.sampled_from([".png", ".webp", ".tif", ".gif"]))
    path = tmp_path_factory.mktemp("rubbish") / f"in{suffix}"
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (1, 90, 200)]
    content = bytearray(saved(path, frames).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        with pixels_at_most(1 << 20):  # a changed size may be allowed, and take minutes
            assert all(picture.pixels.shape[2] == 3 for picture, _ in read_frames(path))
    except PictureError as error:
        assert str(path) in str(error)
