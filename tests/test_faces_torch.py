"""RetinaFace mobile0.25 in torch says what OpenCV says, and OpenCV steps in where torch or its device fails."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from group_picture import PEOPLE, Group, Pixels

from gpen_core.faces import find_faces, retinaface_torch
from gpen_core.faces.retinaface import RetinaFaceMobile, Seen


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retinaface_torch, "pick_dtype", lambda *_: torch.float32)


@pytest.mark.usefixtures("float32")
def test_torch_says_what_opencv_says(crowd: Pixels) -> None:
    detector = RetinaFaceMobile()
    (torch_says,), opencv_says = detector.torch_network()(crowd[None]), detector.by_opencv(crowd)
    assert (opencv_says.scores > 0.9).sum() > PEOPLE  # several anchors see the same face
    for ours, theirs in zip(torch_says, opencv_says, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() < 2e-4


def test_bfloat16_moves_scores_and_places_little(crowd: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retinaface_torch, "pick_dtype", lambda *_: torch.bfloat16)
    detector = RetinaFaceMobile()
    ((places, scores, points),) = detector.torch_network()(crowd[None])
    true_places, true_scores, true_points = detector.by_opencv(crowd)
    sure = true_scores > 0.9
    assert 0 < np.abs(scores - true_scores)[sure].max() < 0.1
    assert np.abs(scores - true_scores).mean() < 1e-3
    # In tenths of the anchor's side.
    assert np.abs(points - true_points)[sure].max() < 0.3
    assert np.abs(points - true_points)[sure].mean() < 0.03
    assert np.abs(places - true_places)[sure].mean() < 0.03


def test_both_find_the_same_faces(crowd: Pixels) -> None:
    by_torch, by_opencv = RetinaFaceMobile(), RetinaFaceMobile()
    by_opencv._torch_from = float("inf")
    found, expected = find_faces(crowd, by_torch), find_faces(crowd, by_opencv)
    assert len(found) == len(expected) == PEOPLE
    for face in expected:
        nearest = min(found, key=lambda other: float(np.abs(other.landmarks - face.landmarks).max()))
        assert np.abs(nearest.landmarks - face.landmarks).max() < 0.05 * face.shorter_side


def test_many_small_pictures_at_once_are_seen_as_each_alone(group: Group) -> None:
    views = [np.ascontiguousarray(group.pixels[:192, x : x + 192]) for x in range(0, 1100, 30)]  # more than are looked at in one go
    detector = RetinaFaceMobile()
    alone = [detector.detect(view, 0.05) for view in views]
    detector._torch = detector.torch_network()
    assert detector.detect_many([], 0.05) == []
    together = detector.detect_many(views, 0.05)
    assert sum(map(len, alone)) > 40
    for ours, theirs in zip(together, alone, strict=True):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert abs(one.score - other.score) < 1e-4
            assert np.abs(one.landmarks - other.landmarks).max() < 0.01


def test_small_pictures_do_not_go_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: RetinaFaceMobile) -> None:
        raise AssertionError("torch was asked")

    monkeypatch.setattr(RetinaFaceMobile, "torch_network", refuse)
    detector, view = RetinaFaceMobile(), np.full((192, 192, 3), 0.5, np.float32)
    assert detector.detect(view, 0.9) == []
    assert detector.detect_many([view] * 8, 0.9) == [[]] * 8


class OnCard(retinaface_torch.TorchRetinaFace):
    """As on a graphics card, as far as RetinaFaceMobile can see."""

    on_processor = False  # type: ignore[assignment]
    calls = 0

    def __call__(self, pictures: np.ndarray, exact: bool = False) -> list[Seen]:
        type(self).calls += 1
        return super().__call__(pictures, exact)


class BlackCard(OnCard):
    def __call__(self, pictures: np.ndarray, exact: bool = False) -> list[Seen]:
        return [seen._replace(scores=np.full_like(seen.scores, np.nan)) for seen in super().__call__(pictures, exact)]


class WrongCard(OnCard):
    def __call__(self, pictures: np.ndarray, exact: bool = False) -> list[Seen]:
        return [seen._replace(scores=seen.scores[::-1].copy()) for seen in super().__call__(pictures, exact)]


class FullCard(OnCard):
    def __call__(self, pictures: np.ndarray, exact: bool = False) -> list[Seen]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


class LaterFullCard(OnCard):
    def __call__(self, pictures: np.ndarray, exact: bool = False) -> list[Seen]:
        if exact:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return super().__call__(pictures, exact)


@pytest.mark.usefixtures("float32")
def test_a_card_that_agrees_in_its_first_look_does_the_rest(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    opencv = RetinaFaceMobile.by_opencv

    def counted(self: RetinaFaceMobile, picture: np.ndarray) -> Seen:
        asked.append(picture.shape)
        return opencv(self, picture)

    monkeypatch.setattr(retinaface_torch, "TorchRetinaFace", OnCard)
    monkeypatch.setattr(RetinaFaceMobile, "by_opencv", counted)
    OnCard.calls = 0
    assert len(find_faces(group.pixels, RetinaFaceMobile())) == PEOPLE
    assert len(asked) == 1
    assert OnCard.calls >= 3


@pytest.mark.parametrize("card", [BlackCard, WrongCard, FullCard, LaterFullCard])
def test_opencv_steps_in_for_a_card_that_fails(
    card: type[OnCard], group: Group, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retinaface_torch, "TorchRetinaFace", card)
    with caplog.at_level(logging.WARNING):
        assert len(find_faces(group.pixels, RetinaFaceMobile())) == PEOPLE
    assert caplog.text.count("faces are looked for by OpenCV") == 1


def test_a_device_that_is_not_there_is_no_error(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a graphics card, and the test is of one that has none")
    assert len(find_faces(group.pixels, RetinaFaceMobile(device="cuda"))) == PEOPLE
    assert "because torch on cuda failed" in caplog.text


def test_a_processor_without_onednn_stays_with_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    detector = RetinaFaceMobile()
    detector.detect(np.full((1000, 1000, 3), 0.5, np.float32), 0.9)
    assert detector._torch_from == float("inf")
    assert detector._torch is None
