"""Picture files made by hand, for the tests of reading and writing."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import ImageCms, TiffImagePlugin

from gpen_core.pictures import read_picture, to_array, write_picture

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
