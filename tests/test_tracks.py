"""Faces followed over frames: by known motions of a drawn face, over gaps, cuts and other people."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_restorer import face_at, noise

from gpen_core.faces.face import Face
from gpen_core.restore.looks import alike, is_cut, look_of, scene_of, step_between
from gpen_core.restore.tracks import GAP, REACH, Followed, Tracker, steadied
from gpen_core.steps.align import transform

FACE = face_at(70, 60, 80)


def scene(seed: int = 0, shape: tuple[int, int] = (200, 220)) -> np.ndarray:
    """Something with structure at all sizes."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.random((shape[0] // n, shape[1] // n, 3), np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
        for n in (6, 12, 40)
    ]
    return np.clip(sum(layers) / 3, 0, 1).astype(np.float32)


def motion(t: float, rate: float = 1.0) -> np.ndarray:
    """Still picture to frame: less than a pixel to several a frame, turned and zoomed."""
    angle, zoom = 0.05 * np.sin(0.3 * rate * t), 1 + 0.04 * np.sin(0.2 * rate * t)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array(FACE.centre)
    return np.column_stack([linear, centre - linear @ centre + (6 * np.sin(0.4 * rate * t), 4 * np.cos(0.5 * rate * t))])


def moved(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(picture, matrix, picture.shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def face_from(points: np.ndarray) -> Face:
    x, y = points.mean(axis=0)
    return Face((x - 20, y - 26, x + 20, y + 26), points.astype(np.float32), 0.95)


def follow(frames: Sequence[np.ndarray], faces: Sequence[Sequence[Face]], strength: float = 1.0, most: float = 99) -> list[list[Followed]]:
    """As a sequence does it: frames are seen a few ahead."""
    tracker, found = Tracker(strength), []
    for number in range(len(frames) + REACH):
        if number < len(frames):
            tracker.see(number, faces[number], frames[number])
        if number >= REACH:
            t = number - REACH
            found.append(tracker.faces(t, faces[t], lambda t=t: frames[t], most))
    return found


# --- steady landmarks ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.3, 1.0, 2.5])
def test_the_tremor_goes_and_the_motion_stays(rate: float) -> None:
    still, rng = scene(), np.random.default_rng(1)
    truth = [transform(FACE.landmarks, motion(t, rate)) for t in range(30)]
    frames = [np.clip(moved(still, motion(t, rate)) + 0.03 * rng.standard_normal(still.shape).astype(np.float32), 0, 1) for t in range(30)]
    raw = [points + rng.normal(0, 1.0, (5, 2)) for points in truth]
    found = follow(frames, [[face_from(points)] for points in raw])
    assert {one.track for frame in found for one in frame} == {0} and all(len(frame) == 1 for frame in found)
    away = np.stack([frame[0].face.landmarks for frame in found]) - np.stack(truth)
    tremor = np.linalg.norm(np.diff(away, axis=0), axis=2).mean() / np.linalg.norm(np.diff(np.stack(raw) - truth, axis=0), axis=2).mean()
    assert tremor < 0.3 and np.linalg.norm(away, axis=2).mean() < 0.8
    speed = np.gradient(np.stack(truth), axis=0)
    assert abs((away * speed).sum() / np.square(speed).sum()) < 0.2, "frames that it lags behind"
    boxes = np.array([[a.face.box, face_from(b).box] for (a,), b in zip(found, raw, strict=True)])
    assert np.abs(boxes[:, 0] - boxes[:, 1]).max() < 3, "the box goes with its landmarks"


def test_strength_is_the_share_of_the_tremor_that_goes() -> None:
    frames, rng = [scene()] * 12, np.random.default_rng(2)
    faces = [[face_from(FACE.landmarks + rng.normal(0, 1, (5, 2)))] for _ in frames]
    none, half, all_ = (np.stack([f[0].face.landmarks for f in follow(frames, faces, strength)]) for strength in (0.0, 0.5, 1.0))
    assert np.array_equal(none, np.stack([frame[0].landmarks for frame in faces]))
    assert np.abs(half - (none + all_) / 2).max() < 1e-3 and np.abs(all_ - none).mean() > 0.3


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 17), st.integers(0, 10_000), st.floats(0, 0.5))
def test_a_mean_of_landmarks_lies_among_them(count: int, seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    times = np.sort(rng.choice(np.arange(-8, 9), count, replace=False)).astype(float)
    times[int(np.argmin(np.abs(times)))] = 0
    points = FACE.landmarks + rng.normal(0, spread, (count, 5, 2))
    found = steadied(times, points, 60.0)
    assert (found >= points.min(axis=0) - 1e-6).all() and (found <= points.max(axis=0) + 1e-6).all()
    assert np.allclose(steadied(times[::-1].copy(), points[::-1].copy(), 60.0), found), "in any order"


def test_a_face_that_turns_fast_is_not_averaged_over_the_turn() -> None:
    times = np.arange(-8.0, 9)
    points = FACE.landmarks[None] + np.where(times > 3, 30.0, 0.0)[:, None, None]
    assert np.abs(steadied(times, points, 60.0) - FACE.landmarks).max() < 1e-6


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-0.05, 0.05), st.floats(0.97, 1.03))
def test_steps_between_looks_are_the_true_motion(dx: float, dy: float, angle: float, zoom: float) -> None:
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.array(FACE.centre)
    matrix = np.column_stack([linear, centre - linear @ centre + (dx, dy)])
    still = scene()
    # The landmarks miss it by a pixel.
    looks = look_of(FACE, still), look_of(face_from(transform(FACE.landmarks, matrix) + np.array([1.0, -1.0])), moved(still, matrix))
    assert looks[0] is not None and looks[1] is not None
    step = step_between(looks[0], looks[1])
    assert np.abs(transform(FACE.landmarks, step) - transform(FACE.landmarks, matrix)).max() < 0.35


def test_where_nothing_can_be_followed_the_landmarks_say_how_the_face_moved() -> None:
    flat = np.full((200, 220, 3), 0.5, np.float32)
    other = face_from(FACE.landmarks + 5)
    one, two = look_of(face_from(FACE.landmarks), flat), look_of(other, flat)
    assert one is not None and two is not None
    assert np.abs(transform(FACE.landmarks, step_between(one, two)) - other.landmarks).max() < 1e-3


# --- which face is which ------------------------------------------------------------------------------------------------------------------


def test_two_faces_keep_their_numbers_whatever_their_order() -> None:
    still, left, right = scene(), face_at(20, 60, 70), face_at(120, 60, 70)
    faces = [[left, right] if t % 2 else [right, left] for t in range(12)]
    for t, frame in enumerate(follow([still] * 12, faces)):
        assert [one.track for one in frame] == ([1, 0] if t % 2 else [0, 1])


@pytest.mark.parametrize(("missed", "filled"), [(1, True), (GAP, True), (GAP + 1, False)])
def test_short_gaps_are_filled(missed: int, filled: bool) -> None:
    still = scene()
    frames = [moved(still, motion(t, 0.4)) for t in range(20)]
    truth = [transform(FACE.landmarks, motion(t, 0.4)) for t in range(20)]
    faces = [[] if 6 <= t < 6 + missed else [face_from(points)] for t, points in enumerate(truth)]
    found = follow(frames, faces)
    assert [len(frame) for frame in found] == [1 if filled or faces[t] else 0 for t in range(20)]
    assert len({one.track for frame in found for one in frame}) == (1 if filled else 2)
    if missed == 1:
        assert np.abs(found[6][0].face.landmarks - truth[6]).max() < 1.0
    assert all(len(frame) <= len(faces[t]) for t, frame in enumerate(follow(frames, faces, most=0)))


def test_no_face_is_filled_in_where_something_else_is() -> None:
    frames, faces = [scene()] * 12, [[face_from(FACE.landmarks)] for _ in range(12)]
    frames[6], faces[6] = frames[6].copy(), []
    frames[6][60:140, 70:150] = scene(9)[60:140, 70:150]  # a hand
    assert [len(frame) for frame in follow(frames, faces)] == [t != 6 for t in range(12)]


def test_a_track_ends_at_a_cut_and_leaves_nothing_behind() -> None:
    before, after = scene(1), 1 - 0.8 * scene(2)
    frames, rng = [before] * 6 + [after] * 6, np.random.default_rng(3)
    faces = [[face_from(FACE.landmarks + rng.normal(0, 1, (5, 2)))] for _ in frames]
    joined, alone = follow(frames, faces), follow(frames[6:], faces[6:])
    assert [frame[0].track for frame in joined] == [0] * 6 + [1] * 6
    for one, other in zip(joined[6:], alone, strict=True):
        assert np.array_equal(one[0].face.landmarks, other[0].face.landmarks) and one[0].face.box == other[0].face.box


def test_the_same_face_in_another_place_has_a_new_track() -> None:
    here, there = scene(1), 1 - 0.8 * scene(2)
    there[70:130, 80:140] = here[70:130, 80:140]
    looks = look_of(FACE, here), look_of(FACE, there)
    assert alike(*looks) > 0.9
    found = follow([here] * 3 + [there] * 3, [[face_from(FACE.landmarks)]] * 6)
    assert [frame[0].track for frame in found] == [0] * 3 + [1] * 3


def test_someone_else_in_the_same_place_has_a_track_of_their_own() -> None:
    other = scene()
    other[40:160, 50:170] = scene(7)[40:160, 50:170]
    assert not is_cut(scene_of(scene()), scene_of(other)), "most of the picture is the same"
    found = follow([scene()] * 4 + [other] * 4, [[face_from(FACE.landmarks)]] * 8)
    assert [frame[0].track for frame in found] == [0] * 4 + [1] * 4


def test_landmarks_that_no_head_has_are_followed_by_nobody() -> None:
    flat = Face((60, 60, 100, 100), np.zeros((5, 2), np.float32), 0.9)
    found = follow([scene()] * 4, [[flat]] * 4)
    assert [frame[0].track for frame in found] == [0, 1, 2, 3] and all(np.array_equal(f[0].face.landmarks, flat.landmarks) for f in found)


# --- scenes -------------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.floats(-12, 12), st.floats(-12, 12), st.floats(0, 0.06), st.floats(0.9, 1.1))
def test_motion_noise_and_light_are_no_cut(dx: float, dy: float, grain: float, light: float) -> None:
    still = scene()
    other = moved(still, np.array([[1, 0, dx], [0, 1, dy]])) * np.float32(light)
    other = other + grain * np.random.default_rng(0).standard_normal(still.shape).astype(np.float32)
    assert not is_cut(scene_of(still), scene_of(np.clip(other, 0, 1).astype(np.float32)))


def test_another_place_is_a_cut() -> None:
    day, night = scene(1), 0.4 * scene(2)
    assert is_cut(scene_of(day), scene_of(night)) and is_cut(scene_of(night), scene_of(day)) and not is_cut(scene_of(day), scene_of(day))


def test_tiny_pictures_have_a_scene_and_a_look() -> None:
    tiny = noise((1, 3, 3), np.float32)
    assert not is_cut(scene_of(tiny), scene_of(tiny))
    one = look_of(FACE, tiny)
    assert one is not None and alike(one, None) == 0.0


# --- a run that goes on -----------------------------------------------------------------------------------------------------------------


def test_who_begins_later_and_knows_the_tracks_of_the_first_frames_finds_what_the_whole_finds() -> None:
    """A face that is so fast that only its speed tells where it is, beside one that comes and goes."""
    still, rng, place = scene(5, (200, 1300)), np.random.default_rng(3), 60
    frames, faces = [], []
    for t in range(30):
        place += min(22, 6 + 6 * t)
        frames.append(np.concatenate([np.roll(still, place, axis=1), still]))
        here = FACE.landmarks - (FACE.centre[0], 0) + (place, 0)
        two = [face_from(points + rng.normal(0, 0.3, (5, 2))) for points in (FACE.landmarks + np.array((400, 200)), here)]
        faces.append(two if t % 4 in (1, 2) else two[1:])

    def found(first: int, known: dict[int, Sequence[int]]) -> tuple[list[list[Followed]], list[Sequence[int]]]:
        tracker, followed, numbers = Tracker(1.0), [], []
        for t in range(first, 30 + REACH):
            if t < 30:
                numbers.append(tracker.see(t, faces[t], frames[t], known.get(t)))
            if t - REACH >= first:
                n = t - REACH
                followed.append(tracker.faces(n, faces[n], lambda n=n: frames[n]))
        return followed, numbers

    whole, numbers = found(0, {})
    assert len({number for each in numbers for number in each}) == 2 and sum(map(len, whole)) > sum(map(len, faces))
    known = {t: numbers[t] for t in range(5, 5 + REACH + GAP + 5)}
    later, again = found(5, known)
    assert again == numbers[5:]
    for one, other in zip(later[REACH + GAP :], whole[5 + REACH + GAP :], strict=True):
        assert [f.track for f in one] == [f.track for f in other]
        assert all(np.array_equal(a.face.landmarks, b.face.landmarks) for a, b in zip(one, other, strict=True))
    _, alone = found(5, {})
    assert len({number for each in alone for number in each}) > 10
