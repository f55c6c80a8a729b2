"""The bars of a report's histograms: sizes and scores of faces."""

from __future__ import annotations

from typing import Any

SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)  # pixels: where a bar ends; the last has no end
SCORES = 20  # bars from 0 to 1


def no_sizes() -> list[int]:
    return [0] * (len(SIZES) + 1)


def no_scores() -> list[int]:
    return [0] * SCORES


def count_face(face: dict[str, Any], sizes: list[int], scores: list[int]) -> None:
    """Adds a face, as in records, to both histograms. Its size is the shorter side of its box, in pixels."""
    x0, y0, x1, y1 = face["box"]
    size = min(x1 - x0, y1 - y0)
    sizes[sum(size >= end for end in SIZES)] += 1
    scores[max(0, min(SCORES - 1, int(face["score"] * SCORES)))] += 1
