"""The pixels of a PNG, packed on all processors.

Rows are packed in bands, each with the filter that suits it and with no look back beyond its own first row's neighbour, so that bands need
not wait for one another. In photographs deflate's search for repeats finds next to none and takes nearly all the time: there only runs
are looked for (Z_RLE); a sample of every band tells. Files are about as long as Pillow's.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np

from .form import AnyArray

_BAND = 1 << 20  # bytes; at least one row
_MOST_THREADS = 8
_SAMPLES, _SAMPLE = 4, 1 << 13  # pieces of a band, and their bytes, that are packed both ways
_SEARCH_LEVEL = 6
_SEARCH_PAYS = 0.97  # where the search packs them to at most this share of what runs alone give
_FILTERS = (0, 1, 2, 3, 4)  # none, left, above, mean of both, Paeth
_LOOKED_AT = 16  # every so many rows of a band are tried with all filters

_ADLER = 65521


def packed_pixels(values: AnyArray) -> bytes:
    """(H, W, 1..4) uint8 or uint16 numbers as the zlib stream of a PNG's IDAT. On however many processors, the same bytes."""
    height = values.shape[0]
    step = max(1, _BAND // (values[0].nbytes + 1))
    spans = [(top, min(top + step, height)) for top in range(0, height, step)]
    stream, checksum = [b"\x78\x01"], 1
    for packed, adler, length in _in_threads(values, spans):
        stream.append(packed)
        # Adler-32 of two runs after one another, from theirs.
        low, high = (checksum & 0xFFFF) + (adler & 0xFFFF) - 1, (checksum >> 16) + (adler >> 16) + length * ((checksum & 0xFFFF) - 1)
        checksum = (high % _ADLER) << 16 | low % _ADLER
    return b"".join([*stream, checksum.to_bytes(4, "big")])


def _in_threads(values: AnyArray, spans: list[tuple[int, int]]) -> Iterator[tuple[bytes, int, int]]:
    workers = min(_MOST_THREADS, os.cpu_count() or 1, len(spans))
    if workers == 1:
        yield from (_packed_band(values, top, end) for top, end in spans)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_packed_band, repeat(values), *zip(*spans, strict=True))


def _packed_band(values: AnyArray, top: int, end: int) -> tuple[bytes, int, int]:
    """Rows top to end: (raw deflate, Adler-32 and length of what is packed)."""
    pixel = values.shape[2] * values.itemsize
    # One row above and one pixel to the left more than the band has: 0 where the picture ends.
    rows = np.zeros((end - top + 1, pixel + values[0].nbytes), np.uint8)
    first = max(top - 1, 0)
    part = values[first:end].astype(">u2" if values.itemsize == 2 else "u1", copy=False)
    rows[first - top + 1 :, pixel:] = np.ascontiguousarray(part).view(np.uint8).reshape(part.shape[0], -1)
    above, here = rows[:-1], rows[1:]
    costs = [_costs(_filtered(kind, above[::_LOOKED_AT], here[::_LOOKED_AT], pixel)).sum() for kind in _FILTERS]
    best = int(np.argmin(costs))
    data = np.empty((end - top, here.shape[1] - pixel + 1), np.uint8)
    data[:, 0] = best
    data[:, 1:] = _filtered(best, above, here, pixel)
    flat = data.tobytes()
    searched = _search_pays(flat)
    if searched:  # a drawing or the like: its rows differ more than a photograph's, and the search takes longer than trying all
        each = [_filtered(kind, above, here, pixel) for kind in _FILTERS]
        data[:, 0] = np.argmin([_costs(one) for one in each], axis=0)
        for kind, one in enumerate(each):
            of_kind = data[:, 0] == kind
            data[of_kind, 1:] = one[of_kind]
        flat = data.tobytes()
    packer = _search() if searched else _runs()
    packed = packer.compress(flat) + packer.flush(zlib.Z_FINISH if end == values.shape[0] else zlib.Z_SYNC_FLUSH)
    return packed, zlib.adler32(flat), len(flat)


def _search_pays(flat: bytes) -> bool:
    """Whether deflate's search for repeats shortens these rows by more than a little, judged by pieces from all over them."""
    searched = runs = 0
    for number in range(_SAMPLES):
        start = max(0, (len(flat) - _SAMPLE) * (2 * number + 1) // (2 * _SAMPLES))
        sample = flat[start : start + _SAMPLE]
        for_search, for_runs = _search(), _runs()
        searched += len(for_search.compress(sample) + for_search.flush())
        runs += len(for_runs.compress(sample) + for_runs.flush())
    return searched <= _SEARCH_PAYS * runs


def _search() -> Any:
    return zlib.compressobj(_SEARCH_LEVEL, zlib.DEFLATED, -15, 9)


def _runs() -> Any:
    return zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)


def _filtered(kind: int, above: AnyArray, here: AnyArray, pixel: int) -> AnyArray:
    """Rows `here`, without their margin of one pixel, after PNG's filter of that number; in uint8, which wraps round as PNG's does."""
    x, left, up, corner = here[:, pixel:], here[:, :-pixel], above[:, pixel:], above[:, :-pixel]
    if kind == 0:
        return x
    if kind == 1:
        return x - left
    if kind == 2:
        return x - up
    if kind == 3:
        return x - ((left & up) + ((left ^ up) >> 1))
    # Paeth in numbers of 8 bits, which is several times as fast as plainly: distances of left, up and corner from left + up - corner.
    of_left, of_up = _apart(up, corner), _apart(left, corner)
    same_side = (up >= corner) == (left >= corner)  # then the corner's distance is the sum of both, so never the least
    of_corner = _apart(of_left, of_up) | _all_bits(same_side)
    nearest = corner ^ ((up ^ corner) & _all_bits(of_up <= of_corner))
    return x - (nearest ^ ((left ^ nearest) & _all_bits((of_left <= of_up) & (of_left <= of_corner))))


def _apart(a: AnyArray, b: AnyArray) -> AnyArray:
    return np.maximum(a, b) - np.minimum(a, b)


def _all_bits(condition: AnyArray) -> AnyArray:
    """255 where it holds, else 0."""
    return np.negative(condition.view(np.uint8))


def _costs(filtered: AnyArray) -> AnyArray:
    """Of every row, the usual estimate of how well it will pack: the sum of its bytes, as numbers from -128 to 127, without sign."""
    return np.minimum(filtered, np.negative(filtered)).sum(axis=1, dtype=np.int64)
