"""Running small convolutional ONNX networks in torch: on any torch device, and differentiable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..weights.formats.onnx_graph import Graph, Node, read_graph


class OnnxNetwork(nn.Module):
    """The convolutional part of an ONNX network, from its picture to its heads' convolutions; the caller does the rest.

    Supports the operations of RetinaFace mobile0.25 and YuNet. Weights are frozen; gradients reach the picture.
    """

    def __init__(self, file: Path) -> None:
        """Raises WeightsError if the file is not an ONNX network."""
        super().__init__()
        graph = read_graph(file)
        self._nodes = _convolutional(graph)
        self._readers = Counter(name for node in self._nodes for name in node.inputs)
        for name in {name for node in self._nodes if node.op == "Conv" for name in node.inputs[1:]}:
            constant = torch.as_tensor(np.array(graph.tensors[name].array(), np.float32))
            if constant.ndim == 4:  # oneDNN is nearly twice as fast with this layout, whatever the picture's
                constant = constant.contiguous(memory_format=torch.channels_last)
            self.register_buffer(_key(name), constant, persistent=False)

    @property
    def first_weight(self) -> Tensor:
        """The weight, (C, 3, k, k), of the convolution that reads the picture."""
        return self.get_buffer(_key(next(node.inputs[1] for node in self._nodes if node.inputs[0] == "input")))

    def values(self, x: Tensor) -> Iterator[tuple[str, str, Tensor]]:
        """Yields (operation, name of its result, result) for every step. x: (N, 3, H, W), as the network needs it.

        A convolution's result is valid only until the next step: an activation that alone reads it works in place.
        """
        values: dict[str, Tensor] = {"input": x}
        left = self._readers.copy()
        for node in self._nodes:
            inputs = [values[name] for name in node.inputs if name in values]
            y = self._step(node, inputs)
            for name in node.inputs:
                left[name] -= 1
                if not left[name]:
                    values.pop(name, None)  # in a large picture these take most of the memory
            values[node.outputs[0]] = y
            del inputs
            yield node.op, node.outputs[0], y

    def _step(self, node: Node, inputs: list[Tensor]) -> Tensor:
        x, a = inputs[0], node.attributes
        if node.op == "Conv":
            weight, bias = (self.get_buffer(_key(name)) for name in node.inputs[1:3])
            if a["group"] > 1 and x.device.type == "cpu" and not torch.backends.mkldnn.is_available():
                return depthwise(x, weight, bias, a["strides"][0])
            return F.conv2d(x, weight, bias, stride=a["strides"][0], padding=a["pads"][0], groups=a["group"])
        alone = self._readers[node.inputs[0]] == 1
        if node.op == "LeakyRelu":
            return F.leaky_relu(x, a["alpha"], inplace=alone)
        if node.op == "Relu":
            return F.relu(x, inplace=alone)
        if node.op == "MaxPool":
            return F.max_pool2d(x, 2)
        if node.op == "Add":
            return x + inputs[1]
        if node.op == "Resize":  # of the feature pyramid: always doubles, nearest neighbour
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return torch.cat(inputs, dim=1)


def depthwise(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Depthwise 3x3 convolution, padding 1, tap by tap: without oneDNN, torch's takes five times as long."""
    y = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # channels last, so that one tap is added to all channels at once
    rows, columns = (side - 3 for side in y.shape[1:3])
    taps = [
        (y[:, top : top + rows + 1 : stride, left : left + columns + 1 : stride], weight[:, 0, top, left])
        for top in range(3)
        for left in range(3)
    ]
    result = torch.addcmul(bias, *taps[0])
    for part, factors in taps[1:]:
        result.addcmul_(part, factors)
    return result.permute(0, 3, 1, 2)


def _key(name: str) -> str:
    return "of_" + name.replace(".", "_").replace("::", "_")


def _convolutional(graph: Graph) -> list[Node]:
    """The nodes from the picture to the heads' convolutions, without shape arithmetic and duplicates."""
    nodes: list[Node] = []
    reached, renamed = {"input"}, dict[str, str]()
    done: dict[str, str] = {}  # operation to result: RetinaFace's file repeats three convolutions
    for node in graph.nodes:
        inputs, result = [renamed.get(name, name) for name in node.inputs], node.outputs[0]
        computes = node.op in ("Conv", "LeakyRelu", "Relu", "MaxPool", "Resize") and inputs[0] in reached
        joins = node.op in ("Add", "Concat") and all(name in reached for name in inputs)
        if node.op == "Identity":
            renamed[result] = inputs[0]
        elif computes or joins:
            first = done.setdefault(repr((node.op, inputs, node.attributes)), result)
            if first != result:
                renamed[result] = first
                continue
            nodes.append(replace(node, inputs=inputs))
            reached.add(result)
    return nodes
