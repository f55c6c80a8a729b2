"""Gives a finished file its name, in place of any file that has it."""

from __future__ import annotations

import time
from pathlib import Path

_HELD = (5, 32)  # Windows' errors for a file that a program has open
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds


def replace(part: Path, target: Path) -> None:
    """Gives `part` the name `target`. On Windows a virus scanner or an indexer may hold either for a moment: tries for 1.5 seconds."""
    for pause in _PAUSES:
        try:
            part.replace(target)
            return
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _HELD:
                raise
        time.sleep(pause)
    part.replace(target)
