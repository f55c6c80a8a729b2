"""A node's report on a run: shown on the node and returned as its last output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

REPORT_TIP = "What the node did, as text."


def shown(lines: Iterable[str | None], results: Sequence[Any]) -> dict[str, Any]:
    """A node's return value: its outputs, the report as the last one, and the same text for the page (web/js/gpen.js shows it)."""
    text = "\n".join(line for line in lines if line)
    return {"ui": {"text": [text]}, "result": (*results, text)}


def restored_line(restored: int, found: int, model: str) -> str:
    """How many of the detected faces were restored."""
    if not found:
        return ""
    return f"{restored} of {found} faces restored with {model}" if restored < found else f"{count_faces(restored)} restored with {model}"


def chosen_line(chosen: int, found: int) -> str:
    """How many of the detected faces were chosen."""
    if not found:
        return ""
    return f"{chosen} of {count_faces(found)} chosen" if chosen < found else f"{count_faces(found)} found"


def none_line(counts: Sequence[int], threshold: float | None) -> str:
    """In how many pictures no face was found. counts: faces per picture. threshold: the detection threshold; None: the faces were given."""
    empty = sum(1 for count in counts if not count)
    if not empty:
        return ""
    where = "" if len(counts) == 1 else f" in {empty} of {len(counts)} pictures" if empty < len(counts) else f" in {len(counts)} pictures"
    return f"no face found{where}" + ("" if threshold is None else f" (threshold {threshold:g})")


def failed_line(reasons: Sequence[str]) -> str:
    """How many faces could not be restored, and why the first could not."""
    return f"{count_faces(len(reasons))} not restored: {reasons[0]}" if reasons else ""


def kept_line(reasons: Sequence[str]) -> str:
    """How many faces a guard kept as they were, and why the first."""
    return f"{count_faces(len(reasons))} kept: {reasons[0]}" if reasons else ""


def memory_line(on_cpu: bool) -> str:
    return "not enough GPU memory: ran on the CPU" if on_cpu else ""


def count_faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"
