"""Colourising and inpainting in whole photographs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_faces_together import Told
from test_restorer import Finder, face_at, noise

from gpen_core import Progress
from gpen_core.errors import PictureError, SettingsError, WeightsMissingError
from gpen_core.faces.face import Face
from gpen_core.network.load import find_model
from gpen_core.options import RestoreOptions
from gpen_core.pictures import read_picture
from gpen_core.restore.restorer import FaceRestorer
from gpen_core.restore.tasks import NEUTRAL, TaskRestorer
from gpen_core.task_options import FACE_TASKS, TaskOptions

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
LUMA = np.array([0.299, 0.587, 0.114])
FACES = (face_at(10, 10, 60), face_at(100, 20, 50))


class Network(torch.nn.Module):
    """Stands in for both networks: tints what it sees, or paints it. Keeps what it was shown, (S, S, 3) 0..1."""

    def __init__(self, paint: Any = None, size: int = 64) -> None:
        super().__init__()
        self.size, self.paint = size, paint
        self.one = torch.nn.Parameter(torch.ones(1))
        self.seen: list[np.ndarray] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += [one.permute(1, 2, 0).numpy() * 0.5 + 0.5 for one in x]
        if self.paint is None:
            return x + torch.tensor([0.4, 0.0, -0.4]).view(1, 3, 1, 1)
        return torch.tensor(self.paint, dtype=torch.float32).view(1, 3, 1, 1).expand(x.shape) * 2 - 1


def worker(task: Any, network: Any = None, there: Any = FACES, progress: Progress | None = None, **settings: Any) -> TaskRestorer:
    options = TaskOptions.from_mapping(task, {"device": "cpu", "look_closer": False, **settings})
    return TaskRestorer(options, network=network or Network(), detector=Finder(there), progress=progress)


def grey_picture(dtype: Any = np.uint8, channels: int = 0) -> np.ndarray:
    shape = (100, 160, *((channels,) if channels else ()))
    picture = noise(shape, dtype)
    if channels >= 3:
        picture[..., 1:3] = picture[..., :1]
    return picture


# --- colourising -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_faces_get_colours_and_keep_their_luma(dtype: Any, channels: int) -> None:
    picture = grey_picture(dtype, channels)
    result = worker("colorize")(picture)
    assert result.image.dtype == dtype and result.image.shape == (100, 160, max(3, channels))
    grey = picture[..., :3] if channels else picture[..., None]
    outside = result.mask == 0
    assert outside.any() and np.array_equal(result.image[outside][:, :3], np.broadcast_to(grey, (100, 160, 3))[outside])
    full = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1.0
    luma = result.image[..., :3].astype(np.float64) @ LUMA
    assert np.abs(luma - grey[..., 0]).max() <= (0.501 if full > 1 else 1e-6)
    inside = result.image[result.mask == 1][:, :3].astype(np.float64)
    assert np.median(inside[:, 0] - inside[:, 2]) > 0.1 * full
    assert len(result.faces) == 2 and {face.status for face in result.faces} == {"restored"}
    if channels == 4:
        assert np.array_equal(result.image[..., 3], picture[..., 3])


def test_the_network_sees_grey_and_the_rest_is_grey_if_wanted() -> None:
    picture = noise((100, 160, 3), np.float32)
    network = Network()
    kept, grey = worker("colorize", network)(picture), worker("colorize", rest="grey")(picture)
    assert len(network.seen) == 2 and all(np.abs(seen - seen[..., :1]).max() < 1e-6 for seen in network.seen)
    assert np.array_equal(kept.image[kept.mask == 0], picture[kept.mask == 0])
    rest = grey.image[grey.mask == 0]
    assert np.abs(rest - (picture @ LUMA)[grey.mask == 0][:, None]).max() < 1e-6
    whole = kept.mask == 1
    assert np.abs(grey.image[whole] - kept.image[whole]).max() < 1e-5, "the faces are the same"


def test_between_face_and_rest_there_is_no_grey_rim() -> None:
    """The picture's own colours fade into the face's, not by way of grey."""
    picture = np.broadcast_to(np.array([0.6, 0.5, 0.4], np.float32), (100, 160, 3)).copy()
    result = worker("colorize", Network())(picture)
    strength = result.image[..., 0] - result.image[..., 2]
    assert strength.min() > 0.19


def test_no_face_is_the_identity_or_all_grey() -> None:
    picture = noise((40, 50, 4))
    assert np.array_equal(worker("colorize", there=[])(picture).image, picture)
    grey = worker("colorize", there=[], rest="grey")(picture).image
    assert np.abs(grey[..., :3] - picture[..., :3].astype(float) @ LUMA[:, None]).max() <= 0.501
    assert np.array_equal(grey[..., 3], picture[..., 3])


def test_a_grey_pil_picture_becomes_rgb_and_keeps_its_exif() -> None:
    picture = Image.fromarray(grey_picture())
    exif = Image.Exif()
    exif[0x010E] = "Ann, 1901"
    picture.info["exif"] = exif.tobytes()
    result = worker("colorize")(picture).image
    assert result.mode == "RGB" and b"Ann, 1901" in result.info["exif"]


# --- inpainting ------------------------------------------------------------------------------------------------------


def hole_in(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """boxes: (top, bottom, left, right)."""
    hole = np.zeros(shape, np.float32)
    for top, bottom, left, right in boxes:
        hole[top:bottom, left:right] = 1
    return hole


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_only_holes_change_and_only_faces_with_holes_are_computed(dtype: Any, channels: int) -> None:
    picture = noise((100, 160, *((channels,) if channels else ())), dtype)
    hole = hole_in((100, 160), (30, 44, 25, 60))
    network = Network((0.25, 0.25, 0.25))
    result = worker("inpaint", network, feather=0)(picture, hole=hole)
    assert result.image.dtype == dtype and result.image.shape == picture.shape
    assert np.array_equal(result.image[hole == 0], picture[hole == 0])
    full = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1.0
    filled = result.image[hole == 1].reshape(14 * 35, -1)[:, :3]
    assert np.abs(filled / full - 0.25).max() <= 0.5 / full + 1e-6
    assert len(network.seen) == len(result.faces) == 1 and np.array_equal(result.mask, hole)
    assert result.faces[0].face.box == FACES[0].box and network.seen[0][30, 30].min() > 0.99, "a hole is shown as white"
    if channels == 4:
        assert np.array_equal(result.image[..., 3], picture[..., 3])


def test_a_soft_hole_is_blended_by_its_mask() -> None:
    picture = noise((100, 160, 3), np.float32)
    hole = hole_in((100, 160), (30, 44, 25, 60)) * np.float32(0.5)
    result = worker("inpaint", Network((0.25, 0.25, 0.25)), feather=0)(picture, hole=hole)
    assert np.abs(result.image[hole > 0] - (picture[hole > 0] + 0.25) / 2).max() < 1e-6
    assert np.array_equal(result.image[hole == 0], picture[hole == 0])


def test_the_border_of_a_hole_is_soft() -> None:
    picture = np.full((300, 300, 3), 0.6, np.float32)
    hole = hole_in((300, 300), (100, 180, 110, 190))
    face = face_at(20, 20, 256)
    steps = {}
    for feather in (0.0, 0.5, 1.0):
        image = worker("inpaint", Network((0.3, 0.3, 0.3), 256), [face], feather=feather)(picture, hole=hole).image
        assert np.array_equal(image[hole == 0], picture[hole == 0])
        steps[feather] = float(np.abs(np.diff(image[140, :, 0])).max())
    assert steps[0.0] > 0.29 and steps[1.0] < steps[0.5] < 0.06


def test_a_hole_in_two_squares_is_filled_by_the_nearer_face() -> None:
    left, right = face_at(10, 10, 80), face_at(50, 10, 80)
    hole = hole_in((100, 160), (45, 55, 60, 66), (45, 55, 73, 79))
    paints = iter([0.2, 0.8])

    class Each(Network):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, next(paints) * 2 - 1)

    image = worker("inpaint", Each(), [left, right], order="left", feather=0)(np.full((100, 160, 3), 0.5, np.float32), hole=hole).image
    assert abs(image[50, 63, 0] - 0.2) < 1e-6 and abs(image[50, 76, 0] - 0.8) < 1e-6


def test_holes_outside_all_faces_stay_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    picture, hole = noise((100, 160, 3)), hole_in((100, 160), (30, 40, 30, 50), (90, 100, 80, 90))
    with caplog.at_level(logging.WARNING, "gpen_core"):
        result = worker("inpaint")(picture, hole=hole)
    assert "part of the hole is in no face" in caplog.text
    assert np.array_equal(result.image[90:, 80:90], picture[90:, 80:90]) and result.mask[90:].max() == 0
    caplog.clear()
    nowhere = worker("inpaint", there=[])(picture, hole=hole)
    assert np.array_equal(nowhere.image, picture) and nowhere.faces == [] and "in no face" in caplog.text


def test_white_in_a_face_is_a_hole_and_a_white_wall_is_none() -> None:
    picture = np.full((220, 300, 3), 0.5, np.float32)
    picture[:, 236:] = 1  # a wall, up to the face and beyond
    picture[20:40, 20:40] = 1  # outside the faces
    picture[100:112, 150:230] = 1
    face = face_at(90, 20, 200)
    network = Network((0.2, 0.2, 0.2), 128)
    result = worker("inpaint", network, [face], feather=0)(picture)
    changed = (result.image != picture).any(axis=2)
    assert changed[100:112, 150:230].all() and changed.sum() == changed[97:115, 147:233].sum()
    assert worker("inpaint", Network(size=128), [face])(np.full((220, 300, 3), 0.5, np.float32)).faces == []


@pytest.mark.parametrize("given", [True, False])
def test_a_face_is_found_though_a_hole_hides_its_eyes(given: bool) -> None:
    source = read_picture(PORTRAIT)
    finder = FaceRestorer(RestoreOptions(model="GPEN-BFR-256-lite", device="cpu"))
    (face,) = finder.detect(source)
    (x0, y0), (x1, y1) = face.landmarks[:2]
    wide = x1 - x0
    rows, columns = slice(round(y0 - wide), round(y1 + 0.9 * wide)), slice(round(x0 - 0.7 * wide), round(x1 + 0.7 * wide))
    hole = np.zeros(source.pixels.shape[:2], np.float32)
    hole[rows, columns] = 1
    broken = source.with_pixels(np.where(hole[..., None] > 0, np.float32(1), source.pixels))
    assert finder.detect(broken) == [], "the hole hides too little for this test"
    options = TaskOptions.from_mapping("inpaint", {"device": "cpu"})
    result = TaskRestorer(options, network=Network((0.5, 0.4, 0.3), 128))(broken, hole=hole if given else None)
    assert [face.status for face in result.faces] == ["restored"] and result.mask[rows, columns].mean() > 0.9


# --- both ------------------------------------------------------------------------------------------------------------


class Failing(Network):
    """Fails for the face whose crop is brighter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = super().forward(x)
        return torch.where(x.mean() > 0.3, torch.nan, made)


@pytest.mark.parametrize("task", FACE_TASKS)
@pytest.mark.parametrize("official", [False, True])
def test_a_face_that_fails_keeps_the_picture(task: Any, official: bool) -> None:
    picture = noise((100, 160, 3)) // 2
    picture[:, 80:] = 230
    hole = hole_in((100, 160), (30, 40, 30, 50), (40, 50, 110, 130))
    result = worker(task, Failing(), official=official)(picture, hole=hole if task == "inpaint" else None)
    assert [face.status for face in result.faces] == ["restored", "failed"] and "NaN" in result.faces[1].reason
    assert np.array_equal(result.image[:, 90:], picture[:, 90:])
    assert not np.array_equal(result.image[:, :80], picture[:, :80])


@pytest.mark.parametrize("task", FACE_TASKS)
@pytest.mark.parametrize("aligned", [False, True])
def test_who_stops_keeps_the_picture(task: Any, aligned: bool) -> None:
    class Stop(Progress):
        def stop(self) -> bool:
            return True

    picture = noise((100, 160, 3))
    result = worker(task, progress=Stop(), aligned=aligned)(picture, faces=FACES, hole=hole_in((100, 160), (30, 40, 30, 50)))
    assert result.stopped and np.array_equal(result.image, picture) and result.faces[0].status == "stopped"
    assert result.faces[0].index == 0 and result.mask.shape == (100, 160) and not result.mask.any()


@pytest.mark.parametrize("task", FACE_TASKS)
def test_an_aligned_face_is_not_looked_for(task: Any) -> None:
    class Nobody(Finder):
        def detect(self, picture: np.ndarray, threshold: float) -> list[Any]:
            raise AssertionError("a detector was asked")

    options = TaskOptions.from_mapping(task, {"device": "cpu", "aligned": True})
    picture, hole = noise((100, 160, 3), np.float32) * np.float32(0.9), hole_in((100, 160), (2, 10, 2, 10))
    told = Told()
    result = TaskRestorer(options, network=Network(), detector=Nobody([]), progress=told)(picture, hole=hole if task == "inpaint" else None)
    only = result.faces[0]
    assert (only.face.box, only.index, only.status, only.strength) == ((0, 0, 160, 100), 0, "restored", 1.0)
    assert told.said[-1] == (1, 1, "face 1/1", True), "with a preview"
    changed = (result.image != picture).any(axis=2)
    assert np.array_equal(result.mask, changed)
    assert changed[2:10, 2:10].all() and changed.all() == (task == "colorize")


@pytest.mark.parametrize("task", FACE_TASKS)
@pytest.mark.parametrize(
    ("settings", "left", "right"),
    [
        ({}, True, True),
        ({"faces": "1"}, False, True),
        ({"order": "right", "max_faces": 1}, False, True),
        ({"max_size": 28}, False, True),
        ({"threshold": 0.96}, False, False),
    ],
)
def test_faces_are_chosen_as_for_restoring(task: Any, settings: dict[str, Any], left: bool, right: bool) -> None:
    picture = noise((100, 160, 3), np.float32)
    hole = hole_in((100, 160), (30, 40, 30, 50), (40, 50, 110, 130))
    image = worker(task, order=settings.get("order", "left"), **{k: v for k, v in settings.items() if k != "order"})(
        picture, hole=hole if task == "inpaint" else None
    ).image
    assert ((image[:, :90] != picture[:, :90]).any(), (image[:, 90:] != picture[:, 90:]).any()) == (left, right)


def test_a_hole_of_another_size_is_refused() -> None:
    with pytest.raises(PictureError, match="10x10 pixels, the picture 160x100"):
        worker("inpaint")(noise((100, 160, 3)), hole=np.zeros((10, 10), np.float32))


@pytest.mark.parametrize(
    ("task", "settings", "told"),
    [
        ("colorize", {"strength": 0.5}, "strength"),
        ("colorize", {"output_size": "factor"}, "output_size"),
        ("colorize", {"strength": 1.0}, "strength"),
        ("inpaint", {"preset": "none"}, "preset"),
        ("colorize", {"rest": "gray"}, "grey"),
        ("colorize", {"resst": "grey"}, "resst"),
        ("inpaint", {"rest": "grey"}, "rest"),
        ("inpaint", {"mask": "parsing"}, "mask"),
        ("inpaint", {"official": "perhaps"}, "official"),
        ("seg2face", {}, "seg2face"),
    ],
)
def test_settings_that_do_not_apply_are_refused(task: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        TaskOptions.from_mapping(task, settings)


def test_options_made_for_restoring_are_refused_too() -> None:
    with pytest.raises(SettingsError, match="strength"):
        TaskOptions("colorize", RestoreOptions(strength=0.5))
    with pytest.raises(SettingsError, match="mask"):
        TaskOptions("inpaint", RestoreOptions(mask="parsing"))
    with pytest.raises(SettingsError, match="rest"):
        TaskOptions("inpaint", rest="grey")


@pytest.mark.parametrize("task", FACE_TASKS)
def test_the_table_is_what_is_taken(task: Any) -> None:
    table = TaskOptions.table(task)
    values = {option.name: option.default for option in table}
    assert TaskOptions.from_mapping(task, values) == TaskOptions(task) and TaskOptions(task).changed() == {}
    changed = TaskOptions.from_mapping(task, {**values, "official": True, "threshold": 0.5}).changed()
    assert changed == {"official": True, "threshold": 0.5}
    # Every way in which restoring changes a face is settled: a new one must be thought about here.
    assert set(NEUTRAL) == {option.name for option in RestoreOptions.of("look")}
    assert set(values) <= {option.name for option in RestoreOptions.table()} | {"rest", "official"}


@pytest.mark.parametrize(("task", "name"), [("colorize", "GPEN-Colorization-1024"), ("inpaint", "GPEN-Inpainting-1024")])
def test_auto_is_the_tasks_own_model(task: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=name):
        find_model("auto", tmp_path, task=task, offline=True)


def test_a_colourised_face_is_pasted_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise((100, 160, 3), np.float32)
    hard, soft = (worker("colorize", feather=feather)(picture).mask.sum() for feather in (0.0, 1.0))
    assert soft < hard
    monkeypatch.setattr("gpen_core.steps.mask.need_parsing_package", lambda: None)
    monkeypatch.setattr("gpen_core.steps.mask.load_parsenet", lambda *_: lambda face: np.zeros((512, 512), np.uint8))
    assert worker("colorize", mask="parsing")(picture).mask.max() == 0, "ParseNet sees only background"


@pytest.mark.parametrize(("task", "name"), [("colorize", "GPEN-Colorization-1024"), ("inpaint", "GPEN-Inpainting-1024")])
def test_a_restorer_asks_for_its_tasks_own_model(task: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    with pytest.raises(WeightsMissingError, match=name):
        TaskRestorer(TaskOptions(task), models_dir=tmp_path).prepare()


@pytest.mark.parametrize("task", FACE_TASKS)
def test_nothing_of_the_old_face_comes_back(task: Any) -> None:
    """Neither its coarse tone nor its detail, as some settings of restoring would bring back."""
    picture = np.clip(noise((200, 200, 3), np.float32) * np.linspace(0.2, 1, 200, dtype=np.float32)[:, None, None], 0, 0.9)
    hole = np.ones((200, 200), np.float32)
    result = worker(task, Network(paint=(0.5, 0.4, 0.3)), official=True)(
        picture, faces=[face_at(30, 30, 140)], hole=hole if task == "inpaint" else None
    )
    inside = result.mask > 0.999
    assert inside.sum() > 1000 and np.abs(result.image[inside] - (0.5, 0.4, 0.3)).max() < 0.01


@pytest.mark.parametrize("hole", [True, False])
def test_a_face_with_landmarks_that_no_head_has_fails_alone(hole: bool) -> None:
    odd = Face((100, 20, 150, 70), np.zeros((5, 2), np.float32) + 125, 0.95)
    picture = noise((100, 160, 3)) // 2
    picture[30:40, 35:45] = 255
    given = hole_in((100, 160), (30, 40, 35, 45)) if hole else None
    result = worker("inpaint", there=())(picture, faces=[FACES[0], odd], hole=given)
    assert [face.status for face in result.faces] == ["restored", "failed"] and result.faces[1].reason
    assert (result.image[31:39, 36:44] != picture[31:39, 36:44]).any() and np.array_equal(result.image[:, 100:], picture[:, 100:])
