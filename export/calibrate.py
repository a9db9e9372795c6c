"""What values the inputs of linear layers take: int8 needs to know before it can fix their scales."""

from collections.abc import Sequence

import numpy as np
import onnxruntime

from export.decoder import Arrays, GraphDecoder
from export.linear import Float32Layers, Range
from export.package import Package

LOW, HIGH = "low.", "high."


class ObservedLayers(Float32Layers):
    """fp32 whose graphs also give the smallest and largest value of each feature that a linear layer reads."""

    def project(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None) -> str:
        g = self.graph
        for prefix, operator in ((LOW, "ReduceMin"), (HIGH, "ReduceMax")):
            extreme = g.op(operator, x, g.constant([0]), keepdims=0)
            g.output(extreme, f"{prefix}{name}", "float32", [weight.shape[0]])
        return super().project(x, name, weight, bias)


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
