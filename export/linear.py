"""Linear layers and embeddings of a graph, in fp32 or int8.

int8 weights have one symmetric scale for each output channel, activations one for each row: a sentence's result
cannot depend on what else is in its batch, which a scale per tensor (``DynamicQuantizeLinear``) would allow.
"""

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor, nn

from export.graph import MICROSOFT, Graph
from export.package import Precision

LEVELS = 127
ZERO_POINT = 128
SMALLEST = 1e-12
"""Keeps the scale of an all-zero row from being zero."""


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
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.quantized: dict[str, tuple[str, str]] = {}

    def rows(self, x: str) -> tuple[str, str]:
        """``x [N, I]`` as uint8 around 128, and the scale of each row ``[N, 1]``; once for each value."""
        if x not in self.quantized:
            g = self.graph
            largest = g.op("ReduceMax", g.op("Abs", x), g.constant([-1]), keepdims=1)
            scale = g.op("Mul", g.op("Max", largest, g.number(SMALLEST)), g.number(1 / LEVELS))
            unit = g.op("Div", x, scale)
            zero_point = g.constant(ZERO_POINT, np.uint8)
            self.quantized[x] = g.op("QuantizeLinear", unit, g.number(1.0), zero_point), scale
        return self.quantized[x]

    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        g = self.graph
        values, scales = quantize(weight, axis=1)
        rows, row_scale = self.rows(x)
        product = g.op(
            "MatMulIntegerToFloat",
            rows,
            g.weight(f"{name}.weight", values),
            g.number(1.0),
            g.weight(f"{name}.scale", scales),
            g.constant(ZERO_POINT, np.uint8),
            domain=MICROSOFT,
        )
        scaled = g.op("Mul", product, row_scale)
        return scaled if bias is None else g.op("Add", scaled, g.weight(f"{name}.bias", bias))

    def embed(self, ids: str, name: str, weight: np.ndarray) -> str:
        g = self.graph
        values, scales = quantize(weight, axis=0)
        rows = g.op("Cast", g.op("Gather", g.weight(name, values), ids), to=1)
        scale = g.op("Gather", g.weight(f"{name}.scale", scales[:, None]), ids)
        return g.op("Mul", rows, scale)


LAYERS: dict[Precision, type[Layers]] = {"fp32": Float32Layers, "int8": Int8Layers}


def best(graph: Graph, logits: str) -> None:
    """The contract's ``next_ids`` and ``next_scores``, ``[B, K]``: the likeliest tokens and their log-probabilities.

    K is an input, since greedy decoding should not pay for a beam.
    """
    count = graph.input("top_k", "int64", [1])
    values, ids = graph.many("TopK", [logits, count], 2, axis=-1)
    total = graph.op("ReduceLogSumExp", logits, graph.constant([-1]), keepdims=1)
    graph.output(ids, "next_ids", "int64", ["batch", "k"])
    graph.output(graph.op("Sub", values, total), "next_scores", "float32", ["batch", "k"])
