"""The whole pipeline: with a small seed-made network and given faces where that is enough, with the shipped weights where it is not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from gpen_core import FaceRestorer, Progress, RestoreOptions, RestoreResult
from gpen_core.errors import GpenError, PictureError, SettingsError
from gpen_core.faces.face import Face
from gpen_core.network.build import build_network
from gpen_core.network.modules import Generator
from gpen_core.network.run import run_network
from gpen_core.pictures import read_picture
from gpen_core.steps.align import template_points
from gpen_core.weights.architecture import Architecture

LITE = "GPEN-BFR-256-lite"
PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"


class Painter(torch.nn.Module):
    """Stands in for a network where only the pipeline is looked at: every face becomes one colour."""

    def __init__(self, size: int = 64, colour: Sequence[float] = (0.9, 0.1, 0.2)) -> None:
        super().__init__()
        self.size = size
        self.colour = torch.nn.Parameter(torch.tensor(colour).view(1, 3, 1, 1) * 2 - 1)
        self.seen = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return self.colour.expand(x.shape[0], 3, self.size, self.size)


class Finder:
    """A detector that finds what it was told to."""

    name = "told"

    def __init__(self, faces: Sequence[Face]) -> None:
        self.faces = list(faces)

    def detect(self, picture: np.ndarray, threshold: float) -> list[Face]:
        return [face for face in self.faces if face.score >= threshold]


def face_at(x: float, y: float, side: float, score: float = 0.95) -> Face:
    points = template_points("gpen", 512) / 512 * side + (x, y)
    return Face((x + 0.25 * side, y + 0.2 * side, x + 0.75 * side, y + 0.85 * side), points.astype(np.float32), score)


def noise(shape: Sequence[int], dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def restorer(network: Any = None, progress: Progress | None = None, **settings_: Any) -> FaceRestorer:
    options = RestoreOptions(**{"device": "cpu", **settings_})
    return FaceRestorer(options, network=network or Painter(), detector=Finder([]), progress=progress)


def restore(picture: Any, faces: Sequence[Face], network: Any = None, **settings_: Any) -> RestoreResult:
    return restorer(network, **settings_)(picture, faces=faces)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_untouched_pixels_are_bit_identical(dtype: Any, channels: int) -> None:
    picture = noise((90, 120, channels), dtype)
    before = picture.copy()
    result = restore(picture, [face_at(20, 10, 60)])
    assert result.image.dtype == picture.dtype and result.image.shape == picture.shape
    assert np.array_equal(picture, before), "the picture given in was changed"
    outside = result.mask == 0
    assert np.array_equal(result.image[outside], picture[outside])
    inside = result.mask == 1
    assert inside.any() and not np.array_equal(result.image[inside], picture[inside])
    if channels == 4:
        assert np.array_equal(result.image[..., 3], picture[..., 3])
    assert [face.status for face in result.faces] == ["restored"]
    assert len(result.crops) == len(result.restored) == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(-60, 90), st.floats(-60, 90), st.floats(4, 200), st.booleans(), st.floats(0, 1))
@example(13, 17, 0.0, 0.0, 33.0, False, 0.0)  # its mask rounded to 1.0000001
def test_any_face_anywhere(height: int, width: int, x: float, y: float, side: float, colour_match: bool, fidelity: float) -> None:
    picture = noise((height, width, 3), seed=height * 100 + width)
    result = restore(picture, [face_at(x, y, side)], colour_match=colour_match, fidelity=fidelity)
    assert result.image.shape == picture.shape
    assert 0 <= result.mask.min() <= result.mask.max() <= 1
    assert np.array_equal(result.image[result.mask == 0], picture[result.mask == 0])


def test_strength_0_is_the_identity_and_half_is_between() -> None:
    picture = noise((90, 120, 3), np.float32)
    faces = [face_at(20, 10, 60)]
    assert np.array_equal(restore(picture, faces, strength=0).image, picture)
    half, whole = restore(picture, faces, strength=0.5).image, restore(picture, faces).image
    assert np.allclose(half, (picture + whole) / 2, atol=1e-6)


def test_a_face_can_have_a_strength_of_its_own() -> None:
    """A share of the option's, also after the face was moved to another size."""
    picture = noise((90, 120, 3), np.float32)
    face = face_at(20, 10, 60)
    kept, weak = (replace(face, strength=share) for share in (0, 0.25))
    assert np.array_equal(restore(picture, [kept]).image, picture)
    result = restore(picture, [weak], strength=0.8)
    assert result.faces[0].strength == 0.2 and np.array_equal(result.image, restore(picture, [face], strength=0.2).image)
    assert weak.scaled(2, 2).strength == 0.25


def test_no_face_is_the_identity() -> None:
    picture = noise((60, 50, 4))
    result = restorer()(picture)
    assert result.faces == [] and not result.mask.any()
    assert np.array_equal(result.image, picture)


def test_40_faces_are_all_restored() -> None:
    faces = [face_at(10 + 50 * (n % 8), 10 + 50 * (n // 8), 48) for n in range(40)]
    result = restore(noise((280, 430, 3)), faces)
    assert [face.status for face in result.faces] == ["restored"] * 40
    assert [face.index for face in result.faces] == list(range(40))


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 20000, 3), (20000, 8, 3)])
def test_odd_sizes(shape: tuple[int, int, int]) -> None:
    picture = noise(shape)
    result = FaceRestorer(RestoreOptions(device="cpu"), network=Painter())(picture)  # type: ignore[arg-type]
    assert np.array_equal(result.image, picture)


def test_a_face_cut_by_the_border() -> None:
    picture = np.full((80, 80, 3), 128, np.uint8)
    result = restore(picture, [face_at(-30, -38, 80)])
    assert result.faces[0].status == "restored"
    assert result.mask[0, :20].max() == 1, "the mask ends at the picture's border, it does not fade there"
    assert result.image.shape == picture.shape


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_pil_images_come_back_as_pil_images(mode: str) -> None:
    image = Image.fromarray(noise((64, 64, 3))).convert(mode)
    out = restore(image, [face_at(0, 0, 64)]).image
    assert isinstance(out, Image.Image) and out.size == image.size
    assert out.mode == {"P": "RGB"}.get(mode, mode)


def test_what_is_no_picture_is_refused() -> None:
    for wrong in (np.zeros((4, 4, 7)), np.zeros((0, 5, 3)), np.full((4, 4, 3), np.nan), "text"):
        with pytest.raises(PictureError):
            restorer()(wrong)


class Broken(torch.nn.Module):
    """Gives invalid values (NaN): in half precision only, for the faces named, or always."""

    def __init__(self, half_only: bool = False, faces: Sequence[int] = ()) -> None:
        super().__init__()
        self.size, self.half_only, self.faces, self.calls = 64, half_only, faces, -1
        self.one = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        bad = (x.dtype != torch.float32) if self.half_only else (not self.faces or self.calls in self.faces)
        return x * torch.nan if bad else torch.ones_like(x)


def test_nan_from_the_network_keeps_the_face_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    picture = noise((90, 240, 3))
    faces = [face_at(0, 0, 60), face_at(80, 0, 60), face_at(160, 0, 60)]
    with caplog.at_level(logging.WARNING):
        result = restore(picture, faces, Broken(faces=[1]))
    assert [face.status for face in result.faces] == ["restored", "failed", "restored"]
    assert "invalid values" in result.faces[1].reason and len(caplog.records) == 1
    assert np.array_equal(result.image[:, 85:135], picture[:, 85:135])
    assert len(result.restored) == 2


def test_overflow_in_half_precision_is_computed_again_in_float32() -> None:
    network = Broken(half_only=True).to(torch.bfloat16)
    y = run_network(network, np.zeros((64, 64, 3), np.float32))  # type: ignore[arg-type]
    assert np.array_equal(y, np.ones((64, 64, 3), np.float32))
    assert next(network.parameters()).dtype == torch.bfloat16, "the network is as it was"
    with pytest.raises(GpenError, match="invalid values"):
        run_network(Broken().to(torch.bfloat16), np.zeros((64, 64, 3), np.float32))  # type: ignore[arg-type]


def test_landmarks_that_no_similarity_fits() -> None:
    picture = noise((90, 120, 3))
    odd = Face((10, 10, 50, 50), np.full((5, 2), 30, np.float32), 0.9)
    result = restore(picture, [odd, face_at(50, 10, 60)])
    assert [face.status for face in result.faces] == ["failed", "restored"]
    assert result.faces[0].reason


class Stopper(Progress):
    def __init__(self, after: int, error: BaseException | None = None) -> None:
        self.after, self.error, self.steps = after, error, 0
        self.texts: list[str] = []

    def report(self, done: int, total: int, what: str, preview: np.ndarray | None = None) -> None:
        self.texts.append(what)
        if preview is not None:
            self.steps += 1
            assert preview.shape == (64, 64, 3)
            if self.error is not None and self.steps >= self.after:
                raise self.error

    def stop(self) -> bool:
        return self.error is None and self.steps >= self.after


FACES = [face_at(0, 0, 60), face_at(80, 0, 60), face_at(160, 0, 60)]


def test_stopping_keeps_the_picture_so_far() -> None:
    progress = Stopper(1)
    picture = noise((90, 240, 3))
    result = restorer(progress=progress)(picture, faces=FACES)
    assert result.stopped and [face.status for face in result.faces] == ["restored", "stopped", "stopped"]
    assert not np.array_equal(result.image[:, :60], picture[:, :60])
    assert np.array_equal(result.image[:, 70:], picture[:, 70:])
    assert "face 1/3" in progress.texts


class StopAt(Stopper):
    """Says stop once it was told a text that begins so."""

    def __init__(self, text: str) -> None:
        super().__init__(10**9)
        self.text = text

    def stop(self) -> bool:
        return any(text.startswith(self.text) for text in self.texts)


@pytest.mark.parametrize(
    ("step", "size"), [("looking", "keep"), ("looking", "factor"), ("looking", "native"), ("enlarging", "factor"), ("enlarging", "native")]
)
def test_stopping_before_the_first_face_gives_the_picture_back(step: str, size: str) -> None:
    picture, progress = noise((90, 240, 4)), StopAt(step)
    options = RestoreOptions(device="cpu", output_size=size, look_closer=False)
    result = FaceRestorer(options, network=Painter(), detector=Finder(FACES), progress=progress)(picture)
    assert result.stopped and result.scale == 1 and {face.status for face in result.faces} <= {"stopped"}
    assert np.array_equal(result.image, picture) and result.mask.shape == (90, 240) and not result.mask.any()
    assert not any(text.startswith("face") for text in progress.texts)
    if step == "looking":
        assert not any(text.startswith("enlarging") for text in progress.texts)
    else:
        assert len(result.faces) == 3


def test_stopping_where_no_face_was_found_yet_is_said() -> None:
    result = restorer(progress=StopAt("looking"), output_size="factor")(noise((90, 120, 3)))
    assert result.stopped and result.faces == [] and result.scale == 1


def test_an_aligned_face_can_be_stopped_while_it_is_enlarged() -> None:
    picture = noise((200, 200, 3))  # in several strips
    result = restorer(progress=StopAt("enlarging"), aligned=True, output_size="factor", factor=2)(picture)
    assert result.stopped and [face.status for face in result.faces] == ["stopped"] and np.array_equal(result.image, picture)


def test_a_hosts_interrupt_passes_through() -> None:
    class Interrupt(Exception):
        pass

    with pytest.raises(Interrupt):
        restorer(progress=Stopper(2, Interrupt()))(noise((90, 240, 3)), faces=FACES)


def test_output_sizes_keep_alpha_and_place() -> None:
    picture = np.zeros((60, 80, 4), np.uint8)
    picture[..., 3] = np.linspace(0, 255, 80).astype(np.uint8)
    face = face_at(20, 10, 32)
    result = restore(picture, [face], output_size="factor", factor=2)
    assert result.image.shape == (120, 160, 4) and result.scale == 2
    assert abs(int(result.image[60, 150, 3]) - int(picture[30, 75, 3])) < 8
    rows, columns = np.nonzero(result.mask)
    small = restore(picture, [face]).mask
    assert abs((columns.mean() + 0.5) / 2 - 0.5 - np.nonzero(small)[1].mean()) < 0.3
    assert abs((rows.mean() + 0.5) / 2 - 0.5 - np.nonzero(small)[0].mean()) < 0.3
    native = restore(picture, [face], output_size="native")
    # A face of 32 pixels restored at 64 is shown at 64: every pixel of the network arrives.
    assert native.scale == pytest.approx(2, rel=0.02)


def test_native_shows_every_pixel_of_the_network() -> None:
    """Stripes one pixel wide, drawn by the network, are gone when pasted small and there when pasted natively."""

    class Stripes(Painter):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.arange(self.size) % 2 * 2.0 - 1.0).expand(1, 3, self.size, self.size) * self.colour.new_ones(1)

    picture = np.full((60, 60, 3), 0.5, np.float32)
    # A quarter of a pixel brings the network's pixels onto those of the picture enlarged twice.
    face = face_at(14.25, 14.25, 32)
    keep = restore(picture, [face], Stripes()).image[24:34, 24:34]
    native = restore(picture, [face], Stripes(), output_size="native").image[48:68, 48:68]
    assert keep.std() < 0.2 < 0.35 < native.std()


def test_a_batch_is_its_pictures_one_by_one() -> None:
    network = seeded_network()
    together = FaceRestorer(RestoreOptions(device="cpu"), network=network, detector=Finder([]))
    for seed in (1, 2, 3, 1):
        picture, faces = noise((80, 80, 3), seed=seed), [face_at(5, 5, 60 + seed)]
        alone = FaceRestorer(RestoreOptions(device="cpu"), network=network, detector=Finder([]))(picture, faces=faces).image
        assert np.array_equal(together(picture, faces=faces).image, alone)


def seeded_network() -> Generator:
    torch.manual_seed(5)
    return Generator(Architecture(64, 2, 0.125)).eval()


def test_aligned_face_is_the_network_on_the_whole_picture(golden_folder: Path, recipe: ModuleType) -> None:
    shapes = recipe.gpen_shapes(64, 2, 0.125)
    network = build_network({key: torch.from_numpy(np.array(value)) for key, value in recipe.make_state_dict(shapes).items()})
    bgr = recipe.make_image(64)
    golden = np.load(golden_folder / "net_64n0.125.npz")["full"][0].transpose(1, 2, 0)
    wanted = np.clip(golden * 0.5 + 0.5, 0, 1)
    picture = np.ascontiguousarray(bgr[..., ::-1])
    result = restore(picture.astype(np.float32) / 255, [], network, aligned=True)
    assert np.abs(result.image - wanted).max() <= 2e-5
    assert result.faces[0].status == "restored" and result.mask.min() == 1
    again = restore(picture, [], network, aligned=True).image
    assert np.abs(again.astype(int) - np.rint(wanted * 255).astype(int)).max() <= 1


def test_settings_are_checked_before_any_work(tmp_path: Path) -> None:
    wrong = {"strength": 1.5, "fidelity": -0.1, "threshold": 0, "max_faces": -1, "order": "biggest", "faces": "x", "factor": 99}
    for name, value in wrong.items():
        with pytest.raises(SettingsError, match=name):
            RestoreOptions(**{name: value})
    with pytest.raises(SettingsError, match="did you mean"):
        RestoreOptions.from_mapping({"strenght": 1})
    with pytest.raises(SettingsError, match="lite"):
        FaceRestorer(RestoreOptions(model="GPEN-BFR-256-light", device="cpu"), models_dir=tmp_path).prepare()
    with pytest.raises(SettingsError, match="device"):
        FaceRestorer(RestoreOptions(model=LITE, device="cuda:77"), models_dir=tmp_path).prepare()


def test_options_round_trip() -> None:
    options = RestoreOptions(strength=0.5, order="left")
    assert options.changed() == {"strength": 0.5, "order": "left"}
    assert RestoreOptions.from_mapping(options.changed()) == options
    assert RestoreOptions.from_mapping({"strength": "0.5", "order": "left", "look_closer": "yes"}) == options
    assert replace(options, strength=1.0, order="largest") == RestoreOptions()


def test_shipped_weights_restore_the_example() -> None:
    picture = read_picture(PORTRAIT)
    found = FaceRestorer(RestoreOptions(model=LITE, device="cpu"))
    result = found(picture)
    assert [face.status for face in result.faces] == ["restored"] and found.model_name == LITE
    assert result.image.pixels.shape == picture.pixels.shape
    outside = result.mask == 0
    assert np.array_equal(result.image.pixels[outside], picture.pixels[outside])
    # It repairs, it does not repaint: the face's coarse structure is the one that was there.
    before, after = (cv2.GaussianBlur(p, (0, 0), 6) for p in (picture.pixels, result.image.pixels))
    assert np.abs(before - after).max() < 0.1
