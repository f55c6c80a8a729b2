"""Draws the square pictures of the example workflows, as ComfyUI's templates browser shows them, from what the workflows do:

python tests/comfyui/thumbnails.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "example_workflows"
SIDE = 512
WHITE, YELLOW, BLACK = (255, 255, 255), (255, 214, 10), (16, 16, 16)
LINE = 6
FACE = (150, 4, 406, 260)  # in the portrait at twice its size


def label(picture: Image.Image, text: str, where: tuple[int, int], anchor: str = "lt", size: int = 40) -> None:
    """White on a dark plate, legible on any picture and when the card is small."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox(where, text, font=font, anchor=anchor)
    draw.rounded_rectangle((left - 12, top - 10, right + 12, bottom + 10), 10, fill=BLACK)
    draw.text(where, text, font=font, fill=WHITE, anchor=anchor)


def halves(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of half the width, with a line between them."""
    picture = Image.new("RGB", (SIDE, SIDE))
    picture.paste(left, (0, 0))
    picture.paste(right, (SIDE // 2, 0))
    ImageDraw.Draw(picture).line((SIDE // 2, 0, SIDE // 2, SIDE), fill=WHITE, width=LINE)
    return picture


def fix(before: Image.Image, after: Image.Image) -> Image.Image:
    """The face before on the left, after on the right."""
    old, new = (picture.crop(FACE).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for picture in (before, after))
    picture = halves(old.crop((0, 0, SIDE // 2, SIDE)), new.crop((SIDE // 2, 0, SIDE, SIDE)))
    label(picture, "before", (28, SIDE - 28), "lb")
    label(picture, "after", (SIDE - 28, SIDE - 28), "rb")
    return picture


def upscale(before: Image.Image, after: Image.Image) -> Image.Image:
    """The small picture in a corner of the large one."""
    picture = after.crop((64, 0, 64 + SIDE, SIDE))
    inset = before.crop((64, 0, 64 + SIDE, SIDE)).resize((SIDE // 2 - 48,) * 2, Image.Resampling.BICUBIC)
    corner = (16, SIDE - 16 - inset.height)
    picture.paste(inset, corner)
    box = (corner[0], corner[1], corner[0] + inset.width, corner[1] + inset.height)
    ImageDraw.Draw(picture).rectangle(box, outline=WHITE, width=LINE)
    label(picture, "2 x", (SIDE - 28, SIDE - 28), "rb", 56)
    return picture


def pick(before: Image.Image, after: Image.Image) -> Image.Image:
    """Two faces with their numbers, the first one restored."""
    part = (150, 0, 150 + SIDE // 2, SIDE)
    picture = halves(after.crop(part), before.crop(part).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    for number, left in enumerate((46, SIDE // 2 + 34)):
        ImageDraw.Draw(picture).rectangle((left, 70, left + 172, 248), outline=YELLOW if number == 0 else WHITE, width=LINE)
        label(picture, str(number), (left + 86, 292), "mt", 64)
    return picture


def crop(before: Image.Image, after: Image.Image) -> Image.Image:
    """The face's place in the picture, and the face cut out of it."""
    picture = before.crop((64, 0, 64 + SIDE, SIDE))
    face = after.crop(FACE)
    place = (FACE[0] + 20 - 64, 30, FACE[2] - 20 - 64, 246)
    corner = (SIDE - 16 - face.width, SIDE - 16 - face.height)
    draw = ImageDraw.Draw(picture)
    end = (*corner, corner[0] + face.width, corner[1] + face.height)
    for x, y in ((0, 3), (2, 1)):  # from the place to the cut: two corners each
        draw.line((place[x], place[y], end[x], end[y]), fill=YELLOW, width=3)
    draw.rectangle(place, outline=YELLOW, width=LINE)
    picture.paste(face, corner)
    draw.rectangle(end, outline=YELLOW, width=LINE)
    return picture


def film(before: Image.Image, after: Image.Image) -> Image.Image:
    """A frame between a film's holes."""
    picture = after.crop((32, 0, 32 + SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    for top in (0, SIDE - 60):
        draw.rectangle((0, top, SIDE, top + 60), fill=BLACK)
        for left in range(16, SIDE, 72):
            draw.rounded_rectangle((left, top + 14, left + 44, top + 46), 8, fill=WHITE)
    draw.ellipse((SIDE - 140, SIDE - 196, SIDE - 28, SIDE - 84), fill=BLACK)
    draw.polygon([(SIDE - 102, SIDE - 170), (SIDE - 102, SIDE - 110), (SIDE - 52, SIDE - 140)], fill=WHITE)
    return picture


def old(before: Image.Image, after: Image.Image) -> Image.Image:
    """A sepia print, before and after."""
    prints = [ImageOps.colorize(ImageOps.grayscale(picture), (46, 32, 20), (244, 228, 196)) for picture in (before, after)]
    picture = fix(*prints)
    ImageDraw.Draw(picture).rectangle((0, 0, SIDE - 1, SIDE - 1), outline=(250, 244, 228), width=20)
    return picture


def spare(_before: Image.Image, after: Image.Image) -> Image.Image:
    """A sharp face that stays as it is."""
    picture = after.crop((64, 0, 64 + SIDE, SIDE))
    box = (FACE[0] - 64, 8, FACE[2] - 64, FACE[3])
    ImageDraw.Draw(picture).rectangle(box, outline=YELLOW, width=LINE)
    label(picture, "sharp: kept", (SIDE // 2, SIDE - 28), "mb", 56)
    return picture


def front(_before: Image.Image, after: Image.Image) -> Image.Image:
    """A microphone in front of the face."""
    picture = after.crop(FACE).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    draw.polygon([(250, 400), (290, 380), (420, SIDE), (340, SIDE)], fill=BLACK)
    draw.ellipse((180, 300, 310, 430), fill=(70, 70, 78), outline=YELLOW, width=LINE)
    for step in range(205, 300, 22):
        draw.line((step, 322, step, 408), fill=(120, 120, 128), width=3)
        draw.line((202, step + 120, 288, step + 120), fill=(120, 120, 128), width=3)
    label(picture, "stays", (SIDE - 28, SIDE - 28), "rb", 48)
    return picture


DRAWN = {
    "Fix a portrait": fix,
    "Upscale, then fix": upscale,
    "Pick faces by number": pick,
    "Crop, edit, paste": crop,
    "Frames of a video": film,
    "Old photograph": old,
    "Spare good faces": spare,
    "Keep what is in front": front,
}


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from gpen_core import FaceRestorer, RestoreOptions

    portrait = Image.open(ROOT / "examples" / "portrait.png").convert("RGB")
    before = portrait.resize((portrait.width * 2, portrait.height * 2), Image.Resampling.LANCZOS)
    result = FaceRestorer(RestoreOptions(model="GPEN-BFR-256-lite", precision="fp32"))(np.asarray(before))
    after = Image.fromarray(np.asarray(result.image))
    for name, draw in DRAWN.items():
        draw(before, after).save(FOLDER / f"{name}.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
