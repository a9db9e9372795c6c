"""The 8-bit arithmetic of the engine that a model with 8-bit weights and multipliers of activations was made for.

Marian's engines (intgemm, gemmology) round an activation to a level between -127 and 127, add 127, and multiply bytes
with the weights; a bias takes back what they have too much. On x86 without VNNI the sums of two neighbouring products
are cut to what 16 bits hold, and so they are by ONNX Runtime: given the same bytes, both engines have the same sums.
What follows is rounded to 8 bits again, where the last bit of a float may decide. So floats are added up in Marian's
order, too, where that shows most: in the encoder's norms, and in :class:`OrderedLayers` in its scores, one after the
other, each product rounded by itself.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from torch import nn

from export.graph import MICROSOFT, Graph
from export.int8 import LEVELS, STEPS, Int8Layers, Range, quantize
from export.linear import Activation, Cache, Layers, array
from export.package import Part

LARGEST = 2 * LEVELS
"""The byte of the largest level."""
ENCODER: Part = "encoder"
IN_ORDER = 256
"""Rows of a constant matrix up to which ONNX Runtime adds their products up one after the other."""


class Known(NamedTuple):
    """Multipliers that make levels of the inputs of a product, and of its weights, one for each output ``[O]``."""

    input: float
    weights: np.ndarray


class MarianLayers(Int8Layers):
    """``known`` has the products whose levels are the model's own; others are as in any int8 graph.

    Keys and values stay float32, as they do there.
    """

    cache: ClassVar[Cache] = "float32"

    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[str, Range],
        magnitudes: Mapping[str, np.ndarray],
        known: Mapping[str, Known],
    ) -> None:
        own = {name: Range(-LEVELS / each.input, (STEPS - LEVELS) / each.input) for name, each in known.items()}
        scales = {name: 1 / each.weights for name, each in known.items()}
        super().__init__(graph, {**ranges, **own}, magnitudes, scales)
        self.known = known
        self.positive: set[str] = set()
        """Products whose input is a ReLU's output."""

    def keep(self, x: str, name: str, key: nn.Linear, value: nn.Linear) -> str:
        return Layers.keep(self, x, name, key, value)

    def query_and_keep(self, x: str, name: str, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> str:
        return Layers.query_and_keep(self, x, name, query, key, value)

    def scales(self, name: str, heads: int) -> list[str]:
        return Layers.scales(self, name, heads)

    def attend(
        self, x: str, name: str, cache: Sequence[str], last: str, size: str, heads: int, *, grow: bool, aligned: bool
    ) -> tuple[str, str, str, str]:
        return Layers.attend(self, x, name, cache, last, size, heads, grow=grow, aligned=aligned)

    def quantized(self, x: str, name: str) -> tuple[str, str, str]:
        """What is below zero is cut with what has no level: that is the ReLU."""
        levels, scale, zero_point = super().quantized(x, name)
        if name in self.known:
            ends = (LEVELS if name in self.positive else 0), LARGEST
            levels = self.graph.op("Clip", levels, *(self.graph.constant(end, np.uint8) for end in ends))
        return levels, scale, zero_point

    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """Bytes are multiplied as they are, because Marian's bias takes back what they have too much."""
        if name not in self.known:
            return super().project(x, name, weight, bias)
        g, known = self.graph, self.known[name]
        rows, _ = quantize(weight, self.own[name])
        steps = 1 / (np.float32(known.input) * known.weights.astype(np.float32))
        bias = bias - LEVELS * steps * rows.sum(axis=1, dtype=np.int32).astype(np.float32)
        weights = g.weight(f"{name}.weight", rows.T), g.number(1.0), self.steps_of(name, steps)
        inputs = [self.quantized(x, name)[0], *weights, g.constant(0, np.uint8), "", g.weight(f"{name}.bias", bias)]
        return g.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def feed_forward(self, x: str, name: str, up: nn.Linear, down: nn.Linear, activation: Activation = "relu") -> str:
        if activation != "relu" or f"{name}.down" not in self.known:
            return super().feed_forward(x, name, up, down, activation)
        self.positive.add(f"{name}.down")
        return self.linear(self.linear(x, f"{name}.up", up), f"{name}.down", down)

    def query(self, layer: nn.Linear, depth: int) -> nn.Linear:
        """Nothing is folded in: smaller weights would be rounded to levels anew."""
        return layer

    def scores(self, query: str, key: str, heads: int, depth: int) -> str:
        return self.graph.op("Mul", super().scores(query, key, heads, depth), self.graph.number(depth**-0.5))

    def norm(self, x: str, name: str, layer: nn.LayerNorm) -> str:
        """Mean and variance are added up in order in the encoder; in the decoder it changes no more texts."""
        size = layer.normalized_shape[0]
        if size > IN_ORDER or self.graph.name != ENCODER:
            return super().norm(x, name, layer)
        g = self.graph
        mean = g.weight(f"mean.{size}", np.full((size, 1), 1 / size, np.float32))
        apart = g.op("Sub", x, g.op("MatMul", x, mean))
        variance = g.op("MatMul", g.op("Mul", apart, apart), mean)
        unit = g.op("Div", apart, g.op("Sqrt", g.op("Add", variance, g.number(layer.eps))))
        scale, bias = g.weight(f"{name}.scale", array(layer.weight)), g.weight(f"{name}.bias", array(layer.bias))
        return g.op("Add", g.op("Mul", unit, scale), bias)


class OrderedLayers(MarianLayers):
    """The encoder's scores are added up in Marian's order, too, which takes time and memory: every pair of source
    positions has a product of each feature.
    """

    def scores(self, query: str, key: str, heads: int, depth: int) -> str:
        """Large numbers of both signs are added up: here their order and rounding show most."""
        g = self.graph
        query, key = (g.reshape(each, [0, 0, heads * depth]) for each in (query, key))
        products = g.op("Mul", g.unsqueeze(query, 2), g.unsqueeze(key, 1))  # [B, S, S, D]
        shape = g.op("Concat", g.op("Shape", products, start=0, end=3), g.constant([heads]), axis=0)
        sums = g.op(
            "MatMul", g.reshape(products, [-1, depth]), g.weight(f"sum.{depth}", np.ones((depth, 1), np.float32))
        )
        return g.op("Mul", g.transpose(g.op("Reshape", sums, shape), 0, 3, 1, 2), g.number(depth**-0.5))
