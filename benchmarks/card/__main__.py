"""A day with a graphics card in one command, in about ten minutes:

    python -m benchmarks.card --out DIR [--minutes 10] [--only golden network pictures video memory] [--device auto]
                              [--sizes 2048 1024 512 256] [--peers onnxruntime tensorrt]

Writes DIR/card.md, tables that can be put into docs/performance.md, and DIR/card.json, every single figure. What is in it: the machine;
the card's bandwidth and throughput, measured; golden data in three types; times and memory of every way to run the network, beside eager
PyTorch of the official form (tests/official_like.py) and onnxruntime with CUDA if it is installed, alternating in one process; pictures
and a video from file to file; what is left on the card after unloading; and three bars, each met, missed or not measurable there.

A part that fails says why in its table, and the rest goes on. What does not fit into --minutes is left out, and the tables say so; the
largest size comes first. TensorRT (through onnxruntime) is only measured if --peers names it: to build an engine takes minutes, and nothing
can end that. Keep the machine otherwise idle.

With time left on a card: the second stage of the weights that ship, 20 minutes of it. DATA as in docs/training.md. It starts from the
weights that ship, which are the first stage's average; with the first stage's run at hand, leave --start out (the file says runs/longer).

    python -m training.train --config training/configs/lite256-sharp.yaml --data DATA --run runs/sharp --minutes 20 \\
        --batch 32 --workers 8 --start gpen_core/weights/embedded/GPEN-BFR-256-lite.safetensors
    python -m training.export runs/sharp runs/sharp/sharp.safetensors
    python -m training.evaluate ./runs/sharp/sharp.safetensors GPEN-BFR-256-lite --data DATA --faces 200 --sheet runs/sharp/sheet.png

Keep what evaluates better, and look at the sheet: sharper figures have meant ripples and misplaced eyes before.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.card import bars, network, numbers, pictures
from benchmarks.card.device import TYPES, Device, bandwidth, facts, throughput
from benchmarks.card.report import Clock, Report, Section, Warnings, attempt
from benchmarks.network import SHAPES, TRIALS
from gpen_core.runtime import pick_device

PARTS = {"golden": 10, "network": 55, "pictures": 17, "video": 11, "memory": 7}  # and their shares of the time


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card", description="All figures of a graphics card, in one command.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for card.md and card.json")
    parser.add_argument("--minutes", type=float, default=10, help="what does not fit is left out (default: 10)")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS), help="parts to run (default: all)")
    parser.add_argument("--device", default="auto")
    sizes = [*TRIALS, *SHAPES]
    parser.add_argument("--sizes", type=int, nargs="+", default=sorted(SHAPES, reverse=True), choices=sizes, help="of the network")
    parser.add_argument("--types", nargs="+", default=list(TYPES), choices=list(TYPES))
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4, 8], help="faces at once, beside one")
    parser.add_argument("--rounds", type=int, default=20, help="at most, of each way to run the network")
    parser.add_argument("--peers", nargs="*", default=["onnxruntime"], choices=["onnxruntime", "tensorrt"])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.0, 4.0], help="of the pictures")
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 8], help="in them")
    parser.add_argument("--video", type=int, nargs=2, default=(1920, 1080), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--frames", type=int, default=48, help="of the video, at most")
    return parser.parse_args(arguments)


def machine(device: Device, report: Report) -> None:
    section = report.section(1, "Machine", "what", "which")
    report.raw["facts"] = facts(device)
    for name, value in report.raw["facts"].items():
        section.add(name, value)


def speeds(device: Device, report: Report, types: list[str]) -> None:
    section = report.section(2, "What the card can do, measured", "what", "how", "figure")
    raw: dict[str, Any] = report.raw.setdefault("speeds", {"operations a second": {}})
    copied, failure = attempt(lambda: bandwidth(device))
    if copied is None:
        section.add("bandwidth", "", failure)
    else:
        raw["bytes a second"] = copied[0]
        section.add("bandwidth", f"a copy of {copied[1] >> 20} MiB, read and written", f"{copied[0] / 1e9:.0f} GB/s")
    for name in types:
        done, failure = attempt(lambda: throughput(device, TYPES[name]))  # noqa: B023
        if done is None:
            section.add(f"throughput, {name}", "", failure)
        else:
            raw["operations a second"][name] = done[0]
            section.add(f"throughput, {name}", f"a product of matrices of {done[1]} x {done[1]}", f"{done[0] / 1e12:.2f} TFLOPS")
    device.clean()


def picture_sizes(sizes: list[int]) -> list[int]:
    """Networks for whole pictures: that which most use, and the largest."""
    return [size for size in (512, 2048) if size in sizes] or [max(sizes)]


def run(arguments: argparse.Namespace) -> Report:
    """All parts that are asked for. The report is saved after each."""
    report, clock = Report(arguments.out), Clock(arguments.minutes)
    device = Device(pick_device(arguments.device))
    judged = [bars.network_bar(None, None, None), bars.picture_bar({}), bars.memory_bar({})]
    some = picture_sizes(arguments.sizes)
    a = arguments

    def network_part(end: float) -> None:
        network.times(device, report, sizes=a.sizes, types=a.types, batches=a.batches, peers=a.peers, rounds=a.rounds, end=end)
        judged[0] = network.beside(report)

    def picture_part(end: float) -> None:
        judged[1] = pictures.pictures(device, report, some, a.megapixels, a.faces, min(a.rounds, 5), end)

    def memory_part(end: float) -> None:
        judged[2] = pictures.left(device, report, some[0], end)

    parts: dict[str, Callable[[float], None]] = {
        "golden": lambda end: numbers.golden(device, report, a.sizes, a.types, end),
        "network": network_part,
        "pictures": picture_part,
        "video": lambda end: pictures.video(device, report, some[0], tuple(a.video), a.frames, end),
        "memory": memory_part,
    }
    always: dict[str, Callable[[float], None]] = {
        "machine": lambda _: machine(device, report),
        "speeds": lambda _: speeds(device, report, a.types),
    }
    chosen = {name: part for name, part in parts.items() if name in a.only}
    whole, over = sum(PARTS[name] for name in chosen), 0
    failures: list[tuple[str, str]] = []
    heard = Warnings()
    logging.getLogger("gpen_core").addHandler(heard)
    try:
        for name, part in {**always, **chosen}.items():
            over += PARTS.get(name, 0)
            _, failure = attempt(lambda: part(clock.end(over / whole)))  # noqa: B023
            if failure:
                failures.append((name, failure))
                print(f"  {failure}", flush=True)
            finish(report, judged, heard.messages, failures)
    finally:
        logging.getLogger("gpen_core").removeHandler(heard)
    return report


def finish(report: Report, judged: list[bars.Bar], messages: list[str], failures: list[tuple[str, str]]) -> None:
    """Writes the bars, what failed as a whole and what was logged so far, and saves."""
    report.put(0, Section("Bars", ("bar", "verdict", "figures"), rows=[list(bar) for bar in judged]))
    if failures:
        report.put(9, Section("Parts that failed", ("part", "why"), rows=[list(row) for row in failures]))
    if messages:
        report.put(10, Section("What was logged", notes=["\n".join(f"- {message}" for message in messages)]))
    report.raw["bars"] = [bar._asdict() for bar in judged]
    report.raw["failures"], report.raw["logged"] = dict(failures), messages
    report.save()


def main(arguments: Sequence[str] | None = None) -> None:
    report = run(parse(arguments))
    print(f"\n{report.markdown().split('## Machine')[0]}\nWritten: {report.folder / 'card.md'}, {report.folder / 'card.json'}")


if __name__ == "__main__":
    main()
