"""Linear layers, embeddings and attention of a graph, and in fp32. Weights are ``[outputs, inputs]``, as PyTorch has
them. :mod:`export.int8` has the same in int8.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from export.graph import MICROSOFT, Graph

FEW = 2
"""Rows up to which some rows of weights, gathered for each, are multiplied faster than all of them at once."""
BLOCK = 16
"""Outputs of one row that are multiplied at once where others are for each row."""


Cache = Literal["float32", "int8"]
Activation = Literal["relu", "swish", "gelu", "quick_gelu"]
SIGMOID = {"swish": 1.0, "quick_gelu": 1.702}
"""Activations ``x sigmoid(factor x)``."""


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().numpy()


class Layers(ABC):
    """How a graph multiplies with weights, and keeps keys and values."""

    cache: ClassVar[Cache] = "float32"
    """What keys and values are kept as."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._nothing = ""

    @abstractmethod
    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """``x [N, I], weight [O, I], bias [O] -> [N, O]``."""

    def project_tied(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        """The same with the weights of the embedding called ``name``, which are stored once."""
        return self.project(x, name, weight, bias)

    def project_some(self, x: str, name: str, weight: np.ndarray, common: np.ndarray, places: str, ids: str) -> str:
        """Some of the outputs, without a bias and others for each row: ``x [N, I], ids [N, K] -> [N, K]``.

        Many rows share the products of those outputs that are ``common [C]``; ``places [N, K]`` says where among them
        each is. Of each :data:`BLOCK` ids all are common, or the first is not and none has to be.
        """
        g = self.graph
        few = g.op("LessOrEqual", g.size(x, 0), g.constant(FEW))
        some, every = self.products(x, name, weight)
        rare = np.ones(len(weight), bool)
        rare[common] = False

        def shared() -> str:
            found = g.op("GatherElements", every(g.weight(f"{name}.common", common)), places, axis=1)
            blocks = g.reshape(ids, [-1, BLOCK])
            others = g.op("Gather", g.weight(f"{name}.rare", rare), g.op("Gather", blocks, g.constant(0), axis=1))
            others = g.squeeze(g.op("NonZero", others), 0)
            row = g.op("Div", others, g.op("Div", g.size(ids, 1), g.constant(BLOCK)))
            values = some(g.op("Gather", blocks, others), row)
            found = g.op("ScatterND", g.reshape(found, [-1, BLOCK]), g.unsqueeze(others, 1), values)
            return g.op("Reshape", found, g.op("Shape", ids))

        return g.either(few, lambda: some(ids, ""), shared)

    @abstractmethod
    def products(self, x: str, name: str, weight: np.ndarray) -> tuple[Callable[[str, str], str], Callable[[str], str]]:
        """Of ``x [N, I]`` with rows of ``weight [O, I]``: with others for each row, ``ids [N, K] -> [N, K]``, or of the
        rows that are named ``[M]``, ``[M, K] -> [M, K]``; and with the same for all, ``[C] -> [N, C]``.
        """

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

    def query_and_keep(self, x: str, name: str, query: nn.Linear, key: nn.Linear, value: nn.Linear) -> str:
        """The same with a query before them, ``[N, 3 D]``."""
        return self.linear(x, f"{name}.qkv", query, key, value)

    def scales(self, name: str, heads: int) -> list[str]:
        """Of kept keys and values; what ``GroupQueryAttention`` has to know to read them."""
        return []

    def attend(
        self, x: str, name: str, cache: Sequence[str], last: str, size: str, heads: int, *, grow: bool, aligned: bool
    ) -> tuple[str, str, str, str]:
        """Attention of one query in each row to the keys and values that are kept of that row.

        Keys and values ``[B, H, positions, D / H]`` are called ``cache``, ``size`` is their number of positions. Those
        up to ``last [B]`` are seen. To ``grow``, ``x [B, 3 D]`` is what :meth:`query_and_keep` gives, of which keys and
        values are written at ``last``, in place where the caller's buffers allow it; else ``x [B, D]`` is the query.
        Returns context ``[B, D]``, keys, values and, if ``aligned``, the weights ``[B, H, 1, positions]``.
        """
        query = self.graph.unsqueeze(x, 1)
        new = ("", "") if grow else (self.nothing(query),) * 2
        return self.look(query, new, name, cache, last, size, heads, aligned=aligned)

    def nothing(self, query: str) -> str:
        """No keys or values: ``[B, 1, D] -> [B, 0, D]``, the same for all attentions of a graph."""
        g = self.graph
        self._nothing = self._nothing or g.op("Slice", query, g.constant([0]), g.constant([0]), g.constant([1]))
        return self._nothing

    def look(
        self,
        query: str,
        new: Sequence[str],
        name: str,
        cache: Sequence[str],
        last: str,
        size: str,
        heads: int,
        *,
        aligned: bool,
    ) -> tuple[str, str, str, str]:
        """The operator of :meth:`attend`, with the weights if ``aligned``; ``query`` is ``[B, 1, D]``, or all three."""
        g, inputs = self.graph, [query, *new, *cache, last, size]
        settings: dict[str, str | int] = {"num_heads": heads, "kv_num_heads": heads, "qk_output": 2 * aligned}
        if scales := self.scales(name, heads):
            inputs += ["", "", "", "", "", *scales]
            kind = "PER_CHANNEL"
            settings |= {"k_quant_type": kind, "v_quant_type": kind, "kv_cache_bit_width": 8}
        # There is one query in each row, and no position after its own to hide: said so, int8 is the faster for it.
        settings["causal"] = int(not scales)
        context, *rest = g.many("GroupQueryAttention", inputs, 3 + aligned, domain=MICROSOFT, **settings)
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

    def products(self, x: str, name: str, weight: np.ndarray) -> tuple[Callable[[str, str], str], Callable[[str], str]]:
        g, weights = self.graph, self.graph.weight(f"{name}.weight", weight)

        def some(ids: str, rows: str) -> str:
            column = g.unsqueeze(g.op("Gather", x, rows) if rows else x, 2)  # [N, I, 1]
            return g.squeeze(g.op("MatMul", g.op("Gather", weights, ids), column), 2)

        return some, lambda ids: g.op("Gemm", x, g.op("Gather", weights, ids), transB=1)

    def embed(self, ids: str, name: str, weight: np.ndarray, factor: float | np.ndarray) -> str:
        g = self.graph
        rows = g.op("Gather", g.weight(f"{name}.weight", weight), ids)
        if isinstance(factor, np.ndarray):
            return g.op("Mul", rows, g.op("Gather", g.weight(f"{name}.factor", factor[:, None]), ids))
        return rows if factor == 1 else g.op("Mul", rows, g.number(factor))


MakeLayers = Callable[[Graph], Layers]
"""How the graphs of one precision get their layers."""
