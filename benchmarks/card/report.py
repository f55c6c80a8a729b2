"""What is found, as Markdown and as JSON; parts that fail or do not fit say so and the rest goes on."""

from __future__ import annotations

import gc
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from gpen_core.pictures.disk import whole_file

T = TypeVar("T")
NO_TIME = "skipped: no time left"
NO_STATISTICS = "the device has no memory statistics"


class Clock:
    """The time there is. Every part gets an end, so that those after it have time too."""

    def __init__(self, minutes: float) -> None:
        self.started = time.monotonic()
        self.seconds = 60 * minutes

    def end(self, share: float) -> float:
        """When a part must be over whose end is `share` of the whole time."""
        return self.started + share * self.seconds


def late(end: float) -> bool:
    return time.monotonic() >= end


def attempt(call: Callable[[], T]) -> tuple[T | None, str]:
    """(the call's result, "") or (None, "failed: reason")."""
    try:
        return call(), ""
    except Exception as error:  # a benchmark of many parts: whatever ends one must not end the others
        failure = f"failed: {reason(error)}"
    gc.collect()  # outside the except block, so that the error no longer keeps tensors alive
    return None, failure


def reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


@dataclass
class Section:
    title: str
    head: Sequence[str] = ()
    notes: list[str] = field(default_factory=lambda: [])
    rows: list[list[str]] = field(default_factory=lambda: [])

    def add(self, *cells: object) -> None:
        """A row; cells that are missing at its end stay empty."""
        row = [str(cell) for cell in cells]
        self.rows.append(row + [""] * (len(self.head) - len(row)))
        print(f"  {' | '.join(cell for cell in row if cell)}", flush=True)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", *(line for note in self.notes for line in (note, ""))]
        if self.rows:
            lines += [table_row(self.head), "|" + "---|" * len(self.head), *map(table_row, self.rows), ""]
        return "\n".join(lines)


def table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


class Report:
    """Sections in the order of their numbers; raw: what the tables are made of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.raw: dict[str, Any] = {}
        self._sections: dict[int, Section] = {}

    def section(self, number: int, title: str, *head: str, note: str = "") -> Section:
        print(f"\n{title}", flush=True)
        return self.put(number, Section(title, head, [note] if note else []))

    def put(self, number: int, section: Section) -> Section:
        self._sections[number] = section
        return section

    def markdown(self) -> str:
        return "# On a card\n\n" + "\n".join(section.markdown() for _, section in sorted(self._sections.items()))

    def save(self) -> None:
        """Writes card.md and card.json, each whole or not at all."""
        for name, text in (("card.md", self.markdown()), ("card.json", json.dumps(finite(self.raw), indent=1) + "\n")):
            with whole_file(self.folder / name, overwrite=True) as file:
                file.write(text.encode("utf-8"))


def finite(value: Any) -> Any:
    """The same for JSON, which has no word for NaN and infinity: they become text."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in cast("dict[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in cast("list[Any]", value)]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


class Warnings(logging.Handler):
    """Every different warning of gpen_core: a form that could not run, a retry."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message not in self.messages:
            self.messages.append(message)


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1000 * seconds:.2f}"


def mebibytes(size: int | None) -> str:
    return NO_STATISTICS if size is None else f"{size / (1 << 20):.1f}"
