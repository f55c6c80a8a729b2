"""Several processes on one job: they share the cores or cards, and end when the first one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from cli_help import picture, run, stub_restorers

from gpen_core.batch import workers
from gpen_core.cli import jobs

ROOT = Path(__file__).resolve().parents[1]
CHILD = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from gpen_core.batch.workers import end_with_parent
end_with_parent()
try:
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    print("tidied up", flush=True)
    sys.exit(130)
"""


def child(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_lines_and_exit_codes_of_all_workers_arrive(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers, "threads_of", lambda count: {"OMP_NUM_THREADS": f"half of {count}"})
    said, told = [], []
    script = "import os, sys; print(sys.argv[1], os.environ['OMP_NUM_THREADS']); print('é', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    codes = workers.run_workers([[*child(script), str(number)] for number in (0, 1, 3)], said.append, told.append)
    assert codes == [0, 1, 3] and sorted(said) == [f"{number} half of 3" for number in (0, 1, 3)] and told == ["é"] * 3


def test_ctrl_c_ends_every_worker_cleanly():
    if os.name == "nt":
        pytest.skip("a process cannot send itself Ctrl-C here")
    said = []

    def interrupted(line):
        said.append(line)
        if said.count("ready") == 2 and "tidied up" not in said:
            os.kill(os.getpid(), 2)  # as the terminal does

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script started these tests with `&`
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.run_workers([child(CHILD)] * 2, interrupted, said.append)
    finally:
        signal.signal(signal.SIGINT, before)
    assert said.count("tidied up") == 2


@pytest.mark.parametrize("handler", ["default_int_handler", "SIG_IGN"])  # ignored: a script started the job with `&`
def test_workers_end_when_the_first_process_is_killed(handler):
    parent = f"import signal, subprocess, sys; signal.signal(signal.SIGINT, signal.{handler})"
    parent += f"; subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdin=subprocess.PIPE).wait()"
    process = subprocess.Popen(child(parent), stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.kill()
    assert process.stdout.read() == "tidied up\n"  # and its end: the worker has closed it
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    ("cards", "device", "devices"),
    [
        (0, "auto", ["auto", "auto", "auto"]),
        (1, "auto", ["auto", "auto", "auto"]),
        (2, "auto", ["cuda:0", "cuda:1", "cuda:0"]),
        (2, "cuda", ["cuda:0", "cuda:1", "cuda:0"]),
        (2, "cuda:1", ["cuda:1", "cuda:1", "cuda:1"]),
        (2, "cpu", ["cpu", "cpu", "cpu"]),
    ],
)
def test_workers_take_the_cards_in_turn(monkeypatch, cards, device, devices):
    cuda = SimpleNamespace(device_count=lambda: cards, is_available=lambda: cards > 0)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert workers.devices_of(3, device) == devices


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads = workers.threads_of(3)
    assert threads["OMP_NUM_THREADS"] == "2" and "MKL_NUM_THREADS" not in threads
    assert workers.threads_of(100)["OMP_NUM_THREADS"] == "1"


# --- the command -----------------------------------------------------------------------------------------------------


def test_workers_do_the_whole_job_together(tmp_path, capsys, monkeypatch):
    """Each worker's own command is run here, in place of a process: what it prints is what the first process counts by."""
    made = stub_restorers(monkeypatch)
    for number in range(25):
        picture(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "bad.png").write_text("x")
    given = [
        "restore",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        "--job",
        tmp_path / "job",
        "--model",
        "GPEN-BFR-256-lite",
        "--device",
        "cpu",
    ]
    ran, errors = [], []

    def in_place(commands, said, told):
        for command in commands:
            assert command[:3] == [sys.executable, "-m", "gpen_core"]
            ran.append(command[3:])
            code, out, err = run(capsys, *command[3:], "--shard", f"{len(ran) - 1}/2")  # as if both had run at once
            assert code == 0
            errors.append(err)
            for line in out.splitlines():
                said(line)
        return [0] * len(commands)

    monkeypatch.setattr(jobs, "run_workers", in_place)
    monkeypatch.setattr(jobs, "end_with_parent", lambda: None)
    code, out, err = run(capsys, *given, "--workers", "2", "--job-restart", "--overwrite", "--json")
    told = json.loads(out)
    assert code == 1 and (told["done"], told["failed"], told["left"]) == (25, 1, 0)
    assert "".join([*errors, err]).count("\n") == 1 and "bad.png" in "".join([*errors, err])  # only the first process says it
    assert [made[0].calls, made[1].calls] == [15, 10] and not any("--job-restart" in command for command in ran)
    assert all("--video-restart" in command for command in ran)
    assert run(capsys, *given, "--workers", "2", "--overwrite")[0] == 1 and len(ran) == 2  # nothing is left: none is started


def test_words_after_two_dashes_stay_inputs(monkeypatch):
    monkeypatch.setattr(jobs, "devices_of", lambda count, device: ["cuda:0", "cuda:1"])
    arguments = SimpleNamespace(argv=["restore", "-o", "out", "--", "-a.png"], workers=2, device=None)
    (_, second) = jobs.worker_commands(arguments)
    assert second[3:] == ["restore", "-o", "out", "--device", "cuda:1", "--job-worker", "1/2", "--", "-a.png"]


def test_a_worker_that_dies_is_named_and_the_rest_is_left(tmp_path, capsys, monkeypatch):
    stub_restorers(monkeypatch)
    picture(tmp_path / "in" / "a.png")
    monkeypatch.setattr(jobs, "run_workers", lambda commands, said, told: [0, -9])
    more = ["--job", tmp_path / "job", "--model", "GPEN-BFR-256-lite", "--workers", "2"]
    code, out, err = run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", *more)
    assert code == 1 and "worker 1 ended unexpectedly (exit code -9)" in err and "1 left" in out
    monkeypatch.setattr(jobs, "run_workers", lambda commands, said, told: [3, 3])
    assert run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "out", *more)[0] == 3
