"""The Transformer as an encoder graph and a graph of one decoder step.

The encoder also emits the cross-attention keys and values. Attention is plain MatMul and Softmax: as fast as the fused
operators at these sizes, and its Softmax output is the attention that is returned.
"""

import math

import numpy as np
from torch import nn

from export.graph import Graph
from export.linear import Layers, MakeLayers, array, best
from export.package import TensorSpec
from models.attention import MultiHeadAttention
from models.transformer import DecoderLayer, EncoderLayer, FeedForward, Transformer


def memory_of(model: Transformer) -> list[TensorSpec]:
    heads, depth = model.config.heads, model.config.size // model.config.heads
    tensors = [
        TensorSpec(name=f"memory.{kind}.{i}", dtype="float32", shape=["batch", heads, "source", depth])
        for i in range(model.config.decoder_layers)
        for kind in ("key", "value")
    ]
    return [*tensors, TensorSpec(name="memory.bias", dtype="float32", shape=["batch", "source"], pad=-1e9)]


def state_of(model: Transformer) -> list[TensorSpec]:
    heads, depth = model.config.heads, model.config.size // model.config.heads
    return [
        TensorSpec(name=f"state.{kind}.{i}", dtype="float32", shape=["batch", heads, "time", depth])
        for i in range(model.config.decoder_layers)
        for kind in ("key", "value")
    ]


class TransformerGraphs:
    """Both graphs of one model in one precision."""

    def __init__(self, model: Transformer, layers: MakeLayers) -> None:
        self.model, self.layers = model, layers
        self.heads, self.size = model.config.heads, model.config.size
        self.depth = self.size // self.heads
        self.embedding = array(model.embedding.weight)
        self.positions = array(model.positions)

    def embed(self, layers: Layers, ids: str, positions: str) -> str:
        g = layers.graph
        scaled = layers.embed(ids, "embedding", self.embedding * np.float32(math.sqrt(self.size)))
        return g.op("Add", scaled, positions)

    def query(self, attention: MultiHeadAttention) -> nn.Linear:
        """The query projection with the scale ``1 / sqrt(d)`` folded in."""
        layer = nn.Linear(self.size, self.size)
        layer.weight.data = attention.query.weight.data / math.sqrt(self.depth)
        layer.bias.data = attention.query.bias.data / math.sqrt(self.depth)
        return layer

    def feed_forward(self, layers: Layers, x: str, name: str, module: FeedForward) -> str:
        hidden = layers.graph.op("Relu", layers.linear(x, f"{name}.up", module.up))
        return layers.linear(hidden, f"{name}.down", module.down)

    def encoder(self) -> Graph:
        g = Graph("encoder")
        layers = self.layers(g)
        source = g.input("source_ids", "int64", ["batch", "source"])
        lengths = g.input("source_lengths", "int64", ["batch"])
        size = g.size(source, 1)
        bias = g.visible(size, lengths)  # [B, S]
        score_bias = g.unsqueeze(bias, 1, 2)  # [B, 1, 1, S]
        table = g.weight("positions", self.positions)
        positions = g.op("Slice", table, g.constant([0]), g.unsqueeze(size, 0), g.constant([0]))
        x = g.reshape(self.embed(layers, source, positions), [-1, self.size])
        shape = g.op("Concat", g.op("Shape", source), g.constant([self.heads, self.depth]), axis=0)
        for i, layer in enumerate(self.model.encoder):
            x = self.encoder_layer(layers, x, f"encoder.{i}", layer, shape, score_bias)
        x = layers.norm(x, "encoder.norm", self.model.encoder_norm)
        specs = {spec.name: spec for spec in memory_of(self.model)}
        for i, decoder_layer in enumerate(self.model.decoder):
            cross = decoder_layer.cross_attention
            both = layers.linear(x, f"decoder.{i}.cross.key_value", cross.key, cross.value)
            key, value = g.many("Split", [both], 2, axis=1, num_outputs=2)
            for kind, part in (("key", key), ("value", value)):
                split = g.transpose(g.op("Reshape", part, shape), 0, 2, 1, 3)
                g.output_of(split, specs[f"memory.{kind}.{i}"])
        g.output_of(bias, specs["memory.bias"])
        return g

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
        return g.op("Add", x, self.feed_forward(layers, normed, f"{name}.feed_forward", layer.feed_forward))

    def decoder(self) -> Graph:
        g = Graph("decoder")
        layers = self.layers(g)
        token = g.input("token", "int64", ["batch"])
        position = g.input("position", "int64", ["batch"])
        for spec in (*memory_of(self.model), *state_of(self.model)):
            g.input_of(spec)
        positions = g.op("Gather", g.weight("positions", self.positions), position)
        x = self.embed(layers, token, positions)  # [B, size]
        past_bias = g.unsqueeze(g.visible(g.size("state.key.0", 2), position), 1, 2)  # [B, 1, 1, T]
        source_bias = g.unsqueeze("memory.bias", 1, 2)  # [B, 1, 1, S]
        alignment = range(len(self.model.decoder))[self.model.config.alignment_layer]
        for i, layer in enumerate(self.model.decoder):
            x, weights = self.decoder_layer(layers, x, i, layer, past_bias, source_bias)
            if i == alignment:
                mean = g.op("ReduceMean", weights, g.constant([1, 2]), keepdims=0)
                g.output(mean, "attention", "float32", ["batch", "source"])
        x = layers.norm(x, "decoder.norm", self.model.decoder_norm)
        best(g, layers.project(x, "projection", self.embedding.T, array(self.model.bias)))
        return g

    def decoder_layer(
        self, layers: Layers, x: str, i: int, layer: DecoderLayer, past_bias: str, source_bias: str
    ) -> tuple[str, str]:
        """``x [B, size]`` -> the same and the cross-attention weights ``[B, H, 1, S]``."""
        g, name = layers.graph, f"decoder.{i}"
        normed = layers.norm(x, f"{name}.self.norm", layer.self_norm)
        context = self.self_attention(layers, normed, i, layer, past_bias)
        x = g.op("Add", x, layers.linear(context, f"{name}.self.output", layer.self_attention.output))
        normed = layers.norm(x, f"{name}.cross.norm", layer.cross_norm)
        query = g.reshape(
            layers.linear(normed, f"{name}.cross.query", self.query(layer.cross_attention)),
            [-1, self.heads, self.depth, 1],
        )
        scores = g.reshape(g.op("MatMul", f"memory.key.{i}", query), [0, 0, 1, -1])
        weights = g.op("Softmax", g.op("Add", scores, source_bias), axis=-1)
        context = g.reshape(g.op("MatMul", weights, f"memory.value.{i}"), [-1, self.size])
        x = g.op("Add", x, layers.linear(context, f"{name}.cross.output", layer.cross_attention.output))
        normed = layers.norm(x, f"{name}.feed_forward.norm", layer.feed_forward_norm)
        x = g.op("Add", x, self.feed_forward(layers, normed, f"{name}.feed_forward", layer.feed_forward))
        return x, weights

    def self_attention(self, layers: Layers, normed: str, i: int, layer: DecoderLayer, past_bias: str) -> str:
        """Attention to the cached past and to the token itself, without copying the cache: ``[B, size]``."""
        g, attention = layers.graph, layer.self_attention
        qkv = layers.linear(normed, f"decoder.{i}.self.qkv", self.query(attention), attention.key, attention.value)
        query, key, value = (
            g.reshape(part, [-1, self.heads, 1, self.depth])
            for part in g.many("Split", [qkv], 3, axis=1, num_outputs=3)
        )
        column = g.reshape(query, [0, 0, -1, 1])
        past = g.reshape(g.op("MatMul", f"state.key.{i}", column), [0, 0, 1, -1])  # [B, H, 1, T]
        own = g.op("MatMul", key, column)  # [B, H, 1, 1]
        scores = g.op("Concat", g.op("Add", past, past_bias), own, axis=-1)
        weights = g.op("Softmax", scores, axis=-1)
        sizes = g.op("Concat", g.op("Shape", past, start=3, end=4), g.constant([1]), axis=0)
        past_weights, own_weight = g.many("Split", [weights, sizes], 2, axis=-1)
        context = g.op("MatMul", past_weights, f"state.value.{i}")
        context = g.op("Add", context, g.op("Mul", own_weight, value))
        for kind, part in (("key", key), ("value", value)):
            entry = g.squeeze(part, 2)
            g.output(entry, f"next_state.{kind}.{i}", "float32", ["batch", self.heads, self.depth])
        return g.reshape(context, [-1, self.size])
