"""Choosing one person's faces by a picture: a tiny recogniser in a real .onnx file tells red faces from blue ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import node, save
from option_world import POINTS, Standin, flat
from PIL import Image

from gpen_core import Face, FaceRestorer, RestoreOptions
from gpen_core.errors import PictureError, SettingsError, WeightsError, WeightsMissingError

RED, BLUE, GREY = (200, 40, 40), (40, 40, 200), (120, 120, 120)


class Squares:
    """A detector of red and blue squares."""

    name = "squares"

    def detect(self, picture: np.ndarray, threshold: float) -> list[Face]:
        found = []
        for channel, other in ((0, 2), (2, 0)):
            ys, xs = np.nonzero((picture[..., channel] > 0.6) & (picture[..., other] < 0.4))
            if len(ys):
                box = tuple(float(value) for value in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1))
                side = box[2] - box[0]
                found.append(Face(box, np.float32(POINTS * side + box[:2]), 0.95))
        return found


def squares(*colours: tuple[int, int, int], side: int = 60) -> np.ndarray:
    picture = np.full((100, 100 * len(colours), 3), GREY, np.uint8)
    for number, colour in enumerate(colours):
        picture[20 : 20 + side, 100 * number + 20 : 100 * number + 20 + side] = colour
    return picture


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder `models` with a recogniser whose features are the mean colour."""
    nodes = [node("GlobalAveragePool", ["input"], "mean"), node("Flatten", ["mean"], "output")]
    save(tmp_path / "models" / "insightface" / "w600k_r50.onnx", nodes, (1, 3, 112, 112), {"output": (1, 3)}, {})
    return tmp_path / "models"


def by_path(models: Path, path: str) -> FaceRestorer:
    return FaceRestorer(RestoreOptions(look_closer=False, person=path, device="cpu"), models_dir=models, detector=Squares())  # type: ignore[arg-type]


def restorer(models: Path, person: Any = None, **settings: Any) -> FaceRestorer:
    return FaceRestorer(
        RestoreOptions(look_closer=False, device="cpu", **settings),
        models_dir=models,
        detector=Squares(),  # type: ignore[arg-type]
        network=Standin(64, flat, "", "cpu"),  # type: ignore[arg-type]
        person=person,
    )


def saved(picture: np.ndarray, path: Path) -> str:
    Image.fromarray(picture).save(path)
    return str(path)


def test_only_the_person_is_restored(models: Path) -> None:
    pair = squares(RED, BLUE)
    for colour, own in ((RED, slice(0, 100)), (BLUE, slice(100, 200))):
        changed = restorer(models, person=squares(colour))(pair)
        assert len(changed.faces) == 1
        different = (changed.image != pair).any(axis=(0, 2))
        assert different[own].any() and different.sum() == different[own].sum(), "the other face is untouched"


def test_by_a_file_or_a_picture_it_is_the_same(models: Path, tmp_path: Path) -> None:
    path = saved(squares(BLUE), tmp_path / "with spaces and ü.png")
    pair = squares(RED, BLUE)
    (face,) = by_path(models, f" {path} ").detect(pair)
    assert [face.box] == [one.box for one in restorer(models, Image.open(path)).detect(pair)] and face.box[0] > 100


def test_the_largest_face_of_the_picture_is_the_person(models: Path) -> None:
    both = squares(RED, BLUE)
    both[20:80, 20:80] = GREY
    both[20:50, 20:50] = RED
    (face,) = restorer(models, both).detect(squares(RED, BLUE))
    assert face.box[0] > 100


def test_numbers_count_only_the_person(models: Path) -> None:
    (face,) = restorer(models, squares(BLUE), faces="0", order="left").detect(squares(RED, BLUE))
    assert face.box[0] > 100


def test_a_picture_without_the_person_stays(models: Path) -> None:
    picture = squares(RED)
    result = restorer(models, squares(BLUE))(picture)
    assert result.faces == [] and np.array_equal(result.image, picture)


def test_likeness_decides(models: Path) -> None:
    """A red face and a blue one have a cosine of -0.2 here: nothing reaches them; a darker red is still red."""
    darker = squares((170, 60, 60), BLUE)
    assert len(restorer(models, squares(RED), person_likeness=0.9).detect(darker)) == 1
    assert len(restorer(models, squares(RED), person_likeness=1.0).detect(darker)) == 0


class Untouched:
    """A network that must not be used."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was used")


def test_without_the_recogniser_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "GPEN").mkdir()
    monkeypatch.setattr("gpen_core.network.load.find_model", Untouched().__getattr__)
    path = saved(squares(RED), tmp_path / "person.png")
    missing = by_path(tmp_path, path)
    for use in (missing.prepare, lambda: missing.detect(squares(RED))):
        with pytest.raises(WeightsMissingError, match=r"w600k_r50\.onnx.*") as caught:
            use()
        assert str(tmp_path / "GPEN") in str(caught.value)


def test_a_damaged_recogniser_is_named(models: Path) -> None:
    (models / "insightface" / "w600k_r50.onnx").write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"w600k_r50\.onnx"):
        restorer(models, squares(RED)).prepare()


@pytest.mark.parametrize(("content", "said"), [(None, "no such file"), (b"text", "person.png"), (squares(GREY), "no face was found in '")])
def test_a_picture_that_shows_no_person_is_a_wrong_setting(content: Any, said: str, models: Path, tmp_path: Path) -> None:
    path = tmp_path / "person.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        saved(content, path)
    with pytest.raises(SettingsError, match=r"^person: ") as caught:
        by_path(models, str(path)).prepare()
    assert said in str(caught.value) and "person.png" in str(caught.value)


def test_a_text_in_place_of_a_picture_is_never_read_as_a_path(models: Path, tmp_path: Path) -> None:
    """Hosts hand on what they were given from outside."""
    path = saved(squares(RED), tmp_path / "person.png")
    with pytest.raises(SettingsError, match=r"^person: "):
        restorer(models, path).prepare()
    with pytest.raises(PictureError):
        restorer(models, squares(RED))(path)


def test_an_aligned_face_is_restored_whoever_it_is(tmp_path: Path) -> None:
    picture = squares(RED)
    result = restorer(tmp_path, squares(BLUE), aligned=True)(picture)
    assert [face.status for face in result.faces] == ["restored"], "and no recogniser is needed"
