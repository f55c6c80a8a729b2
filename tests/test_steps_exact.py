"""The numbers that the steps promise in their descriptions: where a mask ends, how far colours may move, how large a rectangle is.

Beside the properties in test_mask.py, test_tone.py, test_paste.py and test_align.py, which hold for many other numbers as well.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from test_restorer import face_at

from gpen_core.errors import GpenError, SettingsError, WeightsError, WeightsMissingError
from gpen_core.faces.face import Face
from gpen_core.faces.select import select_faces
from gpen_core.steps import mask as masks
from gpen_core.steps.align import AlignmentError, crop_face, invert, rescale_matrix, similarity, template_points, transform, warp
from gpen_core.steps.mask import FACE_CLASSES, ParseNet, clip_to_picture, landmark_mask, load_parsenet, parsing_mask, soften_classes
from gpen_core.steps.paste import Compositor, reach
from gpen_core.steps.tone import MAX_GAIN, MAX_SHIFT, keep_low_frequencies, match_colour

SIZE = 400


def landmarks(eyes_apart: float, eyes_to_mouth: float, turn: float = 0.0, size: int = SIZE) -> np.ndarray:
    """A face in the middle of the square: eyes, nose, mouth; turned by so many degrees."""
    a, b = eyes_apart / 2, eyes_to_mouth / 2
    points = np.array([[-a, -b], [a, -b], [0, 0], [-0.4 * eyes_apart, b], [0.4 * eyes_apart, b]])
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    return points @ np.array([[c, s], [-s, c]]) + (size - 1) / 2


def half(row: np.ndarray) -> tuple[float, float]:
    """Where a profile rises through 1/2 and falls through it again."""
    inside = np.flatnonzero(row >= 0.5)
    first, last = inside[0], inside[-1]
    rise = first - (row[first] - 0.5) / (row[first] - row[first - 1])
    return float(rise), float(last + (row[last] - 0.5) / (row[last] - row[last + 1]))


@pytest.mark.parametrize(
    ("apart", "down", "wide", "tall"),
    [
        (100, 100, 100, 100),
        (30, 100, 80, 100),  # turned aside: the head stays as wide
        (100, 40, 100, 90),  # bent down: the head stays as tall
    ],
)
def test_the_ellipse_reaches_from_hairline_to_chin(apart: float, down: float, wide: float, tall: float) -> None:
    """At the default softness it is 1/2 at 85 % of 1.5 eye-to-mouth distances and of 1.3 eye distances, from a point below the eyes."""
    mask = landmark_mask(landmarks(apart, down), SIZE)
    middle = (SIZE - 1) / 2
    centre = middle - down / 2 + 0.38 * tall
    columns, rows = half(mask[round(centre)]), half(mask[:, SIZE // 2])
    assert rows == pytest.approx((centre - 0.85 * 1.5 * tall, centre + 0.85 * 1.5 * tall), abs=1)
    assert columns == pytest.approx((middle - 0.85 * 1.3 * wide, middle + 0.85 * 1.3 * wide), abs=1)


def test_the_ellipse_turns_with_the_face() -> None:
    upright, turned = landmark_mask(landmarks(60, 70), SIZE), landmark_mask(landmarks(60, 70, 90), SIZE)
    assert np.abs(np.rot90(upright, 3) - turned).max() < 0.01
    slanted = landmark_mask(landmarks(60, 70, 30), SIZE)
    back = cv2.warpAffine(slanted, cv2.getRotationMatrix2D(((SIZE - 1) / 2,) * 2, 30, 1), (SIZE, SIZE))
    assert np.abs(back - upright).max() < 0.03


@pytest.mark.parametrize(("feather", "share"), [(0.0, 0.0), (0.5, 0.3), (1.0, 0.6)])
def test_feather_is_a_share_of_the_radius(feather: float, share: float) -> None:
    """The mask is 1 up to there, and falls to 0 at the ellipse's edge: half way down at half the band."""
    mask = landmark_mask(landmarks(100, 100, size=801), 801, feather=feather)
    centre = 400 - 50 + 38
    profile = mask[centre:, 400]  # downwards, the edge is at 150 pixels
    assert np.flatnonzero(profile)[-1] == pytest.approx(150, abs=1.5)
    full = np.flatnonzero(profile >= 0.999)[-1]
    assert full == pytest.approx(150 * (1 - share), abs=3)
    if not share:
        assert 0 < ((mask > 0) & (mask < 1)).sum() < 1500, "an edge of one pixel"
    else:
        quarter = profile[round(150 * (1 - share / 4))]
        assert quarter == pytest.approx(0.25**2 * (3 - 0.5), abs=0.02), "a smooth step"


def test_a_face_that_looks_far_down_has_a_mask_too() -> None:
    """Eyes and mouth on one spot: down is square to the line between the eyes."""
    points = np.array([[150, 200], [250, 200], [200, 200], [180, 200], [220, 200]], float)
    mask = landmark_mask(points, SIZE)
    assert mask[220, 200] == 1 and mask[200 + 110, 200] > 0.9 > 0.1 > mask[200 - 110, 200]
    assert np.abs(mask[:, 200 - 30] - mask[:, 200 + 30]).max() < 1e-6
    turned = landmark_mask(points[:, ::-1], SIZE)  # eyes one above the other
    assert turned[200, 180] == 1 and turned[200, 200 - 110] > 0.9 > 0.1 > turned[200, 200 + 110]
    assert not landmark_mask(np.full((5, 2), 30.0), SIZE).any(), "all on one spot: there is no face"


def test_the_crops_border_is_0_for_2_per_cent_and_full_from_8_on() -> None:
    everywhere = landmark_mask(landmarks(4000, 4000, size=1000), 1000)
    profile = everywhere[500]
    for end in (profile, profile[::-1], everywhere[:, 500], everywhere[::-1, 500]):
        assert not end[:21].any() and end[22] > 0 and end[79] < 1
        assert end[50] == pytest.approx(0.5, abs=1e-3) and end[80] == pytest.approx(1)


def test_clipped_where_the_pictures_outermost_pixels_end() -> None:
    """A pixel reaches half a pixel to each side: at twice the size two columns of the crop belong to each column."""
    ones = np.ones((64, 64), np.float32)
    seen = clip_to_picture(ones, [[2, 0, 11], [0, 2, 21]], (10, 15))
    rows, columns = np.nonzero(seen)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 11 + 29, 20, 21 + 19)
    turned = clip_to_picture(ones, [[0, -1, 40], [1, 0, 5]], (20, 30))  # a quarter
    rows, columns = np.nonzero(turned)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (21, 40, 5, 34)


@pytest.mark.parametrize(("feather", "frame", "sigma"), [(0.0, 26, 0), (0.5, 26, 4), (1.0, 52, 8)])
def test_parsing_masks_have_a_frame_and_a_blur_in_proportion(feather: float, frame: int, sigma: float) -> None:
    square = np.zeros((512, 512), np.float32)
    square[frame : 512 - frame, frame : 512 - frame] = 1
    for _ in range(2 if sigma else 0):
        square = cv2.GaussianBlur(square, (101, 101), sigma)
    ours = soften_classes(np.ones((512, 512), np.uint8), 512, feather=feather)
    assert np.abs(ours - square).max() < 1 / 4000 and ours[ours > 0].min() >= 1 / 4096
    for size, how in ((256, cv2.INTER_AREA), (1024, cv2.INTER_LINEAR)):
        other = soften_classes(np.ones((512, 512), np.uint8), size, feather=feather)
        assert other.shape == (size, size) and np.abs(other - cv2.resize(square, (size, size), interpolation=how)).max() < 1 / 4000


def test_parsenet_sees_minus_1_to_1_and_the_largest_score_counts() -> None:
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor) -> list[torch.Tensor]:
        seen.append(x)
        scores = torch.zeros(1, 19, 512, 512)
        scores[0, 10, :, :200] = 1
        return [scores, torch.zeros(1)]

    face = np.zeros((128, 128, 3), np.float32)
    face[..., 0], face[..., 2] = 1.0, 0.25
    classes = ParseNet(network, "cpu")(cv2.resize(face, (512, 512)))
    assert [float(seen[0][0, channel].mean()) for channel in range(3)] == [1.0, -1.0, -0.5]
    assert classes.dtype == np.uint8 and (classes[:, :200] == 10).all() and (classes[:, 200:] == 0).all() and 10 in FACE_CLASSES
    mask = parsing_mask(ParseNet(network, "cpu"), face, 128)
    assert mask[64, 30] == pytest.approx(1) and mask[64, 70] == 0


def test_parsenets_file_is_found_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for facexlib's module: the file itself, or the first folder that has one of its names."""
    monkeypatch.setattr(masks, "_facexlib_parsenet", lambda: SimpleNamespace(ParseNet=lambda **sizes: Tiny(sizes)))
    made: list[dict[str, int]] = []

    class Tiny(torch.nn.Module):
        def __init__(self, sizes: dict[str, int]) -> None:
            super().__init__()
            made.append(sizes)
            self.weight = torch.nn.Parameter(torch.zeros(2))

    for place, name, value in ((tmp_path / "b", "ParseNet-latest.pth", 1.0), (tmp_path / "c", "parsing_parsenet.pth", 2.0)):
        place.mkdir()
        torch.save({"weight": torch.full((2,), value)}, place / name)
    places = [tmp_path / name for name in "abc"]
    for where, value in ((places, 1), (tmp_path / "c", 2), (str(tmp_path / "c" / "parsing_parsenet.pth"), 2)):
        network = load_parsenet(where).network
        assert network.weight[0] == value and not network.training and not network.weight.requires_grad
    assert made[0] == {"in_size": 512, "out_size": 512, "parsing_ch": 19}
    torch.save({"other": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"other\.pth is not ParseNet's"):
        load_parsenet(tmp_path / "other.pth")
    with pytest.raises(WeightsMissingError, match="models/GPEN"):
        load_parsenet([])


def test_colours_move_no_further_than_they_may() -> None:
    assert (MAX_GAIN, MAX_SHIFT) == (1.25, 0.25), "chosen by eye: whoever changes them looks at faces again"
    ones = np.ones((64, 64), np.float32)
    dark, light = np.full((64, 64, 3), 0.1, np.float32), np.full((64, 64, 3), 0.9, np.float32)
    assert np.abs(match_colour(dark, light, ones) - (0.1 + MAX_SHIFT / 3**0.5)).max() < 1e-4, "a shift along the axis of lightness"
    assert np.abs(match_colour(light, dark, ones) - (0.9 - MAX_SHIFT / 3**0.5)).max() < 1e-4
    waves = 0.5 + 0.1 * np.sin(np.arange(64) / 5)[:, None, None] * np.ones((64, 64, 3))
    waves = waves.astype(np.float32)
    for contrast, gain in ((3.0, MAX_GAIN), (1.1, 1.1), (0.2, 1 / MAX_GAIN)):
        out = match_colour(waves, (waves - 0.5) * np.float32(contrast) + np.float32(0.5), ones)
        assert out.std() / waves.std() == pytest.approx(gain, rel=0.01)
    level = match_colour(waves * 0 + np.float32(0.5) + (waves - 0.5) * np.float32(0.001), waves * 0 + np.float32(0.5), ones)
    assert level.std() == pytest.approx((waves * 0.001).std(), rel=0.1), "what is flat but for noise keeps its contrast"


@pytest.mark.parametrize(("height", "width"), [(64, 64), (300, 300), (600, 600), (1024, 1024)])
def test_fidelity_is_a_gaussian_of_a_32nd(height: int, width: int) -> None:
    rng = np.random.default_rng(3)
    coarse = [rng.random((16, 16, 3), np.float32) * 0.4 + 0.3 for _ in "ab"]
    first, second = (cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse)
    wanted = first + 0.7 * cv2.GaussianBlur(second - first, (0, 0), width / 32)
    assert np.abs(keep_low_frequencies(first, second, 0.7) - wanted).max() < 0.006


def test_a_rectangle_reaches_a_pixel_or_three_beyond_the_mask() -> None:
    mask = np.zeros((64, 64), np.float32)
    mask[20:31, 10:16] = 1
    assert reach(mask, np.eye(2, 3), (64, 64)) == (8, 18, 18, 33)  # a pixel of bilinear reading and one more
    assert reach(mask, np.eye(2, 3) * 4, (64, 64)) == (0, 1, 8, 12), "three where it shrinks"
    assert reach(mask, np.eye(2, 3), (30, 12)) == (8, 18, 12, 30), "it ends with the picture"
    assert reach(0 * mask, np.eye(2, 3), (64, 64)) == (0, 0, 0, 0)
    picture, face = np.zeros((64, 64, 3), np.float32), np.zeros((64, 64, 3), np.float32)
    assert Compositor(picture).add(face, 0 * mask, np.eye(2, 3)) == (0, 0, 0, 0)


def test_a_face_pasted_in_strips_is_whole_and_detail_is_added_to_it() -> None:
    """Taller than the rows that are pasted at once; detail is clipped with the face, not with the picture."""
    picture = np.full((300, 40, 3), 0.25, np.float32)
    face, mask = np.full((300, 300, 3), 0.75, np.float32), np.zeros((300, 300), np.float32)
    mask[3:297, 3:37] = 1
    compositor = Compositor(picture)
    box = compositor.add(face, mask, np.eye(2, 3))
    assert np.abs(compositor.result()[0][3:297, 3:37] - 0.75).max() < 1e-6 and tuple(box) == (1, 1, 39, 299)
    detailed = Compositor(picture)
    detail = np.full((box.bottom - box.top, box.right - box.left, 3), 0.5, np.float32)
    detailed.add(face, mask, np.eye(2, 3), strength=0.5, detail=detail)
    assert np.abs(detailed.result()[0][3:297, 3:37] - 0.625).max() < 1e-6, "0.75 and 0.5 are 1 at most; half of it"


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_strengths_at_both_ends_are_allowed(strength: float) -> None:
    compositor = Compositor(np.zeros((8, 8, 3), np.float32))
    compositor.add(np.ones((8, 8, 3), np.float32), np.ones((8, 8), np.float32), np.eye(2, 3), strength=strength)
    assert compositor.result()[0][4, 4, 0] == strength


def test_a_picture_resized_keeps_its_faces_place() -> None:
    """Edges stay in place: the pixel that is the first of three becomes the middle one's."""
    matrix = rescale_matrix([[1, 0, 5], [0, 1, 7]], (10, 20), (30, 20))
    assert transform([[4, 1]], matrix).tolist() == [[9, 7]] and transform([[0, 4]], matrix).tolist() == [[5, 8]]
    assert rescale_matrix([[1, 0, 5], [0, 1, 7]], (10, 20), (10, 60))[0].tolist() == pytest.approx([1 / 3, 0, 5 - 1 / 3])


def test_faces_that_barely_fit_a_template_are_taken_and_others_not() -> None:
    template = template_points("gpen", 512)
    flattened = template * (1, 0.2)  # bent far down
    assert similarity(flattened, template).shape == (2, 3)
    with pytest.raises(AlignmentError, match="one line"):
        similarity(template * (1, 0.001), template)
    with pytest.raises(AlignmentError, match="mirrored"):
        similarity(template * (-1, 1), template)
    with pytest.raises(GpenError, match="one per template point"):
        similarity(template[:4], template)
    with pytest.raises(AlignmentError, match="cannot be inverted"):
        invert([[1, 2, 0], [2, 4, 0]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_a_face_beyond_a_tiny_picture_is_read_from_its_edge(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 0.3, np.float32)
    assert np.abs(crop_face(picture, [[1, 0, -90], [0, 1, -90]], 16) - 0.3).max() < 1e-6
    assert np.abs(warp(picture, [[0.2, 0, 0], [0, 0.2, 0]], (4, 4), border="replicate") - 0.3).max() < 1e-6


def test_a_block_at_the_edge_is_filled_by_its_edge() -> None:
    """Shrunk by whole blocks of pixels, a picture of 10 in blocks of 4: the last two count for four."""
    picture = np.zeros((10, 10, 3), np.float32)
    picture[8:] = 1
    shrunk = warp(picture, [[1 / 8, 0, -0.4375], [0, 1 / 8, -0.4375]], (2, 2), border="replicate")
    assert shrunk[0].max() < 0.2 and shrunk[1].min() > 0.5


def test_the_middle_is_between_the_middle_pixels() -> None:
    """Of a picture of 100 pixels at 49.5: of two faces the one a tenth of a pixel nearer comes first, on either side."""
    points = np.zeros((5, 2), np.float32)

    def face(x: float, y: float) -> Face:
        return Face((x - 5, y - 5, x + 5, y + 5), points, 0.9)

    for nearer, other in ((39.6, 59.5), (59.4, 39.5)):
        near, far = face(nearer, 49.5), face(other, 49.5)
        assert select_faces([far, near], (100, 100, 3), order="centre") == [near, far]
        near, far = face(49.5, nearer), face(49.5, other)
        assert select_faces([far, near], (100, 100, 3), order="centre") == [near, far]


def test_a_position_just_beyond_the_last_face_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    faces = [face_at(0, 0, 60), face_at(80, 0, 50)]
    with caplog.at_level("INFO"):
        assert select_faces(faces, (90, 140), indices=(1, 2)) == faces[1:]
    assert "2: 2 found" in caplog.text
    tiny = Face((0, 0, 0.5, 0.5), faces[0].landmarks, 0.9)
    assert select_faces([tiny], (90, 140)) == [tiny], "no face is too small by default"
    with pytest.raises(SettingsError, match="size is -1"):
        select_faces(faces, (90, 140), min_size=-1)


@pytest.mark.parametrize("period", [48, 64, 96])
def test_fidelity_keeps_what_a_gaussian_of_a_32nd_of_the_side_lets_through(period: int):
    size = 256
    wave = 0.25 * np.sin(2 * np.pi * np.arange(size) / period, dtype=np.float32)
    original = np.repeat(np.broadcast_to(0.5 + wave, (size, size))[..., None], 3, axis=2).astype(np.float32)
    kept = keep_low_frequencies(np.full_like(original, 0.5), original, 1.0)[128, 64:192, 0] - 0.5
    share = float(kept @ wave[64:192] / (wave[64:192] @ wave[64:192]))
    assert share == pytest.approx(np.exp(-2 * (np.pi * size / 32 / period) ** 2), abs=0.004)
