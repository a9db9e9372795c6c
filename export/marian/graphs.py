"""A Marian model as an encoder graph and a graph of one decoder step."""

import numpy as np
from torch import nn

from export.best import best, best_of
from export.graph import Graph
from export.linear import Cache, Layers, MakeLayers, array
from export.marian.candidates import Candidates
from export.marian.layers import Known
from export.marian.model import Activated, Around, DecoderLayer, EncoderLayer, Marian
from export.package import NEXT, TensorSpec
from export.transformer import ATTENTIONS, AttentionGraphs, caches_of
from export.transformer import memory_of as attended
from export.weights import Weights
from models.attention import MultiHeadAttention


def memory_of(model: Marian) -> list[TensorSpec]:
    candidates = candidates_of(model)
    return [*attended(), *(candidates.specs if candidates else [])]


def axes_of(model: Marian) -> dict[str, int]:
    candidates = candidates_of(model)
    return candidates.axes if candidates else {}


def candidates_of(model: Marian) -> Candidates | None:
    """What targets are made of, where that is not the whole vocabulary."""
    if model.shortlist is None:
        return None
    return Candidates(model.shortlist, array(model.output.bias), model.start)


def state_of(model: Marian, cache: Cache) -> list[TensorSpec]:
    """A recurrent decoder has cells where others keep the past."""
    shape = model.shape
    attentions = ATTENTIONS[1:] if shape.recurrent else ATTENTIONS
    cells = [
        TensorSpec(name=f"state.cell.{i}", dtype="float32", shape=["batch", shape.size])
        for i in range(shape.decoder_layers if shape.recurrent else 0)
    ]
    return [*cells, *caches_of(attentions, shape.decoder_layers, shape.heads, shape.size, cache)]


def known(model: Marian) -> dict[str, Known]:
    """The products of layers whose weights were 8-bit, and the tables beside them, by their names in graphs.

    A table that is multiplied, too, is one of the products: without a multiplier of its input it is not known.
    """
    known, multiplied = {}, products(model)
    for name, layers in multiplied.items():
        found = [model.multipliers.get(layer) for layer in layers]
        multipliers = [each for each in found if each is not None]
        if len(multipliers) == len(layers) and len({each.input for each in multipliers}) == 1:
            sizes = zip(multipliers, layers, strict=True)
            weights = np.concatenate([np.full(len(layer.weight), each.weight) for each, layer in sizes])
            known[name] = Known(multipliers[0].input, weights)
    for name, table in tables(model).items():
        multiplier = model.multipliers.get(table)
        if known and name not in multiplied and multiplier is not None:
            known[name] = Known(multiplier.input, np.full(len(table.weight), multiplier.weight))
    return known


def tables(model: Marian) -> dict[str, nn.Embedding]:
    """By the names that they have in graphs."""
    shared = model.source_embedding.weight is model.target_embedding.weight
    return {"embedding": model.target_embedding} | ({} if shared else {"source_embedding": model.source_embedding})


def products(model: Marian) -> dict[str, list[nn.Linear]]:
    """The layers whose weights stand beside each other in one product, by the name that it has in graphs."""

    def forward(name: str, part: Activated) -> dict[str, list[nn.Linear]]:
        return {f"{name}.feed_forward.up": [part.up], f"{name}.feed_forward.down": [part.down]}

    def own(name: str, part: MultiHeadAttention) -> dict[str, list[nn.Linear]]:
        return {f"{name}.self.qkv": [part.query, part.key, part.value], f"{name}.self.output": [part.output]}

    found: dict[str, list[nn.Linear]] = {"embedding": [model.output]} if model.tied else {"output": [model.output]}
    for i, layer in enumerate(model.encoder):
        found |= own(f"encoder.{i}", layer.self_attention) | forward(f"encoder.{i}", layer.feed_forward)
    for i, reader in enumerate(model.decoder):
        name, cross = f"decoder.{i}", reader.cross_attention
        found |= {f"{name}.unit": [reader.unit.input, reader.unit.forget]} if reader.unit is not None else {}
        found |= own(name, reader.self_attention) if reader.self_attention is not None else {}
        found |= {f"{name}.cross.query": [cross.query], f"{name}.cross.output": [cross.output]}
        found |= {f"{name}.cross.key_value": [cross.key, cross.value]} | forward(name, reader.feed_forward)
    return found


class MarianGraphs(AttentionGraphs):
    """Both graphs of one model in one precision."""

    def __init__(self, model: Marian, layers: MakeLayers, weights: Weights) -> None:
        super().__init__(model.shape, array(model.positions), layers, weights)
        self.model, self.shape = model, model.shape
        self.source, self.target = array(model.source_embedding.weight), array(model.target_embedding.weight)
        self.source_name = "source_embedding" if "source_embedding" in tables(model) else "embedding"
        self.candidates = candidates_of(model)

    def embed(self, layers: Layers, ids: str) -> str:
        return layers.embed(ids, self.source_name, self.source, self.shape.embedding_factor)

    def embed_target(self, layers: Layers, ids: str) -> str:
        factor: float | np.ndarray = self.shape.embedding_factor
        if self.model.empty_start:
            factor = np.full(len(self.target), factor, np.float32)
            factor[self.model.start] = 0.0
        return layers.embed(ids, "embedding", self.target, factor)

    @staticmethod
    def before(layers: Layers, x: str, name: str, around: Around) -> str:
        return x if around.before_norm is None else layers.norm(x, f"{name}.before", around.before_norm)

    @staticmethod
    def after(layers: Layers, output: str, x: str, name: str, around: Around) -> str:
        for op in around.ops:
            if op == "a":
                output = layers.graph.op("Add", output, x)
            else:
                assert around.after_norm is not None
                output = layers.norm(output, f"{name}.after", around.after_norm)
        return output

    def encoder(self) -> Graph:
        g = Graph("encoder", self.weights)
        layers, model = self.layers(g), self.model
        source = g.input("source_ids", "int64", ["batch", "source"])
        lengths = g.input("source_lengths", "int64", ["batch"])
        size = g.size(source, 1)
        bias = g.unsqueeze(g.visible(size, lengths), 1, 2)  # [B, 1, 1, S]
        shape = self.split(g, source)
        embedded = self.embed_all(layers, source, size)
        x = self.before(layers, embedded, "encoder", model.encoder_edge)
        for i, layer in enumerate(model.encoder):
            x = self.encoder_layer(layers, x, f"encoder.{i}", layer, shape, bias)
        x = self.after(layers, x, embedded, "encoder", model.encoder_edge)
        self.keep(layers, x, lengths, shape, [layer.cross_attention for layer in model.decoder])
        if self.candidates:
            self.candidates.find(g, source, lengths)
        if self.shape.recurrent:
            rows = g.op("Concat", g.op("Shape", lengths), g.constant([self.size]), axis=0)
            for spec in state_of(model, layers.cache)[: len(model.decoder)]:
                g.output_of(g.op("Expand", g.number(0.0), rows), spec)
        return g

    def encoder_layer(self, layers: Layers, x: str, name: str, layer: EncoderLayer, shape: str, bias: str) -> str:
        before = self.before(layers, x, f"{name}.self", layer.self_around)
        output = self.attention(layers, before, f"{name}.self", layer.self_attention, shape, bias)
        x = self.after(layers, output, x, f"{name}.self", layer.self_around)
        return self.feed_forward(layers, x, f"{name}.feed_forward", layer.feed_forward, layer.feed_forward_around)

    def feed_forward(self, layers: Layers, x: str, name: str, part: Activated, around: Around) -> str:
        before = self.before(layers, x, name, around)
        output = layers.feed_forward(before, name, part.up, part.down, self.shape.activation)
        return self.after(layers, output, x, name, around)

    def decoder(self) -> Graph:
        g = Graph("decoder", self.weights)
        layers, model = self.layers(g), self.model
        token = g.input("token", "int64", ["batch"])
        position = g.input("position", "int32", ["batch"])
        for spec in (*memory_of(model), *state_of(model, layers.cache)):
            g.input_of(spec)
        positions = g.op("Gather", g.weight("positions", self.positions), position)
        embedded = g.op("Add", self.embed_target(layers, token), positions)  # [B, size]
        x = self.before(layers, embedded, "decoder", model.decoder_edge)
        time = "" if self.shape.recurrent else self.room(g, "self")
        source = self.room(g, "cross")
        for i, layer in enumerate(model.decoder):
            x = self.decoder_layer(layers, x, i, layer, time, source)
        x = self.after(layers, x, embedded, "decoder", model.decoder_edge)
        self.choose(layers, x)
        return g

    def choose(self, layers: Layers, x: str) -> None:
        """The best tokens after ``[B, size]``."""
        g, candidates = layers.graph, self.candidates
        if candidates is None:
            best(g, self.project(layers, x), self.shape.target_vocabulary)
            return
        ids, places, biases = (spec.name for spec in candidates.specs)
        name, weight = "embedding" if self.model.tied else "output", array(self.model.output.weight)
        logits = g.op("Add", layers.project_some(x, name, weight, candidates.common, places, ids), biases)
        best_of(g, logits, ids, self.model.start)

    def project(self, layers: Layers, x: str) -> str:
        """``[B, size]`` to the logits ``[B, vocabulary]``."""
        output = self.model.output
        if self.model.tied:
            return layers.project_tied(x, "embedding", self.target, array(output.bias))
        return layers.linear(x, "output", output)

    def decoder_layer(self, layers: Layers, x: str, i: int, layer: DecoderLayer, time: str, source: str) -> str:
        """``[B, size] -> [B, size]``."""
        name = f"decoder.{i}"
        before = self.before(layers, x, f"{name}.self", layer.self_around)
        if layer.self_attention is None:
            output = self.unit(layers, before, i, layer)
        else:
            output = self.own_attention(layers, before, i, layer.self_attention, time)
        x = self.after(layers, output, x, f"{name}.self", layer.self_around)
        before = self.before(layers, x, f"{name}.cross", layer.cross_around)
        output = self.cross_attention(layers, before, i, layer.cross_attention, source)
        x = self.after(layers, output, x, f"{name}.cross", layer.cross_around)
        return self.feed_forward(layers, x, f"{name}.feed_forward", layer.feed_forward, layer.feed_forward_around)

    def unit(self, layers: Layers, x: str, i: int, layer: DecoderLayer) -> str:
        """The recurrent unit: ``[B, size] -> [B, size]``."""
        g, unit = layers.graph, layer.unit
        assert unit is not None
        both = layers.linear(x, f"decoder.{i}.unit", unit.input, unit.forget)
        new, forget = g.many("Split", [both], 2, axis=1, num_outputs=2)
        kept = g.op("Mul", g.op("Sigmoid", forget), g.op("Sub", f"state.cell.{i}", new))
        cell = g.op("Add", new, kept)
        output = g.op("Relu", cell)
        g.output(cell, f"{NEXT}state.cell.{i}", "float32", ["batch", self.size])
        return output
