"""A graphics card for tests, made of the processor: torch's device "emulated".

Its tensors say that they are on that device and compute on the CPU. As a card does, it refuses tensors of two devices in one operation and
can run out of memory; beyond that it counts what costs time there: copies up and down, and synchronisations (moments at which the program
waits for the card because it must know a number).

    card = emulated_card.card()     # skips the test where torch is too old for it
    card.reset()
    ...
    assert card.uploads == 1 and card.downloads == 1 and card.syncs == 0

Once made, it stays for the process: torch knows one such device, and nothing takes it unasked.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

NAME = "emulated"
_MIB = 1024 * 1024

_aten = torch.ops.aten
# What makes the program wait for the card. A copy down does as well, and is counted as that.
_SYNCS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "is_nonzero"}

_PRODUCTS = {"convolution", "mm", "addmm", "bmm", "baddbmm"}


class Card:
    """What the device counts, and how it is told to fail. Everything is since reset(), but what is alive."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._alive: dict[int, list[int]] = {}  # storage: [tensors that hold it, bytes]
        self.alive = 0  # bytes
        self.reset()

    def reset(self) -> None:
        """Counts from zero, and fails no more."""
        self.uploads = self.downloads = self.syncs = self.allocations = self.operations = 0
        self.uploaded = self.downloaded = 0  # bytes
        self.peak = self.alive
        self.by_name: Counter[str] = Counter()
        self.capacity: int | None = None  # bytes: more are out of memory
        self.fail_allocation: Callable[[int], bool] = lambda number: False  # the how manieth, from 0
        self.fail_operation: Callable[[str], BaseException | None] = lambda name: None  # of aten, without its overload
        self.no_float64 = False  # True: as Apple's MPS

    @contextmanager
    def out_of_memory_at(self, *numbers: int, always_after: bool = False) -> Iterator[None]:
        """Allocations that fail, from 0, counted from here. always_after: and all that come after the last of them."""
        before, start = self.fail_allocation, self.allocations
        self.fail_allocation = lambda number: number - start in numbers or (always_after and number - start > max(numbers))
        try:
            yield
        finally:
            self.fail_allocation = before

    @contextmanager
    def failing(self, error: Callable[[], BaseException], after: int = 0) -> Iterator[None]:
        """From the operation of that number on, counted from here, everything on the device ends so: a lost device."""
        before, start = self.fail_operation, self.operations
        self.fail_operation = lambda name: error() if self.operations - start > after else None
        try:
            yield
        finally:
            self.fail_operation = before

    # --- told by the tensors ------------------------------------------------------------------------------------------------------------

    def hold(self, storage: torch.UntypedStorage) -> Callable[[], None]:
        """Counts a tensor of the storage as alive; what is returned ends that. Raises the device's error where memory does not suffice."""
        with self._lock:
            key, size = storage._cdata, storage.nbytes()
            if not size:
                return lambda: None  # as on CUDA, which allocates nothing for it
            if key not in self._alive:
                number, self.allocations = self.allocations, self.allocations + 1
                if self.fail_allocation(number) or (self.capacity is not None and self.alive + size > self.capacity):
                    raise torch.OutOfMemoryError(
                        f"CUDA out of memory. Tried to allocate {size / _MIB:.2f} MiB. GPU 0 has a total capacity of 8.00 GiB of which "
                        f"0 bytes is free. Of the allocated memory {self.alive / _MIB:.2f} MiB is allocated by PyTorch."
                    )
                self._alive[key] = [0, size]
                self.alive += size
                self.peak = max(self.peak, self.alive)
            self._alive[key][0] += 1
            return lambda: self._release(key)

    def _release(self, key: int) -> None:
        with self._lock:
            entry = self._alive[key]
            entry[0] -= 1
            if not entry[0]:
                self.alive -= entry[1]
                del self._alive[key]

    def operation(self, name: str) -> None:
        with self._lock:
            self.operations += 1
            self.by_name[name] += 1
            self.syncs += name in _SYNCS
            error = self.fail_operation(name)
        if error is not None:
            raise error

    def upload(self, tensor: Tensor) -> None:
        with self._lock:
            self.uploads += 1
            self.uploaded += tensor.numel() * tensor.element_size()

    def download(self, tensor: Tensor) -> None:
        with self._lock:
            self.downloads += 1
            self.downloaded += tensor.numel() * tensor.element_size()


_card: Card | None = None


class _Memory:
    """A CPU tensor that stands for memory of the card; the count follows its life, whoever carries it."""

    def __init__(self, tensor: Tensor, release: Callable[[], None]) -> None:
        self.tensor = tensor
        weakref.finalize(self, release).atexit = False  # not __del__, which copies would have as well


class EmulatedTensor(Tensor):
    """A tensor on the device."""

    memory: _Memory

    @staticmethod
    def __new__(cls, tensor: Tensor, requires_grad: bool = False) -> EmulatedTensor:
        assert _card is not None
        if _card.no_float64 and tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
        memory = _Memory(tensor, _card.hold(tensor.untyped_storage()))
        # What was made in inference mode, and what looks into it, is of another kind than what was made outside and looked into there.
        with torch.inference_mode(tensor.is_inference()):
            made = Tensor._make_wrapper_subclass(
                cls,
                tensor.shape,
                strides=tensor.stride(),
                storage_offset=tensor.storage_offset(),
                dtype=tensor.dtype,
                device=torch.device(NAME, 0),
                requires_grad=requires_grad,
            )
        made.memory = memory
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __repr__(self, **_: Any) -> str:
        return f"EmulatedTensor({tuple(self.shape)}, {self.dtype})"

    # With these two, Module.to() exchanges whole tensors instead of their insides, which are not where it looks for them.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["_inner"], None

    @property
    def _inner(self) -> Tensor:
        return self.memory.tensor

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> EmulatedTensor:
        return EmulatedTensor(inner["_inner"])

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # In inference mode operations come here whole that are made of others, and that no device knows.
        if _composite(func):
            return func.decompose(*args, **kwargs)
        name = func.overloadpacket.__name__
        assert _card is not None
        _card.operation(name)
        if name == "_to_copy":
            return _to_copy(*args, **kwargs)
        if name == "copy_":
            return _copy(*args, **kwargs)
        if "device" in kwargs:
            where = kwargs["device"]
            if where is not None and torch.device(where).type != NAME:
                return func(*_mapped(_meta, args), **kwargs)  # new_empty(device="cpu") and the like
            kwargs = {**kwargs, "device": torch.device("cpu")}
        mine: dict[int, EmulatedTensor] = {}

        def lower(value: Tensor) -> Tensor:
            if isinstance(value, EmulatedTensor):
                mine[id(value.memory.tensor)] = value
                return value.memory.tensor
            # As on CUDA, a single number of the processor is welcome anywhere.
            if value.dim():
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and {value.device}! ({func})"
                )
            return value

        args, kwargs = _mapped(lower, args), {key: _mapped(lower, value) for key, value in kwargs.items()}
        if name in _PRODUCTS:
            return _raised(_product(func, args), mine)
        return _mapped(lambda value: _raised(value, mine), func(*args, **kwargs))


@cache
def _composite(func: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), torch._C.DispatchKey.CompositeImplicitAutograd)


def _mapped(work: Callable[[Tensor], Tensor], value: Any) -> Any:
    """work() of every tensor in what an operation takes or returns."""
    if isinstance(value, Tensor):
        return work(value)
    return type(value)([_mapped(work, one) for one in value]) if type(value) in (tuple, list) else value


def _product(func: Any, args: Any) -> Tensor:
    """Sums of products, which cards add up in float32 whatever the type is; many processors would compute half precision slowly."""
    dtype = next(value.dtype for value in args if isinstance(value, Tensor))
    if dtype not in (torch.float16, torch.bfloat16):
        return func(*args)
    return func(*(value.float() if isinstance(value, Tensor) else value for value in args)).to(dtype)


def _raised(value: Tensor, mine: dict[int, EmulatedTensor]) -> Tensor:
    """A result of the CPU's as one of the card's: the very tensor that came in where an operation gives that back."""
    known = mine.get(id(value))
    return EmulatedTensor(value) if known is None else known


def _meta(value: Tensor) -> Tensor:
    return torch.empty_like(value.memory.tensor, device="meta") if isinstance(value, EmulatedTensor) else value


def _to_copy(x: Tensor, *, device: Any = None, dtype: Any = None, memory_format: Any = None, **_: Any) -> Tensor:
    assert _card is not None
    target = torch.device(device) if device is not None else x.device
    dtype = dtype or x.dtype
    memory_format = memory_format or torch.preserve_format
    if target.type == NAME:
        source = x.memory.tensor if isinstance(x, EmulatedTensor) else x
        if not isinstance(x, EmulatedTensor):
            _card.upload(x)
        return EmulatedTensor(_aten._to_copy(source, dtype=dtype, memory_format=memory_format))
    assert isinstance(x, EmulatedTensor)
    if target.type == "cpu":
        _card.download(x)
    return _aten._to_copy(x.memory.tensor, dtype=dtype, device=target, memory_format=memory_format)


def _copy(to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    assert _card is not None
    up, down = not isinstance(source, EmulatedTensor), not isinstance(to, EmulatedTensor)
    if up:
        _card.upload(source)
    if down:
        _card.download(source)
    (to if down else to.memory.tensor).copy_(source if up else source.memory.tensor)
    return to


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> Tensor:
    assert _card is not None
    _card.operation("empty")
    return EmulatedTensor(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    assert _card is not None
    _card.operation("empty_strided")
    return EmulatedTensor(torch.empty_strided(size, stride, dtype=dtype))


_libraries: list[torch.library.Library] = []


def card() -> Card:
    """The card. Skips the test where this torch cannot have one."""
    global _card
    if _card is not None:
        return _card
    setup = getattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is None:
        pytest.skip(f"torch {torch.__version__} cannot take a device written in Python")
    setup(rename=NAME, backend_module=_Module())
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "PrivateUse1")
    library.impl("empty_strided", _empty_strided, "PrivateUse1")
    library.impl("_copy_from", lambda source, to, non_blocking=False: _copy(to, source), "PrivateUse1")  # as torch.tensor() copies
    _libraries.append(library)
    _card = Card()
    return _card


class _Module:
    """torch.emulated: what programs ask of torch.cuda, and what torch itself asks."""

    @staticmethod
    def is_initialized() -> bool:
        return True

    is_available = is_initialized

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        pass

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def memory_allocated(device: Any = None) -> int:
        assert _card is not None
        return _card.alive

    memory_reserved = memory_allocated

    @staticmethod
    def max_memory_allocated(device: Any = None) -> int:
        assert _card is not None
        return _card.peak

    @staticmethod
    def reset_peak_memory_stats(device: Any = None) -> None:
        assert _card is not None
        _card.peak = _card.alive

    @staticmethod
    def mem_get_info(device: Any = None) -> tuple[int, int]:
        """(free, all) bytes."""
        assert _card is not None
        capacity = _card.capacity or 1 << 40
        return capacity - _card.alive, capacity

    @staticmethod
    def synchronize(device: Any = None) -> None:
        assert _card is not None
        _card.syncs += 1

    @staticmethod
    def empty_cache() -> None:
        pass
