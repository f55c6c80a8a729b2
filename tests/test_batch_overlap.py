"""Overlapped reading, restoring and writing: order, errors, files that depend on each other, memory, interrupts."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.batch import run as batch
from gpen_core.batch.run import Job, plan_outputs, run_batch


def picture(path: Path, colour=(10, 20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), colour).save(path)
    return path


def run(inputs, out, restorer=None, *, compare=False, **settings):
    return list(run_batch(plan_outputs(inputs, out, compare=compare), restorer or StubRestorer(), **settings))


def gpen_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gpen-")]


class Gate:
    """Makes chosen calls of a function wait until the test opens the gate; signals when it is reached."""

    def __init__(self, function, at=lambda *arguments: True):
        self.function, self.at = function, at
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, *arguments, **settings):
        if self.at(*arguments):
            self.reached.set()
            assert self.opened.wait(30)
        return self.function(*arguments, **settings)


def test_the_next_is_read_and_the_one_before_written_beside_the_work(tmp_path, monkeypatch):
    """2.png is read while 1.png is being restored and 0.png is still being written: that needs three threads."""
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(3)]
    write = Gate(batch.write_picture, at=lambda image, path: path.name == "0.png")
    monkeypatch.setattr(batch, "write_picture", write)
    read_it = threading.Event()

    def read(path, plain=batch.read_picture):
        if path.name == "2.png":
            read_it.set()
        return plain(path)

    monkeypatch.setattr(batch, "read_picture", read)

    class Watcher(StubRestorer):
        def __call__(self, picture, *, faces=None):
            if self.calls == 1:
                assert write.reached.wait(30) and read_it.wait(30)
                write.opened.set()
            return super().__call__(picture, faces=faces)

    results = run(inputs, tmp_path / "out", Watcher())
    assert [result.error for result in results] == [None] * 3
    assert [result.job.source for result in results] == inputs
    assert not gpen_threads()


class Counter:
    """Counts how many of its objects are alive, now and at most."""

    def __init__(self):
        self.most, self._references = 0, []

    def add(self, thing):
        self._references.append(weakref.ref(thing))
        self.most = max(self.most, self.alive)

    @property
    def alive(self):
        return sum(reference() is not None for reference in self._references)


@pytest.mark.parametrize("compare", [False, True])
def test_few_pictures_are_alive_at_once(tmp_path, monkeypatch, compare):
    """One ahead, one in work, one being written (as it was too where a sheet is made). A failed one is let go of as well."""
    was_read, was_made = Counter(), Counter()

    def read(path, plain=batch.read_picture):
        done = plain(path)
        was_read.add(done.pixels)
        return done

    monkeypatch.setattr(batch, "read_picture", read)

    class Counting(StubRestorer):
        def __call__(self, picture, *, faces=None):
            held = picture.pixels  # what the traceback of a failure would keep alive
            done = super().__call__(picture, faces=faces)
            assert held is not done.image.pixels
            was_made.add(done.image.pixels)
            return done

    restorer = Counting()
    restorer.fail_at = {3}
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(8)]
    results = run(inputs, tmp_path / "out", restorer, compare=compare)
    assert [result.error is None for result in results] == [index != 3 for index in range(8)] and results[3].failure is not None
    assert was_read.alive == was_made.alive == 0
    assert was_read.most <= (3 if compare else 2) and was_made.most <= 2


def test_a_slow_writer_holds_the_work_back(tmp_path, monkeypatch):
    write = Gate(batch.write_picture, at=lambda image, path: path.name == "0.png")
    monkeypatch.setattr(batch, "write_picture", write)
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(5)]
    restorer = StubRestorer()
    told: list[str] = []
    runner = threading.Thread(
        target=lambda: told.extend(result.job.source.name for result in run_batch(plan_outputs(inputs, tmp_path / "out"), restorer))
    )
    runner.start()
    assert write.reached.wait(30)
    runner.join(0.3)
    assert runner.is_alive() and restorer.calls <= 2 and told == []
    write.opened.set()
    runner.join(30)
    assert restorer.calls == 5 and told == [f"{index}.png" for index in range(5)]


def test_a_failing_write_is_that_jobs_error(tmp_path, monkeypatch):
    def write(image, path, plain=batch.write_picture, **settings):
        if path.name == "1.png":
            raise OSError("the disk is on fire")
        return plain(image, path, **settings)

    monkeypatch.setattr(batch, "write_picture", write)
    results = run([picture(tmp_path / f"{index}.png") for index in range(3)], tmp_path / "out")
    assert [result.error is None for result in results] == [True, False, True]
    assert "the disk is on fire" in (results[1].error or "") and results[1].output is None
    assert results[1].faces  # it was restored


def test_every_input_is_overwritten_in_place(tmp_path):
    """Each output is its own input: none is read before it is its turn to be, none is lost."""
    inputs = [picture(tmp_path / f"{index}.png", colour=(index, index, index)) for index in range(6)]
    results = run([tmp_path], tmp_path, overwrite=True)
    assert [result.error for result in results] == [None] * 6
    for index, path in enumerate(inputs):
        pixels = np.asarray(Image.open(path))
        assert pixels[0, 0].tolist() == [255] * 3 and pixels[-1, -1].tolist() == [index] * 3


def test_a_job_waits_for_the_file_that_an_earlier_one_writes(tmp_path, monkeypatch):
    """b.png is the first job's output and the second's input; c.png is the output of two."""
    a, b, c = picture(tmp_path / "a.png", colour=(9, 9, 9)), tmp_path / "b.png", tmp_path / "c.png"
    jobs = [Job(a, b, name=Path("b.png")), Job(b, c, name=Path("c.png")), Job(a, c, name=Path("c.png"))]
    done = list(run_batch(jobs, StubRestorer(), skip_existing=True))
    assert [(result.error, result.skipped) for result in done] == [(None, False), (None, False), (None, True)]
    assert np.asarray(Image.open(c))[-1, -1].tolist() == [9, 9, 9]
    b.unlink()
    c.unlink()
    done = list(run_batch(jobs, StubRestorer()))
    assert [result.error is None for result in done] == [True, True, False] and "already exists" in (done[2].error or "")
    # An input that is overwritten by the job before it is read as it is then.
    done = list(run_batch([Job(a, b, name=Path("b.png")), Job(b, b, name=Path("b.png"))], StubRestorer(), overwrite=True))
    assert [result.error for result in done] == [None, None]


@pytest.mark.parametrize("where", ["work", "begin"])
def test_an_interrupt_tells_of_what_is_written_and_ends_the_threads(tmp_path, monkeypatch, where):
    class Stopped(KeyboardInterrupt):
        pass

    write = Gate(batch.write_picture, at=lambda image, path: path.name == "1.png")
    monkeypatch.setattr(batch, "write_picture", write)

    class Interrupted(StubRestorer):
        def prepare(self):
            super().prepare()
            if where == "begin" and self.prepared == 3:
                self.interrupt()

        def __call__(self, picture, *, faces=None):
            if where == "work" and self.calls == 2:
                self.interrupt()
            return super().__call__(picture, faces=faces)

        def interrupt(self):
            """While 1.png is being written."""
            assert write.reached.wait(30)
            write.opened.set()
            raise Stopped

    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(5)]
    told = []
    with pytest.raises(Stopped):
        for result in run_batch(plan_outputs(inputs, tmp_path / "out"), Interrupted()):
            told.append(result.job.source.name)
    assert told == ["0.png", "1.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]
    assert not gpen_threads()


def test_nobody_asks_for_more(tmp_path):
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(5)]
    restorer = StubRestorer()
    results = run_batch(plan_outputs(inputs, tmp_path / "out"), restorer)
    assert next(results).job.source == inputs[0]
    results.close()
    assert not gpen_threads()
    # All that was restored is written, whole.
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{index}.png" for index in range(restorer.calls)] and restorer.calls <= 2


def test_faces_are_looked_for_ahead_where_the_network_has_a_device_of_its_own(tmp_path, monkeypatch):
    seen: list[tuple[str, object]] = []

    class Looking(StubRestorer):
        def detect(self, picture):
            if self.calls == 0 and seen:  # the second picture's, while the first is restored
                ahead.set()
            seen.append((threading.current_thread().name, picture))
            return super().detect(picture)

        def __call__(self, picture, *, faces=None):
            assert faces is not None and len(faces) == 2
            if self.calls == 0:
                assert ahead.wait(30)
            return super().__call__(picture, faces=faces)

    ahead = threading.Event()
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(3)]
    monkeypatch.setattr(batch, "_computes_elsewhere", lambda restorer: True)
    assert [result.error for result in run(inputs, tmp_path / "out", Looking())] == [None] * 3
    assert len(seen) == 3 and seen[1][0].startswith("gpen-read")

    class Blind(StubRestorer):
        def detect(self, picture):
            raise RuntimeError("I see nothing")

    results = run(inputs, tmp_path / "out2", Blind())  # a separate error for each
    assert all("I see nothing" in (result.error or "") for result in results)
    monkeypatch.undo()
    assert [result.error for result in run(inputs, tmp_path / "out2", Blind())] == [None] * 3


def test_jobs_are_announced_as_their_turn_comes(tmp_path):
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(3)]
    steps: list[str] = []

    class Noting(StubRestorer):
        def __call__(self, picture, *, faces=None):
            steps.append("restored")
            return super().__call__(picture, faces=faces)

    list(run_batch(plan_outputs(inputs, tmp_path / "out"), Noting(), started=lambda job: steps.append(job.source.name)))
    assert steps == ["0.png", "restored", "1.png", "restored", "2.png", "restored"]


def test_seconds_are_those_spent_on_the_picture(tmp_path, monkeypatch):
    """Not those it waited while another one was worked on: the clock is the test's."""
    now = {"main": 0.0, "gpen-read": 0.0, "gpen-write": 0.0}

    def clock():
        name = threading.current_thread().name
        return now[next((part for part in now if name.startswith(part)), "main")]

    def spending(function, seconds, thread):
        def spend(*arguments, **settings):
            name = threading.current_thread().name
            now[next((part for part in now if name.startswith(part)), "main")] += seconds
            return function(*arguments, **settings)

        return spend

    monkeypatch.setattr(batch.time, "perf_counter", clock)
    monkeypatch.setattr(batch, "read_picture", spending(batch.read_picture, 1.0, "read"))
    monkeypatch.setattr(batch, "write_picture", spending(batch.write_picture, 4.0, "write"))
    monkeypatch.setattr(StubRestorer, "__call__", spending(StubRestorer.__call__, 16.0, "main"))
    inputs = [picture(tmp_path / "in" / f"{index}.png") for index in range(3)]
    assert [result.seconds for result in run(inputs, tmp_path / "out")] == [21.0] * 3
