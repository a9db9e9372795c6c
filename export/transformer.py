"""The Transformer as an encoder graph and a graph of one decoder step.

The encoder also emits the cross-attention keys and values, which are states like those of the target's own past, though
nothing is added to them: one operator, ``GroupQueryAttention``, does both kinds of attention, in place and without
reading more of a row than the row has. Its weights are the attention that is returned.
"""

import math

from torch import nn

from export.graph import ELEMENT, Graph, Shape
from export.linear import Cache, Layers, MakeLayers, array, best
from export.package import TensorSpec
from export.weights import Weights
from models.attention import MultiHeadAttention
from models.transformer import DecoderLayer, EncoderLayer, Transformer

ATTENTIONS = ("self", "cross")


def memory_of() -> list[TensorSpec]:
    """``last`` is the last source position."""
    return [TensorSpec(name="memory.last", dtype="int32", shape=["batch"])]


def state_of(model: Transformer, cache: Cache) -> list[TensorSpec]:
    heads, depth = model.config.heads, model.config.size // model.config.heads
    axes = {"self": "time", "cross": "source"}
    return [
        TensorSpec(name=f"state.{name}.{kind}.{i}", dtype=cache, shape=["batch", heads, axes[name], depth])
        for i in range(model.config.decoder_layers)
        for name in ATTENTIONS
        for kind in ("key", "value")
    ]


class TransformerGraphs:
    """Both graphs of one model in one precision."""

    def __init__(self, model: Transformer, layers: MakeLayers, weights: Weights) -> None:
        self.model, self.layers, self.weights = model, layers, weights
        self.heads, self.size = model.config.heads, model.config.size
        self.depth = self.size // self.heads
        self.embedding = array(model.embedding.weight)
        self.positions = array(model.positions)

    def embed(self, layers: Layers, ids: str) -> str:
        """``[N] -> [N, size]``."""
        return layers.embed(ids, "embedding", self.embedding, math.sqrt(self.size))

    def query(self, attention: MultiHeadAttention) -> nn.Linear:
        """The query projection with the scale ``1 / sqrt(d)`` folded in."""
        layer = nn.Linear(self.size, self.size)
        layer.weight.data = attention.query.weight.data / math.sqrt(self.depth)
        layer.bias.data = attention.query.bias.data / math.sqrt(self.depth)
        return layer

    def encoder(self) -> Graph:
        g = Graph("encoder", self.weights)
        layers = self.layers(g)
        source = g.input("source_ids", "int64", ["batch", "source"])
        lengths = g.input("source_lengths", "int64", ["batch"])
        size = g.size(source, 1)
        bias = g.visible(size, lengths)  # [B, S]
        shape = g.op("Concat", g.op("Shape", source), g.constant([self.heads, self.depth]), axis=0)
        x = self.embed_all(layers, source, size)
        for i, layer in enumerate(self.model.encoder):
            x = self.encoder_layer(layers, x, f"encoder.{i}", layer, shape, g.unsqueeze(bias, 1, 2))
        x = layers.norm(x, "encoder.norm", self.model.encoder_norm)
        last = g.op("Cast", g.op("Sub", lengths, g.constant(1)), to=ELEMENT["int32"])
        g.output(last, "memory.last", "int32", ["batch"])
        for i, decoder_layer in enumerate(self.model.decoder):
            cross = decoder_layer.cross_attention
            kept = layers.keep(x, f"decoder.{i}.cross", cross.key, cross.value)
            parts = g.many("Split", [kept], 2, axis=1, num_outputs=2)
            for kind, part in zip(("key", "value"), parts, strict=True):
                split = g.transpose(g.op("Reshape", part, shape), 0, 2, 1, 3)
                axes: Shape = ["batch", self.heads, "source", self.depth]
                g.output(split, f"state.cross.{kind}.{i}", layers.cache, axes)
        return g

    def embed_all(self, layers: Layers, source: str, size: str) -> str:
        """Tokens and their positions: ``[B, S] -> [B S, D]``."""
        g = layers.graph
        table = g.weight("positions", self.positions)
        positions = g.op("Slice", table, g.constant([0]), g.unsqueeze(size, 0), g.constant([0]))
        shape = g.op("Concat", g.op("Shape", source), g.constant([self.size]), axis=0)
        tokens = g.op("Reshape", self.embed(layers, g.reshape(source, [-1])), shape)
        return g.reshape(g.op("Add", tokens, positions), [-1, self.size])

    def encoder_layer(self, layers: Layers, x: str, name: str, layer: EncoderLayer, shape: str, bias: str) -> str:
        g, attention = layers.graph, layer.self_attention
        normed = layers.norm(x, f"{name}.self.norm", layer.self_norm)
        qkv = layers.linear(normed, f"{name}.self.qkv", self.query(attention), attention.key, attention.value)
        query, key, value = (g.op("Reshape", part, shape) for part in g.many("Split", [qkv], 3, axis=1, num_outputs=3))
        scores = g.op("MatMul", g.transpose(query, 0, 2, 1, 3), g.transpose(key, 0, 2, 3, 1))  # [B, H, S, S]
        weights = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
        context = g.op("MatMul", weights, g.transpose(value, 0, 2, 1, 3))
        context = g.reshape(g.transpose(context, 0, 2, 1, 3), [-1, self.size])
        x = g.op("Add", x, layers.linear(context, f"{name}.self.output", attention.output))
        normed = layers.norm(x, f"{name}.feed_forward.norm", layer.feed_forward_norm)
        forward = layer.feed_forward
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
        time, source = (g.op("Cast", g.size(f"state.{name}.key.0", 2), to=ELEMENT["int32"]) for name in ATTENTIONS)
        alignment = range(len(self.model.decoder))[self.model.config.alignment_layer]
        for i, layer in enumerate(self.model.decoder):
            x, weights = self.decoder_layer(layers, x, i, layer, time, source)
            if i == alignment:
                if (head := self.model.config.alignment_head) is not None:
                    weights = g.op("Gather", weights, g.constant([head]), axis=1)
                mean = g.op("ReduceMean", weights, g.constant([1, 2]), keepdims=0)
                g.output(mean, "attention", "float32", ["batch", "source"])
        x = layers.norm(x, "decoder.norm", self.model.decoder_norm)
        best(g, layers.project_tied(x, "embedding", self.embedding, array(self.model.bias)), len(self.embedding))
        return g

    def decoder_layer(
        self, layers: Layers, x: str, i: int, layer: DecoderLayer, time: str, source: str
    ) -> tuple[str, str]:
        """``x [B, size]`` -> the same and the cross-attention weights ``[B, H, 1, S]``."""
        g, name, own, cross = layers.graph, f"decoder.{i}", layer.self_attention, layer.cross_attention
        normed = layers.norm(x, f"{name}.self.norm", layer.self_norm)
        qkv = layers.linear(normed, f"{name}.self.qkv", own.query, own.key, own.value)
        context, _ = self.attend(layers, qkv, i, "self", "position", time)
        x = g.op("Add", x, layers.linear(context, f"{name}.self.output", own.output))
        normed = layers.norm(x, f"{name}.cross.norm", layer.cross_norm)
        query = layers.linear(normed, f"{name}.cross.query", cross.query)
        context, weights = self.attend(layers, query, i, "cross", "memory.last", source)
        x = g.op("Add", x, layers.linear(context, f"{name}.cross.output", cross.output))
        normed = layers.norm(x, f"{name}.feed_forward.norm", layer.feed_forward_norm)
        forward = layer.feed_forward
        return g.op("Add", x, layers.feed_forward(normed, f"{name}.feed_forward", forward.up, forward.down)), weights

    def attend(self, layers: Layers, x: str, i: int, kind: str, last: str, size: str) -> tuple[str, str]:
        """Context ``[B, size]`` and the weights ``[B, H, 1, positions]``."""
        cache = [f"state.{kind}.key.{i}", f"state.{kind}.value.{i}"]
        own = kind == "self"
        context, *new, weights = layers.attend(x, f"decoder.{i}.{kind}", cache, last, size, self.heads, grow=own)
        axes: Shape = ["batch", self.heads, "time" if own else "source", self.depth]
        for name, value in zip(cache, new, strict=True):
            layers.graph.output(value, f"next_{name}", layers.cache, axes)
        return context, weights
