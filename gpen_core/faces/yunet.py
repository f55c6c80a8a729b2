"""YuNet through cv2.FaceDetectorYN: about twice as fast as RetinaFace mobile0.25, with less accurate landmarks.

Model: opencv_zoo, face_detection_yunet (MIT), Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023. The user provides
its file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import WeightsError, WeightsMissingError
from ..pixels import Pixels
from ..weights.folders import how_to_get
from .face import NMS, Face, by_confidence

ADDRESS = "https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet"
_PATTERN = "face_detection_yunet*.onnx"
_MOST = 5000  # maximum detections before suppression
_SMALLEST = 32  # minimum side of the network's input


def make_yunet(weights_folders: Sequence[Path]) -> YuNet:
    """Loads YuNet from the first folder that has face_detection_yunet*.onnx (the newest by name, quantised ones last).

    Raises WeightsMissingError if there is none, WeightsError if the file cannot be read.
    """
    for folder in weights_folders:
        files = sorted(folder.glob(_PATTERN), key=lambda path: ("int8" not in path.name, path.name)) if folder.is_dir() else []
        if files:
            return YuNet(files[-1])
    raise WeightsMissingError(
        f"The detector yunet needs its file. {how_to_get(_PATTERN, ADDRESS, weights_folders)}, "
        "or use the detector retinaface-mobile, which is included."
    )


class YuNet:
    """Detector "yunet". Safe to call from several threads (they take turns)."""

    name = "yunet"
    unsteady = 2.0  # its landmarks of a face and of its mirror image lie twice as far apart as RetinaFace's (closer.py)
    sure = 0.92  # nearly all upright faces reach it, none of those on their head or side do; by the distance, one in six was set wrong

    def __init__(self, model_file: Path) -> None:
        """Raises WeightsError if the file cannot be read."""
        try:
            self._detector = _create(model_file)
        except (OSError, cv2.error) as error:
            raise WeightsError(f"{model_file} is not a YuNet model that OpenCV {cv2.__version__} can read: {error}") from error
        self._lock = threading.Lock()

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """Finds faces in one pass, highest score first. picture: float32 RGB (H, W, 3), 0..1. threshold: 0..1."""
        height, width = picture.shape[:2]
        bgr = np.clip(np.rint(picture[:, :, ::-1] * 255), 0, 255).astype(np.uint8)
        bgr = cv2.copyMakeBorder(bgr, 0, max(0, _SMALLEST - height), 0, max(0, _SMALLEST - width), cv2.BORDER_CONSTANT)
        with self._lock:
            self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
            self._detector.setScoreThreshold(float(threshold))
            found = self._detector.detect(bgr)[1]
        # A row is x, y, width, height, five points, score. First comes the person's right eye, on the left of the picture.
        rows: list[list[float]] = [] if found is None else np.asarray(found, np.float64).tolist()
        return by_confidence(
            Face((x, y, x + wide, y + tall), np.array(rest[:10], np.float32).reshape(5, 2), min(1.0, rest[10]))
            for x, y, wide, tall, *rest in rows
        )


def _create(model_file: Path) -> Any:
    # Any, because the stubs know only the form that takes a path.
    create: Any = cv2.FaceDetectorYN.create
    settings = ((_SMALLEST, _SMALLEST), 0.5, NMS, _MOST)
    model = np.frombuffer(model_file.read_bytes(), np.uint8)
    try:
        # Bytes rather than a path, because on Windows OpenCV cannot open paths with non-ASCII letters.
        return create("onnx", model, np.empty(0, np.uint8), *settings)
    except TypeError:  # OpenCV 4.8 takes only paths
        return create(str(model_file), "", *settings)
