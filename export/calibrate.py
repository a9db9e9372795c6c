"""What values the inputs of linear layers take: int8 needs to know before it can fix their scales."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from export.decoder import Arrays, GraphDecoder
from export.int8 import Range
from export.linear import Float32Layers
from export.package import Package
from export.runtime import onnxruntime

LOW, HIGH = "low.", "high."
CACHE = ".cache"
"""Behind the name of an attention: its keys and values, beside each other."""


class ObservedLayers(Float32Layers):
    """fp32 whose graphs also give the smallest and largest value of each feature that int8 needs to know of."""

    def observe(self, x: str, name: str) -> None:
        g = self.graph
        for prefix, operator in ((LOW, "ReduceMin"), (HIGH, "ReduceMax")):
            g.output(g.op(operator, x, g.constant([0]), keepdims=0), f"{prefix}{name}", "float32", ["features"])

    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        self.observe(x, name)
        return super().project(x, name, weight, bias)

    def project_some(self, x: str, name: str, weight: np.ndarray, common: np.ndarray, places: str, ids: str) -> str:
        self.observe(x, name)
        return super().project_some(x, name, weight, common, places, ids)

    def keep(self, x: str, name: str, key: nn.Linear, value: nn.Linear) -> str:
        kept = super().keep(x, name, key, value)
        self.observe(kept, f"{name}{CACHE}")
        return kept

    def attend(
        self, x: str, name: str, cache: Sequence[str], last: str, size: str, heads: int, *, grow: bool, aligned: bool
    ) -> tuple[str, str, str, str]:
        if grow:
            _, key, value = self.graph.many("Split", [x], 3, axis=1, num_outputs=3)
            self.observe(self.graph.op("Concat", key, value, axis=1), f"{name}{CACHE}")
        return super().attend(x, name, cache, last, size, heads, grow=grow, aligned=aligned)


class Observer(GraphDecoder):
    """Decodes with observed graphs and keeps the extremes, one array ``[features]`` for each layer."""

    def __init__(self, package: Package) -> None:
        super().__init__(package, "fp32")
        self.low: Arrays = {}
        self.high: Arrays = {}

    def run(self, session: onnxruntime.InferenceSession, feeds: Arrays) -> Arrays:
        result = super().run(session, feeds)
        for prefix, seen, extreme in ((LOW, self.low, np.minimum), (HIGH, self.high, np.maximum)):
            for name in [name for name in result if name.startswith(prefix)]:
                layer, value = name.removeprefix(prefix), result.pop(name)
                seen[layer] = extreme(seen.get(layer, value), value)
        return result

    def observe(self, sources: Sequence[Sequence[int]]) -> None:
        """Translate each source by itself: padding is nothing that occurs."""
        for source in sources:
            limit = min(2 * len(source) + 10, self.manifest.max_length)
            self.greedy(np.array([source], np.int64), np.array([len(source)], np.int64), limit)

    def ranges(self) -> dict[str, Range]:
        """Over all features of each layer's input."""
        return {name: Range(float(self.low[name].min()), float(self.high[name].max())) for name in self.low}

    def magnitudes(self) -> dict[str, np.ndarray]:
        """Of each feature of the keys and values of each attention, ``[2 D]``."""
        caches = [name for name in self.low if name.endswith(CACHE)]
        return {n.removesuffix(CACHE): np.maximum(np.abs(self.low[n]), np.abs(self.high[n])) for n in caches}
