"""The benchmarks reach into the core by names, which change."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.floor import Counting, Sums, counted, fused, once
from benchmarks.network import print_table
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


def test_the_networks_table_has_a_row_for_every_form(capsys: pytest.CaptureFixture[str]):
    print_table(Namespace(sizes=[64], rounds=1, peers=[], device="cpu", precisions=["float32", "bfloat16", "float16"]))
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| 64 |")]
    names = ["official, float32", "plain, float32", "ours, float32", "ours, float32, without Winograd", "ours, bfloat16", "ours, float16"]
    assert [row[1] for row in rows] == names
    bounds = [1e-4] * 4 + [0.1, 0.1]  # of random weights
    assert all(float(row[-1].rstrip(" |")) < bound for row, bound in zip(rows, bounds, strict=True))


def test_the_model_of_graphics_cards_counts_what_is_moved_and_multiplied():
    sums = Sums()
    x, weight = torch.empty(1, 8, 6, 6, device="meta"), torch.empty(4, 8, 3, 3, device="meta")
    with torch.no_grad(), Counting(sums):
        y = torch.nn.functional.conv2d(x, weight)[:, :2]  # a view costs nothing
        y.add_(y[:, :1].expand(1, 2, 4, 4))  # two channels and one, which is repeated, are read, and two written
    assert sums.operations == 2 * 4 * 16 * 8 * 9
    assert sums.by_name == {"convolution": 4 * (x.numel() + weight.numel() + 64), "add_": 4 * (32 + 16 + 32)}


def test_kernels_move_less_and_the_floor_is_below_both():
    network = fused(256, torch.float16)
    now, then = counted(network, torch.float16, False), counted(network, torch.float16, True)
    assert once(network, torch.float16) < then.bytes < now.bytes
    assert then.operations == now.operations
    assert then.calls < now.calls
