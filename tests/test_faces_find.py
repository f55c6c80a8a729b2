"""Finding faces with the detector that ships: crowds, turned, tiny, huge and empty pictures, faces cut by the border."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from group_picture import COLUMNS, HEIGHT, PEOPLE, WIDTH, Group
from numpy.typing import NDArray

from gpen_core.errors import SettingsError
from gpen_core.faces import Face, draw_faces, find_faces, make_detector
from gpen_core.faces.detect import Detector, tile_spans
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.faces.same_picture import picture_print, same_picture
from gpen_core.progress import Progress

Pixels = NDArray[np.float32]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return make_detector()


@pytest.fixture(scope="module")
def everyone(group: Group, detector: Detector) -> list[Face]:
    return find_faces(group.pixels, detector)


@pytest.fixture(scope="module")
def few(group: Group) -> Pixels:
    """A part of the picture, to keep tests light: six faces in two rows."""
    return np.ascontiguousarray(group.pixels[: 2 * HEIGHT, WIDTH : 4 * WIDTH])


def assert_sound(face: Face) -> None:
    """The landmarks lie in the box, the eyes apart, all numbers finite."""
    x0, y0, x1, y1 = face.box
    margin = 0.15 * max(face.width, face.height)
    assert np.isfinite(face.box).all() and np.isfinite(face.landmarks).all()
    assert (face.landmarks >= [x0 - margin, y0 - margin]).all() and (face.landmarks <= [x1 + margin, y1 + margin]).all()
    assert np.linalg.norm(face.landmarks[0] - face.landmarks[1]) > 0.15 * face.shorter_side
    assert 0 <= face.score <= 1 and face.landmarks.shape == (5, 2) and face.landmarks.dtype == np.float32


def same_place(a: Face, b: Face) -> bool:
    return bool(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean() < 0.1 * a.shorter_side)


def test_everyone_of_a_crowd_is_found(crowd: Pixels, detector: Detector) -> None:
    faces = find_faces(crowd, detector)
    assert len(faces) == PEOPLE
    for face in faces:
        assert_sound(face)
        assert face.score >= 0.9 and face.angle == 0 and 25 < face.shorter_side < 60
    scores = [face.score for face in faces]
    assert scores == sorted(scores, reverse=True)
    quick = find_faces(crowd, detector, look_closer=False)
    assert len(quick) == PEOPLE
    for face in faces:
        assert any(same_place(face, other) for other in quick)


def test_landmarks_are_where_they_truly_are(group: Group, everyone: list[Face]) -> None:
    for points in group.landmarks:
        apart = min(np.linalg.norm(face.landmarks - points, axis=1).mean() for face in everyone)
        assert apart < 0.1 * np.linalg.norm(points[0] - points[1])


def test_same_picture_same_faces(few: Pixels, detector: Detector) -> None:
    first, second = find_faces(few, detector), find_faces(few, RetinaFaceMobile())
    assert len(first) >= 3
    assert [face.to_json() for face in first] == [face.to_json() for face in second]


@pytest.mark.parametrize("turns", [1, 2])
def test_turned_heads(few: Pixels, detector: Detector, turns: int) -> None:
    upright = find_faces(few, detector)
    # A picture turned clockwise; its faces are found by turning it back, and lie where the upright ones lay.
    turned = np.ascontiguousarray(np.rot90(few, -turns))
    found = find_faces(turned, detector, rotations=True)
    assert len(found) == len(upright)
    back = [face.turned_back(360 - 90 * turns, turned.shape[1], turned.shape[0]) for face in found]
    if turns == 2:
        back = [face.turned_back(180, *few.shape[:2]) for face in found]
    for face in upright:
        assert sum(same_place(face, other) for other in back) == 1


def test_upright_faces_stay_upright(few: Pixels, detector: Detector) -> None:
    plain, turning = find_faces(few, detector), find_faces(few, detector, rotations=[180])
    assert len(plain) == len(turning)
    for face in turning:
        assert any(same_place(face, other) for other in plain)
        assert face.landmarks[:2, 1].mean() < face.landmarks[3:, 1].mean()


def test_small_faces_need_the_closer_look(crowd: Pixels, detector: Detector) -> None:
    factor = 0.5 if crowd.shape[1] == COLUMNS * WIDTH else 0.4  # faces of about 20 pixels, of 15 where they are sharp
    small = cv2.resize(crowd, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    close, quick = find_faces(small, detector), find_faces(small, detector, look_closer=False)
    assert len(close) >= 25
    assert len(quick) < len(close)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 1), (1, 7), (9, 1), (33, 31), (8, 20000), (3000, 2)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_odd_shapes_have_no_faces(detector: Detector, shape: tuple[int, int], value: float) -> None:
    assert find_faces(np.full((*shape, 3), value, np.float32), detector) == []


def test_noise_has_no_faces(detector: Detector) -> None:
    noise = np.random.default_rng(1).random((200, 300, 3), dtype=np.float32)
    assert find_faces(noise, detector) == []


def test_a_long_strip_with_a_face(group: Group, detector: Detector, everyone: list[Face]) -> None:
    strip = np.full((64, 5000, 3), 0.5, np.float32)
    face = max(everyone, key=lambda f: f.score)
    x, y = (round(v) - 32 for v in face.centre)
    strip[:, 3100:3164] = group.pixels[y : y + 64, x : x + 64]
    found = find_faces(strip, detector)
    assert len(found) == 1
    assert same_place(found[0], face.moved(3100 - x, -y))


def test_a_large_picture_with_a_small_face(group: Group, detector: Detector, everyone: list[Face]) -> None:
    """In tiles: the face lies across the edges of some."""
    large = np.full((1500, 3300, 3), 0.4, np.float32)
    face = everyone[0]
    x, y = (round(v) - 50 for v in face.centre)
    part = group.pixels[y : y + 100, x : x + 100]
    alone = [f for f in everyone if x < f.centre[0] < x + 100 and y < f.centre[1] < y + 100]
    large[700:800, 1150:1250] = part
    found = find_faces(large, detector)
    assert any(same_place(f, face.moved(1150 - x, 700 - y)) for f in found)
    assert len(found) <= len(alone)


def test_a_face_cut_by_the_border(group: Group, detector: Detector, everyone: list[Face]) -> None:
    face = everyone[0]
    x0, y0, x1, y1 = (round(v) for v in face.box)
    cut_top = np.ascontiguousarray(group.pixels[y0 + (y1 - y0) // 4 : y1 + 60, x0 - 20 : x1 + 20])
    cut_left = np.ascontiguousarray(group.pixels[y0 - 20 : y1 + 20, x0 + (x1 - x0) // 4 : x1 + 60])
    for picture, dx, dy in ((cut_top, -(x0 - 20), -(y0 + (y1 - y0) // 4)), (cut_left, -(x0 + (x1 - x0) // 4), -(y0 - 20))):
        found = find_faces(picture, detector)
        assert any(np.linalg.norm(f.landmarks - face.moved(dx, dy).landmarks, axis=1).mean() < 0.15 * face.shorter_side for f in found)


def test_views_and_read_only_pictures(few: Pixels, detector: Detector) -> None:
    mirrored = few[:, ::-1]
    copy = np.ascontiguousarray(mirrored)
    copy.setflags(write=False)
    before = few.copy()
    assert [f.to_json() for f in find_faces(mirrored, detector)] == [f.to_json() for f in find_faces(copy, detector)]
    assert np.array_equal(few, before)


def test_mask(few: Pixels, detector: Detector) -> None:
    everything = find_faces(few, detector, look_closer=False)
    mask = np.zeros(few.shape[:2], np.float32)
    mask[:, :200] = 1
    inside = find_faces(few, detector, look_closer=False, mask=mask)
    assert [f.to_json() for f in inside] == [f.to_json() for f in everything if round(f.centre[0]) < 200]
    with pytest.raises(SettingsError, match="mask"):
        find_faces(few, detector, mask=mask[1:])


def test_stopping_returns_what_is_found(few: Pixels, detector: Detector) -> None:
    class Stop(Progress):
        told = 0

        def report(self, done: int, total: int, what: str, preview: Pixels | None = None) -> None:
            self.told += 1

        def stop(self) -> bool:
            return self.told > 0

    assert len(find_faces(few, detector, rotations=True, look_closer=False, progress=Stop())) >= 3


class Counting:
    """A detector that counts its runs."""

    name = "counting"

    def __init__(self, detector: Detector) -> None:
        self._detector, self.looks = detector, 0

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        self.looks += 1
        return self._detector.detect(picture, threshold)


class Told(Progress):
    """Stops or raises after a number of reports."""

    def __init__(self, most: int = 10**9, error: BaseException | None = None) -> None:
        self.most, self.error, self.told = most, error, list[tuple[int, int, str]]()

    def report(self, done: int, total: int, what: str, preview: Pixels | None = None) -> None:
        self.told.append((done, total, what))
        if self.error is not None and len(self.told) >= self.most:
            raise self.error

    def stop(self) -> bool:
        return self.error is None and len(self.told) >= self.most


def test_every_look_is_told_and_can_be_the_last(few: Pixels, detector: Detector) -> None:
    everything, large = Told(), np.tile(few, (2, 3, 1))  # 960x1260, in tiles when looked at from near by
    faces = find_faces(large, counting := Counting(detector), progress=everything)
    first_looks = 1 + len(tile_spans(2 * large.shape[0])) * len(tile_spans(2 * large.shape[1]))
    assert len(everything.told) >= first_looks + 1 and counting.looks > first_looks
    assert [done for done, _, _ in everything.told] == sorted(done for done, _, _ in everything.told)
    assert all(done <= total and what == "looking for faces" for done, total, what in everything.told)
    for most in (0, 1, 3, first_looks):
        find_faces(large, counting := Counting(detector), progress=Told(most))
        assert counting.looks == most
    # The second looks go in groups of faces.
    some = find_faces(large, counting := Counting(detector), progress=Told(first_looks + 1))
    assert len(faces) > 16 and first_looks < counting.looks < first_looks + 2 * len(faces) and len(some) == len(faces)


def test_a_hosts_interrupt_passes_through_every_look(few: Pixels, detector: Detector) -> None:
    class Interrupt(Exception):
        pass

    for most in (1, 2, 3):
        with pytest.raises(Interrupt):
            find_faces(few, detector, progress=Told(most, Interrupt()))


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_threshold_out_of_range(few: Pixels, detector: Detector, threshold: float) -> None:
    with pytest.raises(SettingsError, match="threshold"):
        find_faces(few, detector, threshold=threshold)


def test_wrong_rotation(few: Pixels, detector: Detector) -> None:
    with pytest.raises(SettingsError, match="45"):
        find_faces(few, detector, rotations=[45])


def test_draw(few: Pixels, detector: Detector) -> None:
    faces = find_faces(few, detector, look_closer=False)
    before = few.copy()
    drawn = draw_faces(few, faces)
    assert drawn.shape == few.shape and drawn.dtype == np.float32 and drawn.min() >= 0 and drawn.max() <= 1
    assert np.array_equal(few, before) and not np.array_equal(drawn, before)
    assert np.array_equal(draw_faces(few, []), few)
    draw_faces(np.zeros((1, 1, 3), np.float32), [Face((-1e9, -5, 1e9, 5), np.full((5, 2), 1e12, np.float32), 1.0)])


@pytest.mark.parametrize("ground", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.1, 0.9, 0.2)], ids=["black", "white", "green"])
@pytest.mark.parametrize("box", [(300, 200, 400, 320), (-20, -30, 80, 90), (740, 520, 860, 640)])
def test_drawn_labels_are_large_and_show_on_any_ground(ground: tuple[float, ...], box: tuple[float, ...]) -> None:
    """A label is what changes where only the number, the score or the size does."""
    picture = np.empty((600, 800, 3), np.float32)
    picture[:] = ground
    x0, y0, x1, y1 = box
    outside = np.full((5, 2), -500, np.float32)

    def drawn(number: int, score: float) -> Pixels:
        return draw_faces(picture, [Face((x0, y0, x1, y1), outside, score)], [number])

    number = (np.abs(drawn(8, 0.91) - drawn(1, 0.91)) > 0.3).any(-1)
    rows = np.flatnonzero(number.any(1))
    assert rows[-1] - rows[0] >= 800 / 40  # large: two pixels and more where a page shows the picture 100 pixels wide
    assert (np.abs(drawn(0, 0.91) - drawn(0, 0.55)) > 0.3).any()
    assert not np.array_equal(drawn(0, 0.9), draw_faces(picture, [Face((x0, y0, x1 + 40, y1 + 40), outside, 0.9)], [0]))


def test_drawn_numbers_are_those_given(few: Pixels, detector: Detector) -> None:
    faces = find_faces(few, detector, look_closer=False)[:2]
    assert np.array_equal(draw_faces(few, faces), draw_faces(few, faces, [0, 1]))
    assert not np.array_equal(draw_faces(few, faces), draw_faces(few, faces, [0, 5]))


def test_a_picture_is_told_by_its_print(few: Pixels) -> None:
    own = picture_print(few)
    rng = np.random.default_rng(5)
    for edited in (few**1.6, few * 0.4, np.clip(few * 1.3, 0, 1), few + rng.normal(0, 0.05, few.shape)):
        assert same_picture(own, picture_print(np.asarray(edited, np.float32)))
    blank = np.full_like(few, 0.5)
    for other in (few[:, ::-1], few[::-1], blank, rng.random(few.shape), 1 - few):
        assert not same_picture(own, picture_print(np.ascontiguousarray(other, np.float32)))
    assert same_picture(picture_print(blank), picture_print(blank * 0))


@pytest.mark.parametrize("length", [1, 1280, 1281, 2048, 2656, 5000, 40000])
def test_tiles_cover_everything(length: int) -> None:
    spans = tile_spans(length)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert all(0 < end - start <= 1280 for start, end in spans)
    assert all(left[1] - right[0] >= 224 for left, right in itertools.pairwise(spans))


def test_finds_that_are_not_finite_are_none(few: Pixels) -> None:
    class Broken:
        name = "broken"

        def detect(self, picture: Pixels, threshold: float) -> list[Face]:
            return [
                Face((float("nan"), 0, 9, 9), np.zeros((5, 2), np.float32), 1.0),
                Face((0, 0, 9, 9), np.full((5, 2), np.inf, np.float32), 1.0),
            ]

    assert find_faces(few, Broken()) == []


def test_a_picture_of_nan_has_no_faces(detector: Detector) -> None:
    assert find_faces(np.full((70, 70, 3), np.nan, np.float32), detector) == []


def test_a_detectors_landmarks_in_one_point_do_no_harm(few: Pixels, detector: Detector) -> None:
    """An affine view cannot be set upright by them; it is then looked at as it is."""
    from gpen_core.faces.closer import look_at

    for face in find_faces(few, detector, look_closer=False):
        blind = Face(face.box, np.full((5, 2), face.centre, np.float32), face.score)
        (seen,) = look_at(few, [blind], detector, 0.5)
        assert same_place(face, seen)
    assert look_at(few, [Face((1e7, 1e7, 1e7, 1e7), np.full((5, 2), 1e7, np.float32), 1.0)], detector, 0.5) == []
