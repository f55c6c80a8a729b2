"""What a restorer loads for which settings: from where, onto what, once, and nothing that is not needed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from option_world import LITE, OWN, Drawn, World, draw, own_model

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.errors import FeatureMissingError, WeightsMissingError, WrongTaskError
from gpen_core.network import load
from gpen_core.pictures import from_array
from gpen_core.restore import restorer as module
from gpen_core.steps import background, mask
from gpen_core.steps.align import template_points
from gpen_core.weights.folders import search_folders

SCENE = draw((90, 90), Drawn("one", (45, 45)))
NAMES = {
    "network": (load, "load_network"),
    "detector": (module, "make_detector"),
    "parser": (mask, "load_parsenet"),
    "upscaler": (background, "load_realesrgan"),
}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """What is loaded, in order, with its arguments."""
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    own_model(tmp_path)
    World(monkeypatch)
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for name, (owner, function) in NAMES.items():
        real = getattr(owner, function)
        monkeypatch.setattr(owner, function, lambda *a, name=name, real=real, **k: calls.append((name, a, k)) or real(*a, **k))
    return calls


def made(models: Path, **settings: Any) -> FaceRestorer:
    return FaceRestorer(RestoreOptions(**{"model": LITE, "device": "cpu", **settings}), models_dir=models, extra_folders=[models / "extra"])


ALL = {"mask": "parsing", "background": "realesrgan", "output_size": "factor"}


def test_everything_is_loaded_once_and_only_when_it_is_needed(loaded: Any, tmp_path: Path) -> None:
    restorer = made(tmp_path, **ALL)
    assert loaded == [] and restorer.model_name == LITE
    assert len(restorer.detect(SCENE.pixels)) == 1
    assert [name for name, _, _ in loaded] == ["detector"], "looking for faces needs no network"
    for _ in range(3):
        restorer(SCENE.pixels)
    assert [name for name, _, _ in loaded] == ["detector", "parser", "upscaler", "network"]
    assert restorer.size == 64 and len(loaded) == 4


def test_folders_and_devices_reach_what_is_loaded(loaded: Any, tmp_path: Path) -> None:
    for name in ("extra", "GPEN"):
        (tmp_path / name).mkdir(exist_ok=True)
    made(tmp_path, **ALL, precision="bf16", device="cpu:0").prepare()
    calls = {name: (given, named) for name, given, named in loaded}
    folders = [tmp_path / "extra", *search_folders(tmp_path)]
    assert calls["detector"] == (("retinaface-mobile",), {"device": "cpu:0", "weights_folders": folders})
    assert calls["parser"] == ((folders, torch.device("cpu:0")), {})
    path, device, dtype = calls["network"][0]
    assert path.name == f"{LITE}.safetensors" and device == torch.device("cpu:0") and dtype == torch.bfloat16
    where, device = calls["upscaler"][0]
    assert where == tmp_path / "extra" / "RealESRGAN_x2plus.pth" and device == torch.device("cpu:0")
    assert "progress" in calls["upscaler"][1]


def test_real_esrgans_file_is_the_first_there_is(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "GPEN" / "RealESRGAN_x2plus.pth").touch()
    for name, wanted in ((None, "GPEN"), ("RealESRGAN_x4plus.pth", "extra"), ("RealESRGAN_x2plus.pth", "extra")):
        if name:
            (tmp_path / "extra" / name).touch()
        made(tmp_path, **ALL).prepare()
        path = next(given[0] for kind, given, _ in reversed(loaded) if kind == "upscaler")
        assert path == tmp_path / wanted / (name or "RealESRGAN_x2plus.pth")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, ["detector", "network"]),
        ({"mask": "parsing"}, ["detector", "parser", "network"]),
        ({"mask": "parsing", "aligned": True}, ["network"]),
        ({"background": "realesrgan"}, ["detector", "network"]),
        ({"background": "realesrgan", "output_size": "native"}, ["detector", "upscaler", "network"]),
        ({"background": "realesrgan", "output_size": "factor", "aligned": True}, ["upscaler", "network"]),
    ],
)
def test_nothing_is_loaded_that_is_not_used(loaded: Any, tmp_path: Path, settings: dict[str, Any], wanted: list[str]) -> None:
    made(tmp_path, **settings).prepare()
    assert [name for name, _, _ in loaded] == wanted


def test_a_background_that_has_nothing_to_do_is_said(loaded: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        made(tmp_path, background="realesrgan").prepare()
    assert "realesrgan" in caplog.text and "keep" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        made(tmp_path, background="realesrgan", output_size="factor").prepare()
        made(tmp_path).prepare()
        FaceRestorer(RestoreOptions(model=LITE, background="realesrgan"), models_dir=tmp_path, upscaler=lambda pixels: pixels).prepare()
    assert "realesrgan" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ({"mask": "parsing"}, "need_parsing_package"),
        ({"background": "realesrgan"}, "need_realesrgan_package"),
        (ALL, "need_realesrgan_package"),
    ],
)
def test_a_missing_package_is_told_before_any_weights_are_looked_for(
    loaded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], package: str
) -> None:
    def missing() -> None:
        raise FeatureMissingError("it is not here")

    monkeypatch.setattr(background if "esrgan" in package else mask, package, missing)
    restorer = made(tmp_path, **settings)
    for _ in range(2):  # an error is no reason to believe that all is there
        with pytest.raises(FeatureMissingError):
            restorer.prepare()
    assert loaded == []


def test_a_hosts_own_network_and_detector_are_used_as_they_are(loaded: Any, tmp_path: Path) -> None:
    first = made(tmp_path)
    first.prepare()
    del loaded[:]
    network, detector = first.loaded_network, first._detector
    again = FaceRestorer(RestoreOptions(device="cpu"), network=network, detector=detector, template="ffhq", models_dir=tmp_path)
    result = again(SCENE.pixels)
    assert loaded == [] and again.template == "ffhq" and FaceRestorer(network=network).template == "gpen"
    assert [face.status for face in result.faces] == ["restored"] and result.model == "auto"


def test_a_model_in_a_further_folder_is_found(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "GPEN" / OWN).rename(tmp_path / "extra" / "further.safetensors")
    made(tmp_path, model="further.safetensors").prepare()
    assert loaded[-1][1][0] == tmp_path / "extra" / "further.safetensors"


def test_a_model_of_another_task_is_refused(loaded: Any, tmp_path: Path) -> None:
    with pytest.raises(WrongTaskError, match="colorize"):
        made(tmp_path, model="GPEN-Colorization-1024").prepare()


def test_an_aligned_face_larger_than_the_network_is_not_enlarged_natively(loaded: Any, tmp_path: Path) -> None:
    result = made(tmp_path, aligned=True, output_size="native")(SCENE.pixels)
    assert result.scale == 1 and result.image.shape == SCENE.pixels.shape


def test_a_result_says_which_model_and_how_long(loaded: Any, tmp_path: Path) -> None:
    restorer = made(tmp_path, model=OWN)
    result = restorer(from_array(SCENE.pixels))
    assert restorer.weights == tmp_path / "GPEN" / OWN and restorer.note is None
    assert result.model == restorer.model_name == LITE, "a renamed file is known by its content"
    assert result.seconds > 0 and result.scale == 1
    aligned = made(tmp_path, aligned=True, output_size="factor", factor=2.0)(SCENE.pixels)
    assert aligned.scale == 2 and aligned.mask.shape == (180, 180) and aligned.mask.min() == 1
    (face,) = aligned.faces
    assert face.status == "restored" and face.index == 0 and face.face.box == (0, 0, 90, 90) and face.face.score == 1
    assert np.abs(face.face.landmarks.mean(axis=0) / 90 - (0.5, 0.59)).max() < 0.03
    eyes = template_points(restorer.template, 90)[:2]
    assert np.abs(face.face.landmarks[:2] - eyes).max() < 1e-4, "the template's"
    assert len(aligned.crops) == len(aligned.restored) == 1 and aligned.crops[0].shape == (64, 64, 3)


def test_where_to_look_is_kept_to(loaded: Any, tmp_path: Path) -> None:
    two = draw((90, 180), Drawn("left", (45, 45)), Drawn("right", (135, 45)))
    where = np.zeros((90, 180), np.float32)
    where[:, 90:] = 1
    (face,) = made(tmp_path).detect(two.pixels, where=where)
    assert abs(face.centre[0] - 135) < 2


@pytest.mark.parametrize(
    "settings",
    [
        {"detector": "yunet"}, {"detector": "retinaface-r50"}, {"mask": "parsing"}, {"occlusion": "xseg"}, {"min_likeness": 0.3},
        {"background": "realesrgan", "output_size": "factor"},
    ],
    ids=lambda settings: "-".join(map(str, next(iter(settings.items())))),
)  # fmt: skip
@pytest.mark.parametrize("exists", [False, True])
def test_a_missing_file_has_a_place_to_go_to_on_a_new_machine(settings, exists, monkeypatch, tmp_path) -> None:
    """models/GPEN is made by the first download only, and the included model needs none."""
    monkeypatch.setitem(sys.modules, "facexlib.detection.retinaface", SimpleNamespace())
    for owner, need in ((mask, "need_parsing_package"), (module, "need_parser"), (background, "need_realesrgan_package")):
        monkeypatch.setattr(owner, need, lambda *_: None)
    monkeypatch.chdir(tmp_path)
    if exists:
        (tmp_path / "models" / "GPEN").mkdir(parents=True)
    with pytest.raises(WeightsMissingError, match=r"https://github\.com/") as caught:
        FaceRestorer(RestoreOptions(device="cpu", **settings)).prepare()
    assert str(tmp_path / "models" / "GPEN") in str(caught.value)
