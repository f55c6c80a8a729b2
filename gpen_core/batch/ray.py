"""Spreads a job over a Ray cluster: actors get the numbers of shards, and read and write the pictures themselves, on a shared file system.

The records in the job's folder are the only truth. What an actor returns only moves the progress bar, and a shard whose actor is lost goes
to another one, which goes on after the last record.
"""

from __future__ import annotations

import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import FeatureMissingError, GpenError
from .job import JobChangedError, JobFolder, JobStoppedError, Manifest
from .shards import Work, restoring, run_shards

RESTORE = f"{__name__}:restoring_there"
_ROOT = Path(__file__).resolve().parents[2]
_TRIES = 3  # times that a shard's actor, or one that does not even start, may be lost: a picture may be what ends them
_ERRORS = 100  # of a shard, that travel to the first process; the records have them all
_WAIT = 30.0  # seconds between two looks at whether anything can be done at all


def restoring_there(manifest: Manifest, models_dir: str | None) -> Work:
    """The work of an actor: restoring, with the job's settings and the same weights. Raises GpenError if they are not the same there."""
    from ..network.load import find_model
    from ..options import RestoreOptions
    from ..restore.restorer import FaceRestorer
    from ..weights.sums import sha256_of

    names = {option.name for option in RestoreOptions.table()}
    options = RestoreOptions.from_mapping({name: value for name, value in manifest.settings.items() if name in names})
    folder = None if models_dir is None else Path(models_dir)
    if sha256_of(find_model(options.model, folder, task="restore").path) != manifest.weights:
        raise JobChangedError(f"this machine has other weights for {options.model} than the job was begun with")
    return restoring(FaceRestorer(options, models_dir=folder), manifest.settings)


class ShardWorker:
    """What runs on a node. make: "module:function" that makes the work of (manifest, given). Errors are returned as texts."""

    def __init__(self, job: str, make: str, given: Any) -> None:
        self._folder, self._make, self._given = JobFolder(Path(job)), make, given
        self._work: Work | None = None
        self._manifest: Manifest | None = None

    def ready(self) -> str | None:
        """Loads everything; returns what is wrong, or None."""
        try:
            self._manifest = self._folder.manifest()
            if self._manifest is None:
                return (
                    f"there is no job in {self._folder.path} on this machine: its folder must be on a file system that all machines share"
                )
            module, function = self._make.split(":")
            self._work = getattr(importlib.import_module(module), function)(self._manifest, self._given)
        except GpenError as error:
            return str(error)
        return None

    def shard(self, number: int) -> dict[str, Any]:
        """Works on a shard: {"count": new records, "errors": (input, error) of those that failed, "stopped": why it cannot go on}."""
        count, errors = 0, list[tuple[str, str]]()

        def finished(record: dict[str, Any]) -> None:
            nonlocal count
            count += 1
            if record["error"] is not None and len(errors) < _ERRORS:
                errors.append((record["input"], record["error"]))

        stopped = None
        if self._manifest is not None and self._work is not None:
            try:
                run_shards(self._folder, self._manifest, [number], self._work, finished=finished)
            except GpenError as error:
                stopped = str(error)
        return {"count": count, "errors": errors, "stopped": stopped}


def run_on_ray(
    folder: JobFolder,
    shards: Iterable[int],
    *,
    address: str = "",
    workers: int = 0,
    make: str = RESTORE,
    given: Any = None,
    use_cards: bool = True,
    finished: Callable[[dict[str, Any]], None] = lambda told: None,
    warn: Callable[[str], None] = lambda text: None,
) -> None:
    """Works on the shards with the actors of a cluster.

    address: of the cluster; "": a running one, else this machine. workers: how many actors; 0: one for each card, or for each node if there
    are none (or not `use_cards`). given: for `make`. finished: receives what each shard's actor returns.
    Raises FeatureMissingError without Ray, JobStoppedError if no actor can work.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise FeatureMissingError(f"clusters need the package ray ({error}); install it with: pip install ray") from error
    paths = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    ray.init(address=address or None, runtime_env={"env_vars": {"PYTHONPATH": paths}}, log_to_driver=False, logging_level="ERROR")
    try:
        count, needs = _actors(ray, workers, use_cards)
        _Cluster(ray, needs, (str(folder.path.resolve()), make, given), finished, warn).run(deque(shards), count)
    finally:
        ray.shutdown()


def _actors(ray: Any, workers: int, use_cards: bool) -> tuple[int, dict[str, Any]]:
    """(how many actors, what each needs)."""
    resources = ray.cluster_resources()
    cards, cores = int(resources.get("GPU", 0)) if use_cards else 0, int(resources.get("CPU", 1))
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    each = min((node for node in nodes if node), default=1)
    count = workers or cards or max(1, sum(node // each for node in nodes))
    if cards:
        return count, {"num_gpus": min(1.0, cards / count), "num_cpus": 1}
    return count, {"num_cpus": max(1, cores // count) if workers else each}


class _Cluster:
    """The actors of a run, and which shard each works on."""

    def __init__(self, ray: Any, needs: dict[str, Any], given: tuple[Any, ...], finished: Any, warn: Callable[[str], None]) -> None:
        self._ray, self._given, self._finished, self._warn = ray, given, finished, warn
        self._class: Any = ray.remote(ShardWorker).options(**needs, max_restarts=0, scheduling_strategy="SPREAD")
        self._starting: dict[Any, Any] = {}  # what ready() will return: the actor
        self._busy: dict[Any, tuple[Any, int]] = {}  # what shard() will return: the actor and its shard
        self._lost: dict[int, int] = {}  # how often a shard's actor was lost
        self._false_starts = 0

    def run(self, waiting: deque[int], count: int) -> None:
        """Works until no shard waits."""
        for _ in range(min(count, len(waiting))):
            self._start()
        reason = ""
        while waiting or self._busy:
            if not self._starting and not self._busy:
                raise JobStoppedError(f"no machine of the cluster can go on ({reason}); run the job again when that is mended")
            done, _ = self._ray.wait([*self._busy, *self._starting], num_returns=1, timeout=_WAIT)
            if not done and not self._busy:
                self._warn("waiting for the cluster: no machine has free what a worker needs")
            for reference in done:
                reason = self._one(reference, waiting) or reason

    def _start(self) -> None:
        actor = self._class.remote(*self._given)
        self._starting[actor.ready.remote()] = actor

    def _one(self, reference: Any, waiting: deque[int]) -> str | None:
        """Takes what an actor has returned, and gives it the next shard. Returns why it cannot go on, if so."""
        shard: int | None = None
        actor: Any = self._starting.pop(reference, None)
        if actor is None:
            actor, shard = self._busy.pop(reference)
        try:
            told = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # the process or its node is gone; a zombie must not go on beside the next
            self._end(actor)
            return self._replace(shard, waiting, " ".join(str(error).split())[:200])
        if shard is not None:
            self._finished(told)
            told = told["stopped"]
            if told is not None:
                waiting.appendleft(shard)
        if told is not None:
            self._end(actor)
            self._warn(told)
            return told
        self._false_starts = 0
        if waiting:
            number = waiting.popleft()
            self._busy[actor.shard.remote(number)] = (actor, number)
        return None

    def _replace(self, shard: int | None, waiting: deque[int], reason: str) -> str:
        self._warn(f"a worker was lost ({reason})")
        if shard is None:
            self._false_starts += 1
        else:
            self._lost[shard] = self._lost.get(shard, 0) + 1
            if self._lost[shard] < _TRIES:
                waiting.appendleft(shard)
            else:
                self._warn(f"shard {shard} is left: {_TRIES} workers were lost at it; run the job again to try once more")
        if self._false_starts < _TRIES:
            self._start()
        return reason

    def _end(self, actor: Any) -> None:
        with suppress(Exception):  # it is gone already
            self._ray.kill(actor, no_restart=True)
