"""The promise of every setting, as a property of the resulting pictures. Every door must keep every promise.

A promise is a picture, a setting with several values, and a condition on the results. tests/test_options_core.py fails for any setting in
`RestoreOptions.table()` without a promise here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from option_world import (
    BLUE,
    GREY,
    LITE,
    OWN,
    PINK,
    RED,
    WHITE,
    YELLOW,
    Drawn,
    Scene,
    draw,
    flat,
    half_lost,
    same,
    smeared,
    striped,
    tinted,
)  # fmt: skip

Image = np.ndarray  # (H, W, 3) float32 0..1
Run = Callable[[Scene, Mapping[str, Any]], Image]


@dataclass(frozen=True)
class Promise:
    """One promise. name: of the setting. values: tried in turn. kept(scene, images): raises AssertionError if the promise is broken.

    beside: other settings for all runs. size, paint: of the stand-in network.
    """

    name: str
    values: Sequence[Any]
    scene: Scene
    kept: Callable[[Scene, Sequence[Image]], None]
    beside: Mapping[str, Any] = field(default_factory=dict)
    size: int = 64
    paint: Callable[..., Any] = flat

    def check(self, world: Any, run: Run) -> None:
        """Tests the promise at a door: run(scene, settings) returns the picture."""
        world.size, world.paint = self.size, self.paint
        images = [run(self.scene, {"model": LITE, **self.beside, self.name: value}) for value in self.values]
        self.kept(self.scene, images)


def at(scene: Scene, image: Image, number: int = 0) -> Image:
    """The colour at a face's centre, the mean of a few pixels."""
    scale = image.shape[0] / scene.pixels.shape[0]
    x, y = (round((value + 0.5) * scale) for value in scene.faces[number].centre)
    return image[y - 2 : y + 2, x - 2 : x + 2].mean(axis=(0, 1))


def close(one: Any, other: Any, within: float = 0.02) -> bool:
    return float(np.abs(np.asarray(one) - np.asarray(other)).max()) <= within


def before(scene: Scene) -> Image:
    return scene.pixels.astype(np.float32) / 255


def middle(scene: Scene, image: Image, reach: float = 0.2) -> Image:
    """The centre of the first face. reach: how far, as a part of the square's side."""
    (x, y), far = scene.faces[0].centre, round(reach * scene.faces[0].side)
    return image[y - far : y + far, x - far : x + far]


def painted(*wanted: set[str]) -> Callable[[Scene, Sequence[Image]], None]:
    """Checks that exactly these faces change, one set per value."""

    def kept(scene: Scene, images: Sequence[Image]) -> None:
        assert [scene.painted(image) for image in images] == list(wanted), [scene.painted(image) for image in images]

    return kept


def coloured(*wanted: Sequence[float]) -> Callable[[Scene, Sequence[Image]], None]:
    """Checks the first face's colour, one per value."""

    def kept(scene: Scene, images: Sequence[Image]) -> None:
        for image, colour in zip(images, wanted, strict=True):
            assert close(at(scene, image), colour), (at(scene, image), colour)

    return kept


def _strength(scene: Scene, images: Sequence[Image]) -> None:
    whole, most, half, none = images
    assert close(at(scene, whole), RED), "1 shows only the restored face"
    assert np.array_equal(none, before(scene)), "0 keeps the picture, bit for bit"
    assert close(half, (whole + none) / 2, 0.005), "0.5 is halfway"
    assert close(most, 0.75 * whole + 0.25 * none, 0.005)


def _fidelity(scene: Scene, images: Sequence[Image]) -> None:
    def coarse(image: Image) -> Image:
        return middle(scene, cv2.GaussianBlur(image, (0, 0), 5), 0.15)

    own = coarse(before(scene))
    off = [float(np.abs(coarse(image) - own).mean()) for image in images]
    assert off[0] > 0.15 and off[2] < 0.03 and abs(off[1] - (off[0] + off[2]) / 2) < 0.03, off
    fine = [float((middle(scene, image, 0.1) - middle(scene, cv2.GaussianBlur(image, (0, 0), 3), 0.1)).std()) for image in images]
    assert min(fine) > 0.04, "the fine detail is new either way"


def _detail(scene: Scene, images: Sequence[Image]) -> None:
    def contrast(image: Image) -> float:
        rows = middle(scene, image, 0.06).mean(axis=(1, 2))
        return float(np.abs(np.diff(rows - cv2.GaussianBlur(rows[:, None], (0, 0), 4)[:, 0])).mean())

    all_, half, none = (contrast(image) / contrast(before(scene)) for image in images)
    assert all_ > 0.8 and none < 0.4 and none + 0.1 < half < all_ - 0.1, (all_, half, none)


def _colour_match(scene: Scene, images: Sequence[Image]) -> None:
    own = middle(scene, before(scene)).mean(axis=(0, 1))
    as_made, matched = (np.abs(middle(scene, image).mean(axis=(0, 1)) - own).max() for image in images)
    assert as_made > 0.08 and matched < 0.02, (as_made, matched)


def _soft(scene: Scene, *sharp: str) -> Scene:
    """The scene out of focus, but for fine rows on these faces."""
    pixels = cv2.GaussianBlur(scene.pixels, (0, 0), 3).astype(np.float32)
    for face in scene.faces:
        if face.name in sharp:
            (x, y), far = face.centre, face.side // 2
            rows = np.arange(y - far, y + far)[:, None, None] // 2 % 2 * 30 - 15
            pixels[y - far : y + far, x - far : x + far, 1:] += rows
    return Scene(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), scene.faces)


def _mask(scene: Scene, images: Sequence[Image]) -> None:
    x, y = scene.faces[0].centre
    ellipse, parsed = (np.abs(image - before(scene)).max(axis=2)[y] > 0.1 for image in images)
    assert ellipse[x - 12] and ellipse[x + 12], "the shape is about the landmarks' middle"
    assert parsed[x - 12] and not parsed[x + 12 :].any(), "only the parts that ParseNet sees"


def _quarters(scene: Scene, image: Image) -> tuple[bool, ...]:
    """Which quarters of the first face changed: upper left, upper right, lower left, lower right. Looked at where `smeared` paints."""
    (x, y), side = scene.faces[0].centre, scene.faces[0].side
    changed = np.abs(image - before(scene)).max(axis=2) > 0.05
    return tuple(bool(changed[y + round(dy * side), x + round(dx * side)]) for dy in (-0.11, 0.11) for dx in (-0.13, 0.15))


def _mask_regions(scene: Scene, images: Sequence[Image]) -> None:
    official, skin, hair, neither = (_quarters(scene, image) for image in images)
    assert official == (True, False, True, False), "all that the parser sees, on the left"
    assert skin == (True, False, False, False) and hair == (False, False, True, False)
    assert neither == (False, False, False, False)


def _occlusion(scene: Scene, images: Sequence[Image]) -> None:
    off, auto, xseg, parsing, change = (_quarters(scene, image) for image in images)
    assert off == (True, True, True, True)
    assert xseg == (True, True, False, False), "what XSeg does not see as face stays"
    assert parsing == (True, False, True, False), "what the parser does not see in the original stays"
    assert change == auto == (True, True, False, False), "what the network painted over stays, its tint does not"


def _feather(scene: Scene, images: Sequence[Image]) -> None:
    # Counts pixels that match neither the painted face nor the picture.
    soft = [int(((np.abs(image - RED).max(axis=2) > 0.02) & (np.abs(image - before(scene)).max(axis=2) > 0.02)).sum()) for image in images]
    narrow, usual, wide = soft
    assert narrow * 2 < usual and usual * 1.3 < wide, soft


def _output_size(scene: Scene, images: Sequence[Image]) -> None:
    keep, factor, native = images
    height, width = scene.pixels.shape[:2]
    assert keep.shape[:2] == (height, width)
    assert factor.shape[:2] == (1.5 * height, 1.5 * width)
    # A face of 40 pixels (36 by the tighter template of other weights) is restored at 80; native enlarges just enough not to shrink it.
    assert 1.97 * width <= native.shape[1] <= 2.3 * width, native.shape
    assert all(close(at(scene, image), RED) for image in images), "faces stay where they are in the picture"


def _factor(scene: Scene, images: Sequence[Image]) -> None:
    sizes = [image.shape[:2] for image in images]
    height, width = scene.pixels.shape[:2]
    assert sizes == [(2 * height, 2 * width), (1.5 * height, 1.5 * width), (3 * height, 3 * width)]
    assert all(close(at(scene, image), RED) for image in images)


def _background(scene: Scene, images: Sequence[Image]) -> None:
    for image, colour in zip(images, (GREY, 0.0), strict=True):
        assert close(image[:4], colour, 0.01) and close(at(scene, image), RED), "the background's upscaler leaves the faces alone"


def _aligned(scene: Scene, images: Sequence[Image]) -> None:
    found, whole = images
    assert np.array_equal(found, before(scene)), "there is no face to find"
    assert close(whole, RED), "all of the picture is restored"


def _same(scene: Scene, images: Sequence[Image]) -> None:
    """It says nothing of a single picture."""
    assert close(at(scene, images[0]), RED)
    assert all(np.array_equal(image, images[0]) for image in images)


ONE = draw((90, 90), Drawn("one", (45, 45)))
LARGE = draw((160, 160), Drawn("one", (80, 80), 128))
SMALL = draw((60, 80), Drawn("one", (40, 30), 40))
BLANK = draw((64, 64))
SIZES = draw((120, 200), Drawn("large", (60, 60), 96), Drawn("small", (150, 60), 56))
CROWD = draw(
    (280, 400),
    Drawn("left", (35, 140), 60, 0.93), Drawn("right", (365, 140), 62, 0.93), Drawn("top", (140, 40), 58, 0.93),
    Drawn("bottom", (230, 245), 61, 0.93), Drawn("centre", (200, 140), 63, 0.93), Drawn("largest", (110, 205), 80, 0.93),
    Drawn("smallest", (300, 60), 46, 0.93), Drawn("confidence", (295, 190), 59, 0.99),
)  # fmt: skip
ROW = draw((100, 320), Drawn("a", (40, 50), 60), Drawn("b", (120, 50), 70), Drawn("c", (200, 50), 64), Drawn("d", (280, 50), 56))
# The network loses the second face: it is no longer a face, nor like it.
TWO = draw((90, 180), Drawn("held", (45, 45), other=0.95), Drawn("lost", (135, 45)))
FLAT = {"look_closer": False}  # quicker; the faces are large enough
# Likeness to a: 1, 0.6, 0.1; to the stranger: below 0 (see World).
PEOPLE = draw((100, 240), Drawn("a", (40, 50), 60, 0.95), Drawn("b", (120, 50), 70, 0.8), Drawn("c", (200, 50), 64, 0.717))
TWIN, STRANGER = (draw((110, 120), Drawn("someone", (60, 55), 80, score)) for score in (0.95, 0.45))
PERSON = {**FLAT, "threshold": 0.3}
ORDERS = ("largest", "smallest", "left", "right", "top", "bottom", "centre", "confidence")

PROMISES: tuple[Promise, ...] = (
    Promise("model", (LITE, OWN), ONE, coloured(RED, WHITE)),
    Promise("strength", (1.0, 0.75, 0.5, 0.0), ONE, _strength),
    Promise("fidelity", (0.0, 0.5, 1.0), draw((90, 90), Drawn("one", (45, 45), 64, 0.91)), _fidelity, paint=striped),
    Promise("detail", (1.0, 0.5, 0.0), draw((180, 180), Drawn("one", (90, 90), 128), stripes=14), _detail, size=32, paint=same),
    Promise("colour_match", (False, True), ONE, _colour_match, {"detail": 0.0}, paint=tinted),
    Promise(
        "auto_strength",
        ("off", "large", "all"),
        _soft(
            draw((180, 410), Drawn("large", (90, 90), 170), Drawn("small", (240, 90), 90), Drawn("soft", (350, 90), 90)), "large", "small"
        ),
        painted({"large", "small", "soft"}, {"small", "soft"}, {"soft"}),
        size=128,
    ),
    Promise("guard", (False, True), TWO, painted({"held", "lost"}, {"held"}), paint=half_lost),
    Promise("min_likeness", (0.0, 0.65, 0.999), TWO, painted({"held", "lost"}, {"held"}, set()), paint=half_lost),
    Promise(
        "detector",
        ("retinaface-mobile", "yunet", "retinaface-r50"),
        draw((90, 180), Drawn("for mobile", (45, 45), other=0.6), Drawn("for yunet", (135, 45), score=0.6, other=0.95)),
        painted({"for mobile"}, {"for yunet"}, {"for mobile", "for yunet"}),
    ),
    Promise(
        "threshold",
        (0.9, 0.6, 0.97),
        draw((90, 180), Drawn("clear", (45, 45)), Drawn("doubtful", (135, 45), score=0.7)),
        painted({"clear"}, {"clear", "doubtful"}, set()),
    ),
    Promise(
        "look_closer",
        (True, False),
        draw((90, 160), Drawn("large", (45, 45)), Drawn("small", (125, 45), 28)),
        painted({"large", "small"}, {"large"}),
    ),
    Promise(
        "rotations",
        (False, True),
        draw((120, 320), *(Drawn(str(turn), (40 + 80 * turn, 60), turned=turn) for turn in range(4))),
        painted({"0"}, {"0", "1", "2", "3"}),
    ),
    Promise("min_size", (0, 40, 60), SIZES, painted({"large", "small"}, {"large"}, set()), FLAT),
    Promise("max_size", (0, 40, 20), SIZES, painted({"large", "small"}, {"small"}, set()), FLAT),
    Promise("order", ORDERS, CROWD, painted(*({order} for order in ORDERS)), {**FLAT, "max_faces": 1}),
    Promise("max_faces", (0, 1, 3), ROW, painted({"a", "b", "c", "d"}, {"b"}, {"a", "b", "c"}), FLAT),
    Promise("faces", ("", "0", "1,2-3"), ROW, painted({"a", "b", "c", "d"}, {"a"}, {"b", "c", "d"}), {**FLAT, "order": "left"}),
    Promise("person", ("", TWIN, STRANGER), PEOPLE, painted({"a", "b", "c"}, {"a", "b"}, set()), PERSON),
    Promise("person_likeness", (0.3, 0.9, 0.0), PEOPLE, painted({"a", "b"}, {"a"}, {"a", "b", "c"}), {**PERSON, "person": TWIN}),
    Promise("mask", ("landmarks", "parsing"), ONE, _mask),
    Promise("feather", (0.0, 0.5, 1.0), LARGE, _feather),
    Promise("mask_regions", ("", "skin", "Hair,", "nose"), ONE, _mask_regions, {"mask": "parsing"}),
    Promise("occlusion", ("off", "auto", "xseg", "parsing", "change"), LARGE, _occlusion, {"detail": 0.0}, size=128, paint=smeared),
    Promise("output_size", ("keep", "factor", "native"), SMALL, _output_size, {**FLAT, "factor": 1.5}, size=80),
    Promise("factor", (2.0, 1.5, 3.0), SMALL, _factor, {"output_size": "factor"}),
    Promise("background", ("lanczos", "realesrgan"), ONE, _background, {"output_size": "factor", "factor": 2.0}),
    Promise("aligned", (False, True), BLANK, _aligned),
    Promise("steady", (1.0, 0.0, 0.5), ONE, _same),  # on frames: tests/test_sequence.py
    Promise("precision", ("auto", "bf16", "fp16", "fp32"), ONE, coloured(RED, BLUE, PINK, RED)),
    Promise("device", ("cpu", "cpu:0"), ONE, coloured(RED, YELLOW)),
)


def _only_background(scene: Scene, images: Sequence[Image]) -> None:
    assert close(images[0], cv2.resize(before(scene), None, fx=2, fy=2, interpolation=cv2.INTER_LANCZOS4), 0.1)
    assert close(images[1], 0.0)


def _small_all_new(scene: Scene, images: Sequence[Image]) -> None:
    """A face smaller than the network's square comes entirely from the network, whatever the setting."""
    assert close(images[0], images[1], 0.005)


# The same for a picture of one aligned face, which other code handles.
SQUARE = draw((64, 64), Drawn("one", (32, 32), 64, 0.91))
ALIGNED: tuple[Promise, ...] = (
    Promise("strength", (1.0, 0.75, 0.5, 0.0), SQUARE, _strength),
    Promise("fidelity", (0.0, 0.5, 1.0), SQUARE, _fidelity, paint=striped),
    Promise("detail", (1.0, 0.5, 0.0), draw((128, 128), Drawn("one", (64, 64), 128), stripes=14), _detail, size=32, paint=same),
    Promise("colour_match", (False, True), SQUARE, _colour_match, {"detail": 0.0}, paint=tinted),
    Promise("auto_strength", ("off", "large", "all"), _soft(SQUARE), painted({"one"}, {"one"}, {"one"}), size=128),
    Promise("auto_strength", ("off", "large", "all"), _soft(SQUARE, "one"), painted({"one"}, {"one"}, set()), size=128),
    Promise("auto_strength", ("off", "large"), _soft(SQUARE, "one"), painted({"one"}, set()), size=48),
    Promise("guard", (False, True), SQUARE, painted({"one"}, set()), paint=flat),
    Promise("guard", (False, True), SQUARE, painted({"one"}, {"one"}), paint=tinted),
    Promise("min_likeness", (0.0, 0.8), SQUARE, painted({"one"}, set()), paint=flat),
    Promise("output_size", ("keep", "factor", "native"), SQUARE, _output_size, {"factor": 1.5}, size=128),
    Promise("factor", (2.0, 1.5, 3.0), SQUARE, _factor, {"output_size": "factor"}),
    Promise("detail", (1.0, 0.0), draw((36, 36), Drawn("one", (18, 18), 36), stripes=4), _small_all_new, size=100, paint=flat),
    Promise("background", ("lanczos", "realesrgan"), SQUARE, _only_background, {"output_size": "factor", "factor": 2.0, "strength": 0.0}),
)

# Promises of a setting in combination with another one.
TOGETHER: tuple[Promise, ...] = (Promise("feather", (0.0, 0.5, 1.0), LARGE, _feather, {"mask": "parsing"}, size=256),)
NAMES = tuple(promise.name for promise in PROMISES)
