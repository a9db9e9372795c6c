"""Linear layers, embeddings and attention of a graph in int8.

int8 weights have one symmetric scale for each output. The scale of an activation is fixed at export, from calibration:
a sentence's result cannot depend on what else is in its batch, which a scale found at run time for the whole tensor
(``DynamicQuantizeLinear``) would allow, and two operators do the work of a layer.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
from torch import nn

from export.graph import ELEMENT, MICROSOFT, Graph, Shape
from export.linear import Activation, Cache, Layers, array, bias_of
from export.package import READ

LEVELS = 127
STEPS = 255
"""From the smallest to the largest uint8."""
FEW = 2
"""Rows up to which scales are applied faster by operators than by a wide product, which makes a list of them first."""
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


def quantize(weight: np.ndarray, scale: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric int8 with one scale for each row, found here unless it is known: ``[O, I] -> [O, I], [O]``.

    That of a row of zeros is one: any would do for the row, but a bias that is an int32 of that scale needs room.
    """
    if scale is None:
        largest = np.abs(weight).max(axis=1)
        scale = np.where(largest > SMALLEST, largest / LEVELS, 1.0)
    scale = scale.astype(np.float32)
    return np.round(weight / scale[:, None]).astype(np.int8), scale


def alike(scales: np.ndarray) -> bool:
    return bool((scales == scales[0]).all())


class Int8Layers(Layers):
    """``ranges`` has the values that the input of each linear layer takes, by the layer's name.

    ``magnitudes [2 D]`` has the largest of each feature of the keys and values of each attention. Weights that are
    8-bit already have their own scale, one for each output ``[O]``, in ``scales`` by name; those of keys and values,
    whose steps are folded in here, never are.
    """

    cache: ClassVar[Cache] = "int8"

    def __init__(
        self,
        graph: Graph,
        ranges: Mapping[str, Range],
        magnitudes: Mapping[str, np.ndarray],
        scales: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        super().__init__(graph)
        self.ranges, self.magnitudes, self.own = dict(ranges), magnitudes, scales

    def steps(self, name: str) -> np.ndarray:
        return np.maximum(self.magnitudes[name] / LEVELS, SMALLEST).astype(np.float32)

    def keep(self, x: str, name: str, key: nn.Linear, value: nn.Linear) -> str:
        return self.levels(self.in_steps(x, f"{name}.key_value", self.steps(name), key, value))

    def query_and_keep(self, x: str, name: str, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> str:
        steps = np.concatenate([np.ones(query.out_features, np.float32), self.steps(name)])
        return self.in_steps(x, f"{name}.qkv", steps, query, key, value)

    def in_steps(self, x: str, name: str, steps: np.ndarray, *layers: nn.Linear) -> str:
        """Each feature has its own scale, which is in the weights: to quantize by feature is slow."""
        weight = np.concatenate([array(layer.weight) for layer in layers]) / steps[:, None]
        return self.project(x, name, weight, np.concatenate([bias_of(layer) for layer in layers]) / steps)

    def levels(self, x: str) -> str:
        return self.graph.op("QuantizeLinear", x, self.graph.number(1.0), self.graph.constant(0, np.int8))

    def attend(
        self, x: str, name: str, cache: Sequence[str], last: str, size: str, heads: int, *, grow: bool, aligned: bool
    ) -> tuple[str, str, str, str]:
        """What is new is written before it is read: the operator would quantize feature by feature.

        That it reads what was written in this step is no secret: it wants to output it, the same memory again.
        """
        if not grow:
            return super().attend(x, name, cache, last, size, heads, grow=False, aligned=aligned)
        g = self.graph
        query, *new = g.many("Split", [x], 3, axis=1, num_outputs=3)
        query, place = g.unsqueeze(query, 1), g.op("Cast", last, to=ELEMENT["int64"])
        key, value = (
            g.op("TensorScatter", old, g.reshape(self.levels(part), [0, heads, 1, -1]), place, axis=2, mode="linear")
            for old, part in zip(cache, new, strict=True)
        )
        nothing = (self.nothing(query),) * 2
        found = self.look(query, nothing, name, [key, value], last, size, heads, aligned=False)
        shape: Shape = ["batch", heads, "time", len(self.magnitudes[name]) // 2 // heads]
        for old, read in zip(cache, found[1:3], strict=True):
            g.output(read, f"{READ}{old}", self.cache, shape)
        return found[0], key, value, ""

    def scales(self, name: str, heads: int) -> list[str]:
        parts = zip(("key", "value"), np.split(self.steps(name), 2), strict=True)
        return [self.graph.weight(f"{name}.{kind}.steps", part.reshape(1, heads, 1, -1)) for kind, part in parts]

    def quantized(self, x: str, name: str) -> tuple[str, str, str]:
        """The input of a layer as uint8, its scale and zero point."""
        values = self.ranges[name]
        scale, zero_point = self.graph.number(values.scale), self.graph.constant(values.zero_point, np.uint8)
        return self.graph.op("QuantizeLinear", x, scale, zero_point), scale, zero_point

    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        rows, scales = quantize(weight, self.own.get(name))
        return self.product(x, name, self.graph.weight(f"{name}.weight", rows.T), scales, bias)

    def project_tied(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """The runtime transposes the weights once, when it loads the graph.

        Where each output has its own scale, few rows go another way to the same numbers, to the bit.
        """
        g, (rows, scales) = self.graph, quantize(weight, self.own.get(name))
        columns = g.transpose(g.weight(f"{name}.weight", rows), 1, 0)
        if alike(scales):
            return self.product(x, name, columns, scales, bias)
        few = g.op("LessOrEqual", g.size(x, 0), g.constant(FEW))
        return g.either(
            few,
            lambda: self.product_of_few(x, name, columns, scales, bias),
            lambda: self.product(x, name, columns, scales, bias),
        )

    def product_of_few(self, x: str, name: str, columns: str, scales: np.ndarray, bias: np.ndarray) -> str:
        """:meth:`product` in integers, then scaled."""
        g, (levels, scale, zero_point) = self.graph, self.quantized(x, name)
        sums = g.op("Cast", g.op("MatMulInteger", levels, columns, zero_point), to=ELEMENT["float32"])
        scaled = g.op("Mul", sums, g.op("Mul", scale, self.steps_of(name, scales)))
        return g.op("Add", scaled, g.weight(f"{name}.bias", bias))

    def product(self, x: str, name: str, columns: str, scales: np.ndarray, bias: np.ndarray) -> str:
        """Of ``x [N, I]`` and ``columns [I, O]``, whose scales are ``[O]``."""
        g, (levels, scale, zero_point) = self.graph, self.quantized(x, name)
        inputs = [levels, columns, scale, self.steps_of(name, scales), zero_point, "", g.weight(f"{name}.bias", bias)]
        return g.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def steps_of(self, name: str, scales: np.ndarray) -> str:
        """One number where all are alike: where there is one for each output, each call makes a list of them anew."""
        return self.graph.number(scales[0]) if alike(scales) else self.graph.weight(f"{name}.scale", scales)

    def products(self, x: str, name: str, weight: np.ndarray) -> tuple[Callable[[str, str], str], Callable[[str], str]]:
        """Levels by levels in both, so that processors on which such a product saturates do it alike."""
        g, (levels, scales) = self.graph, quantize(weight, self.own.get(name))
        inputs, scale, zero_point = self.quantized(x, name)
        weights, steps = g.weight(f"{name}.weight", levels), self.steps_of(name, scales)
        common = alike(scales)

        def product(rows: str, columns: str, own: str) -> str:
            return g.op("MatMulIntegerToFloat", rows, columns, scale, own, zero_point, domain=MICROSOFT)

        def some(ids: str, rows: str) -> str:
            columns = g.transpose(g.op("Gather", weights, ids), 0, 2, 1)  # [N, I, K]
            own = steps if common else g.unsqueeze(g.op("Gather", steps, ids), 1)
            line = g.unsqueeze(g.op("Gather", inputs, rows) if rows else inputs, 1)  # [N, 1, I]
            return g.squeeze(product(line, columns, own), 1)

        def every(ids: str) -> str:
            columns = g.transpose(g.op("Gather", weights, ids), 1, 0)
            return product(inputs, columns, steps if common else g.op("Gather", steps, ids))

        return some, every

    def feed_forward(self, x: str, name: str, up: nn.Linear, down: nn.Linear, activation: Activation = "relu") -> str:
        """What is below zero is cut where hidden values become uint8, whose zero point is zero: that is the ReLU."""
        if activation != "relu":
            return super().feed_forward(x, name, up, down, activation)
        self.ranges[f"{name}.down"] = Range(0.0, self.ranges[f"{name}.down"].high)
        return self.linear(self.linear(x, f"{name}.up", up), f"{name}.down", down)

    def embed(self, ids: str, name: str, weight: np.ndarray, factor: float | np.ndarray) -> str:
        g = self.graph
        rows, scales = quantize(weight, self.own.get(name))
        scale = g.op("Gather", g.weight(f"{name}.factor", scales * np.float32(factor)), ids)
        return g.op("DequantizeLinear", g.op("Gather", g.weight(f"{name}.weight", rows), ids), scale, axis=0)
