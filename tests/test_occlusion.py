"""What is in front of a face stays: XSeg and BiSeNet from files in their form, and the mask that needs no file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_files import bisenet, xseg

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.errors import FeatureMissingError, WeightsError, WeightsMissingError
from gpen_core.options import OFFICIAL_REGIONS, REGIONS
from gpen_core.restore.compose import face_mask
from gpen_core.restore.pieces import load_helpers
from gpen_core.steps import mask as masks
from gpen_core.steps.align import template_points
from gpen_core.steps.mask import FACE_CLASSES, REGION_CLASSES, BiSeNet, classes_of, landmark_mask, load_parser, need_parser, soften_classes
from gpen_core.steps.occlusion import BEYOND_REASON, XSeg, changed_beyond_reason, load_occluder, seen_by

LITE = "GPEN-BFR-256-lite"


def inside_of(size: int) -> np.ndarray:
    return landmark_mask(template_points("ffhq", size), size)


def picture(size: int, seed: int = 0) -> np.ndarray:
    """Smooth colours, none of them extreme."""
    coarse = np.random.default_rng(seed).random((8, 8, 3), np.float32)
    return np.clip(0.3 + 0.4 * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


# --- the change mask -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 256, 512, 1024])
@pytest.mark.parametrize("feather", [0.0, 0.5, 1.0])
def test_what_is_painted_over_stays_and_the_rest_does_not(size: int, feather: float) -> None:
    crop, made = picture(size), picture(size)
    box = np.s_[int(0.6 * size) : int(0.72 * size), int(0.4 * size) : int(0.6 * size)]
    made[box] += 0.25
    made += np.float32([0.04, -0.04, 0.02])  # a tint of the whole face
    mask = changed_beyond_reason(crop, made, inside_of(size), feather=feather)
    assert mask.shape == (size, size) and mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
    assert (mask[box] < 0.01).all()
    away = np.ones((size, size), bool)
    reach = int(0.1 * size)
    away[box[0].start - reach : box[0].stop + reach, box[1].start - reach : box[1].stop + reach] = False
    assert (mask[away] > 0.99).all()


def test_feather_is_the_masks() -> None:
    crop, made = picture(256), picture(256)
    made[150:180, 100:150] += 0.3
    fading = [
        np.count_nonzero((m > 0.02) & (m < 0.98))
        for m in (changed_beyond_reason(crop, made, inside_of(256), feather=f) for f in (0, 0.5, 1))
    ]
    assert fading[0] * 2 < fading[1] < fading[2] / 1.3


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99), blur=st.floats(0.3, 4), noise=st.floats(0, 0.1), tint=st.floats(-0.2, 0.2),
    size=st.sampled_from([64, 256, 512]),
)  # fmt: skip
def test_damage_all_over_is_no_occlusion(seed: int, blur: float, noise: float, tint: float, size: int) -> None:
    """A network that takes away blur, noise and tint entirely."""
    good = picture(size, seed)
    spoilt = cv2.GaussianBlur(good, (0, 0), blur) + np.random.default_rng(seed).normal(tint, noise + 1e-6, good.shape).astype(np.float32)
    assert (changed_beyond_reason(spoilt, good, inside_of(size)) == 1).all()


def test_another_face_altogether_is_pasted_whole() -> None:
    """Where most of a face changed there is no telling what is in front."""
    crop, made = picture(256), picture(256)
    made[:, :140] = 1 - made[:, :140]
    made[:, 140:] += np.linspace(-0.3, 0.3, 116, dtype=np.float32)[None, :, None]
    assert (changed_beyond_reason(crop, made, inside_of(256)) == 1).all()


def test_only_the_face_is_looked_at() -> None:
    crop, made = picture(256), picture(256)
    made[:20] = 1
    assert (changed_beyond_reason(crop, made, inside_of(256)) == 1).all()
    assert (changed_beyond_reason(crop, made, np.zeros((256, 256), np.float32)) == 1).all()


@pytest.mark.parametrize("size", [128, 512])
def test_what_is_invented_beyond_the_pictures_border_is_no_occlusion(size: int) -> None:
    """A face cut by the border: the network sees and changes a mirrored copy there."""
    crop, made, inside = picture(size), picture(size), inside_of(size)
    cut = size // 2
    inside[:, cut:] = 0
    made[:, cut:] += 0.4
    assert (changed_beyond_reason(crop, made, inside) == 1).all()


def test_the_limit_follows_the_rest_of_the_face() -> None:
    """The same spot counts on a face that hardly changed, and not on one that changed all over."""
    rng = np.random.default_rng(3)
    crop = picture(256)
    lively = cv2.GaussianBlur(rng.normal(0, 1, (256, 256, 3)).astype(np.float32), (0, 0), 6)
    lively *= 0.06 / lively.std()
    spot = np.zeros((256, 256, 3), np.float32)
    spot[140:170, 100:130] = 1.5 * BEYOND_REASON
    assert changed_beyond_reason(crop, crop + spot, inside_of(256)).min() == 0
    assert changed_beyond_reason(crop, crop + spot + lively, inside_of(256)).min() == 1


# --- XSeg ------------------------------------------------------------------------------------------------------------


def test_xseg_gets_the_crop_as_opencv_has_it(tmp_path: Path) -> None:
    """The network's mask is that of blue's channel, which comes first in OpenCV's pictures."""
    occluder = XSeg(xseg(tmp_path / "xseg_1.onnx", (20.0, 0.0, 0.0), -10.0))
    for size in (64, 256, 512):
        crop = np.full((size, size, 3), (1.0, 1.0, 0.0), np.float32)
        crop[: size // 2, :, 2] = 1.0
        seen = occluder(crop)
        assert seen.shape == (256, 256) and (seen[:120] > 0.99).all() and (seen[136:] < 0.01).all()
        mask = seen_by(occluder, crop, inside_of(size))
        assert mask.shape == (size, size) and mask.dtype == np.float32
        assert (mask[: int(0.45 * size)] > 0.99).all() and (mask[int(0.52 * size) :] < 0.01).all()


def test_an_occluder_that_sees_no_face_does_not_count(tmp_path: Path) -> None:
    occluder = XSeg(xseg(tmp_path / "xseg_1.onnx", (0.0, 0.0, 0.0), -9.0))
    assert (seen_by(occluder, picture(128), inside_of(128)) == 1).all()


def test_a_file_of_another_network_is_not_xseg(tmp_path: Path) -> None:
    path = bisenet(tmp_path / "xseg_1.onnx", np.zeros((19, 3)), np.zeros(19))
    with pytest.raises(WeightsError, match=r"xseg_1\.onnx"):
        XSeg(path)


def restorer(models: Path, **chosen: object) -> FaceRestorer:
    return FaceRestorer(RestoreOptions(model=LITE, device="cpu", **chosen), models_dir=models)  # type: ignore[arg-type]


def test_without_its_file_xseg_says_which_and_where_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "GPEN").mkdir()
    with pytest.raises(WeightsMissingError, match=r"xseg_1\.onnx") as caught:
        restorer(tmp_path, occlusion="xseg").prepare()
    assert str(tmp_path / "GPEN") in str(caught.value)
    with pytest.raises(WeightsMissingError, match=r"xseg_1\.onnx"):
        load_helpers(RestoreOptions(occlusion="xseg"), [tmp_path])


def test_auto_takes_xseg_where_it_is_and_does_without_a_bad_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_occluder("auto", [tmp_path]) is None and not caplog.records
    path = tmp_path / "dfl_xseg.onnx"
    path.write_bytes(b"<html>")
    assert load_occluder("auto", [tmp_path]) is None and "dfl_xseg.onnx" in caplog.text
    with pytest.raises(WeightsError, match=r"dfl_xseg\.onnx"):
        load_occluder("xseg", [tmp_path])
    xseg(path)
    assert isinstance(load_occluder("auto", [tmp_path]), XSeg)
    for other in ("off", "change", "parsing"):
        assert load_occluder(other, [tmp_path]) is None


# --- BiSeNet and regions ---------------------------------------------------------------------------------------------

# BiSeNet's own order, as its authors list it.
BISENET = (
    "background", "skin", "brows", "brows", "eyes", "eyes", "glasses", "ears", "ears", "earrings", "nose", "mouth", "lips", "lips", "neck",
    "necklace", "cloth", "hair", "hat",
)  # fmt: skip


def test_every_class_of_bisenet_is_the_region_of_its_name(tmp_path: Path) -> None:
    """Each class wins where red, normalised as ImageNet's pictures, is nearest to the class's own value."""
    values = np.linspace(-1.8, 1.8, 19)
    path = bisenet(tmp_path / "bisenet_resnet_34.onnx", np.stack([2 * values, 0 * values, 0 * values], axis=1), -(values**2))
    parser = BiSeNet(path)
    face = np.zeros((512, 512, 3), np.float32)
    face[..., 0] = (np.repeat(values, 27)[:512] * 0.229 + 0.485)[None]
    classes = parser(face)
    assert classes.dtype == np.uint8
    for number, name in enumerate(BISENET):
        found = set(classes[:, 27 * number + 2 : min(512, 27 * number + 25)].ravel().tolist())
        assert len(found) == 1 and found <= set(REGION_CLASSES.get(name, (0,))), name
    assert len(np.unique(classes)) == 19, "left and right are told apart"


def test_regions_are_the_parsers_classes() -> None:
    assert tuple(REGION_CLASSES) == REGIONS
    assert sorted(number for numbers in REGION_CLASSES.values() for number in numbers) == list(range(1, 19))
    assert sorted(classes_of(OFFICIAL_REGIONS)) == list(FACE_CLASSES)
    bands = ((np.arange(512) - 28) // 24).clip(0, 18)[None].repeat(512, axis=0)
    for name in REGIONS:
        soft = soften_classes(bands, 512, feather=0.1, wanted=classes_of([name]))[256]
        assert {number for number in range(19) if soft[28 + 24 * number + 12] > 0.99} == set(REGION_CLASSES[name])


def test_bisenet_is_used_where_parsenet_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / "models" / "GPEN", tmp_path / "models" / "facefusion"]
    path = bisenet(folders[1] / "bisenet_resnet_18.onnx", np.zeros((19, 3)), np.arange(19) == 1)
    made: list[object] = []
    monkeypatch.setattr(masks, "load_parsenet", lambda where, device: made.append(where) or (lambda face: face))
    monkeypatch.setattr(masks, "need_parsing_package", lambda: None)
    assert isinstance(load_parser(folders), BiSeNet), "facexlib is there, its weights are not"
    folders[0].mkdir(parents=True)
    (folders[0] / "parsing_parsenet.pth").write_bytes(b"x")
    assert not isinstance(load_parser(folders), BiSeNet) and made == [folders]

    def missing() -> None:
        raise FeatureMissingError("facexlib is not here")

    monkeypatch.setattr(masks, "need_parsing_package", missing)
    need_parser(folders)
    assert isinstance(load_parser(folders), BiSeNet)
    path.unlink()
    with pytest.raises(FeatureMissingError):
        need_parser(folders)


def test_without_any_parser_the_error_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FeatureMissingError, match=r"facexlib.*bisenet_resnet_34\.onnx"):
        restorer(tmp_path, occlusion="parsing").prepare()
    monkeypatch.setattr(masks, "need_parsing_package", lambda: None)
    with pytest.raises(WeightsMissingError, match=r"parsing_parsenet\.pth.*bisenet_resnet_34\.onnx"):
        restorer(tmp_path, mask="parsing").prepare()


def test_a_file_of_another_network_is_not_bisenet(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"face_parser\.onnx"):
        BiSeNet(xseg(tmp_path / "face_parser.onnx"))


def test_occlusion_by_the_parser_looks_at_the_original() -> None:
    """The mask parses the new face, as GPEN's authors do; what is in front is seen in the original."""
    crop, made, size = picture(128), picture(128), 128
    crop[:64], made[64:] = 0, 0

    def parser(face: np.ndarray) -> np.ndarray:
        return (face.max(axis=2) > 0.1).astype(np.uint8)

    for chosen, upper, lower in (({"mask": "parsing"}, 1, 0), ({"occlusion": "parsing"}, 0, 1)):
        options = RestoreOptions(**chosen)  # type: ignore[arg-type]
        everywhere = np.ones((size, size), np.float32)
        mask = face_mask(crop, made, everywhere, everywhere, options, parser, None)
        assert mask[40, 64] == pytest.approx(upper, abs=1e-3) and mask[88, 64] == pytest.approx(lower, abs=1e-3)
