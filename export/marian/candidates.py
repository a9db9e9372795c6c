"""The sub-words that a sentence may be translated to, from a shortlist in the graph.

The encoder makes them, so that to the engine they are a tensor like others; the decoder looks at nothing else.
"""

import math

import numpy as np

from export.graph import ELEMENT, Graph
from export.marian.shortlist import Shortlist
from export.package import TensorSpec

AXIS = "candidates"
FORBIDDEN = -1e8
"""A bias below this is that of a sub-word that is never produced."""
GRAIN = 64
"""Their number is a multiple of it: few shapes, and room for the few that a beam needs."""


def longest(vocabulary: int) -> int:
    """The largest number of candidates."""
    return -(-vocabulary // GRAIN) * GRAIN


def specs_of(nothing: int) -> list[TensorSpec]:
    """The candidates of each sentence and the biases of their logits.

    ``nothing`` is a sub-word that is never produced: what stands where a sentence has fewer than others.
    """
    shape: list[int | str] = ["batch", AXIS]
    return [
        TensorSpec(name=f"memory.{AXIS}", dtype="int32", shape=shape, pad=nothing),
        TensorSpec(name="memory.biases", dtype="float32", shape=shape, pad=-math.inf),
    ]


def biases(g: Graph, found: str, bias: np.ndarray) -> str:
    """Of candidates: ``[B, C] -> [B, C]``; minus infinity for what is never produced."""
    never = np.where(bias < FORBIDDEN, -np.inf, bias).astype(np.float32)
    return g.op("Gather", g.weight("shortlist.biases", never), found)


def candidates(g: Graph, shortlist: Shortlist, source: str, lengths: str, vocabulary: int, nothing: int) -> str:
    """Each once, in order: ``source [B, S], lengths [B] -> [B, C]`` of ``vocabulary`` sub-words.

    Marks them in a table ``[B, vocabulary]``, since there is no operator that finds different numbers row by row.
    """
    zero, one, end = g.constant(0), g.constant(1), g.constant([-1])
    rows, size = g.size(source, 0), g.size(source, 1)
    counts = np.diff(shortlist.offsets)
    position = g.unsqueeze(g.op("Range", zero, size, one), 0)
    real = g.op("Less", position, g.unsqueeze(lengths, 1))
    listed = g.reshape(g.op("Where", real, source, g.constant(len(counts))), [-1])  # one more, whose list is empty
    count = g.op("Gather", g.weight("shortlist.counts", np.append(counts, 0)), listed)
    start = g.op("Gather", g.weight("shortlist.starts", shortlist.offsets), listed)

    # The lists one after the other: which source position each entry belongs to, and where it is in all lists.
    ends = g.op("CumSum", count, zero)
    total = g.op("Gather", ends, g.constant(-1), axis=0)
    marks = g.op("Expand", zero, g.unsqueeze(g.op("Add", total, one), 0))
    marks = g.op("ScatterElements", marks, ends, g.op("Expand", one, g.op("Shape", ends)), reduction="add")
    owner = g.op("Slice", g.op("CumSum", marks, zero), g.constant([0]), end)
    place = g.op("Sub", g.op("Add", start, count), ends)
    place = g.op("Add", g.op("Gather", place, owner), g.op("Range", zero, total, one))
    word = g.op(
        "Cast",
        g.op("Gather", g.weight("shortlist.words", shortlist.words.astype(np.int32)), place),
        to=ELEMENT["int64"],
    )

    always = np.zeros((1, vocabulary), bool)
    always[:, : shortlist.first] = True
    shape = g.op("Concat", g.unsqueeze(rows, 0), g.constant([vocabulary]), axis=0)
    table = g.reshape(g.op("Expand", g.weight("shortlist.always", always), shape), [-1])
    key = g.op("Add", g.op("Mul", g.op("Div", owner, size), g.constant(vocabulary)), word)
    chosen = g.op("Expand", g.constant(True, np.bool_), g.op("Shape", key))
    table = g.op("ScatterElements", table, key, chosen)
    return listed_rows(g, g.op("Reshape", table, shape), rows, nothing)


def listed_rows(g: Graph, table: str, rows: str, nothing: int) -> str:
    """Where each row of ``table [B, V]`` is true, padded to the same number: ``[B, C]``."""
    zero, grain = g.constant(0), g.constant(GRAIN)
    row, word = (g.squeeze(part, 0) for part in g.many("Split", [g.op("NonZero", table)], 2, axis=0, num_outputs=2))
    ones = g.op("Expand", g.constant(1), g.op("Shape", row))
    counts = g.op("ScatterElements", g.op("Expand", zero, g.unsqueeze(rows, 0)), row, ones, reduction="add")  # [B]
    most = g.op("ReduceMax", counts, keepdims=0)
    width = g.op("Mul", g.op("Div", g.op("Add", most, g.constant(GRAIN - 1)), grain), grain)
    begin = g.op("CumSum", counts, zero, exclusive=1)
    rank = g.op("Sub", g.op("Range", zero, g.size(row, 0), g.constant(1)), g.op("Gather", begin, row))
    place = g.op("Add", g.op("Mul", row, width), rank)
    padding = g.op("Expand", g.constant(nothing), g.unsqueeze(g.op("Mul", rows, width), 0))
    filled = g.op("Cast", g.op("ScatterElements", padding, place, word), to=ELEMENT["int32"])
    shape = g.op("Concat", g.unsqueeze(rows, 0), g.unsqueeze(width, 0), axis=0)
    return g.op("Reshape", filled, shape)
