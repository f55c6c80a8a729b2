"""Enlarges the background with one of ComfyUI's UPSCALE_MODELs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .host import full_load, interrupted, out_of_memory
from .tensors import cpu_tensor

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_TILE, _SMALLEST_TILE, _OVERLAP = 512, 128, 32


def upscaler(model: Any) -> Callable[[NDArray[np.float32]], NDArray[np.float32]] | None:
    """A function that enlarges (H, W, 3) float32 RGB 0..1 by model.scale, in tiles.

    Newer versions of ComfyUI move the model themselves (model.patcher); in older ones it is on the device only during a call.
    """
    if model is None:
        return None

    def one(tile: torch.Tensor) -> torch.Tensor:
        interrupted()
        return model(tile)

    def enlarge(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np
        from comfy import model_management as host
        from comfy.utils import ProgressBar, get_tiled_scale_steps, tiled_scale

        patcher = getattr(model, "patcher", None)
        device = host.get_torch_device() if patcher is None else patcher.load_device
        x = cpu_tensor(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
        # ComfyUI's own upscaling node uses this estimate; upscalers do not report their need.
        needed = _TILE * _TILE * 3 * 4 * max(model.scale, 1.0) * 384.0 + x.nelement() * 4
        by_hand = True
        if patcher is None:
            host.free_memory(host.module_size(model.model) + needed, device)
            model.to(device)
        else:  # ComfyUI's to move, but for what its dynamic VRAM left behind: these layers cannot fetch their weights
            by_hand = full_load(patcher, needed)
        tile = _TILE
        try:
            while True:
                steps = get_tiled_scale_steps(x.shape[3], x.shape[2], tile_x=tile, tile_y=tile, overlap=_OVERLAP)
                try:
                    y = tiled_scale(
                        x.to(device), one, tile_x=tile, tile_y=tile, overlap=_OVERLAP, upscale_amount=model.scale, pbar=ProgressBar(steps)
                    )
                    break
                except Exception as error:
                    if tile // 2 < _SMALLEST_TILE or not out_of_memory(error):
                        raise
                tile //= 2  # outside the handler, because the error's frames keep tensors alive on the device
        finally:
            if by_hand:
                model.to("cpu" if patcher is None else patcher.offload_device)
        result: NDArray[np.float32] = y[0].float().clamp(0, 1).cpu().numpy().transpose(1, 2, 0)
        return result

    return enlarge
