"""Pictures of every format that can be read, damaged at random: each gives a picture or one of our own sentences."""

from __future__ import annotations

import argparse
import io
import logging
import os
import random
import tempfile
import time
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from guarded_reading import peak
from PIL import Image, features
from test_weights_fuzz import damaged

from gpen_core.errors import PictureError
from gpen_core.pictures import read_frames, read_picture

DAMAGED = 1500  # of each


def good_pictures() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    colour = np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    rgb = Image.fromarray(colour)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    made = {
        "png": (rgb, {"pnginfo": None}), "png-16": (Image.fromarray(colour[..., 0].astype(np.uint16) * 257), {}),
        "png-palette": (rgb.convert("P"), {"transparency": 3}), "png-1": (rgb.convert("1"), {}),
        "apng": (rgb, {"save_all": True, "append_images": [rgb.rotate(90, expand=False)] * 3, "duration": 40}),
        "jpg": (rgb, {"exif": exif, "dpi": (300, 300)}), "jpg-progressive": (rgb, {"progressive": True}),
        "jpg-cmyk": (rgb.convert("CMYK"), {}), "bmp": (rgb, {}), "gif": (rgb, {"save_all": True, "append_images": [rgb.rotate(9)] * 3}),
        "tif": (rgb, {"compression": "tiff_lzw"}), "tif-float": (Image.fromarray(colour[..., 0].astype(np.float32) / 255), {}),
        "tif-pages": (rgb, {"save_all": True, "append_images": [rgb] * 2}), "tif-1": (rgb.convert("1"), {"compression": "group4"}),
        "webp": (rgb, {"lossless": True, "exif": exif}), "webp-animated": (rgb, {"save_all": True, "append_images": [rgb.rotate(9)] * 3}),
    }  # fmt: skip
    if features.check("avif"):
        made["avif"] = (rgb, {})
    files: dict[str, bytes] = {}
    for name, (picture, more) in made.items():
        out = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF", "apng": "PNG"}.get(name.split("-")[0], name.split("-")[0].upper())
        picture.save(out, kind, **{key: value for key, value in more.items() if value is not None})
        files[name] = out.getvalue()
    return files


@contextmanager
def quiet() -> Generator[None, None, None]:
    """Without the complaints of decoders, of which damaged pictures give thousands; libtiff writes its own to the program's stderr."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.WARNING)
    os.dup2(nothing, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
        logging.disable(logging.NOTSET)


def run(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    with quiet():
        lines = list(read_all(given))
    yield from lines


def read_all(given: argparse.Namespace) -> Iterator[tuple[str, bool]]:
    rng = random.Random(given.seed)
    start, read, refused, longest = peak(), 0, 0, 0.0
    odd: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind, whole in good_pictures().items():
            suffix = {"apng": "png"}.get(kind.split("-")[0], kind.split("-")[0])
            path = Path(name) / f"{kind}.{suffix}"
            path.write_bytes(whole)
            assert read_picture(path).pixels.shape[2] == 3  # whole it can be read
            for number in range(DAMAGED):
                path.write_bytes(damaged(whole, rng))
                began = time.perf_counter()
                try:
                    picture = read_picture(path)
                    if picture.form.frames > 1:
                        for _, _ in zip(read_frames(path), range(20), strict=False):
                            pass
                    assert picture.pixels.dtype == np.float32 and np.isfinite(picture.pixels).all()
                    read += 1
                except PictureError as error:
                    refused += 1
                    if not str(error).isprintable() or len(str(error)) > 1200:
                        odd[f"{kind} {number}"] = f"a message of {len(str(error))} characters: {str(error)[:100]!r}"
                except Exception as error:  # counted and shown
                    odd[f"{kind} {number}"] = f"{type(error).__name__}: {error}"
                longest = max(longest, time.perf_counter() - began)
    grown = peak() - start
    yield (
        f"{read + refused + len(odd)} damaged pictures of {len(good_pictures())} kinds: {read} read, {refused} refused in a sentence",
        read > 0,
    )
    yield f"{len(odd)} ended in another error {list(odd.items())[:3] if odd else ''}".rstrip(), not odd
    yield f"the longest took {longest:.1f} s, memory grew by at most {grown} MiB", longest < 30 and grown < 1024
