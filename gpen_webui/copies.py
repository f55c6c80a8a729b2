"""Of two copies of this extension in one WebUI, the first that the host loads works; the other says so."""

from __future__ import annotations

from pathlib import Path

from . import host

HERE = Path(__file__).resolve().parents[1]
_told: set[Path] = set()


def is_in_use(script: str) -> bool:
    """True for a script of the copy whose modules are loaded. For one of another copy, says once which to remove.

    script: its __file__. Python loads a module of a name only once, so another copy's scripts would register this copy's parts again.
    """
    other = Path(script).resolve().parents[1]
    if other == HERE:
        return True
    if other not in _told:
        _told.add(other)
        host.report(f"there are two copies of this extension; {HERE} is used, and {other} is not: remove one of them.")
    return False
