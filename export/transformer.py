"""The Transformer as an encoder graph and a graph of one decoder step.

The encoder also emits the cross-attention keys and values, which are states like those of the target's own past, though
nothing is added to them: one operator, ``GroupQueryAttention``, does both kinds of attention, in place and without
reading more of a row than the row has. Its weights are the attention that is returned.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from export.best import best
from export.graph import ELEMENT, Graph, Shape
from export.linear import Cache, Layers, MakeLayers, array
from export.package import NEXT, TensorSpec
from export.weights import Weights
from models.attention import MultiHeadAttention
from models.transformer import DecoderLayer, EncoderLayer, Transformer

ATTENTIONS = ("self", "cross")


def memory_of() -> list[TensorSpec]:
    """``last`` is the last source position."""
    return [TensorSpec(name="memory.last", dtype="int32", shape=["batch"])]


def state_of(model: Transformer, cache: Cache) -> list[TensorSpec]:
    return caches_of(ATTENTIONS, model.config.decoder_layers, model.config.heads, model.config.size, cache)


def caches_of(attentions: Sequence[str], layers: int, heads: int, size: int, cache: Cache) -> list[TensorSpec]:
    axes = {"self": "time", "cross": "source"}
    return [
        TensorSpec(name=f"state.{name}.{kind}.{i}", dtype=cache, shape=["batch", heads, axes[name], size // heads])
        for i in range(layers)
        for name in attentions
        for kind in ("key", "value")
    ]


class Attentive(Protocol):
    """What a configuration says of attentions."""

    @property
    def size(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def decoder_layers(self) -> int: ...
    @property
    def alignment_layer(self) -> int: ...
    @property
    def alignment_head(self) -> int | None: ...


class AttentionGraphs:
    """What the graphs of Transformers have in common, whatever stands between their attentions."""

    def __init__(self, shape: Attentive, positions: np.ndarray, layers: MakeLayers, weights: Weights) -> None:
        """``positions [longest, size]`` are added to the embeddings."""
        self.layers, self.weights, self.positions = layers, weights, positions
        self.heads, self.size, self.depth = shape.heads, shape.size, shape.size // shape.heads
        self.alignment = range(shape.decoder_layers)[shape.alignment_layer]
        """The layer whose attention to the source is output."""
        self.alignment_head = shape.alignment_head

    def embed(self, layers: Layers, ids: str) -> str:
        """Sub-words that the encoder reads: ``[N] -> [N, size]``."""
        raise NotImplementedError

    def split(self, g: Graph, source: str) -> str:
        """The shape ``[B, S, H, D / H]``."""
        return g.op("Concat", g.op("Shape", source), g.constant([self.heads, self.depth]), axis=0)

    def embed_all(self, layers: Layers, source: str, size: str) -> str:
        """Tokens and their positions: ``[B, S] -> [B S, D]``."""
        g = layers.graph
        table = g.weight("positions", self.positions)
        positions = g.op("Slice", table, g.constant([0]), g.unsqueeze(size, 0), g.constant([0]))
        shape = g.op("Concat", g.op("Shape", source), g.constant([self.size]), axis=0)
        tokens = g.op("Reshape", self.embed(layers, g.reshape(source, [-1])), shape)
        return g.reshape(g.op("Add", tokens, positions), [-1, self.size])

    def attention(self, layers: Layers, x: str, name: str, attention: MultiHeadAttention, shape: str, bias: str) -> str:
        """Of the source to itself: ``x [B S, D]``, ``shape`` as :meth:`split` gives it, ``bias [B, 1, 1, S]``."""
        g = layers.graph
        projection = layers.query(attention.query, self.depth)
        qkv = layers.linear(x, f"{name}.qkv", projection, attention.key, attention.value)
        query, key, value = (g.op("Reshape", part, shape) for part in g.many("Split", [qkv], 3, axis=1, num_outputs=3))
        scores = layers.scores(query, key, self.heads, self.depth)
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        context = g.op("MatMul", weights, g.transpose(value, 0, 2, 1, 3))
        context = g.reshape(g.transpose(context, 0, 2, 1, 3), [-1, self.size])
        return layers.linear(context, f"{name}.output", attention.output)

    def keep(self, layers: Layers, x: str, lengths: str, shape: str, attentions: Sequence[MultiHeadAttention]) -> None:
        """Output what decoder layers need of the source ``x [B S, D]``."""
        g = layers.graph
        last = g.op("Cast", g.op("Sub", lengths, g.constant(1)), to=ELEMENT["int32"])
        g.output(last, "memory.last", "int32", ["batch"])
        for i, cross in enumerate(attentions):
            kept = layers.keep(x, f"decoder.{i}.cross", cross.key, cross.value)
            parts = g.many("Split", [kept], 2, axis=1, num_outputs=2)
            for kind, part in zip(("key", "value"), parts, strict=True):
                split = g.transpose(g.op("Reshape", part, shape), 0, 2, 1, 3)
                axes: Shape = ["batch", self.heads, "source", self.depth]
                g.output(split, f"state.cross.{kind}.{i}", layers.cache, axes)

    def room(self, g: Graph, attention: str) -> str:
        """Positions that the caches have room for."""
        return g.op("Cast", g.op("Shape", f"state.{attention}.key.0", start=2, end=3), to=ELEMENT["int32"])

    def own_attention(self, layers: Layers, x: str, i: int, attention: MultiHeadAttention, time: str) -> str:
        """Of the target to its past: ``[B, size] -> [B, size]``."""
        name = f"decoder.{i}.self"
        qkv = layers.query_and_keep(x, name, attention.query, attention.key, attention.value)
        context, _ = self.attend(layers, qkv, i, "self", "position", time, aligned=False)
        return layers.linear(context, f"{name}.output", attention.output)

    def cross_attention(self, layers: Layers, x: str, i: int, attention: MultiHeadAttention, source: str) -> str:
        """Of the target to the source: ``[B, size] -> [B, size]``."""
        name, aligned = f"decoder.{i}.cross", i == self.alignment
        query = layers.linear(x, f"{name}.query", attention.query)
        context, weights = self.attend(layers, query, i, "cross", "memory.last", source, aligned=aligned)
        if aligned:
            self.align(layers.graph, weights)
        return layers.linear(context, f"{name}.output", attention.output)

    def attend(
        self, layers: Layers, x: str, i: int, kind: str, last: str, size: str, *, aligned: bool
    ) -> tuple[str, str]:
        """Context ``[B, size]`` and, if ``aligned``, the weights ``[B, H, 1, positions]``."""
        cache = [f"state.{kind}.key.{i}", f"state.{kind}.value.{i}"]
        own = kind == "self"
        context, *new, weights = layers.attend(
            x, f"decoder.{i}.{kind}", cache, last, size, self.heads, grow=own, aligned=aligned
        )
        axes: Shape = ["batch", self.heads, "time" if own else "source", self.depth]
        for name, value in zip(cache, new, strict=True):
            layers.graph.output(value, f"{NEXT}{name}", layers.cache, axes)
        return context, weights

    def align(self, g: Graph, weights: str) -> None:
        """Output the weights of a head, or the mean of all."""
        if self.alignment_head is not None:
            weights = g.op("Gather", weights, g.constant([self.alignment_head]), axis=1)
        mean = g.op("ReduceMean", weights, g.constant([1, 2]), keepdims=0)
        g.output(mean, "attention", "float32", ["batch", "source"])


class TransformerGraphs(AttentionGraphs):
    """Both graphs of one model in one precision."""

    def __init__(self, model: Transformer, layers: MakeLayers, weights: Weights) -> None:
        super().__init__(model.config, array(model.positions), layers, weights)
        self.model = model
        self.embedding = array(model.embedding.weight)

    def embed(self, layers: Layers, ids: str) -> str:
        return layers.embed(ids, "embedding", self.embedding, math.sqrt(self.size))

    def encoder(self) -> Graph:
        g = Graph("encoder", self.weights)
        layers = self.layers(g)
        source = g.input("source_ids", "int64", ["batch", "source"])
        lengths = g.input("source_lengths", "int64", ["batch"])
        size = g.size(source, 1)
        bias = g.visible(size, lengths)  # [B, S]
        shape = self.split(g, source)
        x = self.embed_all(layers, source, size)
        for i, layer in enumerate(self.model.encoder):
            x = self.encoder_layer(layers, x, f"encoder.{i}", layer, shape, g.unsqueeze(bias, 1, 2))
        x = layers.norm(x, "encoder.norm", self.model.encoder_norm)
        self.keep(layers, x, lengths, shape, [layer.cross_attention for layer in self.model.decoder])
        return g

    def encoder_layer(self, layers: Layers, x: str, name: str, layer: EncoderLayer, shape: str, bias: str) -> str:
        g, forward = layers.graph, layer.feed_forward
        normed = layers.norm(x, f"{name}.self.norm", layer.self_norm)
        x = g.op("Add", x, self.attention(layers, normed, f"{name}.self", layer.self_attention, shape, bias))
        normed = layers.norm(x, f"{name}.feed_forward.norm", layer.feed_forward_norm)
        return g.op("Add", x, layers.feed_forward(normed, f"{name}.feed_forward", forward.up, forward.down))

    def decoder(self) -> Graph:
        g = Graph("decoder", self.weights)
        layers = self.layers(g)
        token = g.input("token", "int64", ["batch"])
        position = g.input("position", "int32", ["batch"])
        for spec in (*memory_of(), *state_of(self.model, layers.cache)):
            g.input_of(spec)
        positions = g.op("Gather", g.weight("positions", self.positions), position)
        x = g.op("Add", self.embed(layers, token), positions)  # [B, size]
        time, source = (self.room(g, name) for name in ATTENTIONS)
        for i, layer in enumerate(self.model.decoder):
            x = self.decoder_layer(layers, x, i, layer, time, source)
        x = layers.norm(x, "decoder.norm", self.model.decoder_norm)
        best(g, layers.project_tied(x, "embedding", self.embedding, array(self.model.bias)), len(self.embedding))
        return g

    def decoder_layer(self, layers: Layers, x: str, i: int, layer: DecoderLayer, time: str, source: str) -> str:
        """``[B, size] -> [B, size]``."""
        g, name, forward = layers.graph, f"decoder.{i}", layer.feed_forward
        normed = layers.norm(x, f"{name}.self.norm", layer.self_norm)
        x = g.op("Add", x, self.own_attention(layers, normed, i, layer.self_attention, time))
        normed = layers.norm(x, f"{name}.cross.norm", layer.cross_norm)
        x = g.op("Add", x, self.cross_attention(layers, normed, i, layer.cross_attention, source))
        normed = layers.norm(x, f"{name}.feed_forward.norm", layer.feed_forward_norm)
        return g.op("Add", x, layers.feed_forward(normed, f"{name}.feed_forward", forward.up, forward.down))
