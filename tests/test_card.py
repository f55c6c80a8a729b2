"""What is off by default because no card has measured it: graphs keep their books, and the plain form runs after any failure."""

from __future__ import annotations

import copy
import gc
import importlib.util
import logging
import os
import subprocess
import sys
import types
import weakref
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from gpen_core.network import card
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.weights.architecture import Architecture

ROOT = Path(__file__).resolve().parents[1]
HAS_TRITON = importlib.util.find_spec("triton") is not None and importlib.util.find_spec("triton.backends") is not None
needs_triton = pytest.mark.skipif(not HAS_TRITON, reason="needs Triton 3, whose kernels run without a card (Linux; pip install triton)")


class Calls(TorchDispatchMode):
    """Records what torch computes, with the very tensors, as a graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


class StandIn:
    """torch.cuda.CUDAGraph for the processor: computes once more what was recorded, from and into the same memory."""

    alive: ClassVar[weakref.WeakSet[StandIn]] = weakref.WeakSet()
    replays = 0

    def __init__(self) -> None:
        self.record = Calls()
        StandIn.alive.add(self)

    def replay(self) -> None:
        StandIn.replays += 1
        for func, args, kwargs, before in self.record.calls:
            now = func(*args, **kwargs)
            for old, new in zip(tree_flatten(before)[0], tree_flatten(now)[0], strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def cards(monkeypatch):
    """Graphs on the processor; no kernels."""

    @contextmanager
    def recording(graph, capture_error_mode):
        assert capture_error_mode == "thread_local"
        with graph.record:
            yield

    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(card, "wanted", lambda x: True)
    monkeypatch.setattr(card, "_failed", {"finish", "low_pass"})
    StandIn.alive.clear()
    StandIn.replays = 0
    names = {"CUDAGraph": StandIn, "graph": recording, "Stream": lambda: stream, "get_allocator_backend": lambda: "native"}
    names |= {"current_stream": lambda *_: stream, "default_stream": lambda *_: stream}
    names |= {"stream": lambda _: nullcontext(), "device": lambda _: nullcontext()}
    for name, value in names.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return monkeypatch


def network(size: int = 64) -> FusedGenerator:
    torch.default_generator.manual_seed(5)
    plain = Generator(Architecture(size, 1, 0.0625)).eval().requires_grad_(False)
    for name, parameter in plain.named_parameters():
        if name.endswith("noise.weight"):
            parameter.fill_(0.3)
    return FusedGenerator(plain)


def pictures(count: int, batch: int = 1) -> list[torch.Tensor]:
    return [torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def eager(net: FusedGenerator, x: torch.Tensor) -> torch.Tensor:
    return net.whole(x.contiguous(memory_format=torch.channels_last))


def test_the_one_switch(monkeypatch):
    on_card, elsewhere = types.SimpleNamespace(is_cuda=True), types.SimpleNamespace(is_cuda=False)
    monkeypatch.delenv(card.SWITCH, raising=False)
    assert not card.wanted(on_card)
    for value, expected in (("", False), ("1", False), ("experimental", True), (" Experimental ", True)):
        monkeypatch.setenv(card.SWITCH, value)
        assert card.wanted(on_card) is expected
        assert not card.wanted(elsewhere)


def test_off_nothing_is_tried(monkeypatch):
    monkeypatch.delenv(card.SWITCH, raising=False)
    monkeypatch.setattr(card, "importlib", None)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", None)
    net, (x,) = network(), pictures(1)
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("inference", [False, True])
def test_the_second_use_records_and_later_ones_replay(cards, inference):
    net = network()
    with torch.inference_mode(inference):
        for count, x in enumerate(pictures(4)):
            assert torch.equal(net(x), eager(net, x))
            assert (len(StandIn.alive), StandIn.replays) == ((0, 0) if count == 0 else (1, count))
    with torch.inference_mode(not inference):  # hosts go in and out of it
        x = pictures(1)[0]
        assert torch.equal(net(x), eager(net, x))
    assert StandIn.replays == 4


def test_a_result_stays_when_the_next_one_is_computed(cards):
    net = network()
    first, second, third = pictures(3)
    net(first)
    kept = net(second)
    net(third)
    assert torch.equal(kept, eager(net, second))


def test_every_batch_and_type_has_its_own_graph_up_to_a_number(cards):
    net = network()
    for batch in range(1, card.MOST_GRAPHS + 3):
        for x in pictures(3, batch):
            assert torch.equal(net(x), eager(net, x))
    assert len(StandIn.alive) == card.MOST_GRAPHS


@pytest.mark.parametrize("move", [lambda net: place(net, "cpu", torch.bfloat16), lambda net: net.to("cpu"), lambda net: net.float()])
def test_graphs_are_gone_when_weights_move(cards, move):
    net = network()
    x, y = pictures(2)
    net(x), net(y)
    assert len(StandIn.alive) == 1
    move(net)
    gc.collect()
    assert len(StandIn.alive) == 0
    dtype = next(net.encodings.parameters()).dtype
    for x in pictures(3):
        assert torch.equal(net(x.to(dtype)), eager(net, x.to(dtype)))
    assert len(StandIn.alive) == 1


def test_strips_which_are_for_little_memory_end_the_graphs(cards):
    net = network()
    x, y = pictures(2)
    net(x), net(y)
    net(x, tiled=True)
    gc.collect()
    assert len(StandIn.alive) == 0
    net(x), net(y), net(x)
    assert len(StandIn.alive) == 0


def test_a_copy_has_graphs_of_its_own(cards):
    net = network()
    x, y = pictures(2)
    net(x), net(y)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.constant.mul_(2)
    assert torch.equal(other(x), eager(other, x))
    assert torch.equal(other(y), eager(other, y))
    assert torch.equal(net(x), eager(net, x))


@pytest.mark.parametrize("where", ["CUDAGraph", "graph", "Stream", "replay"])
@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing\nmore"), MemoryError()])
def test_after_any_failure_the_eager_form_results(cards, where, error, caplog):
    def fails(*args, **kwargs):
        raise type(error)(*error.args)  # anew: an error keeps the frames that it went through

    cards.setattr(StandIn if where == "replay" else torch.cuda, where, fails)
    net = network()
    with caplog.at_level(logging.WARNING):
        for x in pictures(4):
            assert torch.equal(net(x), eager(net, x))
    gc.collect()
    assert len(StandIn.alive) == 0
    assert len(caplog.records) == 1 and "without" in caplog.text and "\nmore" not in caplog.text


def test_a_recording_asks_no_host(cards):
    """What a host raises to stop must not end inside a recording, where it would look like a failure of the graph."""

    def ask():
        assert not torch.utils._python_dispatch._get_current_dispatch_mode()

    net = network()
    for x in pictures(3):
        net(x, ask=ask)
    assert StandIn.replays == 2


@pytest.mark.parametrize(("name", "value"), [("get_allocator_backend", lambda: "cudaMallocAsync"), ("current_stream", lambda *_: None)])
def test_where_a_host_forbids_graphs_there_are_none(cards, name, value):
    cards.setattr(torch.cuda, name, value)
    net = network()
    for x in pictures(3):
        assert torch.equal(net(x), eager(net, x))
    assert len(StandIn.alive) == 0


def test_kernels_that_fail_are_said_once_and_the_plain_form_results(monkeypatch, caplog):
    net, (x, y) = network(), pictures(2)
    expected = [net(x), net(y)]
    monkeypatch.setattr(card, "wanted", lambda x: True)
    monkeypatch.setattr(card, "_failed", set())
    monkeypatch.setattr(card.Graphs, "run", lambda *_: None)
    monkeypatch.setitem(sys.modules, "gpen_core.network.kernels", None)  # importing it fails, as without Triton
    with caplog.at_level(logging.WARNING):
        assert torch.equal(net(x), expected[0])
        assert torch.equal(net(y), expected[1])
    assert len(caplog.records) == 2  # one of each kernel


def test_a_kernel_short_of_memory_says_so(monkeypatch):
    """Strips and smaller batches are for that, and the kernel is not to blame."""

    def short(*_):
        raise MemoryError

    monkeypatch.setattr(card, "wanted", lambda x: True)
    monkeypatch.setattr(card, "_failed", set())
    monkeypatch.setitem(sys.modules, "gpen_core.network.kernels", types.SimpleNamespace(low_pass=short))
    with pytest.raises(MemoryError):
        network().whole(pictures(1)[0])
    assert card._failed == set()


def test_kernels_are_given_what_the_plain_form_has(monkeypatch):
    """The whole network, whole and in strips, with stand-ins of the kernels that keep to what kernels.py expects of its arguments."""
    layers = sys.modules["gpen_core.network.layers"]
    done: list[str] = []

    def low_pass(x, kernel, padding):
        done.append("low_pass")
        assert torch.allclose(kernel, kernel[0, 0] * torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])))
        return torch.nn.functional.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), padding=padding, groups=x.shape[1])

    def finish(y, demodulation, feature, weight, bias, slope, room):
        done.append("finish")
        n, c = y.shape[:2]
        assert demodulation.shape == (n, c) and feature.shape == y.shape and weight.numel() == 1 and bias.shape == (2 * c,)
        both = torch.cat([y * demodulation.view(n, c, 1, 1), feature * weight], dim=1) + bias.view(1, -1, 1, 1)
        both = torch.nn.functional.leaky_relu(both, slope)
        return both if room is None else room.copy_(both)

    net, x = network(), pictures(1, 2)[0]
    expected = net(x)
    monkeypatch.setattr(card, "wanted", lambda x: True)
    monkeypatch.setattr(card, "_failed", set())
    monkeypatch.setattr(card.Graphs, "run", lambda *_: None)
    monkeypatch.setitem(sys.modules, "gpen_core.network.kernels", types.SimpleNamespace(low_pass=low_pass, finish=finish))
    for tiled in (None, True):
        done.clear()
        assert torch.allclose(net(x, tiled=tiled), expected, atol=2e-5)
        # From 64 to 4: four encodings and four enlargements are filtered; nine convolutions are finished.
        assert layers and done.count("low_pass") >= 8 and done.count("finish") >= 9


@needs_triton
def test_kernels_compute_the_plain_form_number_by_number():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.kernels", "--numbers"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
def test_kernels_compile_for_cards_of_all_kinds_and_spill_nothing():
    from benchmarks.kernels import compiled

    rows = list(compiled(types=("float16",), widths=(16,)))
    assert [row[0] for row in rows] == ["finish", "low_pass"]
    assert all(cell.endswith(" / 0") for row in rows for cell in row[3:]), rows
