"""Draws a before/after sheet: both pictures side by side, the largest faces enlarged below.

python -m gpen_core restore IN.png -o OUT.png --json | python examples/sheet.py IN.png OUT.png SHEET.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

Box = tuple[float, float, float, float]

HALF = 480  # width of each half
GAP = 12
TITLE = 34  # height of a line of labels
FACES = 3  # enlarged faces at most
MARGIN = 0.35  # shown on each side of a face, as a part of its box
PAPER, INK = "white", "black"


def boxes(report: Any) -> Iterator[Box]:
    """Yields every face's box in the output of `restore --json`, at any depth."""
    if isinstance(report, dict):
        box = report.get("box")
        if isinstance(box, list) and len(box) == 4:
            yield (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        for value in report.values():
            yield from boxes(value)
    elif isinstance(report, list):
        for value in report:
            yield from boxes(value)


def square(box: Box, size: tuple[int, int]) -> Box:
    """A square around the box with some margin, moved inside a picture of that size if it fits."""
    side = min(max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * MARGIN), *size)
    x = min(max((box[0] + box[2] - side) / 2, 0), size[0] - side)
    y = min(max((box[1] + box[3] - side) / 2, 0), size[1] - side)
    return (x, y, x + side, y + side)


def sheet(before: Image.Image, after: Image.Image, faces: list[Box]) -> Image.Image:
    """The sheet. faces: boxes in pixels of `before`."""
    rows: list[tuple[str, list[Image.Image]]] = [("", [_fitted(picture, HALF) for picture in (before, after)])]
    largest = sorted(faces, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), reverse=True)[:FACES]
    for box in largest:
        region = square(box, before.size)
        factor = (after.width / before.width, after.height / before.height) * 2
        enlarged = tuple(value * by for value, by in zip(region, factor, strict=True))
        rows.append((", the face enlarged", [_cut(before, region), _cut(after, enlarged)]))
    height = sum(TITLE + pair[0].height + GAP for _, pair in rows)
    paper = Image.new("RGB", (2 * HALF + 3 * GAP, height), PAPER)
    pen = ImageDraw.Draw(paper)
    top = 0
    for label, pair in rows:
        for column, (word, picture) in enumerate(zip(("Before", "After"), pair, strict=True)):
            left = GAP + column * (HALF + GAP)
            pen.text((left, top + 7), word + label, INK, _font())
            paper.paste(picture, (left, top + TITLE))
        top += TITLE + pair[0].height + GAP
    return paper


def _cut(picture: Image.Image, region: tuple[float, ...]) -> Image.Image:
    left, top, right, bottom = region
    return picture.resize((HALF, HALF), Image.Resampling.BICUBIC, (left, top, right, bottom))


def _fitted(picture: Image.Image, width: int) -> Image.Image:
    return picture.resize((width, max(1, round(picture.height * width / picture.width))), Image.Resampling.BICUBIC)


def _font() -> Any:
    try:
        return ImageFont.load_default(20)
    except TypeError:  # Pillow before 10.1
        return ImageFont.load_default()


def _read(path: str) -> Image.Image:
    with Image.open(path) as file:
        return ImageOps.exif_transpose(file).convert("RGB")


def main() -> None:
    """Draws the sheet from the report on standard input."""
    before, after, target = sys.argv[1:4]
    report = json.loads(sys.stdin.read() or "{}")
    drawn = sheet(_read(before), _read(after), list(boxes(report)))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    drawn.save(target)


if __name__ == "__main__":
    main()
