"""YuNet, run by OpenCV's own FaceDetectorYN where its file is given. About twice as fast as RetinaFace, less exact.

Model: face_detection_yunet_*.onnx of the OpenCV model zoo (MIT); Wu et al., "YuNet", Machine Intelligence Research 2023.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError, WeightsMissingError
from .face import Face, by_confidence

Pixels = NDArray[np.float32]

PATTERN = "face_detection_yunet*.onnx"
SOURCE = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"
_NMS = 0.4
_MOST = 5000


class YuNet:
    """Detector "yunet". Safe to call from several threads (they take turns)."""

    name = "yunet"

    def __init__(self, model_file: Path) -> None:
        """Raises WeightsError where the file cannot be read or is not YuNet's."""
        try:
            model = np.frombuffer(model_file.read_bytes(), np.uint8)
        except OSError as error:
            raise WeightsError(f"the face detector {model_file} cannot be read: {error}") from error
        create: Any = cv2.FaceDetectorYN.create
        try:
            # From bytes, as OpenCV opens no path with letters beyond ASCII on Windows.
            self._net: Any = create("onnx", model, np.empty(0, np.uint8), (320, 320), 0.8, _NMS, _MOST)
            self._lock = threading.Lock()
            self.detect(np.zeros((64, 64, 3), np.float32), 0.9)
        except cv2.error as error:
            raise WeightsError(f"{model_file} is no YuNet that OpenCV {cv2.__version__} can read: {error}") from error

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """The faces seen in one look. picture: float32 RGB (H, W, 3), 0..1. threshold: 0..1."""
        height, width = picture.shape[:2]
        # OpenCV's class looks at 8-bit pictures; sides below 32 pixels it does not take.
        frame = np.zeros((max(32, height), max(32, width), 3), np.uint8)
        frame[:height, :width] = np.clip(np.rint(picture[..., ::-1] * 255), 0, 255)
        with self._lock:
            self._net.setInputSize((frame.shape[1], frame.shape[0]))
            self._net.setScoreThreshold(float(threshold))
            _, rows = self._net.detect(frame)
        if rows is None:
            return []
        faces: list[Face] = []
        for row in np.asarray(rows, np.float64):
            x, y, w, h = row[:4].tolist()
            # YuNet's first landmark is the person's right eye: the one on the left of the picture, as everywhere here.
            faces.append(Face((x, y, x + w, y + h), row[4:14].reshape(5, 2).astype(np.float32), float(row[14])))
        return by_confidence(faces)


def make_yunet(model_file: Path | None, weights_folders: Sequence[Path] = ()) -> YuNet:
    """YuNet from its file, or from the newest in the folders. Raises WeightsMissingError where there is none."""
    if model_file is not None:
        return YuNet(model_file)
    found = sorted(path for folder in weights_folders if folder.is_dir() for path in folder.glob(PATTERN))
    if not found:
        looked = ", ".join(str(folder) for folder in weights_folders) or "no folder"
        raise WeightsMissingError(
            f"the detector yunet needs its file {PATTERN}, which was not found (looked in {looked}); get it from {SOURCE} "
            "and put it into models/GPEN, or use the detector retinaface-mobile, which ships with the project"
        )
    return YuNet(max(found, key=lambda path: path.name))
