"""The sub-words that a sentence may be translated to, from a shortlist in the graph.

The encoder makes them, so that to the engine they are tensors like others; the decoder looks at nothing else. Common
ones come first, because their logits come about in another way (:meth:`export.linear.Layers.project_some`).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from export.graph import ELEMENT, Graph
from export.linear import BLOCK
from export.marian.shortlist import Shortlist
from export.package import TensorSpec

AXIS = "candidates"
FORBIDDEN = -1e8
"""A bias below this is that of a sub-word that is never produced."""
GRAIN = 64
"""Their number is a multiple of it: few shapes, and room for the few that a beam needs."""
SHARE = 1 / 2
"""Of the vocabulary that is common. With more, products are taken that nobody asks for; with less, more weights are
gathered row by row."""


@dataclass(frozen=True)
class Candidates:
    """Those of a shortlist, whose logits have the biases ``bias [V]``.

    ``nothing`` is a sub-word that is never produced: what stands where a sentence has fewer than others.
    """

    shortlist: Shortlist
    bias: np.ndarray
    nothing: int

    @cached_property
    def order(self) -> np.ndarray:
        """The vocabulary ``[V]`` from the most common sub-word to the rarest, after ``nothing``."""
        order = np.argsort(-self.shortlist.uses(len(self.bias)), kind="stable")
        return np.concatenate([[self.nothing], order[order != self.nothing]])

    @property
    def common(self) -> np.ndarray:
        return self.order[: max(1, int(SHARE * len(self.order)))].astype(np.int32)

    @property
    def axes(self) -> dict[str, int]:
        """The largest number: all, where common and rare ones do not share a block."""
        return {AXIS: -(-(len(self.bias) + BLOCK - 1) // GRAIN) * GRAIN}

    @property
    def specs(self) -> list[TensorSpec]:
        """The candidates of each sentence, where they are among the common ones, and the biases of their logits."""
        shape: list[int | str] = ["batch", AXIS]
        return [
            TensorSpec(name=f"memory.{AXIS}", dtype="int32", shape=shape, pad=self.nothing),
            TensorSpec(name="memory.places", dtype="int32", shape=shape),
            TensorSpec(name="memory.biases", dtype="float32", shape=shape, pad=-math.inf),
        ]

    def find(self, g: Graph, source: str, lengths: str) -> None:
        """Output what :attr:`specs` lists for ``source [B, S], lengths [B]``."""
        common = len(self.common)
        never = np.where(self.bias < FORBIDDEN, -np.inf, self.bias).astype(np.float32)
        places = np.arange(len(never), dtype=np.int32)
        places[common:] = 0
        listed = listed_rows(g, self.table(g, source, lengths), g.size(source, 0), common)
        tables = {"order": self.order.astype(np.int32), "places": places, "biases": never[self.order]}
        for spec, (name, values) in zip(self.specs, tables.items(), strict=True):
            g.output_of(g.op("Gather", g.weight(f"shortlist.{name}", values), listed), spec)

    def table(self, g: Graph, source: str, lengths: str) -> str:
        """Which sub-words, in :attr:`order`, are candidates: ``[B, V]``.

        A table, since there is no operator that finds different numbers row by row.
        """
        zero, one, end = g.constant(0), g.constant(1), g.constant([-1])
        rows, size = g.size(source, 0), g.size(source, 1)
        counts, vocabulary = np.diff(self.shortlist.offsets), len(self.order)
        position = g.unsqueeze(g.op("Range", zero, size, one), 0)
        real = g.op("Less", position, g.unsqueeze(lengths, 1))
        listed = g.reshape(g.op("Where", real, source, g.constant(len(counts))), [-1])  # one more, whose list is empty
        count = g.op("Gather", g.weight("shortlist.counts", np.append(counts, 0)), listed)
        start = g.op("Gather", g.weight("shortlist.starts", self.shortlist.offsets), listed)

        # The lists one after the other: which source position each entry belongs to, and where it is in all lists.
        ends = g.op("CumSum", count, zero)
        total = g.op("Gather", ends, g.constant(-1), axis=0)
        marks = g.op("Expand", zero, g.unsqueeze(g.op("Add", total, one), 0))
        marks = g.op("ScatterElements", marks, ends, g.op("Expand", one, g.op("Shape", ends)), reduction="add")
        owner = g.op("Slice", g.op("CumSum", marks, zero), g.constant([0]), end)
        place = g.op("Sub", g.op("Add", start, count), ends)
        place = g.op("Add", g.op("Gather", place, owner), g.op("Range", zero, total, one))

        places = np.argsort(self.order)
        words = g.weight("shortlist.words", places[self.shortlist.words].astype(np.int32))
        word = g.op("Cast", g.op("Gather", words, place), to=ELEMENT["int64"])
        always = np.zeros((1, vocabulary), bool)
        always[:, places[: self.shortlist.first]] = True
        shape = g.op("Concat", g.unsqueeze(rows, 0), g.constant([vocabulary]), axis=0)
        table = g.reshape(g.op("Expand", g.weight("shortlist.always", always), shape), [-1])
        key = g.op("Add", g.op("Mul", g.op("Div", owner, size), g.constant(vocabulary)), word)
        chosen = g.op("Expand", g.constant(True, np.bool_), g.op("Shape", key))
        return g.op("Reshape", g.op("ScatterElements", table, key, chosen), shape)


def listed_rows(g: Graph, table: str, rows: str, common: int) -> str:
    """Where each row of ``table [B, V]`` is true, zero behind: ``[B, C]``. After ``common`` begins another block."""
    zero, one, grain = g.constant(0), g.constant(1), g.constant(GRAIN)
    row, place = (g.squeeze(part, 0) for part in g.many("Split", [g.op("NonZero", table)], 2, axis=0, num_outputs=2))
    rare = g.op("Cast", g.op("GreaterOrEqual", place, g.constant(common)), to=ELEMENT["int64"])
    none = g.op("Expand", zero, g.unsqueeze(rows, 0))
    count, before = (
        g.op("ScatterElements", none, row, values, reduction="add")  # [B]
        for values in (g.op("Expand", one, g.op("Shape", row)), g.op("Sub", one, rare))
    )
    gap = g.op("Mod", g.op("Neg", before), g.constant(BLOCK))
    most = g.op("ReduceMax", g.op("Add", count, gap), keepdims=0)
    width = g.op("Mul", g.op("Div", g.op("Add", most, g.constant(GRAIN - 1)), grain), grain)
    begin = g.op("CumSum", count, zero, exclusive=1)
    rank = g.op("Sub", g.op("Range", zero, g.size(row, 0), one), g.op("Gather", begin, row))
    rank = g.op("Add", rank, g.op("Mul", rare, g.op("Gather", gap, row)))
    filled = g.op("Expand", zero, g.unsqueeze(g.op("Mul", rows, width), 0))
    filled = g.op("ScatterElements", filled, g.op("Add", g.op("Mul", row, width), rank), place)
    return g.op("Reshape", filled, g.op("Concat", g.unsqueeze(rows, 0), g.unsqueeze(width, 0), axis=0))
