"""python -m benchmarks.card, where there is no card: on the emulated one and on the CPU, in small sizes."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated_card import NAME, Card

from benchmarks.card import __main__ as command
from benchmarks.card import device as measuring
from benchmarks.card import network, numbers, pictures
from benchmarks.card.bars import FLOORS, MET, MISSED, UNKNOWN, WHOLE, memory_bar, network_bar, picture_bar
from benchmarks.card.device import Device
from benchmarks.card.report import NO_STATISTICS, NO_TIME, Report, Section
from benchmarks.floor import PEER

SMALL = ["--sizes", "64", "--batches", "2", "--rounds", "1", "--types", "float32", "--megapixels", "0.1", "--faces", "1"]
SMALL += ["--video", "96", "64", "--frames", "2"]
SECTIONS = {
    "Bars": "command",
    "Machine": "command",
    "What the card can do, measured": "command",
    "Golden data": "golden",
    "Network": "network",
    "Beside the floor and the published peer": "network",
    "Pictures": "pictures",
    "Video": "video",
    "Memory after unloading": "memory",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(measuring, "LARGEST_COPY", 8 * measuring.MIB)
    monkeypatch.setattr(measuring, "LARGEST_MATMUL", 256)
    gc.freeze()  # what is there already need not be looked through at every collection
    yield
    gc.unfreeze()


def run(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    """(card.md, card.json)."""
    command.main(["--out", str(folder), *SMALL, *arguments])
    return (folder / "card.md").read_text("utf-8"), json.loads((folder / "card.json").read_text("utf-8"))


def titles(markdown: str) -> list[str]:
    return re.findall("^## (.*)$", markdown, re.MULTILINE)


def test_all_of_it_runs_on_a_device(card: Card, tmp_path: Path) -> None:
    markdown, raw = run(tmp_path, "--device", NAME)
    assert titles(markdown) == [title for title in SECTIONS] and not raw["failures"]
    assert {row["form"] for row in raw["golden"]} == {"plain", "fused, whole", "fused, strips"}
    assert all(row["apart"][0] <= 2e-5 for row in raw["golden"])
    timed = {(row["name"], row["batch"]): row for row in raw["network"] if row["median"]}
    names = {network.OFFICIAL, "plain", network.WHOLE, network.STRIPS, network.CALLED}
    assert set(timed) == {(name, 1) for name in names} | {(network.WHOLE, 2)}
    assert all(row["peak"] > 0 for row in timed.values()), "the peak of each"
    assert timed[network.WHOLE, 2]["peak"] > 1.5 * timed[network.WHOLE, 1]["peak"], "of two faces"
    assert all(row["apart"] <= 1e-4 for (name, _), row in timed.items() if name != network.CALLED)
    assert [row["faces"] for row in raw["pictures"]] == [1]
    assert raw["video"][0]["frames"] == 2 and 0 < raw["video"][0]["network"] < raw["video"][0]["seconds"]
    assert [bar["verdict"] for bar in raw["bars"]] == [UNKNOWN, UNKNOWN, MET], "nothing is left on the device"
    assert NO_STATISTICS not in markdown


def test_all_of_it_runs_on_the_cpu(tmp_path: Path) -> None:
    markdown, raw = run(tmp_path, "--device", "cpu")
    assert titles(markdown) == [title for title in SECTIONS] and not raw["failures"]
    assert NO_STATISTICS in markdown
    assert [bar["verdict"] for bar in raw["bars"]] == [UNKNOWN] * 3, "none of them is the processor's"


def test_parts_are_chosen(tmp_path: Path) -> None:
    markdown, raw = run(tmp_path, "--device", "cpu", "--only", "golden")
    assert titles(markdown) == [title for title, part in SECTIONS.items() if part in ("command", "golden")]
    assert "network" not in raw


def refuse(*_: object, **__: object) -> Any:
    raise RuntimeError("no kernel image | is available\nand more")


def test_what_fails_is_a_row_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "recipe", refuse)
    monkeypatch.setattr(network, "official", refuse)
    monkeypatch.setattr(command, "bandwidth", refuse)
    markdown, raw = run(tmp_path, "--device", "cpu", "--only", "golden", "network", "memory", "--batches", "1")
    assert raw["failures"] == {"golden": "failed: RuntimeError: no kernel image | is available"}
    assert "| bandwidth |  | failed: RuntimeError: no kernel image / is available |" in markdown
    assert "| 64 | official, eager | float32 | 1 | failed: RuntimeError: no kernel image / is available |" in markdown
    assert {row["name"] for row in raw["network"] if row["median"]} == {"plain", network.WHOLE, network.STRIPS, network.CALLED}
    assert "Memory after unloading" in markdown


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_onnxruntime_computes_the_same(kind: str) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    bench = network.Bench(64, Device(torch.device("cpu")), [kind])
    forms, _ = network.measure(bench.peers(["onnxruntime"]), bench.device, float("inf"), 1, bench.plain(bench.pictures))
    assert [form.failure for form in forms] == [""]
    assert forms[0].apart is not None and forms[0].apart <= (1e-4 if kind == "float32" else 0.02)


def test_a_form_that_fails_in_its_turn_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    device, turns = Device(torch.device("cpu")), []

    def broken() -> None:
        turns.append(len(turns))
        if len(turns) > network.WARM_UPS + 1:
            raise RuntimeError("lost")

    forms = [network.Form(64, "plain", "float32", 1, broken), network.Form(64, "other", "float32", 1, lambda: None)]
    network.measure(forms, device, float("inf"), 3)
    assert forms[0].failure == "failed: RuntimeError: lost" and len(forms[0].seconds) == 1
    assert len(turns) == network.WARM_UPS + 2, "it gets no more turns"
    assert not forms[1].failure and len(forms[1].seconds) == 3


def test_what_does_not_fit_is_skipped(tmp_path: Path) -> None:
    markdown, raw = run(tmp_path, "--device", "cpu", "--minutes", "0")
    assert titles(markdown) == [title for title in SECTIONS]
    for title in ("Golden data", "Network", "Pictures", "Video"):
        rows = markdown.split(f"## {title}\n")[1].split("\n## ")[0].splitlines()
        rows = [row for row in rows if row.startswith("|")][2:]
        assert rows and all(NO_TIME in row for row in rows), title
    assert not raw["failures"] and not raw["network"]


def test_a_video_that_lasts_too_long_ends_early() -> None:
    progress = pictures.UntilLate(end=0.0)  # long ago
    assert not progress.stop(), "one frame is always restored"
    progress.report(1, 9, "frame")
    assert progress.stop()
    seconds = progress.seconds
    progress.report(9, 9, "frame")  # written unchanged
    assert (progress.done, progress.seconds) == (1, seconds)


def test_the_bar_of_the_network() -> None:
    assert network_bar(FLOORS * 0.5, 0.5, 4.1).verdict == MET
    assert network_bar(FLOORS * 0.5 + 0.01, 0.5, 9.0).verdict == MISSED, "not within the floor"
    assert network_bar(0.5, 0.5, 0.5).verdict == MISSED, "level with the peer is not ahead"
    assert network_bar(None, 0.5, 0.5).verdict == network_bar(0.5, None, 0.5).verdict == network_bar(0.5, 0.5, None).verdict == UNKNOWN


def test_the_bar_of_pictures() -> None:
    assert picture_bar({512: (WHOLE, 1.0), 2048: (2.0, 2.0)}).verdict == MET
    bar = picture_bar({512: (WHOLE + 0.01, 1.0), 2048: (2.0, 2.0)})
    assert bar.verdict == MISSED and "512: 1160 ms, network 1000 ms, 1.16 times" in bar.figures
    assert picture_bar({}).verdict == UNKNOWN


def test_the_bar_of_memory() -> None:
    assert memory_bar({"deleted": 0, "moved": 0}).verdict == MET
    assert memory_bar({"deleted": 0, "moved": 512}).verdict == MISSED
    assert memory_bar({"deleted": 0, "moved": None}).verdict == UNKNOWN
    assert memory_bar({}).verdict == UNKNOWN


def figures(seconds: float, *, size: int = 2048, kind: str = "float16", name: str = network.WHOLE, batch: int = 1) -> dict[str, Any]:
    return {"size": size, "name": name, "type": kind, "batch": batch, "median": seconds}


def test_the_fastest_face_in_half_precision_is_judged(tmp_path: Path) -> None:
    report = Report(tmp_path)
    report.raw["facts"] = {"device": "cuda"}
    report.raw["speeds"] = {"bytes a second": 504e9, "operations a second": {"float16": 1e15, "bfloat16": 1e15}}  # half of an RTX 4090's
    best = figures(0.0123, kind="bfloat16", name=network.EXPERIMENTAL)
    others = [figures(0.03), figures(0.001, kind="float32"), figures(0.002, name=network.CALLED), figures(0.001, batch=8)]
    report.raw["network"] = [*others, best, figures(0.001, size=256)]
    bar = network.beside(report)
    assert "12.30 ms (experimental: kernels and graphs, bfloat16)" in bar.figures
    assert network.scaled_peer(2048, 504e9) == pytest.approx(2 * PEER[2048] / 1000) and "42.00 ms" in bar.figures
    assert bar.verdict == MET
    report.raw["speeds"] = {"operations a second": {}}
    assert network.beside(report).verdict == UNKNOWN, "without a bandwidth there is no floor"


def test_only_part_of_the_network_is_measured_within_a_call(card: Card) -> None:
    device = Device(torch.device(NAME))
    restorer = pictures.restorer_for(64, device)
    watch = pictures.NetworkTime(restorer, device)
    faces = pictures.photograph(256, 192, 1, 1)
    with watch.measured():
        restorer(faces)
    assert watch.seconds > 0
    before = watch.seconds
    restorer(faces)
    assert watch.seconds == before


def test_what_is_left_is_noticed(card: Card) -> None:
    device = Device(torch.device(NAME))
    kept = []
    before = device.allocated()
    assert pictures.held_after(lambda: kept.append(torch.zeros(256, device=NAME)), device) == (before + 1024, "")
    assert pictures.held_after(lambda: torch.zeros(256, device=NAME), device) == (before + 1024, "")


def test_json_has_no_numbers_that_are_none(tmp_path: Path) -> None:
    report = Report(tmp_path / "new")
    report.raw["apart"] = [(float("nan"), 1.0), {"peak": float("inf")}]
    report.save()
    read = json.loads((tmp_path / "new" / "card.json").read_text("utf-8"), parse_constant=refuse)
    assert read == {"apart": [["nan", 1.0], {"peak": "inf"}]}


def test_what_a_driver_does_not_tell_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", refuse)
    monkeypatch.setattr(measuring, "driver", lambda: "1.2.3")
    found = measuring.facts(Device(torch.device("cuda")))
    assert found["compute capability"] == "failed: RuntimeError: no kernel image | is available"
    assert found["driver"] == "1.2.3" and found["torch"] == torch.__version__


def test_cells_do_not_break_the_table() -> None:
    section = Section("Title", ("one", "two"))
    section.add("a|b")
    assert section.markdown().splitlines()[-1] == "| a/b |  |"
