"""The benchmarks reach into the core by names, which change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.picture import Stopwatch, Unchanged
from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.pictures import read_picture

ROOT = Path(__file__).resolve().parents[1]


def test_every_step_of_the_pipeline_is_timed():
    watch = Stopwatch()
    picture = read_picture(ROOT / "examples" / "portrait.png")
    with watch.on_the_pipeline():
        restored = FaceRestorer(RestoreOptions(colour_match=True, device="cpu"), network=Unchanged(64))(picture)
    assert len(restored.faces) == 1 and np.isfinite(restored.mask).all()
    assert set(watch.seconds) == {"detect", "crop", "network's in and out", "mask", "colour", "paste"}
