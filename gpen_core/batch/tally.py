"""Sums up the records of a job in memory that does not grow with their number."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from .histogram import count_face, no_scores, no_sizes
from .job import JobFolder, Manifest

SHOWN = 6  # pictures that changed the most, and the least
ERRORS = 200
SAMPLE = 240  # faces


@dataclass
class Tally:
    """The sums of a job. seconds: what pictures took, each by itself. hours: what the processes ran. least, most: records by change.

    sample: (record, number of the face) of faces drawn by the sums of their names: the same ones every time, whoever worked on the job.
    """

    done: int = 0
    failed: int = 0
    skipped: int = 0
    without_faces: int = 0
    in_tars: int = 0  # pictures
    failed_in_tars: int = 0
    faces: dict[str, int] = field(default_factory=lambda: {})
    sizes: list[int] = field(default_factory=no_sizes)
    scores: list[int] = field(default_factory=no_scores)
    seconds: float = 0.0
    hours: float = 0.0
    bytes: int = 0
    begun: float | None = None
    ended: float | None = None
    errors: list[tuple[str, str]] = field(default_factory=lambda: [])
    _changes: list[list[tuple[float, str, dict[str, Any]]]] = field(default_factory=lambda: [[], []])
    _sample: list[tuple[int, str, int, dict[str, Any]]] = field(default_factory=lambda: [])

    @property
    def least(self) -> list[dict[str, Any]]:
        return [record for _, _, record in sorted(self._changes[0], key=lambda item: (-item[0], item[1]))]

    @property
    def most(self) -> list[dict[str, Any]]:
        return [record for _, _, record in sorted(self._changes[1], key=lambda item: (-item[0], item[1]))]

    @property
    def sample(self) -> list[tuple[dict[str, Any], int]]:
        return [(record, number) for _, _, number, record in sorted(self._sample, key=lambda item: (item[1], item[2]))]

    def add(self, record: dict[str, Any]) -> None:
        """Adds the record of an input."""
        self.seconds += record["seconds"]
        if record["error"] is not None:
            self.failed += 1
            if len(self.errors) < ERRORS:
                self.errors.append((record["input"], record["error"]))
            return
        self.done += 1
        self.skipped += bool(record.get("skipped"))
        self.bytes += record.get("bytes", 0)
        if "tar" in record:
            self._add_tar(record["input"], record["tar"])
            return
        self.without_faces += not record["faces"] and not record.get("skipped")
        for number, face in enumerate(record["faces"]):
            status = face.get("status", "found")
            self.faces[status] = self.faces.get(status, 0) + 1
            count_face(face, self.sizes, self.scores)
            lot = int.from_bytes(blake2b(f"{record['input']}\n{number}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
            _keep(self._sample, (-lot, record["input"], number, record), SAMPLE)
        if "change" in record:
            for changes, sign in zip(self._changes, (-1, 1), strict=True):
                _keep(changes, (sign * record["change"], record["input"], record), SHOWN)

    def _add_tar(self, name: str, tar: dict[str, Any]) -> None:
        """Adds an archive, of whose faces only numbers are known."""
        self.in_tars += tar["pictures"]
        self.failed_in_tars += tar["failed"]
        for status, count in tar["faces"].items():
            self.faces[status] = self.faces.get(status, 0) + count
        for mine, more in ((self.sizes, tar.get("sizes", ())), (self.scores, tar.get("scores", ()))):  # older records have none
            mine[: len(more)] = [a + b for a, b in zip(mine, more, strict=False)]
        for member, error in tar["errors"][: max(0, ERRORS - len(self.errors))]:
            self.errors.append((f"{name}: {member}", error))

    def add_run(self, begun: float, ended: float) -> None:
        """Adds a time in which a process worked on a shard."""
        self.hours += max(0.0, ended - begun) / 3600
        self.begun = begun if self.begun is None else min(begun, self.begun)
        self.ended = ended if self.ended is None else max(ended, self.ended)


def _keep(heap: list[Any], item: tuple[Any, ...], most: int) -> None:
    """Keeps the `most` largest items. The dict at the end does not count; what is there already is not added again."""
    if (len(heap) == most and item[:-1] <= heap[0][:-1]) or any(item[:-1] == other[:-1] for other in heap):
        return
    if len(heap) < most:
        heapq.heappush(heap, item)
    else:
        heapq.heapreplace(heap, item)


def tally_of(folder: JobFolder, shards: Iterable[int]) -> Tally:
    """The sums of all records of these shards."""
    tally = Tally()
    for shard in shards:
        begun: float | None = None
        ended = 0.0
        for line in folder.lines(shard):
            if "input" in line:
                tally.add(line)
                ended = line["at"]
                continue
            if begun is not None:
                tally.add_run(begun, ended)
            begun = ended = line["begun"]
        if begun is not None:
            tally.add_run(begun, ended)
    return tally


def left_of(tally: Tally, manifest: Manifest, shards: Iterable[int]) -> int:
    """How many inputs of these shards have no record."""
    return sum(map(manifest.size_of, shards)) - tally.done - tally.failed
