"""RetinaFace-R50, the official GPEN detector, through the optional package facexlib (MIT).

facexlib's own downloader is not used (A1111 replaces it; it writes into the package's folder): this module never downloads weights.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FeatureMissingError, WeightsError, WeightsMissingError, shown
from ..pixels import Pixels
from ..runtime import device_error, is_out_of_memory, or_cpu
from ..weights.folders import how_to_get
from .face import NMS, Face, by_confidence

WEIGHTS = "detection_Resnet50_Final.pth"
ADDRESS = f"https://github.com/xinntao/facexlib/releases/download/v0.1.0/{WEIGHTS}"
_SMALLEST = 64  # minimum side of the network's input, whose coarsest grid has one cell per 32 pixels


def make_retinaface_r50(weights_folders: Sequence[Path], device: Any) -> RetinaFaceR50:
    """Makes the detector with the weights from the first folder that has detection_Resnet50_Final.pth.

    device: torch device or its name. Raises FeatureMissingError without facexlib, WeightsMissingError without the file, WeightsError if
    the file holds something else, DeviceError if the device does not compute.
    """
    try:
        retinaface: Any = importlib.import_module("facexlib.detection.retinaface")
    except Exception as error:  # not only ImportError: a torchvision for another torch raises RuntimeError
        raise FeatureMissingError(
            f"The detector retinaface-r50 needs the package facexlib, which cannot be imported ({error}). Install it with "
            "`pip install --no-deps facexlib` (it needs torchvision), or use the detector retinaface-mobile, which is included."
        ) from error
    path = next((folder / WEIGHTS for folder in weights_folders if (folder / WEIGHTS).is_file()), None)
    if path is None:
        raise WeightsMissingError(
            f"The detector retinaface-r50 needs its weights. {how_to_get(WEIGHTS, ADDRESS, weights_folders)}, "
            "or use the detector retinaface-mobile, which is included."
        )
    import torch

    network = _build(retinaface, path)
    return or_cpu("finding faces", torch.device(device), lambda where: RetinaFaceR50(_tried(network, where), where))


def _build(retinaface: Any, path: Path) -> Any:
    import torch

    from ..weights.checkpoint import read_state_dict

    weights: dict[str, Any] = {name.removeprefix("module."): value for name, value in read_state_dict(path).items()}
    network: Any = retinaface.RetinaFace(network_name="resnet50", half=False, device=torch.device("cpu"))
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{shown(path, 300)} is not facexlib's RetinaFace-R50 ({WEIGHTS}): {shown(str(error).splitlines()[0], 200)}"
        ) from error
    return network.eval()


def _moved(network: Any, device: Any) -> Any:
    network.to(device)
    network.device = device
    if hasattr(network, "mean_tensor"):  # which is no buffer
        network.mean_tensor = network.mean_tensor.to(device)
    return network


def _tried(network: Any, device: Any) -> Any:
    """The network on the device, after it has looked for faces in a tiny picture there."""
    import torch

    _moved(network, device)
    try:
        # A torchvision for another torch may fail only when run: try it now, not in the middle of a picture.
        with torch.no_grad():
            network.detect_faces(np.zeros((_SMALLEST, _SMALLEST, 3), np.float32), 0.999, NMS)
    except (RuntimeError, NotImplementedError) as error:
        if is_out_of_memory(error) or device_error(error, device):
            raise
        raise FeatureMissingError(
            f"facexlib's RetinaFace-R50 does not run on {device} ({shown(str(error).splitlines()[0], 200)}). Install the torchvision "
            "that matches this torch, or use the detector retinaface-mobile, which is included."
        ) from error
    return network


class RetinaFaceR50:
    """Detector "retinaface-r50". Safe to call from several threads (they take turns: facexlib keeps the picture's size in the network).

    If the device's memory runs out, the CPU takes over and the log says so.
    """

    name = "retinaface-r50"

    def __init__(self, network: Any, device: Any) -> None:
        """network: facexlib.detection.retinaface.RetinaFace with its weights, on the device."""
        self._network = network
        self._device = device
        self._lock = threading.Lock()

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """Finds faces in one pass, highest score first. picture: float32 RGB (H, W, 3), 0..1. threshold: 0..1 (official: 0.9)."""
        height, width = picture.shape[:2]
        bgr = np.empty((max(height, _SMALLEST), max(width, _SMALLEST), 3), np.float32)
        bgr[:] = (104.0, 117.0, 123.0)  # the mean, which facexlib subtracts
        bgr[:height, :width] = picture[:, :, ::-1] * np.float32(255)
        with self._lock:
            rows = or_cpu("finding faces", self._device, lambda device: self._rows(device, bgr, threshold))
        # A row is the box, its score and five points, counted from the picture's edge as in our own RetinaFace.
        boxes, points = rows[:, :4] - 0.5, rows[:, 5:].reshape(-1, 5, 2) - 0.5
        return by_confidence(
            Face((float(b[0]), float(b[1]), float(b[2]), float(b[3])), p.astype(np.float32), float(s))
            for b, p, s in zip(boxes, points, rows[:, 4], strict=True)
        )

    def _rows(self, device: Any, bgr: Pixels, threshold: float) -> NDArray[np.float64]:
        import torch

        if device != self._device:
            _moved(self._network, device)
            self._device = device
        with torch.no_grad():
            return np.asarray(self._network.detect_faces(bgr, threshold, NMS), np.float64).reshape(-1, 15)
