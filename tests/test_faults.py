"""A fault at any step of a small real run: faults.py. `python -m tests.soak faults` does it at every call, and at lines in between."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import FrameType

import numpy as np
import pytest
from faults import OPTIONS, Fault, HostInterrupt, Spoiler, World, alive, calls, failing, one_fault, one_nan, world

from gpen_core import FaceRestorer, Progress, RestoreOptions
from gpen_core.errors import GpenError


@pytest.fixture(scope="module")
def place() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.mark.parametrize(
    "kinds", [(KeyboardInterrupt, Fault), (MemoryError, KeyboardInterrupt)], ids=["interrupt, fault", "memory, interrupt"]
)
def test_every_function_may_fail(place: World, kinds: tuple[type[BaseException], ...]) -> None:
    """The first call of every third fails, with one error or the other by turns. Every sixth time the next picture is looked at."""
    names = list(dict.fromkeys(calls(lambda: place.run(place.restorer(), "out.png"))))
    steps = ("reading.py", "detect.py", "align.py", "network/run.py", "mask.py", "tone.py", "paste.py", "background.py", "writing.py")
    assert len(names) > 150 and all(any(step in name for name in names) for step in steps)
    turn = kinds[0] is MemoryError
    names = names[turn::3]
    ended = [one_fault(place, name, kinds[number % 2], check=number % 6 == 0) for number, name in enumerate(names)]
    assert place.lost == []
    assert ended.count("raised") > len(ended) * (0.4 if turn else 0.8), ended


@pytest.mark.parametrize("name", ["run_each", "crops", "<genexpr>"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_while_generators_are_closed_is_heard(place: World, name: str) -> None:
    """Python lets no error out of a generator that it closes itself. The last call of each is the one that closes it."""
    seen: list[str] = []

    def trace(frame: FrameType, event: str, _: object) -> None:
        if frame.f_code.co_name == name and frame.f_code.co_filename.endswith(("run.py", "compose.py", "restorer.py")):
            seen.append(event)
            if len(seen) == stop_at:
                raise KeyboardInterrupt

    stop_at = 0
    before = sys.gettrace()
    for _ in range(2):
        seen.clear()
        sys.settrace(trace)
        try:
            if stop_at:
                with pytest.raises(KeyboardInterrupt):
                    place.run(place.restorer(), "out.png")
            else:
                place.run(place.restorer(), "out.png")
        finally:
            sys.settrace(before)
        assert len(seen) >= 3
        stop_at = len(seen)


def test_memory_is_where_it_was(place: World) -> None:
    names = list(dict.fromkeys(calls(lambda: place.run(place.restorer(), "out.png"))))[::12]
    for _ in range(2):  # what is made once, is made now
        for name in names[:3]:
            one_fault(place, name, Fault, check=False)
    before = alive()
    for name in names:
        one_fault(place, name, Fault, check=False)
    assert place.lost == [] and alive() <= before + 5


def test_nan_from_any_function_is_never_pasted(place: World) -> None:
    spoiler = Spoiler()
    with spoiler.used(), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        place.run(place.restorer(), "out.png")
        names = list(spoiler.names)
        assert {"retinaface.predict", "fused.forward", "align.similarity", "mask.landmark_mask", "detail.detail_of_face"} <= set(names)
        first = {name: number for number, name in reversed(list(enumerate(names)))}
        ended = {name: one_nan(place, spoiler, number, name, check=False) for name, number in first.items()}
    place.after(place.restorer(), "all of them")
    assert place.lost == []
    assert ended["fused.forward"] == ended["detail.detail_of_face"] == ended["compose.adjust_tone"] == ended["retinaface.predict"] == "kept"


class Interrupts(Progress):
    """A host that interrupts at the n-th time that it is told something or asked."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def _count(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise HostInterrupt

    def report(self, *_: object, **__: object) -> None:
        self._count()

    def stop(self) -> bool:
        self._count()
        return False


def test_a_host_may_interrupt_whenever_it_is_told_or_asked(place: World) -> None:
    counter = Interrupts(0)
    place.run(place.restorer(counter), "out.png")
    assert counter.count > 10
    for at in range(1, counter.count + 1):
        restorer = place.restorer(Interrupts(at))
        with pytest.raises(HostInterrupt):
            place.run(restorer, "out.png")
        place.files(f"interrupt {at}")
        if at % 4 == 0:
            place.after(restorer, f"interrupt {at}")
    assert place.lost == []


def test_loading_may_fail_at_any_function() -> None:
    """The same restorer loads everything at the next try."""

    def fresh() -> FaceRestorer:
        return FaceRestorer(RestoreOptions(**{**OPTIONS, "model": "GPEN-BFR-256-lite"}))

    names = list(dict.fromkeys(calls(lambda: fresh().prepare())))
    assert len(names) > 30 and any("safetensors" in name for name in names)
    for name in names[::12]:
        restorer, error = fresh(), KeyboardInterrupt()
        try:
            reached = failing(restorer.prepare, name, error)
        except (KeyboardInterrupt, GpenError):
            reached = False
        assert not reached, f"{name}: the interrupt was swallowed"
        restorer.prepare()
        assert restorer.loaded_network.size == 256, name
