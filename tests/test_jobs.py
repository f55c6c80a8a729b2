"""Jobs of many pictures: killed or stopped at any moment, they go on where they were."""

from __future__ import annotations

import errno
import json
import shutil
import time
from pathlib import Path

import pytest
from cli_help import picture, run, stub_restorers
from job_kills import killed_until_done
from job_worker import WEIGHTS, opened, settings_for
from stub_restorer import StubRestorer

from gpen_core.batch import run as batch
from gpen_core.batch.job import JobFolder, JobStoppedError, Manifest
from gpen_core.batch.listing import inputs_of
from gpen_core.batch.shards import restoring, run_shards
from gpen_core.batch.tally import tally_of
from gpen_core.errors import DeviceError


def job(tmp_path: Path, count: int = 5, shard_size: int = 2, **more: object) -> tuple[JobFolder, Manifest]:
    for number in range(count):
        picture(tmp_path / "in" / f"{number}.png")
    folder = JobFolder(tmp_path / "job")
    return folder, opened(folder, tmp_path / "in", tmp_path / "out", shard_size, **more)


def work(folder: JobFolder, manifest: Manifest, restorer: StubRestorer | None = None, shards: range | None = None) -> StubRestorer:
    restorer = restorer or StubRestorer()
    run_shards(folder, manifest, shards or range(manifest.shards), restoring(restorer, manifest.settings))
    return restorer


def records(folder: JobFolder, manifest: Manifest) -> list[dict]:
    return [record for shard in range(manifest.shards) for record in folder.records(shard)]


def outputs(tmp_path: Path) -> list[str]:
    return sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file())


# --- killed ----------------------------------------------------------------------------------------------------------


def test_killed_at_any_moment_nothing_is_lost_or_doubled(tmp_path):
    """A few kills; `python -m tests.soak jobs` does fifty. Two processes at once, each of which may make one picture again."""
    figures = killed_until_done(tmp_path, 80, 2, workers=2, seed=3)
    assert (figures.lost, figures.doubled, figures.broken) == (0, 0, 0)
    assert figures.kills >= 2 and max(figures.repeated) <= 2


class PowerCut(BaseException):
    """The process is gone: nothing may be caught or tidied up after it."""


@pytest.mark.parametrize("at", ["before the output", "before its record", "in its record"])
def test_the_one_picture_without_a_record_is_made_again(tmp_path, monkeypatch, at):
    folder, manifest = job(tmp_path)
    write, append, written = batch.write_picture, None, []

    def cut(image, path, **settings):
        if len(written) == 3 and at == "before the output":
            raise PowerCut
        written.append(write(image, path, **settings).name)
        return path

    from gpen_core.batch.shards import Records

    append = Records._append

    def half(self, value):
        if value.get("input", "").endswith("3.png"):
            if at == "in its record":
                self._file.write(json.dumps(value).encode()[:25])
                self._file.flush()
            self.stop = DeviceError("")  # so that the rest writes nothing
            raise PowerCut
        append(self, value)

    monkeypatch.setattr(batch, "write_picture", cut)
    monkeypatch.setattr(Records, "_append", half)
    with pytest.raises(PowerCut):
        work(folder, manifest)
    monkeypatch.undo()
    assert [Path(record["input"]).name for record in records(folder, manifest)] == ["0.png", "1.png", "2.png"]
    restorer = work(folder, manifest)
    assert restorer.calls == 2 and outputs(tmp_path) == [f"{number}.png" for number in range(5)]
    assert [Path(record["input"]).name for record in records(folder, manifest)] == [f"{number}.png" for number in range(5)]
    assert all(record["error"] is None and record["bytes"] for record in records(folder, manifest))


def test_a_picture_is_recorded_while_the_next_is_in_work(tmp_path):
    """Not when the next is finished: a kill meanwhile would leave two outputs without a record."""
    folder, manifest = job(tmp_path, 2)
    seen: list[int] = []

    class Waiting(StubRestorer):
        def __call__(self, picture, *, faces=None):
            end = time.monotonic() + 10
            while self.calls == 1 and not records(folder, manifest) and time.monotonic() < end:
                time.sleep(0.001)
            seen.append(len(records(folder, manifest)))
            return super().__call__(picture, faces=faces)

    work(folder, manifest, Waiting())
    assert seen == [0, 1]


def test_a_job_that_is_done_does_nothing_more(tmp_path):
    folder, manifest = job(tmp_path)
    assert work(folder, manifest).calls == 5
    restorer = work(folder, manifest)
    assert restorer.calls == restorer.prepared == 0 and len(records(folder, manifest)) == 5


def test_a_file_that_was_there_before_the_job_is_not_its_own(tmp_path):
    """Not even for a run that goes on: only what the job itself has written is made again."""
    foreign = picture(tmp_path / "out" / "1.png", (5, 5)), picture(tmp_path / "out" / "3.png", (5, 5))
    before = [path.read_bytes() for path in foreign]
    folder, manifest = job(tmp_path, shard_size=10)
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {0}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        work(folder, manifest, restorer)
    picture(tmp_path / "out" / "0.png", (5, 5))  # as if it was written, and the process killed before it was recorded
    work(folder, manifest)
    errors = [record["error"] for record in records(folder, manifest)]
    assert [error is None for error in errors] == [True, False, True, False, True] and "already exists" in errors[1]
    assert [path.read_bytes() for path in foreign] == before


# --- stopped ---------------------------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_run_and_costs_no_picture(tmp_path, monkeypatch):
    folder, manifest = job(tmp_path, 8, 4)
    real_open, full = Path.open, [True]

    class FullFile:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def opening(self, mode="r", *arguments, **settings):
        file = real_open(self, mode, *arguments, **settings)
        there = len(outputs(tmp_path)) if mode == "xb" else 0
        return FullFile(file) if full and there > 2 else file

    monkeypatch.setattr(Path, "open", opening)
    with pytest.raises(JobStoppedError, match="the disk is full"):
        work(folder, manifest)
    assert [record["error"] for record in records(folder, manifest)] == [None] * len(outputs(tmp_path))
    full.clear()
    work(folder, manifest)
    assert len(outputs(tmp_path)) == 8 and [record["error"] for record in records(folder, manifest)] == [None] * 8


def test_a_device_that_stops_costs_no_picture(tmp_path):
    folder, manifest = job(tmp_path)
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {1}, DeviceError("the card stopped")
    with pytest.raises(DeviceError):
        work(folder, manifest, restorer)
    assert len(records(folder, manifest)) == 1
    work(folder, manifest)
    assert [record["error"] for record in records(folder, manifest)] == [None] * 5


def test_bad_inputs_are_recorded_and_the_job_goes_on(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.png").write_text("I am a text")
    folder = JobFolder(tmp_path / "job")
    paths = [
        picture(tmp_path / "in" / "0.png"),
        tmp_path / "in" / "1.png",
        tmp_path / "in" / "none.png",
        picture(tmp_path / "in" / "2.png"),
    ]
    (tmp_path / "list.txt").write_text("\n".join(map(str, paths)), "utf-8")
    with folder.lock():
        found = inputs_of([], [tmp_path / "list.txt"], tmp_path / "out")
        manifest = folder.make_list(found, settings_for(tmp_path / "out"), WEIGHTS, shard_size=3)
    work(folder, manifest)
    assert [record["error"] is None for record in records(folder, manifest)] == [True, False, False, True]
    tally = tally_of(folder, range(manifest.shards))
    assert (tally.done, tally.failed, [Path(path).name for path, _ in tally.errors]) == (2, 2, ["1.png", "none.png"])


# --- shared ----------------------------------------------------------------------------------------------------------


def test_two_never_work_on_one_shard(tmp_path):
    folder, manifest = job(tmp_path)
    with folder.claimed(1) as first, JobFolder(folder.path).claimed(1) as second:
        assert first and not second
        work(folder, manifest)
    assert [folder.is_done(shard) for shard in range(3)] == [True, False, True]
    work(folder, manifest)
    with folder.claimed(1) as again:
        assert not again
    assert not list((folder.path / "records").glob("*.lock"))


def test_several_machines_share_a_job_by_its_shards(tmp_path):
    folder, manifest = job(tmp_path)
    for part in range(2):
        work(folder, manifest, shards=range(part, manifest.shards, 2))
        assert [folder.is_done(shard) for shard in range(3)] == [True, bool(part), True]
    assert len(records(folder, manifest)) == 5


def test_a_list_that_was_made_meanwhile_counts(tmp_path):
    folder, manifest = job(tmp_path)
    picture(tmp_path / "in" / "later.png")
    again = folder.make_list(inputs_of([tmp_path / "in"], [], tmp_path / "out"), manifest.settings, WEIGHTS)
    assert again == manifest and sorted(path.name for path in folder.path.iterdir()) == ["list", "list.lock"]


# --- the command -----------------------------------------------------------------------------------------------------

LITE = ("--model", "GPEN-BFR-256-lite", "--device", "cpu")


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs `restore in -o out --job job` with more arguments: (exit code, stdout, stderr). Its restorers are in `.made`."""
    made = stub_restorers(monkeypatch)

    def restore(*more: object, out: str = "out"):
        return run(capsys, "restore", tmp_path / "in", "-o", tmp_path / out, "--job", tmp_path / "job", *LITE, *more)

    restore.made = made
    return restore


def test_a_job_on_the_command_line(tmp_path, command):
    for number in range(3):
        picture(tmp_path / "in" / str(number) / "a.png")
    code, out, err = command()
    assert (code, err) == (0, "") and out == f"3 of 3 inputs done; report: {tmp_path / 'job' / 'report.html'}\n"
    assert outputs(tmp_path) == ["0/a.png", "1/a.png", "2/a.png"]
    code, out, _ = command("--json")
    told = json.loads(out)
    assert code == 0 and (told["done"], told["failed"], told["left"]) == (3, 0, 0) and command.made[-1].calls == 0


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--strength", "0.5"], "strength 1.0 (now 0.5)"),
        (["--quality", "90"], "quality 95 (now 90)"),
        (["--overwrite"], "overwrite False (now True)"),
    ],
)
def test_other_settings_are_refused_in_one_sentence(tmp_path, command, more, says):
    picture(tmp_path / "in" / "a.png")
    assert command()[0] == 0
    code, out, err = command(*more)
    assert (code, out) == (2, "") and says in err and "--job-restart" in err and err.count("\n") == 1
    assert command("--device", "auto")[0] == 0  # another machine may have another


def test_other_weights_are_refused(tmp_path, command, monkeypatch):
    picture(tmp_path / "in" / "a.png")
    assert command()[0] == 0
    monkeypatch.setattr("gpen_core.cli.jobs.sha256_of", lambda path: "0" * 64)
    code, _, err = command()
    assert code == 2 and "other weights" in err and "now 0000000000000000" in err and err.count("\n") == 1


def test_a_job_begins_anew_when_asked(tmp_path, command, monkeypatch):
    picture(tmp_path / "in" / "a.png")
    assert command()[0] == 0
    before = (tmp_path / "out" / "a.png").stat().st_mtime_ns
    code, _, err = command("--job-restart", "--strength", "0.5")
    assert code == 2 and "--overwrite" in err and err.count("\n") == 1
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied", str(path))))
        code, _, err = command("--job-restart", "--strength", "0.5", "--overwrite")
    assert code == 1 and "cannot be begun anew" in err and "Permission denied" in err and err.count("\n") == 1
    code, out, err = command("--job-restart", "--strength", "0.5", "--overwrite")
    assert (code, err) == (0, "") and "1 of 1" in out and (tmp_path / "out" / "a.png").stat().st_mtime_ns != before


def test_shards_and_lists_on_the_command_line(tmp_path, command):
    for number in range(25):
        picture(tmp_path / "in" / f"{number}.png")
    code, out, _ = command("--list-only")
    assert code == 0 and "25 inputs in 3 shards" in out and not (tmp_path / "out").exists()
    assert command("--shard", "1/2")[1] == "10 of 10 inputs done\n" and len(outputs(tmp_path)) == 10
    assert command("--shard", "0/2")[1].startswith("15 of 15 inputs done; report: ") and len(outputs(tmp_path)) == 25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["in", "-o", "out", "--list-only"], "--list-only works only with --job"),
        (["in", "-o", "out", "--job", "job", "--shard", "2/2"], "0/8 to 7/8"),
        (["in", "-o", "out.png", "--job", "job"], "output folder"),
        (["-o", "out", "--job", "job"], "IN"),
        (["-o", "out", "--job", "job", "--list", "none.txt"], "none.txt cannot be read"),
        (["-o", "out", "--job", "job", "--list", "in/a.png"], "not a list of paths"),
        (["out/a.png", "-o", "out", "--job", "job"], "inside the output folder"),
    ],
)
def test_wrong_usage_of_jobs_is_one_line_and_leaves_no_list(tmp_path, capsys, monkeypatch, arguments, says):
    made = stub_restorers(monkeypatch)
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "in" / "a.png", (200, 200))
    picture(tmp_path / "out" / "a.png")
    code, out, err = run(capsys, "restore", *arguments, *LITE)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    assert not made and not (tmp_path / "job" / "list").exists()
