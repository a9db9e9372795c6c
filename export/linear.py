"""Linear layers and embeddings of a graph, in fp32 or int8. Weights are ``[outputs, inputs]``, as PyTorch has them.

int8 weights have one symmetric scale for each output. The scale of an activation is fixed at export, from calibration:
a sentence's result cannot depend on what else is in its batch, which a scale found at run time for the whole tensor
(``DynamicQuantizeLinear``) would allow, and two operators do the work of a layer.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from export.graph import MICROSOFT, Graph

LEVELS = 127
STEPS = 255
"""From the smallest to the largest uint8."""
SMALLEST = 1e-12
"""Keeps the scale of what is all zero from being zero."""
LARGEST_BIAS = 2**30
"""Half of what int32 holds, so that a product can be added to the bias of a forbidden token."""
FEW = 4
"""Rows up to which some rows of weights, gathered for each, are multiplied faster than all of them at once."""


Cache = Literal["float32", "int8"]
Activation = Literal["relu", "swish", "gelu", "quick_gelu"]
SIGMOID = {"swish": 1.0, "quick_gelu": 1.702}
"""Activations ``x sigmoid(factor x)``."""


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


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


class Layers(ABC):
    """How a graph multiplies with weights, and keeps keys and values."""

    cache: ClassVar[Cache] = "float32"
    """What keys and values are kept as."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    @abstractmethod
    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """``x [N, I], weight [O, I], bias [O] -> [N, O]``."""

    def project_tied(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """The same with the weights of the embedding called ``name``, which are stored once."""
        return self.project(x, name, weight, bias)

    def project_some(self, x: str, name: str, weight: np.ndarray, ids: str) -> str:
        """Some of the outputs, others for each row and without a bias: ``x [N, I], ids [N, K] -> [N, K]``."""
        g = self.graph
        few = g.op("LessOrEqual", g.size(x, 0), g.constant(FEW))
        some, every = self.products(x, name, weight)
        return g.either(few, lambda: some(ids), lambda: g.op("GatherElements", every(), ids, axis=1))

    @abstractmethod
    def products(self, x: str, name: str, weight: np.ndarray) -> tuple[Callable[[str], str], Callable[[], str]]:
        """Of ``x [N, I]`` with some rows of ``weight [O, I]``, ``ids [N, K] -> [N, K]``, and with all, ``[N, O]``."""

    @abstractmethod
    def embed(self, ids: str, name: str, weight: np.ndarray, factor: float | np.ndarray) -> str:
        """Rows of ``weight [V, D]`` times ``factor``, which may be another for each ``[V]``: ``ids [N] -> [N, D]``."""

    def linear(self, x: str, name: str, *layers: nn.Linear) -> str:
        """One product for one layer or several that read the same input: ``[N, I] -> [N, sum of O]``."""
        weight = np.concatenate([array(layer.weight) for layer in layers])
        return self.project(x, name, weight, np.concatenate([bias_of(layer) for layer in layers]))

    def query(self, layer: nn.Linear, depth: int) -> nn.Linear:
        """What projects the queries of :meth:`scores`: the scale ``1 / sqrt(depth)`` is folded in."""
        folded = nn.Linear(layer.in_features, layer.out_features)
        folded.weight.data = layer.weight.data / math.sqrt(depth)
        folded.bias.data = layer.bias.data / math.sqrt(depth)
        return folded

    def scores(self, query: str, key: str, heads: int, depth: int) -> str:
        """Of each query ``[B, S, H, depth]`` with each key: ``[B, H, S, S]``."""
        g = self.graph
        return g.op("MatMul", g.transpose(query, 0, 2, 1, 3), g.transpose(key, 0, 2, 3, 1))

    def feed_forward(self, x: str, name: str, up: nn.Linear, down: nn.Linear, activation: Activation = "relu") -> str:
        """``activation(x W_1 + b_1) W_2 + b_2``: ``[N, D] -> [N, D]``."""
        hidden = self.activate(self.linear(x, f"{name}.up", up), activation)
        return self.linear(hidden, f"{name}.down", down)

    def activate(self, x: str, activation: Activation) -> str:
        if activation in SIGMOID:
            return self.graph.op("QuickGelu", x, domain=MICROSOFT, alpha=SIGMOID[activation])
        return self.graph.op("Relu" if activation == "relu" else "Gelu", x)

    def keep(self, x: str, name: str, key: nn.Linear, value: nn.Linear) -> str:
        """Keys and values of ``x [N, D]``, beside each other, ``[N, 2 D]``, as the attention ``name`` keeps them."""
        return self.linear(x, f"{name}.key_value", key, value)

    def scales(self, name: str, heads: int) -> list[str]:
        """Of kept keys and values; what ``GroupQueryAttention`` has to know to read them."""
        return []

    def attend(
        self, x: str, name: str, cache: Sequence[str], last: str, size: str, heads: int, *, grow: bool
    ) -> tuple[str, str, str, str]:
        """Attention of one query in each row to the keys and values that are kept of that row.

        Keys and values ``[B, H, positions, D / H]`` are called ``cache``, ``size`` is their number of positions. Those
        up to ``last [B]`` are seen. To ``grow``, ``x [B, 3 D]`` is query, key and value and the latter are written at
        ``last``, in place where the caller's buffers allow it; else ``x [B, D]`` is the query.
        Returns context ``[B, D]``, keys, values and the weights ``[B, H, 1, positions]``.
        """
        g = self.graph
        query = g.unsqueeze(x, 1)
        nothing = "" if grow else g.op("Slice", query, g.constant([0]), g.constant([0]), g.constant([1]))  # [B, 0, D]
        inputs = [query, nothing, nothing, *cache, last, size]
        settings: dict[str, str | int] = {"num_heads": heads, "kv_num_heads": heads, "qk_output": 0 if grow else 2}
        if scales := self.scales(name, heads):
            inputs += ["", "", "", "", "", *scales]
            kind = "PER_CHANNEL"
            settings |= {"k_quant_type": kind, "v_quant_type": kind, "kv_cache_bit_width": 8}
        # There is one query in each row, and no position after its own to hide: said so, int8 is the faster for it.
        settings["causal"] = int(not scales)
        count = 3 if grow else 4
        context, *rest = g.many("GroupQueryAttention", inputs, count, domain=MICROSOFT, **settings)
        keys, values, *weights = rest
        return g.squeeze(context, 1), keys, values, weights[0] if weights else ""

    def norm(self, x: str, name: str, layer: nn.LayerNorm) -> str:
        scale = self.graph.weight(f"{name}.scale", array(layer.weight))
        bias = self.graph.weight(f"{name}.bias", array(layer.bias))
        return self.graph.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=layer.eps)


def bias_of(layer: nn.Linear) -> np.ndarray:
    bias = dict(layer.named_parameters()).get("bias")
    return np.zeros(layer.out_features, np.float32) if bias is None else array(bias)


class Float32Layers(Layers):
    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        weights = self.graph.weight(f"{name}.weight", weight), self.graph.weight(f"{name}.bias", bias)
        return self.graph.op("Gemm", x, *weights, transB=1)

    def products(self, x: str, name: str, weight: np.ndarray) -> tuple[Callable[[str], str], Callable[[], str]]:
        g, rows = self.graph, self.graph.weight(f"{name}.weight", weight)
        column = g.unsqueeze(x, 2)  # [N, I, 1]
        return (
            lambda ids: g.squeeze(g.op("MatMul", g.op("Gather", rows, ids), column), 2),
            lambda: g.op("Gemm", x, rows, transB=1),
        )

    def embed(self, ids: str, name: str, weight: np.ndarray, factor: float | np.ndarray) -> str:
        g = self.graph
        rows = g.op("Gather", g.weight(f"{name}.weight", weight), ids)
        if isinstance(factor, np.ndarray):
            return g.op("Mul", rows, g.op("Gather", g.weight(f"{name}.factor", factor[:, None]), ids))
        return rows if factor == 1 else g.op("Mul", rows, g.number(factor))


class Int8Layers(Layers):
    """``ranges`` has the values that the input of each linear layer takes, by the layer's name.

    ``magnitudes [2 D]`` has the largest of each feature of the keys and values of each attention. Weights that are
    8-bit already have their own scale, one for each output ``[O]``, in ``scales`` by name.
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
        self.ranges, self.magnitudes, self.own = dict(ranges), magnitudes, dict(scales)

    def steps(self, name: str) -> np.ndarray:
        return np.maximum(self.magnitudes[name] / LEVELS, SMALLEST).astype(np.float32)

    def keep(self, x: str, name: str, key: nn.Linear, value: nn.Linear) -> str:
        """Each feature has its own scale, which is in the weights: to quantize by feature is slow."""
        g, steps = self.graph, self.steps(name)
        if (own := self.own.get(f"{name}.key_value")) is not None:
            self.own[f"{name}.key_value"] = own / steps
        weight = np.concatenate([array(key.weight), array(value.weight)]) / steps[:, None]
        bias = np.concatenate([bias_of(key), bias_of(value)]) / steps
        both = self.project(x, f"{name}.key_value", weight, bias)
        return g.op("QuantizeLinear", both, g.number(1.0), g.constant(0, np.int8))

    def scales(self, name: str, heads: int) -> list[str]:
        parts = zip(("key", "value"), np.split(self.steps(name), 2), strict=True)
        return [self.graph.weight(f"{name}.{kind}.steps", part.reshape(1, heads, 1, -1)) for kind, part in parts]

    def quantized(self, x: str, name: str) -> tuple[str, str, str]:
        """The input of a layer as uint8, its scale and zero point."""
        values = self.ranges[name]
        scale, zero_point = self.graph.number(values.scale), self.graph.constant(values.zero_point, np.uint8)
        return self.graph.op("QuantizeLinear", x, scale, zero_point), scale, zero_point

    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        g, (rows, scales) = self.graph, quantize(weight, self.own.get(name))
        levels, scale, zero_point = self.quantized(x, name)
        weights = g.weight(f"{name}.weight", rows.T), scale, g.weight(f"{name}.scale", scales)
        inputs = [levels, *weights, zero_point, "", g.weight(f"{name}.bias", bias)]
        return g.op("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)

    def project_tied(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """``QGemm`` takes the weights as the embedding has them."""
        g, (rows, scales) = self.graph, quantize(weight, self.own.get(name))
        levels, scale, zero_point = self.quantized(x, name)
        weights = g.weight(f"{name}.weight", rows), g.weight(f"{name}.scale", scales)
        steps = np.clip(
            np.round(bias / (self.ranges[name].scale * scales.astype(np.float64))), -LARGEST_BIAS, LARGEST_BIAS
        )
        constants = g.weight(f"{name}.zero_point", np.zeros(len(scales), np.int8)), steps.astype(np.int32)
        inputs = [levels, scale, zero_point, *weights, constants[0], g.weight(f"{name}.bias", constants[1])]
        return g.op("QGemm", *inputs, domain=MICROSOFT, transB=1)

    def products(self, x: str, name: str, weight: np.ndarray) -> tuple[Callable[[str], str], Callable[[], str]]:
        """Levels by levels in both, so that processors on which such a product saturates do it alike."""
        g, (levels, scales) = self.graph, quantize(weight, self.own.get(name))
        inputs, scale, zero_point = self.quantized(x, name)
        rows, steps = g.weight(f"{name}.weight", levels), g.weight(f"{name}.scale", scales)
        zeros = g.weight(f"{name}.zero_point", np.zeros(len(scales), np.int8))
        line = g.unsqueeze(inputs, 1)  # [N, 1, I]

        def some(ids: str) -> str:
            columns = g.transpose(g.op("Gather", rows, ids), 0, 2, 1)  # [N, I, K]
            own = g.number(scales[0]) if (scales == scales[0]).all() else g.unsqueeze(g.op("Gather", steps, ids), 1)
            return g.squeeze(g.op("MatMulIntegerToFloat", line, columns, scale, own, zero_point, domain=MICROSOFT), 1)

        def every() -> str:
            return g.op("QGemm", inputs, scale, zero_point, rows, steps, zeros, domain=MICROSOFT, transB=1)

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


MakeLayers = Callable[[Graph], Layers]
"""How the graphs of one precision get their layers."""
