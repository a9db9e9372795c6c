"""Linear layers and embeddings of a graph, in fp32 or int8.

int8 weights have one symmetric scale for each output channel. The scale of an activation is fixed at export, from
calibration: a sentence's result cannot depend on what else is in its batch, which a scale found at run time for the
whole tensor (``DynamicQuantizeLinear``) would allow, and two operators do the work of a layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from export.graph import MICROSOFT, Graph

LEVELS = 127
STEPS = 255
"""From the smallest to the largest uint8."""
SMALLEST = 1e-12
"""Keeps the scale of what is all zero from being zero."""


class Range(NamedTuple):
    """Smallest and largest value that an activation takes; zero is always one of its levels."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        return max(max(self.high, 0.0) - min(self.low, 0.0), SMALLEST) / STEPS

    @property
    def zero_point(self) -> int:
        return round(-min(self.low, 0.0) / self.scale)


def quantize(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 with one scale for each slice along ``axis``: weight and its scales, a vector."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True) / LEVELS, SMALLEST)
    return np.round(weight / scale).astype(np.int8), scale.astype(np.float32).ravel()


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


class Layers(ABC):
    """How a graph multiplies with weights."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @abstractmethod
    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        """``x [N, I], weight [I, O], bias [O] -> [N, O]``."""

    @abstractmethod
    def embed(self, ids: str, name: str, weight: np.ndarray) -> str:
        """``ids [...], weight [V, D] -> [..., D]``."""

    def linear(self, x: str, name: str, *layers: nn.Linear) -> str:
        """One product for one layer or several that read the same input: ``[N, I] -> [N, sum of O]``."""
        weight = np.concatenate([array(layer.weight) for layer in layers]).T
        biases: list[Tensor | None] = [layer.bias for layer in layers]
        known = [array(bias) for bias in biases if bias is not None]
        return self.project(x, name, weight, np.concatenate(known) if known else None)

    def norm(self, x: str, name: str, layer: nn.LayerNorm) -> str:
        scale = self.graph.weight(f"{name}.scale", array(layer.weight))
        bias = self.graph.weight(f"{name}.bias", array(layer.bias))
        return self.graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=layer.eps)


class Float32Layers(Layers):
    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        inputs = [x, self.graph.weight(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.graph.weight(f"{name}.bias", bias))
        return self.graph.op("Gemm", *inputs)

    def embed(self, ids: str, name: str, weight: np.ndarray) -> str:
        return self.graph.op("Gather", self.graph.weight(name, weight), ids)


class Int8Layers(Layers):
    """``ranges`` has the values that the input of each linear layer takes, by the layer's name."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Range]) -> None:
        super().__init__(graph)
        self.ranges = ranges
        self.quantized: dict[str, tuple[str, str, str]] = {}

    def input(self, x: str, values: Range) -> tuple[str, str, str]:
        """``x`` as uint8, its scale and zero point; once for each value."""
        if x not in self.quantized:
            g = self.graph
            scale, zero_point = g.number(values.scale), g.constant(values.zero_point, np.uint8)
            self.quantized[x] = g.op("QuantizeLinear", x, scale, zero_point), scale, zero_point
        return self.quantized[x]

    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        g = self.graph
        values, scales = quantize(weight, axis=1)
        levels, scale, zero_point = self.input(x, self.ranges[name])
        inputs = [levels, g.weight(f"{name}.weight", values), scale, g.weight(f"{name}.scale", scales), zero_point, ""]
        if bias is not None:
            inputs.append(g.weight(f"{name}.bias", bias))
        return g.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def embed(self, ids: str, name: str, weight: np.ndarray) -> str:
        g = self.graph
        values, scales = quantize(weight, axis=0)
        rows = g.op("Cast", g.op("Gather", g.weight(name, values), ids), to=1)
        scale = g.op("Gather", g.weight(f"{name}.scale", scales[:, None]), ids)
        return g.op("Mul", rows, scale)


MakeLayers = Callable[[Graph], Layers]
"""How the graphs of one precision get their layers."""


def best(graph: Graph, logits: str) -> None:
    """The contract's ``next_ids`` and ``next_scores``, ``[B, K]``: the likeliest tokens and their log-probabilities.

    K is an input, since greedy decoding should not pay for a beam.
    """
    count = graph.input("top_k", "int64", [1])
    # ReduceLogSumExp would touch fewer numbers, but the CPU provider takes ten times as long for it.
    scores, ids = graph.many("TopK", [graph.op("LogSoftmax", logits, axis=-1), count], 2, axis=-1)
    graph.output(ids, "next_ids", "int64", ["batch", "k"])
    graph.output(scores, "next_scores", "float32", ["batch", "k"])
