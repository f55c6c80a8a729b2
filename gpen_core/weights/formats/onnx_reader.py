"""Reads the parameters of a GPEN generator from an ONNX file, whichever program exported it.

Exporters multiply constant factors into the weights, transpose them and rename them (`onnx::MatMul_123`), so names are unreliable.
Instead the reader follows the main path of the graph:

    encoder convolutions -> final_linear -> mapping layers -> conv1 -> convs.0 -> convs.1 -> ...

Each step on this path raises the "stage" of everything after it by one. Every bias, noise weight and to_rgb belongs to the stage in which
it is applied. Each constant, as it is finally applied, is divided by the network's factor for it (1 / sqrt(fan_in), and 0.01 in the
mapping layers). This gives the parameter as a checkpoint holds it, whether or not the exporter folded the factor in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from ...errors import WeightsError, shown
from .onnx_constants import Constants
from .onnx_graph import EXTERNAL, Array, Graph, Node, read_graph

Shape = tuple[int, ...]

_MAPPING_RATE = 0.01  # official `lr_mlp`: factor on weights and biases of the mapping layers
_MOST_MODULATED = 64  # size 2048 has 29
_MOST_STEPS = 1000  # about ten operations lie between a modulated convolution and its weight and style
# Operations that only change the shape or type of their first input.
_FORM = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Cast", "CastLike", "Identity", "Expand", "Tile", "Flatten"})


@dataclass
class Parameter:
    """One tensor: the product of constants of the graph, divided by `factor` and reshaped to the official shape."""

    shape: Shape
    constants: Constants
    names: tuple[str, ...]
    factor: float = 1.0
    transposed: bool = False

    def array(self) -> Array:
        """A new float32 array in the official shape."""
        arrays = [self.constants.array(name) for name in self.names]
        arrays.sort(key=lambda item: -item.size)
        product = np.array(arrays[0], dtype=np.float32)
        with np.errstate(all="ignore"):  # invalid values (NaN) are reported where they are used
            for other in arrays[1:]:
                product *= np.float32(np.ravel(other)[0])
            if self.factor != 1.0:
                product /= np.float32(self.factor)
        if self.transposed:
            product = np.transpose(product)
        # Exporters may repeat the batch dimension; keep the first copy.
        flat = np.ravel(product)[: math.prod(self.shape)]
        return np.ascontiguousarray(np.reshape(flat, self.shape), dtype=np.float32)


def read_onnx(path: Path) -> dict[str, Parameter]:
    """The parameters of the GPEN generator in an .onnx file, by official name (without the FIR kernels).

    `Parameter.array` reads the data later. Raises WeightsError if the graph is not that of a GPEN generator.
    """
    graph = read_graph(path)
    if any(tensor.external for tensor in graph.tensors.values()):
        raise WeightsError(EXTERNAL)
    try:
        return _Walk(graph).parameters()
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise WeightsError(f"the ONNX network is not a GPEN generator ({shown(error)})") from error


@dataclass
class _Modulation:
    """A modulated convolution: the constants of its weight, and the linear layer that makes its style."""

    weights: list[str]
    linear: Node
    bias: str | None


class _Walk:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.constants = Constants(graph)
        self.maker = {name: node for node in graph.nodes for name in node.outputs}
        self.behind: dict[str, Node | None] = {}
        for node in graph.nodes:
            form = node.op in _FORM and node.inputs[0] not in self.constants
            self.behind.update(dict.fromkeys(node.outputs, self.behind.get(node.inputs[0]) if form else node))
        self.modulated: dict[int, _Modulation] = {}
        self.set_aside: set[int] = set()  # ids of nodes that belong to a modulation
        self.found: dict[str, Parameter] = {}
        self.shapes: dict[str, Shape] = {}

    def parameters(self) -> dict[str, Parameter]:
        for node in self.graph.nodes:
            if node.op in ("Conv", "ConvTranspose") and node.inputs[1] not in self.constants:
                if len(self.modulated) == _MOST_MODULATED:
                    raise WeightsError("the ONNX network is not a GPEN generator (too many modulated convolutions)")
                self.modulated[id(node)] = self._modulation(node)
        self._stages()
        if len(self.encoder) < 4 or len(self.chain) < 2 or len(self.styled) < 3:
            raise WeightsError("the ONNX network is not a GPEN generator")
        self._read_encoder()
        self._read_chain()
        self._read_decoder()
        for node in self.graph.nodes:
            self._read_bias(node)
            self._read_noise(node)
        for n, node in enumerate(self.encoder):
            # An optimiser may have moved the bias into the convolution. (Otherwise some exporters put zeros there.)
            if self._encoder_bias(n) not in self.found and len(node.inputs) > 2:
                self._add(self._encoder_bias(n), self._shape(node.inputs[1])[:1], node.inputs[2])
        # By repeating a few numbers, a file of kilobytes could fill gigabytes of memory.
        if sum(math.prod(parameter.shape) for parameter in self.found.values()) > self.graph.length:
            raise WeightsError("the ONNX network is not a GPEN generator (it has more parameters than the file has bytes)")
        return self._with_original_numbers()

    def _stages(self) -> None:
        """Walks the graph once and records the steps of the main path and the stage of every value."""
        self.encoder: list[Node] = []
        self.chain: list[Node] = []
        self.styled: list[Node] = []
        self.rgb: list[Node] = []
        self.stage: dict[str, int] = {}
        for node in self.graph.nodes:
            stage = max((self.stage.get(name, 0) for name in node.inputs), default=0)
            if id(node) in self.modulated:
                if self._kernel_side(self.modulated[id(node)]) == 3:
                    self.styled.append(node)
                    stage += 1
                else:
                    self.rgb.append(node)
            elif node.op == "Conv" and not self._is_filter(node):
                self.encoder.append(node)
                stage += 1
            elif self._is_linear(node) and id(node) not in self.set_aside:
                self.chain.append(node)
                stage += 1
            self.stage.update(dict.fromkeys(node.outputs, stage))

    def _is_linear(self, node: Node) -> bool:
        return node.op in ("Gemm", "MatMul") and node.inputs[1] in self.constants and node.inputs[0] not in self.constants

    def _is_filter(self, node: Node) -> bool:
        """True for the fixed [1, 3, 3, 1] low-pass filter, a depthwise 4x4 convolution."""
        shape = self._shape(node.inputs[1])
        return len(shape) != 4 or (shape[1] == 1 and shape[2:] == (4, 4))

    def _shape(self, name: str) -> Shape:
        if name not in self.shapes:
            tensor = self.graph.tensors.get(name)
            self.shapes[name] = tensor.shape if tensor is not None else tuple(self.constants.array(name).shape)
        return self.shapes[name]

    def _kernel_side(self, modulation: _Modulation) -> int:
        return self._shape(modulation.weights[0])[-1]

    # Tracing a modulated convolution back to its weight and style

    def _modulation(self, conv: Node) -> _Modulation:
        weights: list[str] = []
        linears: list[tuple[Node, str | None]] = []
        waiting = [conv.inputs[1]]
        for _ in range(_MOST_STEPS):  # values may be shared, so there can be exponentially many paths back
            if not waiting:
                break
            name = waiting.pop()
            if name in self.constants:
                weights.append(name)
                continue
            node = self._behind_form(name)
            if node is None:
                continue
            if node.op == "Mul":
                waiting.extend(node.inputs)
            elif node.op == "Div":  # w / sqrt(...); a 1 / sqrt(...) has no weight in it
                if node.inputs[0] not in self.constants:
                    waiting.append(node.inputs[0])
            else:
                linear = self._linear_with_bias(node)
                if linear is not None:
                    linears.append(linear)
        if waiting:
            raise WeightsError("the ONNX network is not a GPEN generator (a weight needs too many operations)")
        weights.sort(key=lambda name: -math.prod(self._shape(name)))
        if not weights or len(self._shape(weights[0])) not in (4, 5) or len(linears) != 1:
            raise WeightsError("the ONNX network is not a GPEN generator (a convolution's weight is not modulated by a style)")
        return _Modulation(weights, *linears[0])

    def _behind_form(self, name: str) -> Node | None:
        """The node that makes a value, skipping operations that only change shape or type."""
        return self.behind.get(name)

    def _linear_with_bias(self, node: Node) -> tuple[Node, str | None] | None:
        """(linear layer, name of its bias) for Gemm, MatMul, or Add of a constant to one of them."""
        if self._is_linear(node):
            self.set_aside.add(id(node))
            return node, node.inputs[2] if node.op == "Gemm" and len(node.inputs) > 2 else None
        if node.op == "Add":
            parts = self._constant_and_other(node)
            below = self._behind_form(parts[1]) if parts else None
            if parts and below is not None and self._is_linear(below):
                self.set_aside.update((id(node), id(below)))
                return below, parts[0]
        return None

    def _constant_and_other(self, node: Node) -> tuple[str, str] | None:
        """(constant input, other input) of an operation with one of each."""
        constant = [name for name in node.inputs if name in self.constants]
        other = [name for name in node.inputs if name not in self.constants]
        return (constant[0], other[0]) if len(constant) == len(other) == 1 else None

    # The parameters

    def _add(self, key: str, shape: Shape, names: list[str] | str, factor: float = 1.0, *, transposed: bool = False) -> None:
        if key in self.found:
            raise WeightsError(f"the ONNX network is not a GPEN generator (two values for '{shown(key)}')")
        listed = (names,) if isinstance(names, str) else tuple(names)
        self.found[key] = Parameter(shape, self.constants, listed, factor, transposed)

    def _read_encoder(self) -> None:
        for n, node in enumerate(self.encoder):
            shape = self._shape(node.inputs[1])
            self._add(f"ecd{n}.0.{min(n, 1)}.weight", shape, node.inputs[1], 1 / math.sqrt(math.prod(shape[1:])))

    @staticmethod
    def _encoder_bias(n: int) -> str:
        return f"ecd{n}.0.{min(n, 1) + 1}.bias"

    def _add_linear(self, node: Node, prefix: str, rate: float) -> None:
        upright = node.op == "Gemm" and bool(node.attributes.get("transB"))
        shape = self._shape(node.inputs[1])
        shape = shape if upright else shape[::-1]
        if len(shape) != 2:
            raise WeightsError("the ONNX network is not a GPEN generator (a linear layer has the wrong shape)")
        alpha = float(node.attributes.get("alpha", 1.0)) if node.op == "Gemm" else 1.0
        self._add(f"{prefix}.weight", shape, node.inputs[1], rate / math.sqrt(shape[1]) / alpha, transposed=not upright)

    @staticmethod
    def _chain_layer(n: int) -> tuple[str, float]:
        return (f"generator.style.{n}", _MAPPING_RATE) if n else ("final_linear.0", 1.0)

    def _read_chain(self) -> None:
        for n, node in enumerate(self.chain):
            prefix, rate = self._chain_layer(n)
            self._add_linear(node, prefix, rate)
            if node.op == "Gemm" and len(node.inputs) > 2 and node.inputs[2]:
                self._add(f"{prefix}.bias", (self.found[f"{prefix}.weight"].shape[0],), node.inputs[2], rate)

    def _read_decoder(self) -> None:
        for n, node in enumerate(self.styled):
            self._add_modulated(node, f"generator.convs.{n - 1}" if n else "generator.conv1")
        for node in self.rgb:
            self._add_modulated(node, self._rgb_prefix(self._decoder_step(node)))
        start = self._behind_constant(self.styled[0].inputs[0])
        channels = self.found["generator.conv1.conv.weight"].shape[2]
        self._add("generator.input.input", (1, channels, 4, 4), start)

    def _decoder_step(self, node: Node) -> int:
        return self.stage[node.outputs[0]] - len(self.encoder) - len(self.chain) - 1

    @staticmethod
    def _rgb_prefix(step: int) -> str:
        return f"generator.to_rgbs.{step // 2 - 1}" if step else "generator.to_rgb1"

    def _add_modulated(self, node: Node, prefix: str) -> None:
        modulation = self.modulated[id(node)]
        shape = cast(Shape, (1, *self._shape(modulation.weights[0])[-4:]))
        self._add(f"{prefix}.conv.weight", shape, modulation.weights, 1 / math.sqrt(math.prod(shape[2:])))
        self._add_linear(modulation.linear, f"{prefix}.conv.modulation", 1.0)
        if modulation.bias:
            self._add(f"{prefix}.conv.modulation.bias", (shape[2],), modulation.bias)

    def _behind_constant(self, name: str) -> str:
        """The constant behind operations that only change shape or type: the decoder's 4x4 input, repeated for every picture."""
        while name not in self.constants:
            node = self.maker.get(name)
            if node is None or node.op not in _FORM:
                raise WeightsError("the ONNX network is not a GPEN generator (no constant input)")
            name = node.inputs[0]
        return name

    def _read_bias(self, node: Node) -> None:
        parts = self._constant_and_other(node) if node.op == "Add" and id(node) not in self.set_aside else None
        if parts is None:
            return
        size = math.prod(self._shape(parts[0]))
        step = self.stage[node.outputs[0]] - 1
        if size == 1 or step < 0:
            return
        if step < len(self.encoder):
            if size == self._shape(self.encoder[step].inputs[1])[0]:
                self._add(self._encoder_bias(step), (size,), parts[0])
        elif step < len(self.encoder) + len(self.chain):
            prefix, rate = self._chain_layer(step - len(self.encoder))
            if size == self.found[f"{prefix}.weight"].shape[0]:
                self._add(f"{prefix}.bias", (size,), parts[0], rate)
        else:
            n = step - len(self.encoder) - len(self.chain)
            prefix = f"generator.convs.{n - 1}" if n else "generator.conv1"
            if size == 3:
                self._add(f"{self._rgb_prefix(n)}.bias", (1, 3, 1, 1), parts[0])
            elif size == 2 * self.found[f"{prefix}.conv.weight"].shape[1]:
                self._add(f"{prefix}.activate.bias", (size,), parts[0])

    def _read_noise(self, node: Node) -> None:
        """Reads the noise weight from Concat(picture, noise weight * encoder feature)."""
        n = self._decoder_step(node) if node.op == "Concat" and len(node.inputs) == 2 else -1
        if n < 0:
            return
        product = self._behind_form(node.inputs[1])
        parts = self._constant_and_other(product) if product is not None and product.op == "Mul" else None
        if parts is not None and math.prod(self._shape(parts[0])) == 1:
            prefix = f"generator.convs.{n - 1}" if n else "generator.conv1"
            self._add(f"{prefix}.noise.weight", (1,), parts[0])

    def _with_original_numbers(self) -> dict[str, Parameter]:
        """The parameters, preferring constants with the official name and the same values: they were never multiplied."""
        for key, parameter in self.found.items():
            tensor = self.graph.tensors.get(key)
            if tensor is not None and tensor.shape == parameter.shape and tensor.data_type == 1:
                original = Parameter(parameter.shape, self.constants, (key,))
                if parameter.names == (key,) or np.allclose(original.array(), parameter.array(), rtol=1e-4, atol=1e-7):
                    self.found[key] = original
        return self.found
