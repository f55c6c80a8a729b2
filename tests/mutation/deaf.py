"""A pytest plugin that makes every door ignore the setting that a test is about; each such test must then fail.

    python -m pytest -p tests.mutation.deaf tests/test_options_core.py tests/test_options_doors.py tests/a1111/test_a1111_options.py

Lists at the end the tests that did not notice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

_counts: dict[str, list[str]] = {"noticed": [], "not noticed": []}


def _about(item: Any) -> str | None:
    promise = getattr(item, "callspec", None) and item.callspec.params.get("promise")
    return promise and promise.name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Iterator[None]:
    name = _about(item)
    with pytest.MonkeyPatch.context() as patch:
        for module in [module for key, module in sys.modules.items() if key.endswith("gpen_core.options")] if name else []:
            options = module.RestoreOptions
            heard = options.from_mapping
            patch.setattr(options, "from_mapping", lambda values, heard=heard: heard({k: v for k, v in values.items() if k != name}))
        return (yield)


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" and "[" in report.nodeid and "keep" in report.nodeid:
        _counts["noticed" if report.failed else "not noticed"].append(report.nodeid)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("made deaf to one setting")
    terminalreporter.write_line(f"{len(_counts['noticed'])} tests noticed, {len(_counts['not noticed'])} did not")
    for test in _counts["not noticed"]:
        terminalreporter.write_line(f"  {test}")
