"""Times and memory of every way to run the network, beside the official form and other runtimes, alternating in one process."""

from __future__ import annotations

import importlib
import os
import statistics
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import floor
from benchmarks.card.bars import SIZE, Bar, network_bar
from benchmarks.card.device import MIB, TYPES, Device
from benchmarks.card.report import NO_TIME, Report, Section, attempt, late, mebibytes, milliseconds
from benchmarks.network import exported, official, random_generator
from gpen_core.network import card
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.network.run import run_pictures

OFFICIAL = "official, eager"
WHOLE, STRIPS, EXPERIMENTAL, KERNELS = "fused, whole", "fused, strips", "experimental: kernels and graphs", "experimental: kernels alone"
CALLED = "as called: up, checked, down"
CONTENDERS = (WHOLE, EXPERIMENTAL, KERNELS)  # for the bar: a face on the card, without the ways up and down
BY_WEIGHT = ["float16", "bfloat16", "float32"]  # what matters most comes first
WARM_UPS = 3  # a CUDA graph is recorded in the second run
HEAD = ["size", "form", "type", "batch", "median ms", "ms a face", "faster than official float32", "weights, MiB", "peak beside them, MiB"]


Run = Callable[[], Tensor | None]


@dataclass
class Form:
    """A way to run the network, and what is found. run: gives the result, (N, 3, S, S), if it can be compared."""

    size: int
    name: str
    type: str
    batch: int
    run: Run | None
    weights: int | None = None
    failure: str = ""
    peak: int | None = None
    apart: float | None = None
    seconds: list[float] = field(default_factory=lambda: [])

    @property
    def median(self) -> float | None:
        return statistics.median(self.seconds) if self.seconds else None

    def json(self) -> dict[str, Any]:
        self.run = None
        return {**asdict(self), "median": self.median}


def held(network: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


class Bench:
    """The forms of one size. Their networks are on the device together, so that their turns can alternate."""

    def __init__(self, size: int, device: Device, types: list[str]) -> None:
        self.size, self.device = size, device
        self.types = sorted(types, key=BY_WEIGHT.index)
        self._fused: dict[tuple[str, str], FusedGenerator] = {}
        self.plain = random_generator(size)
        self.pictures = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)

    def form(self, name: str, kind: str, batch: int, make: Callable[[Tensor], tuple[nn.Module | None, Run]]) -> Form:
        """make: gets the pictures on the device, gives the network and how to run it. What cannot be made is a form that failed."""
        made, failure = attempt(lambda: make(self.pictures.expand(batch, -1, -1, -1).to(self.device.device, TYPES[kind]).contiguous()))
        if made is None:
            return Form(self.size, name, kind, batch, None, failure=failure)
        return Form(self.size, name, kind, batch, made[1], None if made[0] is None else held(made[0]))

    def single(self) -> Iterable[Form]:
        """One face, in the order of what matters: if time ends, the last are left out."""

        def plainly(make: Callable[[Generator], nn.Module], kind: str) -> Callable[[Tensor], Any]:
            def build(x: Tensor) -> Any:
                network = make(self.plain).to(self.device.device, TYPES[kind])
                return network, lambda: network(x)

            return build

        yield self.form("plain", "float32", 1, plainly(deepcopy, "float32"))
        for name in (WHOLE, EXPERIMENTAL, KERNELS, STRIPS, CALLED):
            if name in (EXPERIMENTAL, KERNELS) and self.device.device.type != "cuda":
                yield Form(self.size, name, "", 1, None, failure="not here: needs CUDA")
                continue
            for kind in self.types:
                yield self.form(name, kind, 1, lambda x, name=name, kind=kind: self.fused(name, kind, x))
        yield self.form(OFFICIAL, "float32", 1, plainly(official, "float32"))
        for kind in self.types:
            if kind != "float32":
                yield self.form(OFFICIAL, kind, 1, plainly(official, kind))
                yield self.form("plain", kind, 1, plainly(deepcopy, kind))

    def batches(self, sizes: list[int]) -> Iterable[Form]:
        for batch in sizes:
            for kind in self.types:
                if batch > 1:
                    yield self.form(WHOLE, kind, batch, lambda x, kind=kind: self.fused(WHOLE, kind, x))

    def fused(self, name: str, kind: str, x: Tensor) -> tuple[nn.Module, Run]:
        # Graphs belong to a network, and strips end them.
        key = kind, name if name in (EXPERIMENTAL, KERNELS) else WHOLE
        if key not in self._fused:
            self._fused[key] = place(FusedGenerator(self.plain), self.device.device, TYPES[kind])
        network = self._fused[key]
        if name == KERNELS:
            network.graphs.drop()
        x = x.contiguous(memory_format=torch.channels_last)
        if name == CALLED:
            picture = np.ascontiguousarray((self.pictures[0].permute(1, 2, 0) / 2 + 0.5).numpy())

            def call() -> None:
                run_pictures(network, [picture])

            return network, call
        run = lambda: network(x, tiled=name == STRIPS)  # noqa: E731
        return network, (lambda: experimentally(run)) if name in (EXPERIMENTAL, KERNELS) else run

    def peers(self, names: list[str]) -> Iterable[Form]:
        for name in names:
            if find_spec("onnxruntime") is None:
                yield Form(self.size, name, "", 1, None, failure="not here: onnxruntime is not installed")
                continue
            for kind in self.types:
                if kind != "bfloat16":  # neither runs the exported network in it
                    yield self.form(name, kind, 1, lambda x, name=name, kind=kind: (None, self.peer(name, kind, x)))

    def peer(self, name: str, kind: str, x: Tensor) -> Run:
        return onnxruntime_run(name, self.plain, kind, x, self.device)


def experimentally(run: Callable[[], Tensor]) -> Tensor:
    """Runs with the switch of gpen_core/network/card.py on."""
    before = os.environ.get(card.SWITCH)
    os.environ[card.SWITCH] = "experimental"
    try:
        return run()
    finally:
        if before is None:
            del os.environ[card.SWITCH]
        else:
            os.environ[card.SWITCH] = before


PROVIDERS = {"onnxruntime": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


def onnxruntime_run(name: str, plain: Generator, kind: str, x: Tensor, device: Device) -> Callable[[], Tensor]:
    """The official form in onnxruntime, whose CUDA or TensorRT computes it; pictures and results stay on the device."""
    onnxruntime: Any = importlib.import_module("onnxruntime")
    provider = "CPUExecutionProvider" if name == "onnxruntime" and not device.is_card else PROVIDERS[name]
    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"this onnxruntime has no {provider}")
    index = device.device.index or 0
    options = {"device_id": index} if device.is_card else {}
    if name == "tensorrt":
        options["trt_fp16_enable"] = kind == "float16"
    model = exported(cast(Any, official(plain).to(device.device, TYPES[kind])), plain.size)
    session = onnxruntime.InferenceSession(model, providers=[(provider, options)])
    if session.get_providers()[0] != provider:  # it says so on stderr only
        raise RuntimeError(f"onnxruntime cannot start {provider} here")
    result = torch.empty_like(x)
    device.wait()  # onnxruntime does not wait for torch
    where = ("cuda", index) if device.is_card else ("cpu", 0)
    number = np.float16 if kind == "float16" else np.float32
    binding = session.io_binding()
    binding.bind_input("x", *where, number, tuple(x.shape), x.data_ptr())
    binding.bind_output(session.get_outputs()[0].name, *where, number, tuple(x.shape), result.data_ptr())

    def run(_alive: Tensor = x) -> Tensor:  # the binding knows its address only
        session.run_with_iobinding(binding)
        return result

    return run


def measure(
    forms: Iterable[Form], device: Device, end: float, rounds: int, expected: Tensor | None = None
) -> tuple[list[Form], Tensor | None]:
    """Builds and warms up the forms one by one, then times those that ran, in turn.

    expected: the first face; None: that of the plain form in float32, if it is among them. Returned for those to come.
    """
    warm_until = time.monotonic() + 0.6 * (end - time.monotonic())
    done: list[Form] = []
    for form in late_ones_left_out(forms, warm_until):  # built outside inference mode, as hosts build them
        done.append(form)
        if form.run is None:
            continue
        print(f"  warming up: {form.size}, {form.name}, {form.type}, batch {form.batch}", flush=True)
        result = warm_up(form, form.run, device)
        if expected is None and (form.name, form.type) == ("plain", "float32"):
            expected = result
        if result is not None and expected is not None:
            form.apart = float((result - expected).abs().max())
    with torch.inference_mode():
        for number in range(rounds):
            if number and late(end):
                break
            for form in done:
                if form.run is not None and not form.failure:
                    run = form.run
                    spent, form.failure = attempt(lambda: device.seconds(run))  # noqa: B023
                    form.seconds += [] if spent is None else [spent]
    return done, expected


def late_ones_left_out(forms: Iterable[Form], end: float) -> Iterable[Form]:
    for form in forms:
        yield form
        if late(end):
            break


def warm_up(form: Form, run: Run, device: Device) -> Tensor | None:
    """Runs it and finds its memory. Returns its first face."""

    def work() -> Tensor | None:
        with torch.inference_mode():
            run()
            result, form.peak = device.with_peak(run)
            for _ in range(WARM_UPS - 2):
                run()
            return None if result is None else result[:1].float()

    result, form.failure = attempt(work)
    if form.failure:
        form.run = None  # and the memory it holds
        device.clean()
    return result


def print_forms(section: Section, forms: list[Form], base: float | None) -> None:
    for form in forms:
        cells: list[object] = [form.size, form.name, form.type, form.batch]
        if form.median is None:
            section.add(*cells, form.failure or NO_TIME)
            continue
        each = form.median / form.batch
        weights = "" if form.weights is None else f"{form.weights / MIB:.1f}"
        apart = "" if form.apart is None else f"{form.apart:.1e}"
        faster = "" if base is None else f"{base / each:.2f}"
        section.add(*cells, milliseconds(form.median), milliseconds(each), faster, weights, mebibytes(form.peak), apart)


def times(
    device: Device, report: Report, *, sizes: list[int], types: list[str], batches: list[int], peers: list[str], rounds: int, end: float
) -> None:
    note = (
        "Random weights of the official shapes. Medians of calls that take turns, the device waited for before and after each. Apart: the "
        f"largest difference from plain float32 there. Up to {rounds} rounds; what is missing did not fit into the time."
    )
    section = report.section(4, "Network", *HEAD, "apart", note=note)
    raw = report.raw.setdefault("network", [])
    for number, size in enumerate(sizes):
        begin = time.monotonic()
        share = (end - begin) / (len(sizes) - number)
        if late(end):
            section.add(size, "", "", "", NO_TIME)
            continue
        bench, failure = attempt(lambda: Bench(size, device, types))  # noqa: B023
        if bench is None:
            section.add(size, "", "", "", failure)
            continue
        forms, expected = measure(chain(bench.single(), bench.peers(peers)), device, begin + 0.65 * share, rounds)
        official_one = next((form.median for form in forms if (form.name, form.type) == (OFFICIAL, "float32")), None)
        print_forms(section, forms, official_one)
        raw += [form.json() for form in forms]  # their networks go
        del forms
        device.clean()
        forms, _ = measure(bench.batches(batches), device, begin + share, rounds, expected)
        print_forms(section, forms, official_one)
        raw += [form.json() for form in forms]
        report.save()
        del bench, forms
        device.clean()


def beside(report: Report) -> Bar:
    """Table: the fastest form in half precision beside the floor and the published peer. Returns the bar."""
    speeds: dict[str, Any] = report.raw.get("speeds", {})
    note = (
        "Floor: the larger of the time to move the weights and every map once, and to compute the products (benchmarks/floor.py), at this "
        "card's bandwidth and throughput as measured above. VisoMaster: published, float16 with Triton and CUDA graphs on an RTX 4090 "
        "(1008 GB/s by its data sheet), scaled by memory bandwidth. A measured bandwidth is some percent below a data sheet's, which makes "
        "both a little easier to reach."
    )
    head = ("size", "type", "form", "ms", "moved once, MB", "operations, 10^9", "floor, ms", "times the floor")
    title = "Beside the floor and the published peer"
    section = report.section(5, title, *head, "VisoMaster scaled, ms", "ahead by", note=note)
    bar = network_bar(None, None, None)
    found = [form for form in report.raw.get("network", []) if form["name"] in CONTENDERS and form["type"] in ("float16", "bfloat16")]
    found = [form for form in found if form["batch"] == 1 and form["median"] is not None]
    for size in sorted({form["size"] for form in found}):
        best = min((form for form in found if form["size"] == size), key=lambda form: form["median"])
        dtype, seconds, rate = TYPES[best["type"]], best["median"], speeds.get("operations a second", {}).get(best["type"])
        network = floor.fused(size, dtype)
        once, operations = floor.once(network, dtype), floor.counted(network, dtype, False).operations
        moving = speeds.get("bytes a second")
        least = max(once / moving, operations / rate) if moving and rate else None
        peer = scaled_peer(size, moving)
        section.add(
            *(size, best["type"], best["name"], milliseconds(seconds), f"{once / 1e6:.0f}", f"{operations / 1e9:.1f}", milliseconds(least)),
            *("" if least is None else f"{seconds / least:.1f}", milliseconds(peer), "" if peer is None else f"{peer / seconds:.2f}"),
        )
        if size == SIZE and str(report.raw.get("facts", {}).get("device")) != "cpu":
            bar = network_bar(seconds, least, peer, f"{best['name']}, {best['type']}")
    return bar


def scaled_peer(size: int, bandwidth: float | None) -> float | None:
    """Seconds that the published peer would take with this bandwidth; None for a size that it has not published."""
    published_on = next(moved for name, moved, _ in floor.CARDS if name == "RTX 4090")
    return floor.PEER[size] / 1000 * published_on / bandwidth if bandwidth and size in floor.PEER else None
