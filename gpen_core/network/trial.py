"""Tells whether a weight file restores faces, if its shape fits several tasks, by trying its network on a test face.

Weights for colourisation, inpainting and segmentation-to-face have the same shapes as those for restoration. Only a restoration network
returns a clean face unchanged, together with any change to all or part of it (light from one side, a tint, a white spot). Colourisation
replaces tints, inpainting fills white spots, and segmentation-to-face returns something else altogether.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import GpenError, shown
from ..pixels import Pixels
from ..replacing import replace
from ..weights.checkpoint import read_generator
from .build import build_fused
from .place import place
from .run import run_network

if TYPE_CHECKING:
    from .fused import Network

LOG = logging.getLogger("gpen_core.weights")

RECORD_FILE = "restoring.json"
_answers: dict[str, object] = {}  # [length, time, whether it restores] of each file


def restores(path: Path, folder: Path) -> bool:
    """Whether the network in the file returns a test face unchanged. Takes seconds, once: the answer is stored in the folder (models/GPEN)
    until the file changes.

    Also False if the file cannot be read or the network returns invalid values (NaN). Never raises because of a file's content.
    """
    status = path.stat()
    key, stamp = str(path.resolve()), [status.st_size, status.st_mtime_ns]
    record = folder / RECORD_FILE
    for known in (_answers, _read(record)):
        for answer in (True, False):
            if known.get(key) == [*stamp, answer]:
                return answer
    LOG.info("'%s' could be a network for several tasks; trying it on a test face", shown(path, 300))
    answer = _ask(path)
    _answers[key] = [*stamp, answer]
    _write(record, key, _answers[key])
    return answer


def _ask(path: Path) -> bool:
    try:
        return gives_faces_back(place(build_fused(read_generator(path)), "cpu"))
    except (GpenError, RuntimeError, MemoryError) as error:  # RuntimeError: torch's, of too little memory
        LOG.debug("'%s' could not be tried: %s", shown(path, 300), shown(error, 300))
        return False


def _read(record: Path) -> dict[str, object]:
    try:
        content: Any = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # a lost record costs only seconds
    return cast("dict[str, object]", content) if isinstance(content, dict) else {}


def _write(record: Path, key: str, answer: object) -> None:
    if not record.parent.is_dir():
        return
    part = record.with_name(f"{record.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps({**_read(record), key: answer}, indent=2) + "\n", encoding="utf-8")
        replace(part, record)
    except (OSError, ValueError) as error:  # ValueError: a path that is not Unicode
        LOG.debug("%s was not written (%s)", record, error)
        part.unlink(missing_ok=True)


# The share of a change that must come back. GPEN-BFR-256-lite, the only trained network available, returns 0.9 to 1.0 of each.
LEAST, MOST = 0.5, 1.5
_GRID = 16  # pictures are compared as 16x16 squares: the network may change anything finer


def gives_faces_back(network: Network) -> bool:
    """Whether the network appears to restore faces. Runs it twice."""
    plain, changes = _face(network.size), _changes(network.size)
    before = run_network(network, plain)
    after = run_network(network, np.clip(plain + sum(changes), 0, 1))
    alike = np.corrcoef(_coarse(before), _coarse(plain))[0, 1]
    wanted = np.stack([_coarse(np.clip(plain + change, 0, 1) - plain) for change in changes], axis=1)
    shares, *_ = np.linalg.lstsq(wanted, _coarse(after - before), rcond=None)
    return bool(alike > 0.9 and all(LEAST <= share <= MOST for share in shares))


def _coarse(pixels: Pixels) -> NDArray[np.float64]:
    side = pixels.shape[0] // _GRID
    squares: NDArray[np.float64] = np.reshape(pixels, (_GRID, side, _GRID, side, 3)).mean(axis=(1, 3), dtype=np.float64)
    return np.ravel(squares)


def _oval(size: int, x: float, y: float, width: float, height: float) -> Pixels:
    """1 inside an oval, 0 outside, with a soft edge; centre and radii as shares of the side."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) / size
    distance = np.sqrt(((columns - x) / width) ** 2 + ((rows - y) / height) ** 2)
    return (1 / (1 + np.exp(np.clip((distance - 1) * 12, -50, 50))))[..., None].astype(np.float32)


def _face(size: int) -> Pixels:
    """A smooth picture that resembles an aligned face: hair, skin, eyes, nose, mouth."""
    picture = np.full((size, size, 3), (0.45, 0.5, 0.55), np.float32)
    parts = (
        (_oval(size, 0.5, 0.42, 0.38, 0.42), (0.25, 0.17, 0.12)),
        (_oval(size, 0.5, 0.55, 0.29, 0.38), (0.78, 0.6, 0.5)),
        *((_oval(size, x, 0.47, 0.06, 0.03), (0.2, 0.15, 0.13)) for x in (0.38, 0.62)),
        (_oval(size, 0.5, 0.62, 0.035, 0.03), (0.62, 0.43, 0.36)),
        (_oval(size, 0.5, 0.74, 0.1, 0.03), (0.6, 0.28, 0.27)),
    )
    for where, colour in parts:
        picture += where * (np.asarray(colour, np.float32) - picture)
    return picture


def _changes(size: int) -> tuple[Pixels, ...]:
    """Light from the right, a warm tint, a white spot on a cheek."""
    ramp = np.linspace(-0.12, 0.12, size, dtype=np.float32)[None, :, None]
    light = np.broadcast_to(ramp, (size, size, 3))
    tint = np.broadcast_to(np.asarray((0.06, 0, -0.06), np.float32), (size, size, 3))
    return light, tint, _oval(size, 0.36, 0.64, 0.08, 0.08) * np.asarray((0.22, 0.4, 0.5), np.float32)
