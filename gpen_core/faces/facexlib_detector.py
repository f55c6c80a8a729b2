"""RetinaFace-R50, the official code's detector, through facexlib where that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FeatureMissingError, WeightsError, WeightsMissingError
from .face import Face, by_confidence

Pixels = NDArray[np.float32]

FILE = "detection_Resnet50_Final.pth"
SOURCE = "https://github.com/xinntao/facexlib/releases/download/v0.1.0/detection_Resnet50_Final.pth"
_NMS = 0.4
_LONGEST = 1500  # official: a picture whose long side is above this ...
_SHRUNK = 1000  # ... is looked at with its long side at this


class RetinaFaceR50:
    """Detector "retinaface-r50". network: a facexlib RetinaFace that holds its weights."""

    name = "retinaface-r50"

    def __init__(self, network: Any) -> None:
        self._network = network

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """The faces seen in one look. picture: float32 RGB (H, W, 3), 0..1. threshold: 0..1 (official: 0.9)."""
        import torch

        height, width = picture.shape[:2]
        frame = np.clip(np.rint(picture[..., ::-1] * 255), 0, 255)
        scale = _SHRUNK / max(height, width) if max(height, width) > _LONGEST else 1.0
        wide, tall = max(1, round(width * scale)), max(1, round(height * scale))
        if scale != 1.0:
            frame = cv2.resize(frame, (wide, tall), interpolation=cv2.INTER_LINEAR)
        # facexlib computes in float32 and takes BGR in 0..255.
        with torch.inference_mode():
            rows = np.asarray(self._network.detect_faces(np.ascontiguousarray(frame, np.float32), threshold, _NMS), np.float64)
        faces = [
            Face((float(r[0]), float(r[1]), float(r[2]), float(r[3])), r[5:15].reshape(5, 2).astype(np.float32), float(r[4]))
            for r in rows.reshape(-1, 15)
        ]
        return by_confidence([face.scaled(width / wide, height / tall) for face in faces])


def make_retinaface_r50(model_file: Path | None, weights_folders: Sequence[Path] = (), device: Any = "cpu") -> RetinaFaceR50:
    """The detector with weights from the file, or from the first folder that has them.

    facexlib's own loader is not used: it downloads, into a folder of its own choice, and hosts patch it.
    Raises FeatureMissingError where facexlib cannot be imported, WeightsMissingError or WeightsError for its weights.
    """
    try:
        module = importlib.import_module("facexlib.detection.retinaface")
    except Exception as error:  # its imports (torchvision, numba) fail in many ways: ImportError, RuntimeError, AttributeError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FeatureMissingError(
            f"the detector retinaface-r50 needs the package facexlib, which cannot be imported here ({reason}); install it with "
            "'pip install facexlib', or use the detector retinaface-mobile, which ships with the project"
        ) from error
    path = model_file or _find(weights_folders)
    from ..weights.checkpoint import read_state_dict

    state = read_state_dict(path)
    network: Any = module.RetinaFace(network_name="resnet50", half=False, phase="test", device=device)
    try:
        network.load_state_dict({key.removeprefix("module."): value for key, value in state.items()}, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not hold the weights of RetinaFace-R50 ({FILE})") from error
    return RetinaFaceR50(network.eval().to(device))


def _find(folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (folder / FILE).is_file():
            return folder / FILE
    looked = ", ".join(str(folder) for folder in folders) or "no folder"
    raise WeightsMissingError(
        f"the detector retinaface-r50 needs {FILE}, which was not found (looked in {looked}); get it from {SOURCE} and put it into "
        "models/GPEN, or use the detector retinaface-mobile, which ships with the project"
    )
