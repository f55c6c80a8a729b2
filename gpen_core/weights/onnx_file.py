"""Runs an .onnx file that the user has on disk: face parsers, occlusion masks, recognisers.

OpenCV computes it, because it is always there. OpenCV 4 lacks a few operations (XSeg's transposed convolutions); where it refuses a file,
onnxruntime does the work, if the user has it. Both run on the CPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedWeightsError, FeatureMissingError, WeightsError, shown
from .formats.onnx_graph import EXTERNAL, read_graph

Array = NDArray[np.float32]
Run = Callable[[Array], Array]

MOST_BYTES = 600_000_000  # ArcFace has 174 MB, XSeg 70
log = logging.getLogger(__name__)


class OnnxFile:
    """A network with one input, as a function: float32 array in, the file's first result out. Safe to call from several threads.

    network = OnnxFile(path, (1, 3, 112, 112)); y = network(x)
    """

    def __init__(self, path: Path, shape: Sequence[int], result: Sequence[int] | None = None) -> None:
        """path: the file. shape: of the input; the network is tried with zeros, so that a file that cannot run fails here.

        result: the shape that the result must have: another network's file fails here too, and so does an operation that OpenCV
        understands differently. Raises WeightsError, which names the file, if it is damaged, too large, another kind of file, or cannot be
        run here.
        """
        self.path, self.shape = path, tuple(shape)
        self._lock = threading.Lock()
        output, data = _read(path)
        refusals: list[str] = []
        for name, load in (("OpenCV", _opencv), ("onnxruntime", _onnxruntime)):
            try:
                self._run = load(data, output)
                self.result_shape = self._tried()
                if result is not None and self.result_shape != tuple(result):
                    raise WeightsError(f"its result has the shape {self.result_shape}, not {tuple(result)}")
            except FeatureMissingError as error:
                refusals.append(str(error))
            except Exception as error:  # neither OpenCV's nor onnxruntime's errors share a class across versions
                refusals.append(f"{name}: {shown(' '.join(str(error).split()), 200)}")
                log.debug("%s does not run %s: %s", name, path, error)
            else:
                return
        advice = (
            ""
            if importlib.util.find_spec("onnxruntime")
            else " Install onnxruntime (pip install onnxruntime) or OpenCV 5, or do without it."
        )
        raise WeightsError(f"'{shown(path, 300)}' cannot be run here ({'; '.join(refusals)}).{advice}")

    def __call__(self, x: Array) -> Array:
        """x: float32 of the shape given. Returns a new array. Raises WeightsError if the file fails on it."""
        if x.shape != self.shape:
            raise ValueError(f"{self.path.name} takes an array of shape {self.shape}, not {x.shape}")
        x = np.ascontiguousarray(x, np.float32)
        with self._lock:
            try:
                return self._run(x)
            except Exception as error:
                raise WeightsError(f"'{shown(self.path, 300)}' failed: {shown(' '.join(str(error).split()), 200)}") from error

    def _tried(self) -> tuple[int, ...]:
        return self._run(np.zeros(self.shape, np.float32)).shape


def _read(path: Path) -> tuple[str, NDArray[np.uint8]]:
    """The name of the file's first result, and its bytes. Our own reader checks the file's structure before any other sees it."""
    name = shown(path, 300)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise WeightsError(f"'{name}' has {size:,} bytes; more than {MOST_BYTES:,} are not read")
        graph = read_graph(path)
        if any(tensor.external for tensor in graph.tensors.values()):
            raise WeightsError(EXTERNAL)
        if not graph.outputs:
            raise DamagedWeightsError("the file names no result")
        return graph.outputs[0], np.fromfile(path, np.uint8)
    except WeightsError as error:
        raise type(error)(str(error) if name in str(error) else f"'{name}': {error}") from error
    except OSError as error:
        raise WeightsError(f"'{name}' cannot be read ({shown(error)})") from error


def _opencv(data: NDArray[np.uint8], output: str) -> Run:
    network: Any = cv2.dnn.readNetFromONNX(data)

    def run(x: Array) -> Array:
        network.setInput(x)
        # By name, because without one OpenCV 4 takes the last of several. A copy, because OpenCV uses its memory again.
        return np.array(network.forward(output), np.float32)

    return run


def _onnxruntime(data: NDArray[np.uint8], output: str) -> Run:
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")
    except Exception as error:  # not only ImportError: a build for another NumPy or without its libraries
        raise FeatureMissingError("onnxruntime is not installed") from error
    session = onnxruntime.InferenceSession(data.tobytes(), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name

    def run(x: Array) -> Array:
        return np.array(session.run([output], {given: x})[0], np.float32)

    return run
