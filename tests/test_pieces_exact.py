"""The pieces with everything that can be handed in: progress, parser, upscaler, template; and where exactly they look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from option_world import RED, Drawn, Marks, draw
from test_restorer import face_at, noise

from gpen_core.errors import GpenError, SettingsError
from gpen_core.faces.face import Face
from gpen_core.options import RestoreOptions
from gpen_core.pictures import from_array
from gpen_core.progress import Progress, Stopped
from gpen_core.restore.compose import Composition
from gpen_core.restore.pieces import boxes_mask, crop_faces, face_matrices, faces_in_boxes, faces_mask, paste_faces

MARKS = Marks("retinaface-mobile", Face)
FLAT = Face((0, 0, 20, 20), np.zeros((5, 2), np.float32), 0.9)  # its landmarks fit no template


class Told(Progress):
    """Keeps what it is told; says stop after so many reports."""

    def __init__(self, most: int = 10**9) -> None:
        self.said: list[tuple[int, int, str]] = []
        self.most = most

    def report(self, done: int, total: int, what: str, preview: np.ndarray | None = None) -> None:
        self.said.append((done, total, what))

    def stop(self) -> bool:
        return len(self.said) >= self.most


def pixels(scene: Any) -> np.ndarray:
    return scene.pixels.astype(np.float32) / 255


def test_boxes_reach_from_their_first_pixel_to_their_last() -> None:
    face = Face((10.0, 20.0, 29.0, 39.0), np.zeros((5, 2), np.float32), 0.9)
    for grow, (top, bottom, left, right) in ((0.0, (20, 40, 10, 30)), (0.25, (15, 45, 5, 35)), (1.0, (1, 59, 0, 49))):
        wanted = np.zeros((70, 90), np.float32)
        wanted[top:bottom, left:right] = 1
        assert np.array_equal(boxes_mask([face], (70, 90, 3), grow=grow), wanted), grow


def test_masks_of_faces_follow_template_and_feather() -> None:
    faces, shape = [face_at(10, 5, 60), face_at(70, 20, 50)], (90, 140)
    narrow, usual, wide = (((m > 0.01) & (m < 0.99)).sum() for m in (faces_mask(faces, shape, feather=f) for f in (0.0, 0.5, 1.0)))
    assert narrow < usual < wide
    assert np.array_equal(faces_mask(faces, shape), faces_mask(faces, shape, "gpen", feather=0.5))
    assert np.abs(faces_mask(faces, shape, "ffhq") - faces_mask(faces, shape)).max() > 0.1
    # Where a face would be pasted: what is pasted there changes exactly that.
    pasted = paste_faces(from_array(noise((90, 140, 3))), faces, [np.zeros((256, 256, 3), np.float32)] * 2, "gpen", RestoreOptions())
    assert np.abs(pasted.mask - faces_mask(faces, shape)).max() < 1e-5


def test_a_box_is_searched_with_half_its_size_around_it() -> None:
    """The box is half of the face's and beside it; what lies further away than half the box is not seen."""
    scene = draw((120, 200), Drawn("one", (100, 60), 60))
    x0, x1, y0, y1 = 85, 115, 40, 79  # the face's box
    for box, found in (
        ((x0 + 3, y0 + 3, x1 - 3, y1 - 3), 1),  # all of it within reach
        ((x0 - 1, y0 - 1, x0 + 21, y1), 1),  # 11 to the right: beyond its edge
        ((x0 - 1, y0 - 1, x0 + 5, y1), 0),
        ((x0 - 1, y0 - 1, x1, y0 + 8), 0),
        ((x0 - 1, y0, x0 + 11, y1), 0),  # 17 columns of it are too few
        ((x0 - 1, y0, x0 + 15, y1), 1),
        ((x0 - 1, y0, x1, y0 + 16), 0),  # 24 rows of it
        ((x0 - 1, y0, x1, y0 + 26), 1),
        ((x1 + 4, y0, x1 + 100, y1), 0),  # it is seen, but lies outside the box
        ((x0, y1 + 4, x1, y1 + 94), 0),
    ):
        faces = faces_in_boxes(pixels(scene), [box], MARKS, 0.9)
        assert len(faces) == found, box
        if found and box[2] > x1 - 4 and box[3] > y1 - 4:
            assert np.abs(np.array(faces[0].box) - (x0 - 0.5, y0 - 0.5, x1 - 0.5, y1 - 0.5)).max() <= 1.5


def test_of_two_faces_near_a_box_the_one_that_shares_most_with_it_counts() -> None:
    scene = draw((100, 200), Drawn("left", (60, 50), 60, 0.92), Drawn("right", (96, 50), 60, 0.99))
    for x in (60, 96):
        (face,) = faces_in_boxes(pixels(scene), [(x - 25, 25, x + 25, 75)], MARKS, 0.9)
        assert abs(face.centre[0] - x) < 2
    assert faces_in_boxes(pixels(scene), [(45, 25, 75, 75)], MARKS, 0.95) == [], "the threshold counts"


def test_boxes_outside_the_picture_and_empty_ones_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    scene = draw((90, 90), Drawn("one", (45, 45)))
    boxes = [(-50, 10, -20, 40), (10, 110, 40, 150), (110, 10, 150, 40), (40, 40, 40, 40), (20, 20, 70, 70)]
    assert len(faces_in_boxes(pixels(scene), boxes, MARKS, 0.9)) == 1 and caplog.text.count("no face was found in the box") == 4
    assert "-50, 10, -20, 40" in caplog.text


def test_progress_counts_boxes_and_can_stop_between_them(caplog: pytest.LogCaptureFixture) -> None:
    scene = draw((90, 180), Drawn("one", (45, 45)), Drawn("two", (135, 45)))
    boxes = [(20, 20, 70, 70), (110, 20, 160, 70)]
    told = Told()
    assert len(faces_in_boxes(pixels(scene), boxes, MARKS, 0.9, progress=told)) == 2
    assert set(told.said) == {(0, 2, "box 1/2"), (1, 2, "box 2/2")} and told.said == sorted(told.said)
    assert faces_in_boxes(pixels(scene), boxes, MARKS, 0.9, progress=Told(0)) == []
    whole = told.said.index((1, 2, "box 2/2"))
    assert len(faces_in_boxes(pixels(scene), boxes, MARKS, 0.9, progress=Told(whole))) == 1
    assert caplog.text == "", "a box that nobody looked into is not missed"


def test_pasting_reports_every_face_and_stops_between_them() -> None:
    picture, faces = from_array(noise((90, 140, 3), np.float32)), [face_at(10, 5, 60), face_at(80, 20, 50)]
    crops = [np.zeros((32, 32, 3), np.float32)] * 2
    told = Told()
    assert [f.status for f in paste_faces(picture, faces, crops, "gpen", RestoreOptions(), progress=told).faces] == ["restored"] * 2
    assert told.said == [(0, 2, "face 1/2"), (1, 2, "face 1/2"), (1, 2, "face 2/2"), (2, 2, "face 2/2")]
    some = paste_faces(picture, faces, crops, "gpen", RestoreOptions(), progress=Told(2))
    assert some.stopped and [face.status for face in some.faces] == ["restored", "stopped"]
    assert np.array_equal(some.image.pixels[:, 85:], picture.pixels[:, 85:])


def test_what_is_interrupted_within_its_only_face_says_so() -> None:
    def interrupted() -> Iterator[np.ndarray]:
        next(composition.crops())
        raise Stopped
        yield

    picture = from_array(noise((90, 90, 3), np.float32))
    composition = Composition(picture, [face_at(10, 10, 60)], [32], "gpen", RestoreOptions())
    result = composition.composed(interrupted())
    assert result.stopped and [face.status for face in result.faces] == ["stopped"] and np.array_equal(result.image.pixels, picture.pixels)
    assert result.mask.shape == (90, 90) and not result.mask.any() and result.scale == 1


def test_pasting_takes_a_parser_an_upscaler_and_crops_of_any_side() -> None:
    scene = draw((90, 90), Drawn("one", (45, 45)))
    (face,) = MARKS.detect(pixels(scene), 0.9)
    crops = [np.full((side, side, 3), RED, np.float32) for side in (64, 100)]
    classes = np.zeros((512, 512), np.uint8)
    classes[:, :256] = 1
    asked = []
    for crop in crops:
        result = paste_faces(
            from_array(scene.pixels), [face], [crop], "gpen",
            RestoreOptions(mask="parsing", output_size="factor", factor=2.0, colour_match=True, detail=0.0),
            parser=lambda made: asked.append(made.shape) or classes, upscaler=lambda given: np.zeros((180, 180, 3), np.float32),
        )  # fmt: skip
        image = result.image.pixels
        assert image.shape == (180, 180, 3) and not image[:10].any(), "the upscaler's picture"
        assert np.abs(image[90, 70] - RED).max() < 0.01 and not image[90, 110].any(), "the left half, in the colours of whoever made it"
    assert asked == [(512, 512, 3)] * 2
    plain = paste_faces(from_array(scene.pixels), [face], crops[:1], "gpen", RestoreOptions(mask="parsing"))
    assert np.abs(plain.image.pixels[45, 55] - RED).max() < 0.01, "without a parser the shape is the landmarks'"


def test_a_face_that_fits_no_template_is_refused_where_it_cannot_be_left_out() -> None:
    with pytest.raises(GpenError):
        face_matrices([face_at(0, 0, 50), FLAT], 64, "gpen")
    with pytest.raises(SettingsError):
        crop_faces(noise((50, 50, 3), np.float32), [], "no such template", 64)
    result = paste_faces(from_array(noise((50, 50, 3))), [FLAT], [np.zeros((8, 8, 3), np.float32)], "gpen", RestoreOptions())
    assert [face.status for face in result.faces] == ["failed"] and result.faces[0].reason and not result.mask.any()


@pytest.mark.parametrize("times", [0, 1])
def test_a_picture_whose_enlarging_was_stopped_has_its_own_size_and_says_so(times: int) -> None:
    class Later(Progress):
        """Says stop from the first time on, or from the second: before the picture is enlarged, or while it is."""

        asked = 0

        def stop(self) -> bool:
            self.asked += 1
            return self.asked > times

    picture = from_array(noise((40, 60, 3), np.float32))
    options = RestoreOptions(output_size="factor", factor=2)
    result = Composition(picture, [], [], "gpen", options, progress=Later()).composed(iter(()))
    assert result.stopped and result.scale == 1 and result.image.pixels.shape == (40, 60, 3)
