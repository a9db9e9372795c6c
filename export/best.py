"""The contract's ``next_ids`` and ``next_scores``, ``[B, K]``: the likeliest tokens and their log-probabilities.

K is an input, since greedy decoding should not pay for a beam.
"""

import numpy as np

from export.graph import ELEMENT, Graph

BLOCKS = range(128, 31, -1)
"""Sizes of the blocks in which the best tokens are looked for; the largest that divides the vocabulary is taken."""


def best(graph: Graph, logits: str, vocabulary: int) -> None:
    """Of ``logits [B, vocabulary]``.

    The K best tokens are in the K blocks with the largest maxima: to look there only is faster than to sort a row.
    """
    g = graph
    count = g.input("top_k", "int64", [1])
    # ReduceLogSumExp would touch fewer numbers, but the CPU provider takes ten times as long for it.
    scores = g.op("LogSoftmax", logits, axis=-1)
    size = next((size for size in BLOCKS if vocabulary % size == 0), None)
    if size is None:
        values, ids = g.many("TopK", [scores, count], 2, axis=-1)
    else:
        blocks = g.reshape(scores, [0, -1, size])
        maxima = g.op("ReduceMax", blocks, g.constant([2]), keepdims=0)
        fewer = g.op("Min", count, g.constant([vocabulary // size]))
        block = g.many("TopK", [maxima, fewer], 2, axis=-1)[1]  # [B, K]
        found = g.reshape(g.op("GatherND", blocks, g.unsqueeze(block, 2), batch_dims=1), [0, -1])
        values, place = g.many("TopK", [found, count], 2, axis=-1)
        first = g.op("GatherElements", block, g.op("Div", place, g.constant(size)), axis=1)
        ids = g.op("Add", g.op("Mul", first, g.constant(size)), g.op("Mod", place, g.constant(size)))
    g.output(ids, "next_ids", "int64", ["batch", "k"])
    g.output(values, "next_scores", "float32", ["batch", "k"])


def best_of(graph: Graph, logits: str, candidates: str, nothing: int) -> None:
    """Of ``logits [B, C]`` of the tokens ``candidates [B, C]``; more than there are get ``nothing`` and no chance."""
    g = graph
    count = g.input("top_k", "int64", [1])
    scores = g.op("LogSoftmax", logits, axis=-1)
    found = g.op("Min", count, g.op("Shape", candidates, start=1, end=2))
    values, place = g.many("TopK", [scores, found], 2, axis=-1)
    ids = g.op("Cast", g.op("GatherElements", candidates, place, axis=1), to=ELEMENT["int64"])
    missing = g.op("Concat", g.constant([0, 0, 0]), g.op("Sub", count, found), axis=0)
    g.output(g.op("Pad", ids, missing, g.constant(nothing)), "next_ids", "int64", ["batch", "k"])
    g.output(g.op("Pad", values, missing, g.number(-np.inf)), "next_scores", "float32", ["batch", "k"])
