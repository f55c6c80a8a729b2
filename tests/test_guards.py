"""Guards: sharp faces are left alone, and so are faces that restoring would turn into others."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from option_world import Standin, flat

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.errors import WeightsMissingError
from gpen_core.faces.face import Face
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.restore.aligned import whole_face
from gpen_core.steps.align import crop_face, scale_of, similarity, template_points
from gpen_core.steps.guards import Guards, KeptError, drift, sharpness
from gpen_core.steps.mask import landmark_mask
from gpen_core.steps.recognise import features, likeness, load_recogniser


@pytest.fixture(scope="module")
def portrait() -> tuple[np.ndarray, Face]:
    """A sharp photograph (examples/portrait.png is a spoilt copy of it) and its face of 60 pixels."""
    picture = cv2.resize(pytest.importorskip("skimage.data").astronaut(), (256, 256), interpolation=cv2.INTER_AREA)
    picture = picture.astype(np.float32) / 255
    return picture, max(RetinaFaceMobile().detect(picture, 0.5), key=lambda face: face.area)


def spoilt(picture: np.ndarray, how: str, amount: float) -> np.ndarray:
    noise = np.random.default_rng(3).standard_normal(picture.shape, dtype=np.float32)
    if how == "blur":
        return cv2.GaussianBlur(picture, (0, 0), amount)
    if how == "noise":
        return np.clip(picture + noise * np.float32(amount / 255), 0, 1)
    if how == "grey noise":
        return np.clip(picture + noise[..., :1] * np.float32(amount / 255), 0, 1)
    done, data = cv2.imencode(".jpg", np.rint(picture[..., ::-1] * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(amount)])
    assert done
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


@pytest.mark.parametrize("size", [256, 2048])
def test_a_sharp_face_is_sharp_and_a_spoilt_one_is_not(portrait: tuple[np.ndarray, Face], size: int):
    picture, face = portrait
    assert sharpness(picture, face.landmarks, "gpen", size) > 0.95
    for how, amount in (("blur", 2), ("noise", 6), ("grey noise", 6), ("jpeg", 20)):
        assert sharpness(spoilt(picture, how, amount), face.landmarks, "gpen", size) < 0.05, how


def test_the_more_a_face_is_blurred_the_less_it_counts_as_sharp(portrait: tuple[np.ndarray, Face]):
    picture, face = portrait
    found = [sharpness(spoilt(picture, "blur", sigma), face.landmarks, "ffhq", 512) for sigma in np.linspace(0.3, 2, 8)]
    assert found == sorted(found, reverse=True) and any(0 < one < 1 for one in found)


def test_sharpness_is_that_of_the_networks_scale(portrait: tuple[np.ndarray, Face]):
    """Enlarged, a face lacks detail for a large network, and has all that a small one can draw."""
    picture, face = portrait
    large, there = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), face.scaled(4, 4)
    assert sharpness(large, there.landmarks, "gpen", 128) > 0.95 and sharpness(large, there.landmarks, "gpen", 1024) == 0


def test_a_soft_face_much_larger_than_the_network_counts_as_sharp(portrait: tuple[np.ndarray, Face]):
    """The network could not draw its detail; of a face of its own size it could."""
    picture, face = portrait
    large, there = cv2.resize(picture, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), face.scaled(4, 4)
    sigma = next(s for s in np.linspace(1, 12, 45) if 0 < sharpness(spoilt(large, "blur", s), there.landmarks, "gpen", 128) < 0.6)
    same = cv2.resize(spoilt(large, "blur", sigma), None, fx=0.3, fy=0.3, interpolation=cv2.INTER_AREA)
    assert sharpness(same, there.scaled(0.3, 0.3).landmarks, "gpen", 128) == 0


@pytest.mark.parametrize(("x", "y", "side"), [(-500, 50, 60), (40, 40, 3), (500, 500, 100), (30, 30, 0)])
def test_what_cannot_be_judged_is_restored(x: float, y: float, side: float):
    noise = np.random.default_rng(1).random((80, 80, 3), np.float32)
    assert sharpness(noise, template_points("gpen", 1) * side + (x, y), "gpen", 64) == 0


def cropped(portrait: tuple[np.ndarray, Face], size: int = 256) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The face's crop, its mask and its landmarks there."""
    picture, face = portrait
    points = template_points("ffhq", size)
    return crop_face(picture, similarity(face.landmarks, points), size), landmark_mask(points, size), points


def in_the_right_place(_picture: np.ndarray) -> np.ndarray:
    return template_points("ffhq", 256) + 64


def test_what_restoring_does_to_a_face_is_no_drift(portrait: tuple[np.ndarray, Face]):
    crop, mask, points = cropped(portrait)
    made = {
        "nothing": crop,
        "other tone": crop * 0.8 + np.float32([0.2, 0.1, 0.05]),
        "softer": spoilt(crop, "blur", 2),
        "sharper": 2 * crop - spoilt(crop, "blur", 2),
    }
    for what, face in made.items():
        assert drift(crop, face, mask, points, in_the_right_place) == "", what


def test_another_face_is_drift(portrait: tuple[np.ndarray, Face]):
    crop, mask, points = cropped(portrait)
    assert "another shape" in drift(crop, crop[::-1], mask, points, in_the_right_place)
    patch = crop.copy()
    patch[100:180, 60:140] = 0
    assert "another shape" in drift(crop, patch, mask, points, in_the_right_place)
    assert "no longer found" in drift(crop, crop, mask, points, lambda _picture: None)
    eyes = float(np.linalg.norm(points[1] - points[0]))
    for moved, said in ((0.25, ""), (0.35, "the landmarks moved by 35% of the distance between the eyes")):
        by = np.array([moved * eyes, 0.0])
        assert drift(crop, crop, mask, points, lambda picture, by=by: in_the_right_place(picture) + by) == said


@pytest.mark.parametrize("size", [64, 256, 1024])
def test_drift_means_the_same_at_every_size(portrait: tuple[np.ndarray, Face], size: int):
    crop, mask, points = cropped(portrait, size)
    finder = RetinaFaceMobile()

    def find(picture: np.ndarray) -> np.ndarray | None:
        faces = finder.detect(picture, 0.3)
        return max(faces, key=lambda face: face.area).landmarks if faces else None

    assert drift(crop, spoilt(crop, "blur", size / 200), mask, points, find) == ""
    assert drift(crop, np.full_like(crop, 0.5), mask, points, find) != ""


def test_likeness_is_asked_for(portrait: tuple[np.ndarray, Face]):
    crop, mask, points = cropped(portrait)

    def halves(face: np.ndarray) -> np.ndarray:
        """Features of a face of (1, 3, 112, 112), -1..1: its mean and its upper and lower half."""
        assert face.shape == (1, 3, 112, 112) and face.dtype == np.float32 and face.min() >= -1.01 and face.max() <= 1.01
        return np.stack([face.mean(), face[:, :, :56].mean(), face[:, :, 56:].mean()]) + 1

    one, other = (features(face, points, halves) for face in (crop, crop[::-1]))
    assert abs(np.linalg.norm(one) - 1) < 1e-6 and likeness(one, one) == pytest.approx(1)
    alike = likeness(one, other)
    assert alike < 0.9999
    Guards(recogniser=halves, least=alike - 1e-4).check(crop, crop[::-1], mask, points)
    with pytest.raises(KeptError, match="less like the original"):
        Guards(recogniser=halves, least=alike + 1e-4).check(crop, crop[::-1], mask, points)


def test_a_recogniser_that_is_not_there_is_named_before_any_work(tmp_path: Path):
    (tmp_path / "GPEN").mkdir()
    with pytest.raises(WeightsMissingError, match=r"w600k_r50\.onnx.*GPEN"):
        FaceRestorer(RestoreOptions(min_likeness=0.3, device="cpu"), models_dir=tmp_path).prepare()
    with pytest.raises(WeightsMissingError, match=r"w600k_r50\.onnx"):
        load_recogniser([])


class Counting(Standin):
    """Counts the faces that go through it."""

    faces = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.faces += len(x)
        return super().forward(x)


def restored(picture: np.ndarray, faces: list[Face], **options: object) -> tuple[object, Counting]:
    network = Counting(128, flat, "", "cpu")
    restorer = FaceRestorer(RestoreOptions.from_mapping({"device": "cpu", "detail": 0, **options}), network=network)  # type: ignore[arg-type]
    return restorer(picture, faces=faces), network


def test_a_sharp_face_is_not_computed_and_stays_bit_for_bit(portrait: tuple[np.ndarray, Face]):
    picture, face = portrait
    both = np.hstack([picture, spoilt(picture, "blur", 3)])
    there = face.moved(picture.shape[1], 0)
    result, network = restored(both, [face, there, face], auto_strength="all")
    assert [one.status for one in result.faces] == ["kept", "restored", "kept"] and network.faces == 1
    assert np.array_equal(result.image[:, : picture.shape[1]], picture) and not result.mask[:, : picture.shape[1]].any()
    assert [one.strength for one in result.faces] == [0, 1, 0] and "sharp already" in result.faces[0].reason
    assert result.faces[0].to_json()["status"] == "kept" and len(result.crops) == len(result.restored) == 1


def test_a_face_in_between_gets_a_part_of_the_strength(portrait: tuple[np.ndarray, Face]):
    picture, face = portrait
    soft = next(
        one
        for one in (spoilt(picture, "blur", s) for s in np.linspace(0.5, 1.5, 21))
        if 0.2 < sharpness(one, face.landmarks, "gpen", 128) < 0.8
    )
    share = 1 - sharpness(soft, face.landmarks, "gpen", 128)
    spared, _ = restored(soft, [face], auto_strength="all", strength=0.8)
    plain, _ = restored(soft, [face], strength=0.8 * share)
    assert spared.faces[0].strength == pytest.approx(0.8 * share) and np.abs(spared.image - plain.image).max() < 1e-6


def test_an_aligned_face_in_between_gets_a_part_of_the_strength(portrait: tuple[np.ndarray, Face]):
    crop, _, _ = cropped(portrait, 128)
    points = whole_face("ffhq", crop.shape).landmarks
    soft = next(
        one for one in (spoilt(crop, "blur", s) for s in np.linspace(0.2, 1.5, 66)) if 0.2 < sharpness(one, points, "ffhq", 128) < 0.8
    )
    share = 1 - sharpness(soft, points, "ffhq", 128)

    def aligned(**options: object) -> object:
        values = {"device": "cpu", "detail": 0, "aligned": True, **options}
        return FaceRestorer(RestoreOptions.from_mapping(values), network=Counting(128, flat, "", "cpu"), template="ffhq")(soft)  # type: ignore[arg-type]

    spared, plain = aligned(auto_strength="all", strength=0.8), aligned(strength=0.8 * share)
    assert spared.faces[0].strength == pytest.approx(0.8 * share) and np.abs(spared.image - plain.image).max() < 1e-6


def test_why_a_sharp_face_is_kept_says_whether_a_larger_model_helps(portrait: tuple[np.ndarray, Face]):
    picture, face = portrait
    matrix = similarity(face.landmarks, template_points("gpen", 128))
    for factor, helps in ((1.5, True), (0.5, False)):
        share = factor * scale_of(matrix)  # the network draws it `factor` times too small
        sized = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        (kept,) = restored(np.ascontiguousarray(sized), [face.scaled(share, share)], auto_strength="all")[0].faces
        assert kept.status == "kept" and ("a model of 128 pixels" in kept.reason and "a larger model" in kept.reason) == helps, kept.reason


def test_faces_that_are_kept_do_not_enlarge_the_picture(portrait: tuple[np.ndarray, Face]):
    picture, face = portrait
    large, there = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA), face.scaled(0.5, 0.5)
    assert restored(large, [there], output_size="native", auto_strength="off")[0].scale > 1
    assert restored(large, [there], output_size="native", auto_strength="all")[0].scale == 1


def test_a_face_that_is_lost_is_kept_and_the_rest_is_restored(portrait: tuple[np.ndarray, Face]):
    picture, face = portrait
    result, network = restored(picture, [face], guard=True)
    assert [one.status for one in result.faces] == ["kept"] and network.faces == 1
    assert np.array_equal(result.image, picture) and not result.mask.any() and not result.crops
    assert restored(picture, [face])[0].faces[0].status == "restored"
