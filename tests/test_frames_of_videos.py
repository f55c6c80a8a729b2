"""Frames of videos and animations whose faces share batches, on the tests' emulated card. See test_frames_together."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from emulated_card import NAME, Card
from PIL import Image
from test_card_trouble import LOST
from test_faces_together import SIZE, Tinter
from test_frames_together import TEN, all_same, alone, restorer, results
from test_fused import lively
from test_restorer import face_at
from test_sequence import clip, flicker
from video_files import FRAMES, make_video, read_video

from gpen_core import Progress
from gpen_core.batch.run import plan_outputs, run_batch
from gpen_core.errors import DeviceError, PictureError
from gpen_core.network import run
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.pictures import read_frames
from gpen_core.steps.guards import Guards, KeptError
from gpen_core.video import restored
from gpen_core.video.restore import restore_video
from gpen_core.weights.architecture import Architecture


class OnCard(FusedGenerator):
    """Tinter as a network whose memory is known."""

    def __init__(self, device: str = NAME) -> None:
        torch.nn.Module.__init__(self)
        self.architecture = Architecture(SIZE, 1, 1 / 16)
        self.one = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.to(device)

    def forward(self, x: torch.Tensor, tiled: bool | None = None, ask: Callable[[], object] | None = None) -> torch.Tensor:
        return x * 0.5


@pytest.fixture
def room(card: Card, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], OnCard]:
    """A network on the card, which has memory for so many faces, and counts from zero."""

    def there(faces: int) -> OnCard:
        network = OnCard()
        needed = run.LIVE_MAPS * Architecture(SIZE, 1, 1 / 16).channels(SIZE) * SIZE**2 * 4
        monkeypatch.setattr(run, "free_memory", lambda device: 2 * faces * needed + 1)  # half of it is for a batch
        card.reset()
        return network

    return there


def test_the_network_itself_makes_the_same_on_a_card(card: Card, room: Callable[[int], OnCard]) -> None:
    plain = lively(Architecture(SIZE, 1, 1 / 16))
    expected = alone(restorer(FusedGenerator(plain)), TEN[:5])
    network = place(FusedGenerator(plain), NAME)
    before = card.alive
    room(4)
    all_same(results(restorer(network), TEN[:5]), expected)
    assert (card.uploads, card.downloads, card.syncs) == (2, 2, 0) and card.alive == before


def video(tmp_path: Path, network: Any, progress: Progress | None = None, **options: Any) -> tuple[Any, Any]:
    """(what restore_video says, what it wrote)"""
    source = tmp_path / "in.mkv"
    if not source.exists():
        make_video(source, size=(128, 96))
    of = restorer(network, finds=[face_at(30, 10, 56)], **options)
    result = restore_video(source, tmp_path / "out.mkv", of, overwrite=True, crf=0, progress=progress)
    return result, read_video(tmp_path / "out.mkv")


def frames_differ(one: Any, other: Any) -> list[bool]:
    return [bool(np.abs(a.astype(int) - b).max() > 1) for a, b in zip(one.pixels, other.pixels, strict=True)]


@pytest.mark.parametrize(("faces", "batches"), [(8, 2), (2, 6), (1, 12)])
def test_frames_of_a_video_go_up_and_come_down_together(
    card: Card, room: Callable[[int], OnCard], tmp_path: Path, faces: int, batches: int
) -> None:
    expected, here = video(tmp_path, OnCard("cpu"))
    network = room(faces)
    before = card.alive
    result, there = video(tmp_path, network)
    gc.collect()
    assert (card.uploads, card.downloads, card.syncs) == (batches, batches, 0) and card.alive == before
    assert (result.frames, result.kept, result.faces) == (FRAMES, 0, expected.faces)
    assert there.times == here.times and there.streams == here.streams and not any(frames_differ(there, here))
    assert any(frames_differ(there, read_video(tmp_path / "in.mkv")))


@pytest.mark.parametrize(("steady", "lost_at", "settled"), [(0.0, 6, 8), (1.0, 2, 4)])  # 4 frames earlier, 4 more are made
def test_a_card_that_is_lost_in_a_video_leaves_the_rest_as_it_was(
    card: Card, room: Callable[[int], OnCard], tmp_path: Path, steady: float, lost_at: int, settled: int
) -> None:
    _, here = video(tmp_path, OnCard("cpu"), steady=steady)
    network = room(4)

    class Losing(Progress):
        def report(self, done: int, total: int, what: str, preview: np.ndarray | None = None) -> None:
            if done == lost_at:
                card.fail_operation = lambda name: RuntimeError(LOST)

    result, there = video(tmp_path, network, Losing(), steady=steady)
    assert (result.frames, result.kept, len(result.faces)) == (FRAMES, 4, 8)
    assert not any(frames_differ(there, here)[:settled]) and all(frames_differ(there, here)[8:])
    assert not any(frames_differ(there, read_video(tmp_path / "in.mkv"))[8:])
    with pytest.raises(PictureError, match="no frame could be restored") as caught:
        video(tmp_path, network)
    assert isinstance(caught.value.__cause__, DeviceError)


def test_memory_that_runs_out_in_a_video_halves_a_batch(
    card: Card, room: Callable[[int], OnCard], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, here = video(tmp_path, OnCard("cpu"))
    network = room(8)
    with card.out_of_memory_at(2):
        result, there = video(tmp_path, network)
    assert result.kept == 0 and not any(frames_differ(there, here)) and card.uploads == 4, "8, 4, 4, 4"
    assert caplog.text.count("trying again with 4 at once") == 1


@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_a_stop_in_a_video_keeps_frames_that_are_done(room: Callable[[int], OnCard], tmp_path: Path, stop_at: int, ahead: int) -> None:
    """ahead: frames whose faces are made before one is written."""

    class Stopping(Progress):
        done = 0

        def report(self, done: int, total: int, what: str, preview: np.ndarray | None = None) -> None:
            self.done = done

        def stop(self) -> bool:
            return self.done >= stop_at

    steady = 1.0 if ahead else 0.0
    _, here = video(tmp_path, OnCard("cpu"), steady=steady)
    result, there = video(tmp_path, room(4), Stopping(), steady=steady)
    batches = -(-(stop_at + ahead) // 4) * 4
    assert (result.frames, result.kept, len(result.faces)) == (FRAMES, 0, batches)
    unchanged = [not differs for differs in frames_differ(there, read_video(tmp_path / "in.mkv"))]
    assert unchanged == [False] * batches + [True] * (FRAMES - batches) and there.times == here.times
    steadied = batches - ahead if batches < FRAMES else FRAMES  # by all their neighbours
    assert not any(frames_differ(there, here)[:steadied])


def test_one_frame_of_a_video_that_fails_is_unchanged(
    at_once: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once(8)
    real, read = restored.upright, []

    def upright(*given: Any) -> Any:
        read.append(1)
        if len(read) in (1, 5):
            raise ValueError("no such layout")
        return real(*given)

    monkeypatch.setattr(restored, "upright", upright)
    result, there = video(tmp_path, Tinter())
    assert (result.frames, result.kept) == (FRAMES, 2)
    assert [face["frame"] for face in result.faces] == [n for n in range(FRAMES) if n not in (0, 4)]
    assert [not changed for changed in frames_differ(there, read_video(tmp_path / "in.mkv"))] == [n in (0, 4) for n in range(FRAMES)]


def test_the_json_of_a_video_counts_frames_that_failed_and_those_with_a_kept_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "in.mkv", size=(128, 96))
    real, read = restored.upright, []

    def upright(*given: Any) -> Any:
        read.append(1)
        if len(read) == 5:
            raise ValueError("no such layout")
        return real(*given)

    class Strict(Guards):
        def check(self, *given: Any) -> None:
            if len(read) % 3 == 0:
                raise KeptError("another face")

    monkeypatch.setattr(restored, "upright", upright)
    of = restorer(Tinter(), finds=[face_at(30, 10, 56), face_at(40, 12, 56)], steady=0.0)
    of.prepare()
    of._guards = Strict()
    (result,) = run_batch(plan_outputs([tmp_path / "in.mkv"], tmp_path / "out.mkv"), of)
    said = result.to_json()
    assert (said["frames"], said["frames_failed"], said["frames_kept"], said["cut"]) == (FRAMES, 1, 4, False)


@pytest.mark.parametrize(("name", "steadied"), [("a.webp", True), ("a.png", True), ("a.tiff", False)])
def test_animations_are_steadied_and_pages_are_not(tmp_path: Path, name: str, steadied: bool) -> None:
    frames = [Image.fromarray((picture * 255).astype(np.uint8)) for picture in clip(6)]
    more: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **more)
    made = []
    for steady in (0.0, 1.0):
        (result,) = run_batch(plan_outputs([tmp_path / name], tmp_path / f"out{steady:g}"), restorer(Tinter(), steady=steady))
        assert result.error is None and result.frames == 6 and result.output
        made.append(np.stack([picture.pixels for picture, _ in read_frames(result.output)]))
    assert flicker(made[1]) < 0.5 * flicker(made[0]) if steadied else np.array_equal(*made)


def animation(path: Path) -> Path:
    frames = [Image.fromarray((picture * 255).astype(np.uint8)) for picture in TEN]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[30 + 10 * n for n in range(10)], loop=0, lossless=True)
    return path


def test_frames_of_an_animation_share_batches(at_once: Callable[[int], None], tmp_path: Path) -> None:
    source = animation(tmp_path / "a.webp")
    (single,) = run_batch(plan_outputs([source], tmp_path / "alone"), restorer(Tinter()))
    at_once(8)
    network = Tinter()
    (result,) = run_batch(plan_outputs([source], tmp_path / "out"), restorer(network), faces_dir=tmp_path / "faces")
    assert result.error is None and result.faces == single.faces and result.frames == 10 and single.output and result.output
    assert result.output.read_bytes() == single.output.read_bytes()
    assert len(list((tmp_path / "faces").iterdir())) == 20
    assert network.sizes == [8, 2]
