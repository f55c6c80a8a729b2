"""The face detector that ships with the project as a judge of faces: its features and its landmarks, differentiable.

RetinaFace mobile0.25 (Deng et al., CVPR 2020) knows what eyes, noses and mouths look like. The restored face shall look to it as the true
one does (a perceptual loss whose weights need no download), and the landmarks it sees shall lie in the same places.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gpen_core.faces.retinaface import EMBEDDED, MEAN
from gpen_core.weights.onnx_graph import Graph, Node, read_graph

# Ends of these blocks: 4, 8, 16 and 32 pixels a cell; then what the heads look at.
FEATURES = ("stage1.2.1.2/", "stage1.5.1.2/", "stage2.5.1.2/", "stage3.1.1.2/", "ssh2/Relu", "ssh3/Relu")


class Seen(NamedTuple):
    """What the detector sees: feature maps; landmarks (N, A, 10) in parts of the anchor's side, sureness (N, A), over all its anchors."""

    features: list[Tensor]
    landmarks: Tensor
    sureness: Tensor


class OnnxFeatures(nn.Module):
    """The convolutional part of a small ONNX network, differentiable. Weights are frozen; gradients pass to the picture."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        graph = read_graph(file)
        same = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.op == "Identity"}
        self._nodes = _feature_nodes(graph)
        for name in {name for node in self._nodes if node.op == "Conv" for name in node.inputs[1:]}:
            source = name
            while source in same:
                source = same[source]
            self.register_buffer(_key(name), torch.from_numpy(np.array(graph.tensors[source].array(), np.float32)), persistent=False)

    def values(self, x: Tensor) -> Iterator[tuple[str, str, Tensor]]:
        """(kind of operation, name of its result, result) of every step; x: (N, 3, S, S) as the network wants it."""
        values: dict[str, Tensor] = {"input": x}
        for node in self._nodes:
            y = values[node.outputs[0]] = self._step(node, [values[name] for name in node.inputs if name in values])
            yield node.op, node.outputs[0], y

    def _step(self, node: Node, inputs: list[Tensor]) -> Tensor:
        x, a = inputs[0], node.attributes
        if node.op == "Conv":
            weight, bias = (self.get_buffer(_key(name)) for name in node.inputs[1:3])
            return F.conv2d(x, weight, bias, stride=a["strides"][0], padding=a["pads"][0], groups=a["group"])
        if node.op == "LeakyRelu":
            return F.leaky_relu(x, a["alpha"])
        if node.op == "Relu":
            return F.relu(x)
        if node.op == "MaxPool":
            return F.max_pool2d(x, 2)
        if node.op == "Add":
            return x + inputs[1]
        if node.op == "Resize":  # of the feature pyramid: always by two, nearest neighbour
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return torch.cat(inputs, dim=1)


class DetectorFeatures(OnnxFeatures):
    """RetinaFace mobile0.25: (N, 3, S, S) RGB in -1..1, S a multiple of 32 -> Seen."""

    def __init__(self, file: Path = EMBEDDED) -> None:
        super().__init__(file)

    def forward(self, x: Tensor) -> Seen:
        mean = torch.tensor(MEAN, device=x.device).view(1, 3, 1, 1)
        heads: dict[str, list[Tensor]] = {"landmark_head": [], "class_head": []}
        features: list[Tensor] = []
        for op, name, y in self.values((x.flip(1) + 1) * 127.5 - mean):
            if op in ("LeakyRelu", "Relu") and any(part in name for part in FEATURES):
                features.append(y)
            for head, grids in heads.items():
                if name.startswith(f"/{head}"):
                    grids.append(y.permute(0, 2, 3, 1).reshape(y.shape[0], -1, 10 if head == "landmark_head" else 2))
        sureness = torch.cat(heads["class_head"], dim=1).softmax(dim=2)[..., 1]
        return Seen(features, torch.cat(heads["landmark_head"], dim=1), sureness)


def _key(name: str) -> str:
    return "of_" + name.replace(".", "_").replace("::", "_")


def _feature_nodes(graph: Graph) -> list[Node]:
    """The nodes from the picture to the heads' convolutions, without the arithmetic of shapes around them."""
    reached, nodes = {"input"}, list[Node]()
    for node in graph.nodes:
        computes = node.op in ("Conv", "LeakyRelu", "Relu", "MaxPool", "Resize") and node.inputs[0] in reached
        joins = node.op in ("Add", "Concat") and all(name in reached for name in node.inputs)
        if computes or joins:
            nodes.append(node)
            reached.add(node.outputs[0])
    return nodes


def perceptual_loss(seen: Seen, true: Seen) -> Tensor:
    """Mean absolute difference of the features, each map by its own size."""
    losses = [(a - b).abs().mean() / b.abs().mean().clamp_min(1e-3) for a, b in zip(seen.features, true.features, strict=True)]
    return torch.stack(losses).mean()


def landmark_loss(seen: Seen, true: Seen) -> Tensor:
    """Mean distance of landmarks, in anchors' sides, and of sureness, where the detector is sure of a face in the true picture."""
    weight = true.sureness * (true.sureness > 0.5)
    apart = (seen.landmarks - true.landmarks).abs().mean(dim=2)
    sure = (seen.sureness - true.sureness).abs()
    return ((apart + sure) * weight).sum() / weight.sum().clamp_min(1.0)
