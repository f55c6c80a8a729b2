"""Running a network on pictures, in batches on a device, guarded against invalid values (NaN) and too little memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from copy import deepcopy
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GpenError, MemoryShortError
from ..pixels import Pixels
from ..runtime import device_error, free_memory, is_out_of_memory

if TYPE_CHECKING:
    import torch

    from .fused import Network

log = logging.getLogger(__name__)

# Peak memory, in feature maps of the full size with the fewest channels (a test counts them).
LIVE_MAPS = 8
# The largest batch, in pictures and in pixels: beyond that a batch only takes memory, here as well (48 MB for each picture of 2048).
MOST_PICTURES, MOST_PIXELS = 8, 2**24
# Bytes for a batch where free memory cannot be told (MPS, XPU, DirectML): such devices often share the system's memory, and slow the
# whole machine down before they say that it is full. In float32 enough for 8 pictures of 256, 2 of 512 and 1 of any larger size.
UNTOLD = 2**30

Ask = Callable[[], object]


def run_network(
    network: Network,
    picture: Pixels,
    *,
    centred: bool = True,
    tiled: bool | None = None,
    ask: Ask | None = None,
    or_cpu: bool = False,
) -> Pixels:
    """Runs the network on one picture: (S, S, 3) float32 RGB 0..1 in and out. See run_pictures()."""
    return run_pictures(network, [picture], centred=centred, tiled=tiled, ask=ask, or_cpu=or_cpu)[0]


def run_pictures(
    network: Network,
    pictures: Sequence[Pixels],
    *,
    centred: bool = True,
    tiled: bool | None = None,
    ask: Ask | None = None,
    or_cpu: bool = False,
) -> list[Pixels]:
    """Runs the network on pictures as one batch. See run_each(). Raises the GpenError of the first one that has no result."""
    made: list[Pixels] = []
    for one in run_each(network, pictures, at_once=len(pictures), centred=centred, tiled=tiled, ask=ask, or_cpu=or_cpu):
        if isinstance(one, GpenError):
            raise one
        made.append(one)
    return made


def run_each(
    network: Network,
    pictures: Iterable[Pixels],
    *,
    at_once: int | None = None,
    centred: bool = True,
    tiled: bool | None = None,
    ask: Ask | None = None,
    or_cpu: bool = False,
) -> Generator[Pixels | GpenError, None, None]:
    """Runs the network on pictures of its size, (S, S, 3) float32 RGB 0..1, and yields each result, or why there is none, in their order.

    Takes from `pictures` only what the next batch needs. at_once: pictures in a batch; None: batch_size(). centred: give the network
    -1..1, as all tasks need except segmentation-to-face (0..1). tiled: compute large resolutions in strips, with a third of the memory
    (same result up to rounding); None: if memory is short, or on CPUs where it is faster. ask: called now and then while the network
    runs; an exception it raises ends the run.
    Half precision can overflow: a picture with invalid values (NaN) is recomputed in float32, alone; if they remain, that one is a
    GpenError. If memory runs out, batches are halved, down to one picture, and that is tried again in strips. If that fails too, or_cpu
    goes on with the CPU, where a lack of memory is that picture's MemoryShortError; without or_cpu the device's own error is raised, for
    hosts that free memory themselves. Raises DeviceError if the device stopped working. The network itself is never changed.
    """
    rest = iter(pictures)
    waiting: list[Pixels] = []
    most = at_once or batch_size(network)
    device = next(network.parameters()).device
    while True:
        waiting += islice(rest, max(0, most - len(waiting)))
        if not waiting:
            return
        batch = waiting[:most]
        made, trouble, reason = list[Pixels | GpenError](), None, ""
        try:
            made = run_batch(network, batch, centred, tiled, ask, or_cpu)
        except Exception as error:
            trouble, reason = device_error(error, device), str(error).strip().partition("\n")[0]
            if trouble is None and (not is_out_of_memory(error) or (len(batch) == 1 and not or_cpu)):
                raise
        # Outside the except block, so that the error no longer keeps tensors alive.
        if trouble is not None:
            raise trouble
        if not made and len(batch) > 1:
            most = (len(batch) + 1) // 2
            log.warning("not enough memory for a batch; trying again with %d at once", most)
        elif not made:
            spare = _on_cpu(network) if next(network.parameters()).device.type != "cpu" else None
            if spare is None:
                made = [
                    MemoryShortError(f"there is not enough memory for this face: close other programs or choose a smaller model ({reason})")
                ]
            else:
                network, tiled, most = spare, True, 1
        del waiting[: len(made)]
        yield from made


def _on_cpu(network: Network) -> Network | None:
    """A copy on the CPU, in float32; None if memory runs out."""
    log.warning("not enough memory on %s even in strips; continuing on the CPU", next(network.parameters()).device)
    try:
        return _twin(network, "cpu")
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return None


def batch_size(network: Network) -> int:
    """How many pictures the network takes at once: one on processors, where more gain nothing, otherwise what free memory allows.

    Half of it: convolutions need room of their own, other programs use the device as well, and where it is full, Windows moves memory to
    and fro rather than say so.
    """
    parameter = next(network.parameters())
    needed = None if parameter.device.type == "cpu" else _memory_for_one(network, parameter)
    if needed is None:
        return 1
    free = free_memory(parameter.device)
    room = UNTOLD if free is None else free // 2
    return max(1, min(room // needed, MOST_PICTURES, MOST_PIXELS // network.size**2))


def run_batch(
    network: Network, pictures: Sequence[Pixels], centred: bool, tiled: bool | None, ask: Ask | None, or_cpu: bool = False
) -> list[Pixels | GpenError]:
    """One upload, one run, one download."""
    import torch

    parameter = next(network.parameters())
    x = torch.as_tensor(np.stack(pictures))
    strips = True if tiled is None and _wants_strips(network, len(x), parameter) else tiled
    with torch.inference_mode():
        made = _sparing(network, x, strips, centred, ask)
        invalid = [index for index, one in enumerate(made) if isinstance(one, GpenError)]
        if invalid and parameter.dtype != torch.float32:
            log.warning("the network overflowed in %s; recomputing this face in float32", str(parameter.dtype).removeprefix("torch."))
            exact = _twin(network, parameter.device, or_cpu)
            for index in invalid:
                made[index] = _sparing(exact, x[index : index + 1], strips, centred, ask)[0]
    return made


def _sparing(network: Network, x: torch.Tensor, strips: bool | None, centred: bool, ask: Ask | None) -> list[Pixels | GpenError]:
    """_computed(), a single picture again in strips if memory runs out."""
    from .fused import FusedGenerator

    try:
        return _computed(network, x, strips, centred, ask)
    except Exception as error:
        if not is_out_of_memory(error) or strips or len(x) > 1 or not isinstance(network, FusedGenerator):
            raise
    # Outside the except block, so that the error no longer keeps tensors alive.
    log.warning("not enough memory on %s; trying again in strips", next(network.parameters()).device)
    return _computed(network, x, True, centred, ask)


def _computed(network: Network, x: torch.Tensor, strips: bool | None, centred: bool, ask: Ask | None) -> list[Pixels | GpenError]:
    """x: (N, S, S, 3), 0..1, on the CPU."""
    from .fused import FusedGenerator

    parameter = next(network.parameters())
    x = x.to(parameter.device).permute(0, 3, 1, 2)  # in channels_last as it is
    x = ((x * 2).sub_(1) if centred else x).to(parameter.dtype)
    if not isinstance(network, FusedGenerator):
        return _downloaded(network(x), centred)
    asking = {} if ask is None else {"ask": ask}
    return _downloaded(network(x, tiled=strips, **asking), centred)


def _twin(network: Network, device: str | torch.device, or_cpu: bool = False) -> Network:
    """A copy in float32 on the device (or_cpu: or on the CPU if memory runs out).

    The network itself is never cast: if that failed halfway, or another thread used it meanwhile, its weights would be of two types.
    """
    import torch

    from .place import place

    try:
        with torch.inference_mode(False), torch.no_grad():
            memo: dict[int, Any] = {}
            for tensor in (*network.parameters(), *network.buffers()):
                moved = tensor.detach().to(device, torch.float32)
                memo[id(tensor)] = torch.nn.Parameter(moved, False) if isinstance(tensor, torch.nn.Parameter) else moved
            return place(deepcopy(network, memo), device, torch.float32)
    except Exception as error:
        if not (or_cpu and is_out_of_memory(error)) or torch.device(device).type == "cpu":
            raise
    log.warning("not enough memory on %s for weights in float32; continuing on the CPU", device)
    return _twin(network, "cpu")


def _downloaded(y: torch.Tensor, centred: bool) -> list[Pixels | GpenError]:
    """The network's result as pictures; an error for each that holds invalid values."""
    import torch

    y = y.float().permute(0, 2, 3, 1)
    y = (y * 0.5).add_(0.5) if centred else y
    values = y.flatten(1)
    valid = torch.isfinite(values.amin(dim=1)) & torch.isfinite(values.amax(dim=1))  # both pass NaN on, and need no memory
    # A picture's first value says whether all of it is valid: asking the device would be one more wait for it.
    y = y.clamp(0, 1)
    y[:, 0, 0, 0].masked_fill_(~valid, torch.nan)
    pictures = np.ascontiguousarray(y.cpu().numpy(), np.float32)
    return [GpenError("the network returned invalid values (NaN)") if np.isnan(one[0, 0, 0]) else one for one in pictures]


def _wants_strips(network: Network, batch: int, parameter: torch.nn.Parameter) -> bool:
    needed, free = _memory_for_one(network, parameter), free_memory(parameter.device)
    return needed is not None and free is not None and free < batch * needed


def _memory_for_one(network: Network, parameter: torch.nn.Parameter) -> int | None:
    """Bytes that the network needs for each picture of a batch; None for networks whose layers are unknown here."""
    from .fused import FusedGenerator

    if not isinstance(network, FusedGenerator):
        return None
    return LIVE_MAPS * network.architecture.channels(network.size) * network.size**2 * parameter.element_size()
