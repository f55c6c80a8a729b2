# ComfyUI's module; the folder nodes/ of this project is its package's child there, and never named so.
from typing import Any

import torch

class PreviewImage:
    def save_images(
        self, images: torch.Tensor, filename_prefix: str = ..., prompt: Any = ..., extra_pnginfo: Any = ...
    ) -> dict[str, Any]: ...
