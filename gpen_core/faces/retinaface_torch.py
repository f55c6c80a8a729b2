"""RetinaFace mobile0.25 in torch: what the OpenCV network of retinaface.py says, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..pixels import Pixels
from ..runtime import pick_dtype
from .onnx_network import OnnxNetwork
from .retinaface import MEAN, Seen, padded

_HEADS = {"bbox_head": 4, "class_head": 2, "landmark_head": 10}  # numbers an anchor
_PIXELS = 600_000  # of small pictures that are looked at together: more are no faster on a processor


class TorchRetinaFace:
    """The detector's network on a device. Safe to call from several threads."""

    def __init__(self, file: Path, device: Any) -> None:
        """Raises WeightsError where the file is no ONNX network, RuntimeError or others where the device cannot take it.

        On processors that compute with bfloat16 it is used: it moves scores by hundredths and landmarks by a hundredth of the face.
        """
        self._file = file
        self._device = torch.device(device)
        self._dtype = pick_dtype("auto", self._device)
        self._network = self._read(self._dtype)

    def _read(self, dtype: torch.dtype) -> OnnxNetwork:
        network = OnnxNetwork(self._file)
        # It wants BGR 0..255; so it takes RGB 0..1, and a large picture is spared two passes.
        network.first_weight.copy_(network.first_weight.flip(1) * 255)
        return network.to(device=self._device, dtype=dtype)

    @cached_property
    def _exact(self) -> OnnxNetwork:
        return self._network if self._dtype == torch.float32 else self._read(torch.float32)

    @property
    def on_processor(self) -> bool:
        return self._device.type == "cpu"

    @property
    def pays_from(self) -> float:
        """Pixels from which a picture is faster here than in OpenCV (docs/faces.md).

        On a processor each of its 59 convolutions costs a tenth of a millisecond before it begins. Without oneDNN, as on Macs, torch's
        small convolutions are slow.
        """
        if not self.on_processor:
            return 256 * 256
        if not torch.backends.mkldnn.is_available():
            return float("inf")
        return 800 * 800 if self._dtype == torch.float32 else 512 * 512

    def __call__(self, pictures: Pixels, exact: bool = False) -> list[Seen]:
        """What is seen in each of the pictures, (N, H, W, 3) float32 RGB, 0..1. exact: in float32 in any case."""
        with torch.inference_mode():
            count = max(1, _PIXELS // (pictures.shape[1] * pictures.shape[2]))
            starts = range(0, len(pictures), count)
            return [seen for start in starts for seen in self._look(pictures[start : start + count], exact)]

    def _look(self, pictures: Pixels, exact: bool) -> Iterator[Seen]:
        count, height, width = pictures.shape[:3]
        dtype = torch.float32 if exact else self._dtype
        tall, wide = padded((height, width))
        # Padding, in the network's terms: the mean colour. Whole rows at once are four times as fast as three numbers at a time.
        x = torch.zeros((count, tall, wide * 3), dtype=dtype, device=self._device)
        rows = torch.as_tensor(np.ascontiguousarray(pictures).reshape(count, height, width * 3)).to(self._device)
        x[:, :height, : width * 3] = rows - (torch.tensor(MEAN[::-1], device=self._device) / 255).repeat(width)
        x = x.view(count, tall, wide, 3).permute(0, 3, 1, 2)
        grids: dict[str, list[Tensor]] = {name: [] for name in _HEADS}
        for _, name, y in (self._exact if exact else self._network).values(x):
            for head, numbers in _HEADS.items():
                if name.startswith(f"/{head}"):
                    grids[head].append(y.permute(0, 2, 3, 1).reshape(count, -1, numbers))
        places, sureness, landmarks = (torch.cat(grids[head], dim=1).float().cpu() for head in _HEADS)
        scores = torch.sigmoid(sureness[..., 1] - sureness[..., 0])  # softmax of two
        return map(Seen, places.numpy(), scores.numpy(), landmarks.numpy())
