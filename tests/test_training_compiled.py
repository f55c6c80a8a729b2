"""Compiled code lies in the run's own folder and is made anew where it is broken. torch's compiler takes minutes: a stand-in here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training import compiled as module
from training.compiled import FOLDER, MARK, VARIABLE, compiled, own_folder
from training.faces import FaceFile
from training.plan import Plan
from training.train import Trainer


@pytest.fixture(autouse=True)
def clean(monkeypatch) -> None:
    for name in (VARIABLE, "TRITON_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(module, "NAMED", None)


@pytest.fixture
def run(tmp_path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    return run


@pytest.fixture
def compiler(monkeypatch):
    """Leaves a library in the folder that the environment names, which does not load where it is broken, as torch's does."""

    class Compiled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            library = Path(os.environ[VARIABLE]) / "a.so"
            if not library.is_file():
                made.append(library)
                library.write_text("whole")
            if library.read_text() != "whole":
                raise RuntimeError("backend='inductor' raised:\nfile too short\n" + "\n".join("line" for _ in range(80)))
            return self.inner(x)

    made: list[Path] = []
    monkeypatch.setattr(torch, "compile", Compiled)
    return made


def trial(network: nn.Module) -> None:
    network(torch.zeros(1, 2))


def compile_in(run: Path, trial=trial) -> nn.Module:
    return compiled(nn.Linear(2, 2), own_folder(run), trial)


def test_code_is_kept_in_the_run_and_used_again(compiler, run):
    compile_in(run)
    assert compiler == [run / FOLDER / "a.so"] and os.environ["TRITON_CACHE_DIR"].startswith(str(run / FOLDER))
    compile_in(run)
    assert len(compiler) == 1 and not (run / FOLDER / MARK).exists()


def test_what_was_killed_on_the_way_is_made_anew(compiler, run, capsys):
    with pytest.raises(KeyboardInterrupt):
        compile_in(run, lambda network: trial(network) or (_ for _ in ()).throw(KeyboardInterrupt))
    assert (run / FOLDER / MARK).is_file()
    compile_in(run)
    assert len(compiler) == 2 and not (run / FOLDER / MARK).exists()
    assert "compiles again" in capsys.readouterr().out


def test_broken_code_is_made_anew_once(compiler, run, capsys):
    compile_in(run)
    (run / FOLDER / "a.so").write_text("who")
    compile_in(run)
    assert len(compiler) == 2 and (run / FOLDER / "a.so").read_text() == "whole"
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_where_nothing_compiles_it_is_said_in_a_line(compiler, run):
    def fail(network: nn.Module) -> None:
        raise RuntimeError("\nno C++ compiler\n" + "line\n" * 80)

    for _ in range(2):
        with pytest.raises(SystemExit, match=r"no C\+\+ compiler.*--no-compile") as caught:
            compile_in(run, fail)
        assert "\n" not in str(caught.value)


def test_too_little_memory_is_no_broken_code(compiler, run):
    compile_in(run)

    def fail(network: nn.Module) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.cuda.OutOfMemoryError):
        compile_in(run, fail)


def test_a_folder_of_the_users_own_is_never_emptied(compiler, run, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (own / MARK).touch()
    (own / "a.so").write_text("who")
    monkeypatch.setenv(VARIABLE, str(own))
    monkeypatch.setattr(module, "NAMED", str(own))
    with pytest.raises(SystemExit, match="inductor"):
        compile_in(run)
    assert (own / "a.so").read_text() == "who" and not (run / FOLDER).exists()


def test_the_compilers_folder_has_no_space(compiler, tmp_path):
    compile_in(tmp_path / "my run")
    assert compiler and " " not in str(compiler[0]).replace(str(tmp_path), "")


def test_a_training_compiles_so_and_its_trial_changes_nothing(compiler, run):
    plan = Plan(size=64, narrow=0.125, channel_multiplier=2, batch=2, workers=0, pictures=4, bf16=False, sheet_every=0)
    faces = [FaceFile(run, f"{n}.png") for n in range(4)]
    pixels = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8)
    trainer = Trainer(plan, run, torch.device("cpu"))
    before = {key: tensor.clone() for key, tensor in trainer.network.state_dict().items()}
    trainer._try(trainer.network)
    assert all(torch.equal(tensor, before[key]) for key, tensor in trainer.network.state_dict().items())
    assert all(parameter.grad is None for parameter in trainer.network.parameters())
    trainer.train(faces, pixels)
    assert compiler == [run / FOLDER / "a.so"] and trainer.seen == 4
