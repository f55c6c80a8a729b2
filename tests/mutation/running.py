"""Runs tests in separate processes, to see which lines each test reaches and whether a test notices a mutant.

Where the system can fork, a process is forked after the slow imports; elsewhere it starts from scratch.
"""

from __future__ import annotations

import importlib.machinery
import multiprocessing
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty
from types import CodeType
from typing import Any

import hypothesis
import pytest
from hypothesis import Phase

from .operators import Mutant

ROOT = Path(__file__).resolve().parents[2]
SLOW_IMPORTS = ("cv2", "hypothesis", "numpy", "PIL.Image", "torch")
START = 60.0  # seconds for starting on a busy machine, in addition to the tests' own
Reached = Mapping[tuple[str, int], set[str]]  # (file, line) -> tests


def processes() -> Any:
    forks = "fork" in multiprocessing.get_all_start_methods()
    if forks:
        for name in SLOW_IMPORTS:
            __import__(name)
    return multiprocessing.get_context("fork" if forks else "spawn")


class Recorder:
    """A pytest plugin that records which lines of the files each test reaches, and each test's seconds."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = {str(file) for file in files}
        self._test = ""
        self.lines: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename in self._files else None

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line" and self._test:
            self.lines[frame.f_code.co_filename, frame.f_lineno].add(self._test)
        return self._line

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        self._test = item.nodeid
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            self._test = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)


class Chosen:
    """A pytest plugin that runs only these tests, in this order (quickest first)."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._place = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self._place), key=lambda item: self._place[item.nodeid])


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module from a changed tree."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.file))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._mutant.tree, str(self._mutant.file), "exec", dont_inherit=True)


class _Finder:
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = ".".join(mutant.file.relative_to(ROOT).with_suffix("").parts)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self._name:
            return None
        return importlib.machinery.ModuleSpec(name, _Loader(name, self._mutant), origin=str(self._mutant.file))


def _pytest(arguments: Sequence[str], plugins: Sequence[object], mutant: Mutant | None = None) -> int:
    """Runs pytest silently; meant for a separate process."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # The same examples every time, none stored, and no time spent on shrinking failures.
    hypothesis.settings.register_profile("mutation", database=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
    hypothesis.settings.load_profile("mutation")
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))  # type: ignore[arg-type]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return int(pytest.main([*arguments, "-q", "-p", "no:cacheprovider", "--no-header", "--tb=no"], plugins=list(plugins)))


def _record(results: Any, files: Sequence[Path], tests: Sequence[str]) -> None:
    recorder = Recorder(files)
    code = _pytest(tests, [recorder])
    if code not in (0, 1):  # 1: tests failed; they are listed below
        recorder.failed.append(f"pytest itself, with {code}: an unreadable file?")
    results.put((dict(recorder.lines), dict(recorder.seconds), recorder.failed))


def _try(results: Any, mutant: Mutant, tests: Sequence[str]) -> None:
    # Tests write only into their own temporary folders, so a killed process leaves nothing behind.
    files = sorted({test.partition("::")[0] for test in tests})
    results.put(_pytest([*files, "-x"], [Chosen(tests)], mutant))


def reached(context: Any, files: Sequence[Path], tests: Sequence[str]) -> tuple[Reached, dict[str, float], list[str]]:
    """Runs the tests on unchanged code. Returns (lines -> tests, seconds of each test, failing tests)."""
    return _result(context, _record, (files, tests), 3600.0)


def noticed(context: Any, mutant: Mutant, tests: Sequence[str], seconds: float) -> bool:
    """Whether any of the tests fails with the mutant or does not end in time."""
    return _result(context, _try, (mutant, tests), START + 10 * seconds) != 0


def _result(context: Any, work: Any, arguments: tuple[Any, ...], limit: float) -> Any:
    """The result that `work` puts into its queue; None if it ends without one or not in time."""
    results = context.Queue()
    process = context.Process(target=work, args=(results, *arguments))
    process.start()
    try:
        return results.get(timeout=limit) if _waits(process, results, limit) else None
    except Empty:
        return None
    finally:
        process.kill()
        process.join()


def _waits(process: Any, results: Any, limit: float) -> bool:
    """Waits until there is a result, the process ends or the time is up."""
    left = limit
    while left > 0 and results.empty() and process.is_alive():
        process.join(0.05)
        left -= 0.05
    return process.is_alive() or not results.empty()
