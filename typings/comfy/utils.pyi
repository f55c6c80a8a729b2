from collections.abc import Callable
from typing import Any

import torch

class ProgressBar:
    def __init__(self, total: int) -> None: ...
    # preview: (format, PIL's Image, longest side)
    def update_absolute(self, value: float, total: int | None = ..., preview: tuple[str, Any, int] | None = ...) -> None: ...

def get_tiled_scale_steps(width: int, height: int, tile_x: int, tile_y: int, overlap: int) -> int: ...
def tiled_scale(
    samples: torch.Tensor,
    function: Callable[[torch.Tensor], torch.Tensor],
    tile_x: int = ...,
    tile_y: int = ...,
    overlap: int = ...,
    upscale_amount: float = ...,
    out_channels: int = ...,
    output_device: torch.device | str = ...,
    pbar: ProgressBar | None = ...,
) -> torch.Tensor: ...
