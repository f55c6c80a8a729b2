"""The Ray adapter: with a module that stands in for Ray, and with Ray itself where it is installed (tests/ray_cluster.py)."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import deque
from pathlib import Path
from types import ModuleType

import pytest
from cli_help import picture, run, stub_restorers
from job_worker import WEIGHTS, opened
from stub_restorer import StubRestorer

from gpen_core.batch import ray as adapter
from gpen_core.batch.job import JobFolder, JobStoppedError, Manifest
from gpen_core.batch.shards import Work, restoring
from gpen_core.errors import DeviceError, FeatureMissingError

MAKE = "test_jobs_ray:stub_work"
restorers: list[StubRestorer] = []


def stub_work(manifest: Manifest, given: dict) -> Work:
    restorers.append(StubRestorer())
    for name, value in (given or {}).items():
        setattr(restorers[-1], name, value if name != "first_fails_at" else set())
    if given and len(restorers) == 1:
        restorers[0].fail_at = given.get("first_fails_at", restorers[0].fail_at)
    return restoring(restorers[-1], manifest.settings)


class RayError(Exception):
    pass


class FakeRay(ModuleType):
    """Runs what actors are asked for when its result is waited for. `lose`: the calls of shard(), from 1, in which a node dies halfway."""

    def __init__(self, nodes=({"CPU": 4.0}, {"CPU": 4.0}), lose=(), lose_starts=0):
        super().__init__("ray")
        self.exceptions = ModuleType("ray.exceptions")
        self.exceptions.RayError = RayError
        self._nodes, self.lose, self.lose_starts = nodes, set(lose), lose_starts
        self.needs, self.killed, self.calls, self.actors, self.is_running = {}, [], 0, 0, False
        self.unfinished: deque = deque()

    def init(self, **settings):
        self.settings, self.is_running = settings, True

    def shutdown(self):
        self.is_running = False

    def cluster_resources(self):
        return {name: sum(node.get(name, 0) for node in self._nodes) for name in ("CPU", "GPU")}

    def nodes(self):
        return [{"Alive": True, "Resources": node} for node in self._nodes]

    def remote(self, cls):
        fake = self

        class Handle:
            def __init__(self, *arguments):
                fake.actors += 1
                self.inner, self.dead = cls(*arguments), False
                self.ready, self.shard = self.Method(self, "ready"), self.Method(self, "shard")

            class Method:
                def __init__(self, handle, name):
                    self.handle, self.name = handle, name

                def remote(self, *arguments):
                    reference = (self.handle, self.name, arguments, object())
                    fake.unfinished.append(reference)
                    return reference

        class Class:
            @staticmethod
            def options(**needs):
                fake.needs = needs
                return Class

            @staticmethod
            def remote(*arguments):
                return Handle(*arguments)

        return Class

    def wait(self, references, num_returns, timeout):
        assert num_returns == 1 and set(references) <= set(self.unfinished)
        reference = self.unfinished.popleft()
        return [reference], [other for other in references if other is not reference]

    def get(self, reference):
        handle, name, arguments, _ = reference
        assert not handle.dead
        if name == "ready":
            if self.lose_starts:
                self.lose_starts -= 1
                raise RayError("no memory")
            return handle.inner.ready()
        self.calls += 1
        if self.calls not in self.lose:
            return handle.inner.shard(*arguments)
        work = handle.inner._work

        def dying(jobs, records):
            results = work(jobs, records)
            yield next(results)
            raise RayError("the node died")

        handle.inner._work = dying
        return handle.inner.shard(*arguments)

    def kill(self, handle, no_restart):
        assert no_restart
        handle.dead = True
        self.killed.append(handle)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A job of 12 pictures in 4 shards, and a function that runs it on a FakeRay."""
    restorers.clear()
    for number in range(12):
        picture(tmp_path / "in" / f"{number:02}.png")
    folder = JobFolder(tmp_path / "job")
    manifest = opened(folder, tmp_path / "in", tmp_path / "out", 3)

    def work(fake: FakeRay, **more):
        monkeypatch.setitem(sys.modules, "ray", fake)
        told, warned = [], []
        adapter.run_on_ray(folder, range(manifest.shards), **{"make": MAKE, **more}, finished=told.append, warn=warned.append)
        return told, warned

    work.folder, work.manifest = folder, manifest
    return work


def inputs(cluster) -> list[str]:
    return [Path(record["input"]).name for shard in range(4) for record in cluster.folder.records(shard)]


WHOLE = [f"{number:02}.png" for number in range(12)]


def test_actors_share_the_shards(cluster, tmp_path):
    fake = FakeRay()
    told, warned = cluster(fake)
    assert inputs(cluster) == WHOLE and len(list((tmp_path / "out").iterdir())) == 12
    assert sum(one["count"] for one in told) == 12 and warned == [] and [len(told), len(restorers)] == [4, 2]
    assert [restorer.calls for restorer in restorers] == [6, 6] and not fake.is_running


def test_a_lost_nodes_shard_goes_on_elsewhere_and_nothing_is_done_twice(cluster):
    fake = FakeRay(lose={2})
    _, warned = cluster(fake)
    assert inputs(cluster) == WHOLE and fake.actors == 3 and len(fake.killed) == 1 and "the node died" in warned[0]
    # The lost one had written and recorded one picture, and had the next in work when it died.
    assert sum(restorer.calls for restorer in restorers) in (12, 13, 14)
    assert all(record["error"] is None for shard in range(4) for record in cluster.folder.records(shard))


def test_a_shard_that_ends_every_worker_is_left_and_the_others_are_done(cluster):
    cluster.folder.part_path(0).parent.mkdir()

    class Deadly(FakeRay):
        def get(self, reference):
            if reference[1] == "shard" and reference[2] == (1,):
                raise RayError("killed by a picture")
            return super().get(reference)

    _, warned = cluster(Deadly())
    assert [cluster.folder.is_done(shard) for shard in range(4)] == [True, False, True, True]
    assert any("shard 1 is left" in text for text in warned)


def test_workers_that_cannot_start_end_the_run_with_the_reason(cluster):
    with pytest.raises(JobStoppedError, match="no memory"):
        cluster(FakeRay(lose_starts=9))
    with pytest.raises(JobStoppedError, match="the card stopped"):
        cluster(FakeRay(), given={"fail_at": {0}, "error": DeviceError("the card stopped")})
    assert inputs(cluster) == []
    fake = FakeRay(lose_starts=2)
    cluster(fake)
    assert inputs(cluster) == WHOLE and fake.actors == 4


def test_a_worker_whose_card_stops_leaves_its_shard_to_the_others(cluster):
    _, warned = cluster(FakeRay(), given={"first_fails_at": {1}, "error": DeviceError("the card stopped")})
    assert inputs(cluster) == WHOLE and warned == ["the card stopped"]
    assert all(record["error"] is None for shard in range(4) for record in cluster.folder.records(shard))


@pytest.mark.parametrize(
    ("nodes", "settings", "count", "needs"),
    [
        ([{"CPU": 4.0}, {"CPU": 9.0}], {}, 3, {"num_cpus": 4}),
        ([{"CPU": 4.0}, {"CPU": 4.0}], {"workers": 3}, 3, {"num_cpus": 2}),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}], {}, 3, {"num_gpus": 1.0, "num_cpus": 1}),
        ([{"CPU": 8.0, "GPU": 1.0}], {"workers": 2}, 2, {"num_gpus": 0.5, "num_cpus": 1}),
        ([{"CPU": 8.0, "GPU": 1.0}], {"use_cards": False}, 1, {"num_cpus": 8}),
    ],
)
def test_an_actor_for_each_card_or_set_of_cores(cluster, nodes, settings, count, needs):
    fake = FakeRay(nodes)
    cluster(fake, **settings)
    assert fake.actors == count and needs.items() <= fake.needs.items() and fake.needs["max_restarts"] == 0


def test_an_actor_refuses_a_missing_folder_and_other_weights(cluster, monkeypatch, tmp_path):
    assert "no job" in (adapter.ShardWorker(str(tmp_path / "none"), MAKE, None).ready() or "")
    monkeypatch.setattr("gpen_core.weights.sums.sha256_of", lambda path: "0" * 64)
    stub_restorers(monkeypatch)
    manifest = Manifest({**cluster.manifest.settings, "model": "GPEN-BFR-256-lite"}, WEIGHTS, 1, 1)
    monkeypatch.setattr(JobFolder, "manifest", lambda self: manifest)
    assert "other weights" in (adapter.ShardWorker(str(tmp_path), adapter.RESTORE, None).ready() or "")
    monkeypatch.setattr("gpen_core.weights.sums.sha256_of", lambda path: WEIGHTS)
    assert adapter.ShardWorker(str(tmp_path), adapter.RESTORE, None).ready() is None


def test_without_ray_one_line_says_what_to_install(cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FeatureMissingError, match="pip install ray"):
        adapter.run_on_ray(cluster.folder, range(4))


def test_a_second_record_of_an_input_does_not_count(cluster):
    """By a machine that was thought lost and still writes."""
    cluster(FakeRay())
    path = cluster.folder.done_path(2)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[1], lines[2], *lines[3:], lines[1]]))
    assert inputs(cluster) == WHOLE


def test_ray_on_the_command_line(tmp_path, capsys, monkeypatch):
    restorers.clear()
    stub_restorers(monkeypatch)
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "bad.png").write_text("x")
    command = ["restore", tmp_path / "in", "-o", tmp_path / "out", "--job", tmp_path / "job", "--model", "GPEN-BFR-256-lite"]
    code, out, err = run(capsys, *command, "--ray", "auto")
    assert code == 1 and "1 of 2 inputs done, 1 failed" in out and err.count("\n") == 1 and "bad.png" in err
    assert fake.settings["address"] == "auto" and not fake.is_running
    assert run(capsys, *command, "--dry-run", "--ray", "--job-restart", "--overwrite")[0] == 2


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed; it is optional: pip install ray")
def test_a_real_cluster_loses_a_node():
    script = Path(__file__).with_name("ray_cluster.py")
    done = subprocess.run(
        [sys.executable, str(script), "--pictures", "200"], capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
