"""How the shipped weights are made: the start, the damage, a short training, resuming, export. On faces drawn here."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gpen_core import load_network
from gpen_core.network.architecture import Architecture
from training.degrade import FIXED, Damage, random_damage, spoil
from training.export import export
from training.faces import FaceFile, decoded, list_faces
from training.start import identity_generator
from training.train import Plan, SpoiltFaces, Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four simple faces."""
    folder = tmp_path_factory.mktemp("Gesichter ä")
    rng = np.random.default_rng(1)
    for n in range(24):
        face = np.full((64, 64, 3), rng.integers(0, 120, 3), np.uint8)
        cv2.ellipse(face, (32, 34), (20, 26), 0, 0, 360, rng.integers(120, 255, 3).tolist(), -1)
        for x in (24, 40):
            cv2.circle(face, (x, 28), int(rng.integers(2, 5)), (20, 20, 20), -1)
        cv2.ellipse(face, (32, 46), (8, int(rng.integers(1, 5))), 0, 0, 360, (40, 30, 150), -1)
        (folder / f"face{n}.png").write_bytes(cv2.imencode(".png", face)[1].tobytes())
    return folder


def test_training_starts_from_the_identity() -> None:
    for architecture in (Architecture(64, 1, 0.25), Architecture(128, 2, 0.125)):
        network = identity_generator(architecture, seed=3)
        x = torch.rand(2, 3, architecture.size, architecture.size) * 2 - 1
        with torch.no_grad():
            assert (network(x) - x).abs().max() < 2e-5


def test_damage_is_the_same_for_the_same_seed_and_grows(folder: Path) -> None:
    good = np.kron(np.random.default_rng(0).integers(0, 255, (32, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    errors = []
    for damage in (Damage(), *FIXED.values()):
        first, second = (spoil(good, damage, np.random.default_rng(5)) for _ in range(2))
        assert np.array_equal(first, second) and first.shape == good.shape and first.dtype == np.uint8
        errors.append(float(np.abs(first.astype(int) - good).mean()))
    assert errors[0] == 0 and errors == sorted(errors)
    for n in range(40):
        assert spoil(good, random_damage(np.random.default_rng(n)), np.random.default_rng(n)).shape == good.shape


def test_held_out_people_are_never_trained_on(folder: Path, tmp_path: Path) -> None:
    faces = [FaceFile(folder, f"someone{n}.png") for n in range(200)]
    pixels = np.zeros((200, 64, 64, 3), np.uint8)
    data = SpoiltFaces(faces, pixels, Plan(size=64, pictures=10), 0)
    assert 0 < sum(face.held_out for face in faces) < 30
    assert not any(faces[n].held_out for n in [*data.photos, *data.painted])
    listed = (Path(__file__).parents[1] / "training" / "splits" / "held_out.txt").read_text(encoding="utf-8").split()
    assert len(listed) == 585 and all(FaceFile(Path(label).parent, label).held_out for label in listed)


def test_a_watermark_is_masked(tmp_path: Path) -> None:
    faces = [FaceFile(tmp_path / "faces-artflow-256-0.zip", f"{n}.webp") for n in range(40)]
    data = SpoiltFaces(faces, np.zeros((40, 256, 256, 3), np.uint8), Plan(pictures=100), 0)
    _, _, mask = data[0]
    assert mask[0, 240, 200] == 0 or mask[0, 240, 55] == 0, "masked, or masked and mirrored"
    assert mask.mean() > 0.95


def test_a_short_training_learns_resumes_and_exports(folder: Path, tmp_path: Path) -> None:
    faces = list_faces(folder)
    pixels = decoded(faces, 64, tmp_path / "cache")
    assert pixels.shape == (24, 64, 64, 3)
    small = {"size": 64, "narrow": 0.125, "channel_multiplier": 2, "batch": 4, "workers": 0, "compile": False, "warm_up": 40}
    plan = Plan(**small, pictures=480, learning_rate=1e-2, save_every=200)  # type: ignore[arg-type]
    run = tmp_path / "run"
    run.mkdir()
    (run / "plan.json").write_text(json.dumps(plan.__dict__), encoding="utf-8")

    def error(network: torch.nn.Module) -> float:
        data = SpoiltFaces(faces, pixels, Plan(**{**plan.__dict__, "seed": 9}), 0)
        with torch.no_grad():
            return float(np.mean([(network(bad[None]) - good).abs().mean() for bad, good, _ in (data[n] for n in range(24))]))

    trainer = Trainer(plan, run, torch.device("cpu"))
    before = error(trainer.network)
    half = Plan(**{**plan.__dict__, "pictures": 240})
    Trainer(half, run, torch.device("cpu")).train(faces, pixels)
    resumed = Trainer(plan, run, torch.device("cpu"))
    assert resumed.seen == 240
    resumed.train(faces, pixels)
    assert resumed.seen == 480
    assert error(resumed.network) < 0.97 * before

    sha256 = export(run, tmp_path / "small.safetensors")
    facts = json.loads((tmp_path / "small.json").read_text(encoding="utf-8"))
    assert facts["sha256"] == sha256
    exported = load_network(tmp_path / "small.safetensors")
    x = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode():
        assert (exported(x) - resumed.average(x)).abs().max() < 0.02
