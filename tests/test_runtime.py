"""Which number type and which memory the machine offers."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gpen_core import runtime
from gpen_core.errors import PictureError, SettingsError
from gpen_core.runtime import computes_bf16, free_memory, is_out_of_memory, pick_device, pick_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(("native", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_only_where_the_processor_has_it(native: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "computes_bf16", lambda: native)
    assert pick_dtype("auto", CPU) is wanted
    assert pick_dtype("auto", torch.device("meta")) is torch.float32
    assert pick_dtype("fp32", CPU) is torch.float32 and pick_dtype("fp16", torch.device("meta")) is torch.float16


@pytest.mark.parametrize("able", [True, False])
def test_a_torch_that_does_not_compute_fp16_on_the_processor_says_so(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.0; on a graphics card it does."""

    def convolve(*_: object) -> None:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    if not able:
        monkeypatch.setattr(torch.nn.functional, "conv2d", convolve)
    else:
        monkeypatch.setattr(torch.nn.functional, "conv2d", lambda x, _: x)
    runtime.computes_fp16.cache_clear()
    try:
        assert pick_dtype("fp16", torch.device("cuda")) is torch.float16
        if able:
            assert pick_dtype("fp16", CPU) is torch.float16
        else:
            with pytest.raises(SettingsError, match=r"fp16 is not available: .* use auto, or a newer torch"):
                pick_dtype("fp16", CPU)
    finally:
        runtime.computes_fp16.cache_clear()


@pytest.mark.parametrize(
    ("capability", "hip", "wanted"),
    [
        ((7, 5), None, torch.float32), ((8, 0), None, torch.bfloat16), ((8, 9), None, torch.bfloat16), ((12, 0), None, torch.bfloat16),
        ((11, 0), "6.2", torch.float32), (None, None, torch.float32),
    ],
)  # fmt: skip
def test_auto_is_bfloat16_on_cards_that_have_units_for_it(
    capability: tuple[int, int] | None, hip: str | None, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hip: ROCm, whose capability is of another series. None: a torch without CUDA."""

    def asked(device: torch.device) -> tuple[int, int]:
        if capability is None:
            raise AssertionError("Torch not compiled with CUDA enabled")
        return capability

    monkeypatch.setattr(torch.cuda, "get_device_capability", asked)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert pick_dtype("auto", torch.device("cuda", 0)) is wanted
    for other in ("mps", "xpu"):
        assert pick_dtype("auto", torch.device(other)) is torch.float32


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(SettingsError, match="fp64"):
        pick_dtype("fp64", CPU)


@pytest.mark.parametrize(
    ("features", "wanted"),
    [("flags : sse avx512f avx512_bf16", True), ("flags : amx_bf16", True), ("flags : avx2 avx512f", False), (None, False)],
)
def test_the_processor_is_asked_the_portable_way(features: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older torch has nothing to ask; what the system lists counts then, and no answer is no."""

    def read_text(self: Path, encoding: str) -> str:
        if features is None:
            raise OSError
        return features

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert computes_bf16.__wrapped__() is wanted


def test_without_onednn_there_is_no_fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert computes_bf16.__wrapped__() is False


class AcceleratorError(Exception):
    """As torch 2.8 and later call it; whatever it is made of there."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        type("OutOfMemoryError", (Exception,), {})("as any torch may call it"),
        AcceleratorError("CUDA error: out of memory"),
        RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 3.00 GB, other allocations: 1.00 GB, max allowed: 3.40 GB)"),
        RuntimeError("Invalid buffer size: 12.00 GiB"),
        RuntimeError("Could not allocate tensor with 1073741824 bytes. There is not enough GPU video memory available!"),
        RuntimeError("XPU out of memory. Tried to allocate 1.00 GiB"),
        RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
        RuntimeError("Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("bad allocation"),
        OSError(12, "Cannot allocate memory"),
        type("error", (Exception,), {"__module__": "cv2"})("(-4:Insufficient memory) Failed to allocate 8 bytes"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_shortage_of_memory_is_known_on_every_device(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("expected scalar type Half but found Float"),
        PictureError("there is not enough memory for it"),
        SettingsError("out of memory"),
        KeyError("out of memory"),
        OSError(28, "No space left on device"),
    ],
    ids=str,
)
def test_other_errors_are_no_shortage_of_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_the_real_errors_of_this_torch_and_opencv() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    for name in ("OutOfMemoryError", "AcceleratorError"):
        kind = getattr(torch, name, None)
        assert kind is None or is_out_of_memory(kind("CUDA error: out of memory"))


@pytest.mark.parametrize("name", ["meta", "cuda:99", "cpu:-1", "", "gpu", "\ud800"])
def test_a_device_that_computes_nothing_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="use auto or cpu"):
        pick_device(name)


def test_free_memory_of_a_cuda_device_counts_what_torch_holds_and_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3000, 9000))
    assert free_memory(torch.device("cuda")) == 3500

    def fails(device: torch.device) -> None:
        raise RuntimeError("no such device")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fails)
    assert free_memory(torch.device("cuda")) is None


def test_free_memory_of_the_processor_is_what_linux_calls_available(monkeypatch: pytest.MonkeyPatch) -> None:
    told = ["MemTotal:       16000 kB\nMemFree:         100 kB\nMemAvailable:   5000 kB\nBuffers:          7 kB\n"]
    monkeypatch.setattr(runtime.sys, "platform", "linux")
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: told[0])
    assert free_memory(CPU) == 5000 * 1024
    told[0] = "MemTotal:       16000 kB\n"
    assert free_memory(CPU) is None
    told[0] = "MemAvailable:   5000 kB\n"
    assert free_memory(torch.device("mps")) is None, "only the device itself could say"


def test_a_device_that_cannot_be_used_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the first line\nand all the rest of it")

    monkeypatch.setattr(torch, "zeros", fails)
    with pytest.raises(SettingsError, match="the first line") as caught:
        pick_device("cpu")
    assert "rest" not in str(caught.value)


@pytest.mark.parametrize(
    ("cuda", "mps", "xpu", "wanted"),
    [
        (True, True, True, "cuda"), (True, False, False, "cuda"), (False, True, True, "mps"), (False, False, True, "xpu"),
        (False, False, False, "cpu"), (False, False, None, "cpu"),
    ],
)  # fmt: skip
def test_auto_is_the_first_accelerator_there_is(cuda: bool, mps: bool, xpu: bool | None, wanted: str, monkeypatch: pytest.MonkeyPatch):
    """xpu: None for a torch that does not know them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch, "xpu", None if xpu is None else SimpleNamespace(is_available=lambda: xpu), raising=False)
    assert pick_device("auto").type == wanted


OLD_DRIVER = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx (Triggered internally at CUDAFunctions.cpp:109.)"
)
NO_ANSWER = "CUDA initialization: CUDA unknown error - this may be due to an incorrectly set up environment. (Triggered internally.)"


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A machine without a card that torch can use; what is returned sets what torch.cuda.is_available() warns of, once a process."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "xpu", None, raising=False)
    monkeypatch.setattr(runtime, "_asked", False)

    def warns(*texts: str) -> None:
        left = list(texts)

        def is_available() -> bool:
            while left:
                warnings.warn(left.pop(0), UserWarning, stacklevel=1)
            return False

        monkeypatch.setattr(torch.cuda, "is_available", is_available)

    with warnings.catch_warnings():
        yield warns


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (OLD_DRIVER, "the graphics driver is too old for this torch: update the driver; continuing on the CPU"),
        (NO_ANSWER, "torch cannot use the graphics card: update its driver and restart the computer (CUDA unknown error"),
    ],
)
@pytest.mark.parametrize("hosts", ["error", "ignore", "default"])
def test_auto_says_once_why_a_card_is_not_used(
    no_card: Callable[..., None], hosts: Any, text: str, sentence: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    warnings.simplefilter(hosts)
    filters, shown = list(warnings.filters), warnings.showwarning
    no_card(text)
    assert [pick_device("auto").type for _ in range(3)] == ["cpu"] * 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(sentence) and line.endswith("continuing on the CPU")
    assert not recwarn.list, "torch's own warning is not shown as well"
    assert warnings.filters == filters and warnings.showwarning is shown, "the host's filters are as they were"


def test_warnings_of_others_are_given_as_the_host_wants_them(no_card: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    no_card("of another thread", OLD_DRIVER, "ignored by the host")
    with pytest.warns(UserWarning, match="another thread") as caught:
        warnings.filterwarnings("ignore", "ignored")
        assert pick_device("auto").type == "cpu"
    assert len(caught) == 1 and len(caplog.records) == 1


def test_threads_that_ask_at_once_leave_the_filters_as_they_were(no_card: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, lock = [0], [0], threading.Lock()

    def is_available() -> bool:
        with lock:
            inside[0] += warnings.filters[0][0] == "always"
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        return False

    no_card()
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    warnings.simplefilter("default")
    filters = list(warnings.filters)
    threads = [threading.Thread(target=pick_device) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters and most == [1], "one question at a time is asked so"
