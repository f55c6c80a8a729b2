"""Choosing device and dtype, and checking memory. Never sets a global torch flag."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import DeviceError, MemoryShortError, SettingsError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
log = logging.getLogger(__name__)

_NO_CARD = ("CUDA initialization: ", "HIP initialization: ")  # how torch's warning begins if there is a card that it cannot use


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """A torch device from its name; `auto` is the first accelerator that torch has, else the CPU. Raises SettingsError."""
    import torch

    if isinstance(name, torch.device):
        return name
    if name == "auto":
        if _cuda_is_available():  # ROCm builds answer here as well
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        xpu = getattr(torch, "xpu", None)
        return torch.device("xpu") if xpu is not None and xpu.is_available() else torch.device("cpu")
    device = None
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # there and back, which "meta" cannot do
    except Exception as error:  # torch raises RuntimeError, AssertionError or NotImplementedError, by device and version
        if device is not None and is_out_of_memory(error):
            return device  # it is there; who computes on it copes
        known = device_error(error, name)
        if known is not None:
            raise SettingsError(f"the device {name!r} is not available; use auto or cpu. {known}") from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(f"the device {name!r} is not available ({reason}); use auto or cpu") from error
    return device


_asking = threading.Lock()
_asked = False


def _cuda_is_available() -> bool:
    """torch.cuda.is_available(). If there is a card that torch cannot use, the log says so in place of torch's warning, once a process."""
    import torch

    global _asked
    with _asking:
        if _asked:  # torch has said what it has to say
            return torch.cuda.is_available()
        _asked = True
        # This swaps the process's warning filters, so for no longer than the question takes: a copy of the host's, so that other threads'
        # warnings meet the same ones, and those that are caught with ours are given again.
        with warnings.catch_warnings(record=True) as caught:
            warnings.filterwarnings("always", f"({'|'.join(_NO_CARD)})")
            available = torch.cuda.is_available()
    for one in caught:
        text = str(one.message)
        if text.startswith(_NO_CARD):
            reason = text.partition(": ")[2].strip().partition("\n")[0]
            sentence = _trouble_in(reason) or f"torch cannot use the graphics card: update its driver and restart the computer ({reason})"
            log.warning("%s; continuing on the CPU", sentence.removesuffix(_OR_CPU))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno, source=one.source)
    return available


def pick_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The network's dtype.

    `auto`: bfloat16 on CPUs with bfloat16 instructions, where it differs from float32 by at most 0.03 and by 0.004 on average (of
    -1..1; tests/test_fused.py: the weights that ship, random weights of small official shapes), and on NVIDIA cards that compute with it
    (compute capability 8.0 and above); float32 everywhere else. No card was at hand: what half precision is worth there is not measured.
    """
    import torch

    if precision == "auto":
        fast = computes_bf16() if device.type == "cpu" else _card_computes_bf16(device)
        return torch.bfloat16 if fast else torch.float32
    types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision not in types:
        raise SettingsError(f"precision must be one of auto, {', '.join(types)}; {precision!r} is not")
    if precision == "fp16" and device.type == "cpu" and not computes_fp16():
        raise SettingsError("the precision fp16 is not available: this torch cannot compute with it on the CPU; use auto, or a newer torch")
    return types[precision]


def _card_computes_bf16(device: torch.device) -> bool:
    """True for NVIDIA cards with bfloat16 units. False for ROCm: torch.cuda.is_bf16_supported() says yes there for every AMD card, also
    for those that emulate it slowly, and the capability is a number of another series."""
    import torch

    if device.type != "cuda" or torch.version.hip is not None:
        return False
    try:
        return torch.cuda.get_device_capability(device) >= (8, 0)
    except (AssertionError, RuntimeError):  # no such card; whoever computes there is told so
        return False


@cache
def computes_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16 (AVX-512 BF16 or AMX) and torch uses them; False if unknown."""
    import torch

    if not torch.backends.mkldnn.is_available():
        return False
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):  # private, and in newer torch only
        asked = getattr(torch.cpu, name, None)
        if asked is not None and asked():
            return True
    try:
        features = Path("/proc/cpuinfo").read_text("utf-8").split()
    except (OSError, UnicodeDecodeError):
        return False
    return "avx512_bf16" in features or "amx_bf16" in features


@cache
def computes_fp16() -> bool:
    """Whether this torch computes float16 on the CPU: 2.0 does not."""
    import torch

    one = torch.zeros(1, 1, 1, 1, dtype=torch.float16)
    try:
        torch.nn.functional.conv2d(one, one)
    except RuntimeError:
        return False
    return True


def free_memory(device: torch.device) -> int | None:
    """Free bytes for a network on the device; None if unknown."""
    import torch

    try:
        if device.type == "cpu":
            return _free_ram()
        module: Any = getattr(torch, device.type)  # torch.cuda, torch.xpu; the others have no such functions
        # Memory that torch reserves but does not use is free as well.
        held = module.memory_reserved(device) - module.memory_allocated(device)
        return int(module.mem_get_info(device)[0] + held)
    except (OSError, RuntimeError, ValueError, AttributeError):
        return None


def _free_ram() -> int | None:
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):  # MEMORYSTATUSEX
            _fields_ = (
                ("length", ctypes.c_ulong),
                ("load", ctypes.c_ulong),
                *((name, ctypes.c_ulonglong) for name in ("total", "free", "file_total", "file_free", "virtual", "virtual_free", "more")),
            )

        status = Status(length=ctypes.sizeof(Status))
        return int(status.free) if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


# How out-of-memory errors read, line by line: CUDA, ROCm, MPS and torch's CPU allocator; DirectML; XPU's drivers; CUDA's libraries;
# C++, including oneDNN; OpenCV; MPS for one tensor that is too large.
_SHORT_OF_MEMORY = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory"),
    "not enough gpu video memory",
    *("out_of_device_memory", "out_of_host_memory", "out_of_resources"),
    *("alloc_failed", "memoryallocation"),
    *("bad_alloc", "bad allocation"),
    "insufficient memory",
    "invalid buffer size",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    # By name, because no torch has all of them: torch.cuda.OutOfMemoryError, torch.OutOfMemoryError (2.5), torch.AcceleratorError (2.8).
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, MemoryError) or "OutOfMemoryError" in names:
        return True
    speaks = isinstance(error, (RuntimeError, OSError)) or "AcceleratorError" in names or type(error).__module__ == "cv2"
    text = str(error).lower()
    return speaks and any(words in text for words in _SHORT_OF_MEMORY)


_OR_CPU = ", or choose the device cpu"
# What torch says when a device does not compute, and will not any more in this process; and a sentence for users.
_DEVICE_TROUBLES = (
    (
        ("driver on your system is too old", "driver version is insufficient"),
        f"the graphics driver is too old for this torch: update the driver{_OR_CPU}",
    ),
    (
        ("no kernel image is available", "kernel image is invalid", "unable to find code object for all current devices"),
        f"this torch was not built for this graphics card: install a torch that supports it{_OR_CPU}",
    ),
    (
        ("is not currently implemented for the", "is only available for these backends"),  # by MPS, XPU; by DirectML and other backends
        f"this torch lacks an operation for this device: install a newer torch{_OR_CPU}",
    ),
    (
        (
            *("unspecified launch failure", "device-side assert", "illegal memory access", "illegal instruction", "misaligned address"),
            *("launch timed out", "uncorrectable ecc", "unrecoverable error"),
            *("device lost", "device is lost", "device_lost", "gpu is lost"),
            *("device removed", "device_removed", "device instance has been suspended"),  # by DirectML
            *("hardware exception", "gpu hang", "caused gpu timeout"),  # by ROCm, MPS
        ),
        "the graphics card stopped working: start the program again and, if it happens again, update its driver or choose the device cpu",
    ),
)


def device_error(error: BaseException, device: object) -> DeviceError | None:
    """The error for users if torch says that a device does not compute any more; None for any other error."""
    speaks = isinstance(error, RuntimeError) or any(kind.__name__ == "AcceleratorError" for kind in type(error).__mro__)
    if isinstance(error, DeviceError) or not speaks:
        return None
    sentence = _trouble_in(str(error))
    return None if sentence is None else DeviceError(f"{device}: {sentence} ({_first_line(error)})")


def _trouble_in(text: str) -> str | None:
    """The sentence for users if this is what torch says of a device that does not compute."""
    text = text.lower()
    return next((sentence for words, sentence in _DEVICE_TROUBLES if any(word in text for word in words)), None)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def or_cpu(what: str, device: torch.device, work: Callable[[torch.device], T]) -> T:
    """work(device); if memory runs out there, work(cpu), and the log says so.

    what: for messages ("Real-ESRGAN"). work: first brings what it needs to the device that it is given.
    Raises DeviceError if the device stopped working, MemoryShortError if memory runs out on the CPU; other errors pass through.
    """
    import torch

    reason = ""
    for where in dict.fromkeys((device, torch.device("cpu"))):
        try:
            return work(where)
        except Exception as error:
            trouble, reason = device_error(error, where), _first_line(error)
            if trouble is None and not is_out_of_memory(error):
                raise
        # Outside the except block, so that the error no longer keeps tensors alive.
        if trouble is not None:
            raise trouble
        if where.type != "cpu":
            log.warning("not enough memory on %s for %s; continuing on the CPU", where, what)
    raise MemoryShortError(f"there is not enough memory for {what}: close other programs ({reason})")
