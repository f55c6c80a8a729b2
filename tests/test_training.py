"""How the shipped weights are made: the start, the damage, a short training, resuming, export. On faces drawn here."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from gpen_core import load_network
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.weights.architecture import Architecture
from training import evaluate, quality
from training.adversary import Adversary
from training.dataset import SpoiltFaces
from training.degrade import FIXED, Damage, faded, random_damage, spoil
from training.detector_features import DetectorFeatures, landmark_loss, perceptual_loss
from training.discriminator import Discriminator, discriminator_loss, feature_matching, generator_loss, r1_penalty, spread
from training.export import export
from training.faces import FaceFile, decoded, list_faces
from training.losses import pixel_loss, psnr_loss, sharpness
from training.plan import Plan, read_plan
from training.precision import mixed
from training.start import identity_generator
from training.train import Trainer, follow


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


def test_the_average_follows_and_keeps_no_history() -> None:
    """A link for every step would fill the memory of a long training."""
    average, network = torch.nn.Linear(3, 2).requires_grad_(False), torch.nn.Linear(3, 2)
    wanted = torch.lerp(average.weight, network.weight.detach(), 0.25)
    follow(average, network, 0.25)
    assert torch.allclose(average.weight, wanted) and network.weight.requires_grad
    assert not any(weight.requires_grad or weight.grad_fn for weight in average.parameters())


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


def test_webp_and_faded_prints() -> None:
    good = np.kron(np.random.default_rng(0).integers(0, 255, (32, 32, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    jpeg, webp = (spoil(good, Damage(jpeg=40, webp=webp), np.random.default_rng(5)) for webp in (False, True))
    assert not np.array_equal(jpeg, webp) and np.abs(webp.astype(int) - good).mean() < 40
    for n in range(5):
        old = faded(good, np.random.default_rng(n))
        assert old.dtype == np.uint8 and old.std() < 0.97 * good.std()


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


# --- settings --------------------------------------------------------------------------------------------------------

CONFIGS = sorted((Path(__file__).parents[1] / "training" / "configs").glob("*.yaml"))


def options(*given: str) -> dict[str, object]:
    from training.plan import add_options

    parser = argparse.ArgumentParser()
    add_options(parser)
    return vars(parser.parse_args(given))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_settings_that_ship_can_be_read(path: Path) -> None:
    assert read_plan(options("--config", str(path))).size == 256


def test_options_count_more_than_the_file_and_wrong_settings_are_said(tmp_path: Path) -> None:
    path = tmp_path / "Plan ü.yaml"
    path.write_text("batch: 4\nlearning_rate: 1e-3\nbf16: false\n", encoding="utf-8")
    plan = read_plan(options("--config", str(path), "--batch", "2"))
    assert (plan.batch, plan.learning_rate, plan.bf16) == (2, 1e-3, False)
    for text, said in (("bach: 4", "no setting 'bach'"), ("batch: many", "batch must be of type int"), ("- 4", "holds no settings")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit, match=said):
            read_plan(options("--config", str(path)))


# --- judges ----------------------------------------------------------------------------------------------------------


def test_the_judge_sees_what_the_detector_sees() -> None:
    picture = np.random.default_rng(2).integers(0, 255, (64, 96, 3), np.uint8)
    ((_, sureness, landmarks),) = RetinaFaceMobile().predict([picture.astype(np.float32) / 255])
    x = (torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1).requires_grad_(True)
    seen = DetectorFeatures()(x)
    assert np.abs(seen.sureness[0].detach().numpy() - sureness).max() < 1e-4
    assert np.abs(seen.landmarks[0].detach().numpy() - landmarks).max() < 1e-3
    assert [f.shape[-1] for f in seen.features] == [24, 12, 6, 3, 6, 3]
    true = DetectorFeatures()(torch.zeros_like(x))
    assert perceptual_loss(seen, seen) == 0 and landmark_loss(seen, seen) == 0
    perceptual_loss(seen, true).backward()
    assert x.grad is not None and x.grad.abs().max() > 0


def test_landmarks_that_move_are_a_loss() -> None:
    detector = DetectorFeatures()
    x = torch.zeros(1, 3, 64, 64)
    true = detector(x)._replace(sureness=torch.ones_like(detector(x).sureness))
    moved = true._replace(landmarks=true.landmarks + 0.25)
    assert float(landmark_loss(moved, true)) == pytest.approx(0.25, abs=1e-5)


def test_the_discriminator_learns_what_is_sharp() -> None:
    plan = Plan(size=64, crop=32, batch=4, adversarial=1.0, discriminator_top=8, bf16=False, r1_every=4)
    adversary = Adversary(plan, torch.device("cpu"))
    rng = np.random.default_rng(0)
    told: list[dict[str, float]] = []
    for _ in range(30):
        sharp = torch.from_numpy(rng.standard_normal((4, 3, 64, 64)).astype(np.float32)) * 0.3
        soft = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
        told.append(adversary.learn(soft, sharp))
    assert told[-1]["discriminator"] < 0.7 * told[0]["discriminator"]
    assert told[-1]["apart_whole"] > 0.3
    again = Adversary(plan, torch.device("cpu"))
    again.load_state(adversary.state())
    assert again.steps == 30
    assert again.learn(soft, sharp) == adversary.learn(soft, sharp), "resumed as if it had not been stopped"


def test_the_pull_is_a_share_of_the_others_and_follows_the_sharpness() -> None:
    plan = Plan(size=64, crop=64, adversarial=0.5, sharpness=0.9, discriminator_top=8, bf16=False)
    adversary = Adversary(plan, torch.device("cpu"))
    good = torch.randn(2, 3, 64, 64)
    y = torch.nn.functional.avg_pool2d(good, 3, stride=1, padding=1).requires_grad_(True)
    others = torch.randn_like(y)
    pull, told = adversary.pull(y, y * 1, good, others)
    assert float(pull.norm() / others.norm()) == pytest.approx(0.5, rel=1e-4)
    assert told["share"] > 0.5, "too soft: it pulls harder"
    sharp = (2 * good).requires_grad_(True)
    before = adversary.share
    adversary.pull(sharp, sharp * 1, good, others)
    assert adversary.share < before
    assert not any(p.grad is not None for p in adversary.network.parameters())


def test_losses_of_discriminator_and_generator() -> None:
    surely, not_at_all = [torch.full((2,), 9.0)], [torch.full((2,), -9.0)]
    assert discriminator_loss(surely, not_at_all) < 0.001 < 5 < discriminator_loss(not_at_all, surely)
    assert generator_loss(surely) < 0.001 < 5 < generator_loss(not_at_all)
    assert feature_matching([torch.ones(2)], [torch.ones(2)]) == 0
    assert float(feature_matching([torch.ones(2) * 3], [torch.ones(2)])) == pytest.approx(2)
    network = Discriminator(32, top=8, most=16)
    x = torch.randn(4, 3, 32, 32)
    assert float(r1_penalty(network, x).detach()) > 0
    assert spread(torch.ones(4, 2, 4, 4)).abs().max() < 1e-3
    assert float(sharpness(2 * x, x)) == pytest.approx(2)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_ssim_is_that_of_scikit_image_and_all_figures_know_their_best() -> None:
    rng = np.random.default_rng(4)
    good = cv2.GaussianBlur(rng.integers(0, 255, (256, 256, 3), np.uint8), (0, 0), 2)
    bad = spoil(good, FIXED["medium"], rng)
    keep = np.ones((256, 256), bool)
    _, theirs = structural_similarity(
        bad, good, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    single, multi = quality.ssim(bad, good, keep)
    assert single == pytest.approx(float(theirs.mean()), abs=1e-6)
    assert 0 < multi < 1
    assert quality.ssim(good, good, keep) == pytest.approx((1, 1))
    assert quality.colour_shift(good, good, keep) == 0
    assert quality.colour_shift(np.clip(good.astype(int) + 3, 0, 255).astype(np.uint8), good, keep) == pytest.approx(3, abs=0.2)
    a = rng.standard_normal((300, 5))
    assert quality.frechet_distance(a, a) == pytest.approx(0, abs=1e-3)
    assert quality.frechet_distance(a + 2, a) == pytest.approx(20, rel=1e-3)
    b = np.random.default_rng(1).normal(0, 3, a.shape)
    root = pytest.importorskip("scipy.linalg").sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    by_definition = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    assert quality.frechet_distance(a, b) == pytest.approx(by_definition, rel=1e-4)
    five = np.array([[0, 0], [2, 0], [1, 1], [0, 2], [2, 2]], np.float32)
    assert quality.landmark_error(five + np.array([1, 0]), five) == pytest.approx(0.5)
    assert quality.landmark_error(None, five) == quality.MISSED


def test_the_watermark_counts_in_no_figure() -> None:
    good = np.random.default_rng(4).integers(0, 255, (256, 256, 3), np.uint8)
    marked, keep = good.copy(), np.ones((256, 256), bool)
    keep[230:, 174:] = False
    marked[232:, 176:] = 255
    assert quality.psnr(marked, good, keep) > 100 and quality.ssim(marked, good, keep)[0] > 0.99
    assert quality.gradient_energy(marked, keep) == quality.gradient_energy(good, keep)


def test_an_evaluation_compares_all_methods(folder: Path) -> None:
    network = load_network("GPEN-BFR-256-lite")
    figures = evaluate.evaluate({"lite": network}, list_faces(folder)[:3], None)
    assert set(figures) == {"clean", "mild", "medium", "strong", "random", "mean of the damaged"}
    assert set(figures["mild"]) == {"input", "Lanczos + unsharp mask", "lite"}
    rows = figures["medium"]
    assert rows["lite"]["gain"] == pytest.approx(rows["lite"]["psnr"] - rows["input"]["psnr"])
    assert rows["Lanczos + unsharp mask"]["sharpness"] > rows["input"]["sharpness"]
    text = evaluate.table(figures)
    assert text.count("\n") == 1 + 1 + 5 * 3 and "gain" in text and "YuNet" not in text


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_a_killed_training_goes_on_and_lowers_its_loss(folder: Path, tmp_path: Path) -> None:
    """As a user runs it, discriminator and all: killed without warning, started again, finished."""
    run = tmp_path / "run ü"
    small = {"size": 64, "narrow": 0.125, "channel_multiplier": 2, "batch": 4, "workers": 0, "compile": "false", "warm_up": 40}
    small |= {"adversarial": 0.1, "sharpness": 0.9, "perceptual_weight": 0.05, "landmark_weight": 0.1, "crop": 32, "discriminator_top": 8}
    small |= {"save_every": 80, "sheet_every": 160, "log_every": 160, "pictures": 480, "learning_rate": 0.01, "bf16": "false"}
    config = tmp_path / "small.yaml"
    config.write_text("\n".join(f"{key}: {value}" for key, value in small.items()), encoding="utf-8")
    command = [sys.executable, "-m", "training.train", "--config", str(config), "--data", str(folder), "--run", str(run)]
    root = Path(__file__).parents[1]
    first = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
    limit = time.monotonic() + 120
    while not (run / "checkpoint.pt").is_file() and first.poll() is None and time.monotonic() < limit:
        time.sleep(0.1)
    first.kill()
    text = first.communicate()[0]
    assert (run / "checkpoint.pt").is_file(), text
    seen = torch.load(run / "checkpoint.pt", weights_only=True)["seen"]
    assert 0 < seen < 480, "it was killed on the way"
    second = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=True)
    assert f"{seen} pictures seen so far" in second.stdout and "480 pictures seen in" in second.stdout
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"verdict", "features", "share", "discriminator", "perceptual", "landmarks", "sharpness"} <= set(lines[-1])
    assert sorted((run / "samples").glob("*.jpg"))[-1].name == "0000480.jpg"
    # Of the same pictures before and after: what the log tells is of other pictures each time.
    settings = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    faces = list_faces(folder)
    pairs = SpoiltFaces(faces, decoded(faces, 64, tmp_path / "cache"), Plan(**{**settings, "seed": 9}), 0)
    bad, good, mask = (torch.stack(part) for part in zip(*(pairs[n] for n in range(48)), strict=True))

    def loss(network: torch.nn.Module) -> float:
        with torch.inference_mode():
            y = network(bad)
        return float(pixel_loss(y, good, mask) + 0.04 * psnr_loss(y, good, mask))

    go_on = Trainer(Plan(**settings), run, torch.device("cpu"))
    assert go_on.adversary is not None and go_on.adversary.steps == 120
    untrained = identity_generator(Architecture(64, 2, 0.125), go_on.plan.seed)
    assert loss(go_on.average) < loss(untrained) - 0.004, "a tenth of a neper, or half a decibel, if PSNR were all"
    start = Plan(**{**go_on.plan.__dict__, "start": str(run)})
    (tmp_path / "next").mkdir()
    following = Trainer(start, tmp_path / "next", torch.device("cpu"))
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(following.network(x), go_on.average(x)), "the next training starts from this one's average"


@pytest.mark.parametrize(("asked", "there", "used"), [(True, True, True), (True, False, False), (False, True, False)])
def test_a_processor_trains_in_bfloat16_only_where_it_computes_with_it(
    monkeypatch: pytest.MonkeyPatch, asked: bool, there: bool, used: bool
) -> None:
    monkeypatch.setattr("training.precision.computes_bf16", lambda: there)
    with mixed(Plan(bf16=asked), torch.device("cpu")):
        y = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2))
    assert y.dtype == (torch.bfloat16 if used else torch.float32)
