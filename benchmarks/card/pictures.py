"""Whole pictures and a video, and what is left on the device after unloading."""

from __future__ import annotations

import gc
import inspect
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.card.bars import Bar, memory_bar, picture_bar
from benchmarks.card.device import Device
from benchmarks.card.network import experimentally
from benchmarks.card.report import NO_STATISTICS, NO_TIME, Report, attempt, late, milliseconds
from benchmarks.network import random_generator
from benchmarks.picture import photograph
from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.network.run import run_network
from gpen_core.pictures import from_array, read_picture, write_picture
from gpen_core.progress import Progress
from gpen_core.runtime import pick_dtype
from gpen_core.video.restore import load_av, restore_video

BAR = (4.0, 8)  # megapixels and faces of the bar


def restorer_for(size: int, device: Device) -> FaceRestorer:
    """A restorer as it is by default on that device, with random weights of the official shape."""
    network = place(FusedGenerator(random_generator(size)), device.device, pick_dtype("auto", device.device))
    return FaceRestorer(RestoreOptions(device=str(device.device)), network=network)


class NetworkTime:
    """Within `measured`, seconds that a restorer's network takes, however it is called; the device is waited for before and after."""

    def __init__(self, restorer: FaceRestorer, device: Device) -> None:
        self.seconds = 0.0
        self._network, self._device = restorer.loaded_network, device

    @contextmanager
    def measured(self) -> Generator[None, None, None]:
        started = 0.0

        def before(*_: Any) -> None:
            nonlocal started
            self._device.wait()
            started = time.perf_counter()

        def after(*_: Any) -> None:
            self._device.wait()
            self.seconds += time.perf_counter() - started

        hooks = [self._network.register_forward_pre_hook(before), self._network.register_forward_hook(after)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def pictures(device: Device, report: Report, sizes: list[int], megapixels: list[float], counts: list[int], rounds: int, end: float) -> Bar:
    auto = str(pick_dtype("auto", device.device)).removeprefix("torch.")
    note = (
        f"The restorer as it is by default here (precision auto: {auto}), random weights. Call: from a picture in memory to "
        "another, finding the faces included. Network: its forward passes within such a call, the device waited for before and "
        "after each. Files are JPEG."
    )
    head = ("network", "picture, MP", "faces", "faces found", "call, ms", "network, ms", "call / network", "file to file, ms")
    section = report.section(6, "Pictures", *head, "pictures a second", note=note)
    raw = report.raw.setdefault("pictures", [])
    for_bar: dict[int, tuple[float, float]] = {}

    def of_size(size: int, folder: Path) -> None:
        restorer = restorer_for(size, device)
        for area, faces in sorted(((area, faces) for area in megapixels for faces in counts), reverse=True):
            if late(end):
                section.add(size, f"{area:g}", faces, NO_TIME)
                continue
            found, failure = attempt(lambda: one_picture(restorer, device, area, faces, folder, rounds, end))  # noqa: B023
            if found is None:
                section.add(size, f"{area:g}", faces, failure)
                continue
            call, network, whole = found["call"], found["network"], found["file to file"]
            times = (milliseconds(call), milliseconds(network), f"{call / network:.2f}" if network else "", milliseconds(whole))
            section.add(size, f"{area:g}", faces, found["faces"], *times, f"{1 / whole:.2f}")
            raw.append({"size": size, "megapixels": area, "wanted": faces, **found})
            if (area, faces) == BAR and found["faces"] == faces and device.is_card:
                for_bar[size] = call, network

    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            _, failure = attempt(lambda: of_size(size, Path(folder)))  # noqa: B023
            if failure:
                section.add(size, "", "", failure)
            device.clean()
    return picture_bar(for_bar)


def one_picture(restorer: FaceRestorer, device: Device, area: float, faces: int, folder: Path, rounds: int, end: float) -> dict[str, Any]:
    """Medians, after one call to warm up."""
    height = round((area * 1e6 * 7 / 9) ** 0.5)
    rows = 2 if faces % 2 == 0 and faces > 2 else 1
    numbers = photograph(round(height * 9 / 7), height, faces // rows, rows)
    picture = from_array(numbers)
    source = write_picture(picture, folder / "in.jpg", overwrite=True)
    found = len(restorer(picture).faces)
    calls: list[float] = []
    networks: list[float] = []
    files: list[float] = []

    def from_file() -> None:
        write_picture(restorer(read_picture(source)).image, folder / "out.jpg", overwrite=True)

    for number in range(rounds):
        if number and late(end):
            break
        calls.append(device.seconds(lambda: restorer(picture)))
        watch = NetworkTime(restorer, device)
        with watch.measured():
            restorer(picture)
        networks.append(watch.seconds)
        files.append(device.seconds(from_file))
    medians = {"call": statistics.median(calls), "network": statistics.median(networks), "file to file": statistics.median(files)}
    return {"faces": found, **medians, "calls": calls, "networks": networks, "files": files}


class UntilLate(Progress):
    """Stops at the end of the time there is. done: frames before that, seconds: until the last of them was done."""

    def __init__(self, end: float) -> None:
        self.end, self.started = end, time.monotonic()
        self.done, self.seconds = 0, 0.0

    def report(self, done: int, total: int, what: str, preview: Any = None) -> None:
        if not self.stop() or not self.done:
            self.done, self.seconds = done, time.monotonic() - self.started

    def stop(self) -> bool:
        return self.done > 0 and late(self.end)


def make_video(path: Path, width: int, height: int, frames: int) -> None:
    """Two faces that move a little, in H.264."""
    av = load_av()
    still = photograph(width, height, 2, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            moved = np.ascontiguousarray(np.roll(still, number % 16, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
        container.mux(stream.encode(None))


def video(device: Device, report: Report, size: int, shape: tuple[int, int], frames: int, end: float) -> None:
    width, height = shape
    head = ("network", "video", "decoded and encoded by", "frames restored", "faces", "seconds", "frames a second", "network's share")
    section = report.section(7, "Video", *head, note="From file to file, H.264, the restorer by default, two faces in a frame.")
    raw = report.raw.setdefault("video", [])
    restorer = restorer_for(size, device)
    # A keyword of restore_video that not every version has.
    coders = {"CPU": False, "card": True} if "on_card" in inspect.signature(restore_video).parameters else {"CPU": False}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mp4"
        make_video(source, width, height, frames)
        restorer(photograph(width, height, 2, 1))  # kernels are chosen for this shape
        for coder, on_card in coders.items():
            cells = (size, f"{width}x{height}", coder)
            if late(end) or (on_card and device.device.type != "cuda"):
                section.add(*cells, NO_TIME if late(end) else "not here: needs CUDA")
                continue
            progress, watch = UntilLate(end), NetworkTime(restorer, device)
            extra: dict[str, Any] = {"on_card": True} if on_card else {}

            def run() -> int:
                with watch.measured():  # noqa: B023
                    result = restore_video(source, Path(folder) / "out.mp4", restorer, overwrite=True, progress=progress, **extra)  # noqa: B023
                return len(result.faces)

            faces, failure = attempt(run)
            if failure:
                section.add(*cells, failure)
                continue
            rate = progress.done / progress.seconds
            share = f"{watch.seconds / progress.seconds:.2f}"
            section.add(*cells, f"{progress.done} of {frames}", faces, f"{progress.seconds:.1f}", f"{rate:.2f}", share)
            raw.append({"size": size, "coder": coder, "frames": progress.done, "seconds": progress.seconds, "network": watch.seconds})


def left(device: Device, report: Report, size: int, end: float) -> Bar:
    """What stays on the device after every way of unloading. Each is done twice: what the first leaves may be CUDA's own, for good."""
    note = "Bytes of tensors on the device that were not there before. Everything is unloaded twice; the bar is judged by the second time."
    section = report.section(8, "Memory after unloading", "way", "left the first time, bytes", "the second time, bytes", note=note)
    raw = report.raw.setdefault("left", {})
    network = FusedGenerator(random_generator(size))

    def moved(use: Callable[[FusedGenerator], object]) -> FusedGenerator:
        use(place(network, device.device, pick_dtype("auto", device.device)))
        return place(network, "cpu")

    ways: dict[str, Callable[[], object]] = {
        "restorer deleted": lambda: restorer_for(size, device)(photograph(576, 448, 1, 1)),
        "network moved to the CPU": lambda: moved(run_face),
        "network moved after strips": lambda: moved(lambda network: run_face(network, tiled=True)),
        "network moved after an error within": lambda: moved(interrupted),
    }
    if device.device.type == "cuda":
        ways["network moved after graphs"] = lambda: moved(with_graphs)
    device.clean(libraries=True)
    before = device.allocated()
    if before is None:
        section.add("", NO_STATISTICS, NO_STATISTICS)
        return memory_bar({})
    second: dict[str, int | None] = {}
    for way, use in ways.items():
        if late(end):
            section.add(way, NO_TIME)
            second[way] = None
            continue
        found: list[int] = []
        failure = ""
        for _ in range(2):
            after, why = held_after(use, device)
            found.append(after - before)
            before, failure = after, failure or why
        section.add(way, *([failure] if failure else found))
        second[way] = None if failure else found[1]
        raw[way] = {"bytes": found, "failure": failure}
    return memory_bar(second)


def held_after(use: Callable[[], object], device: Device) -> tuple[int, str]:
    """(bytes that are on the device after it, why it failed). A network that `use` returns is kept until then."""
    kept, failure = attempt(use)
    if not isinstance(kept, FusedGenerator):  # that is on the CPU now, and must have left nothing behind
        kept = None
    device.clean(libraries=True)
    del kept
    return device.allocated() or 0, failure


def run_face(network: FusedGenerator, **how: Any) -> None:
    run_network(network, np.full((network.size, network.size, 3), 0.5, np.float32), **how)


class Interrupted(Exception):
    pass


def interrupted(network: FusedGenerator) -> None:
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        if asked > 3:
            raise Interrupted

    try:
        run_face(network, ask=ask)
    except Interrupted:
        gc.collect()


def with_graphs(network: FusedGenerator) -> None:
    weight = next(network.parameters())
    x = torch.zeros(1, 3, network.size, network.size, device=weight.device, dtype=weight.dtype)
    with torch.inference_mode():
        for _ in range(3):
            experimentally(lambda: network(x))
