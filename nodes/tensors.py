"""Converts between ComfyUI's tensors and the core's arrays. IMAGE: (B, H, W, 3 or 4) float32 0..1; MASK: (B, H, W) float32 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..gpen_core.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

EMPTY_MASK = 64  # LoadImage outputs a black mask of 64 x 64 pixels for a picture without alpha


def frames_of(image: Any) -> torch.Tensor:
    """Checks an IMAGE and expands one channel to three. Raises SettingsError if it is not an IMAGE."""
    import torch

    if not isinstance(image, torch.Tensor) or image.dim() != 4 or image.shape[-1] not in (1, 3, 4):
        shape = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
        raise SettingsError(f"image must be a batch of pictures with 1, 3 or 4 channels; it is {shape}.")
    if 0 in image.shape:
        raise SettingsError("image is empty: it contains no picture.")
    return image.expand(-1, -1, -1, 3) if image.shape[-1] == 1 else image


def to_array(frame: torch.Tensor) -> NDArray[np.float32]:
    """One frame for the core: (H, W, 3 or 4) float32, 0..1. Values outside (HDR) are clipped: the networks cannot process them."""
    import torch

    array: NDArray[np.float32] = frame.detach().to("cpu", torch.float32).nan_to_num(0.0).clamp(0, 1).contiguous().numpy()
    return array


def cpu_tensor(array: NDArray[Any]) -> torch.Tensor:
    """A CPU tensor that shares the array's memory, whatever default device another pack has set."""
    import torch

    return torch.as_tensor(array, device="cpu")


def from_arrays(arrays: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """Stacks pictures of one shape into a batch to hand on."""
    import numpy as np
    import torch

    return handed_on(torch.stack([cpu_tensor(np.ascontiguousarray(array, np.float32)) for array in arrays]))


def handed_on(batch: torch.Tensor) -> torch.Tensor:
    """A node's output where and how ComfyUI keeps what nodes hand on: newer versions can keep it in half precision."""
    import torch
    from comfy import model_management as host

    dtype = getattr(host, "intermediate_dtype", None)
    return batch.to(host.intermediate_device(), torch.float32 if dtype is None else dtype())


def where_to_look(mask: Any, frames: int, height: int, width: int) -> list[NDArray[np.float32] | None]:
    """A MASK as one (height, width) array per frame; None: look everywhere.

    A single mask counts for all frames. A mask of another size is resized, but LoadImage's small black one counts as no mask.
    Raises SettingsError if it is not a mask or has another number of frames.
    """
    import torch

    if mask is None:
        return [None] * frames
    if not isinstance(mask, torch.Tensor) or mask.dim() not in (2, 3):
        raise SettingsError("mask must be a MASK (a batch of grey pictures).")
    batch = mask.detach().to("cpu", torch.float32)
    batch = batch[None] if batch.dim() == 2 else batch
    if tuple(batch.shape[1:]) == (EMPTY_MASK, EMPTY_MASK) != (height, width) and not bool(batch.any()):
        return [None] * frames
    if batch.shape[0] not in (1, frames):
        raise SettingsError(f"There are {batch.shape[0]} masks for {frames} pictures: connect one mask, or one for each picture.")
    if tuple(batch.shape[1:]) != (height, width):
        batch = torch.nn.functional.interpolate(batch[:, None], (height, width), mode="bilinear", antialias=True)[:, 0]
    arrays: list[NDArray[np.float32] | None] = [one.numpy() for one in batch]
    return arrays if len(arrays) == frames else arrays * frames
