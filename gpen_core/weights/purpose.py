"""Whether a file restores faces, where its shape fits several tasks. Asked once of each file, for as long as it does not change."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, cast

from ..errors import GpenError, shown

LOG = logging.getLogger("gpen_core.weights")

RECORD_FILE = "restoring.json"
_answers: dict[str, object] = {}  # [length, time, whether it restores] of each file


def restores(path: Path, folder: Path) -> bool:
    """True where the network in the file gives a test face back. Takes seconds, once: the answer is kept in the folder (models/GPEN).

    False as well where it cannot be told: the file cannot be read, or the network gives no numbers. Never raises for what a file holds.
    """
    status = path.stat()
    key, stamp = str(path.resolve()), [status.st_size, status.st_mtime_ns]
    record = folder / RECORD_FILE
    for known in (_answers, _read(record)):
        for answer in (True, False):
            if known.get(key) == [*stamp, answer]:
                return answer
    LOG.info("'%s' has the shape of networks for different tasks: it is tried on a test face", shown(path, 300))
    answer = _ask(path)
    _answers[key] = [*stamp, answer]
    _write(record, key, _answers[key])
    return answer


def _ask(path: Path) -> bool:
    from ..network.load import build_fused
    from ..network.purpose import restores as judge
    from .checkpoint import read_generator

    try:
        return judge(build_fused(read_generator(path)))
    except (GpenError, RuntimeError, MemoryError) as error:  # RuntimeError: torch's, of too little memory
        LOG.debug("'%s' could not be tried: %s", shown(path, 300), shown(error, 300))
        return False


def _read(record: Path) -> dict[str, object]:
    try:
        content: Any = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # nothing is lost with it but seconds
    return cast("dict[str, object]", content) if isinstance(content, dict) else {}


def _write(record: Path, key: str, answer: object) -> None:
    if not record.parent.is_dir():
        return
    part = record.with_name(f"{record.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps({**_read(record), key: answer}, indent=2) + "\n", encoding="utf-8")
        part.replace(record)
    except (OSError, ValueError) as error:  # ValueError: a path that is not Unicode
        LOG.debug("%s was not written (%s)", record, error)
        part.unlink(missing_ok=True)
