"""Bahdanau's encoder-decoder as an encoder graph and a graph of one decoder step."""

import numpy as np
from torch import nn

from export.best import best
from export.graph import Graph
from export.linear import Layers, MakeLayers, array
from export.package import NEXT, TensorSpec
from export.weights import Weights
from models.bahdanau import Bahdanau


def memory_of(model: Bahdanau) -> list[TensorSpec]:
    sizes = {"annotations": 2 * model.config.encoder_size, "projected": model.config.attention_size}
    tensors = [
        TensorSpec(name=f"memory.{kind}", dtype="float32", shape=["batch", "source", size])
        for kind, size in sizes.items()
    ]
    return [*tensors, TensorSpec(name="memory.bias", dtype="float32", shape=["batch", "source"], pad=-1e9)]


def state_of(model: Bahdanau) -> list[TensorSpec]:
    return [TensorSpec(name="state.hidden", dtype="float32", shape=["batch", model.config.decoder_size])]


def onnx_gates(weight: np.ndarray) -> np.ndarray:
    """ONNX stacks the gates of a GRU as update, reset, new; PyTorch as reset, update, new."""
    reset, update, new = np.split(weight, 3)
    return np.concatenate([update, reset, new])


def torch_gates(weight: np.ndarray) -> np.ndarray:
    """The same the other way round: both put the first two gates in the other's order."""
    return onnx_gates(weight)


class BahdanauGraphs:
    """Both graphs of one model in one precision. The encoder's GRU stays fp32: ONNX Runtime has no int8 one."""

    def __init__(self, model: Bahdanau, layers: MakeLayers, weights: Weights) -> None:
        self.model, self.layers, self.weights = model, layers, weights
        self.embedding = array(model.embedding.weight)

    def gru(self, g: Graph, x: str, lengths: str, gru: nn.GRU) -> tuple[str, str]:
        """``x [S, B, E]`` -> annotations ``[S, 2, B, H]``, last states ``[2, B, H]``."""

        def stack(kind: str) -> np.ndarray:
            directions = (getattr(gru, f"{kind}_l0"), getattr(gru, f"{kind}_l0_reverse"))
            return np.stack([onnx_gates(array(parameter)) for parameter in directions])

        bias = np.concatenate([stack("bias_ih"), stack("bias_hh")], axis=1)
        annotations, last = g.many(
            "GRU",
            [
                x,
                g.weight("encoder.input", stack("weight_ih")),
                g.weight("encoder.hidden", stack("weight_hh")),
                g.weight("encoder.bias", bias),
                g.op("Cast", lengths, to=6),
            ],
            2,
            hidden_size=gru.hidden_size,
            direction="bidirectional",
            linear_before_reset=1,
        )
        return annotations, last

    def encoder(self) -> Graph:
        g = Graph("encoder", self.weights)
        layers, model = self.layers(g), self.model
        source = g.input("source_ids", "int64", ["batch", "source"])
        lengths = g.input("source_lengths", "int64", ["batch"])
        size = 2 * model.config.encoder_size
        turned = g.transpose(source, 1, 0)
        shape = g.op("Concat", g.op("Shape", turned), g.constant([model.config.embedding_size]), axis=0)
        embedded = g.op("Reshape", layers.embed(g.reshape(turned, [-1]), "embedding", self.embedding, 1.0), shape)
        output, last = self.gru(g, embedded, lengths, model.encoder.gru)
        annotations = g.reshape(g.transpose(output, 2, 0, 1, 3), [0, 0, size])  # [B, S, 2 H]
        flat = layers.linear(g.reshape(annotations, [-1, size]), "attention.key", model.attention.key)
        shape = g.op("Concat", g.op("Shape", source), g.constant([model.config.attention_size]), axis=0)
        both = g.reshape(g.transpose(last, 1, 0, 2), [-1, size])
        values = {
            "memory.annotations": annotations,
            "memory.projected": g.op("Reshape", flat, shape),
            "memory.bias": g.visible(g.size(source, 1), lengths),
            "state.hidden": g.op("Tanh", layers.linear(both, "initial", model.initial)),
        }
        for spec in (*memory_of(model), *state_of(model)):
            g.output_of(values[spec.name], spec)
        return g

    def decoder(self) -> Graph:
        g = Graph("decoder", self.weights)
        layers, model = self.layers(g), self.model
        token = g.input("token", "int64", ["batch"])
        g.input("position", "int32", ["batch"])
        for spec in (*memory_of(model), *state_of(model)):
            g.input_of(spec)
        embedded = layers.embed(token, "embedding", self.embedding, 1.0)
        weights = self.attention(layers, g.op("Concat", "state.hidden", embedded, axis=-1))  # [B, S]
        context = g.squeeze(g.op("MatMul", g.unsqueeze(weights, 1), "memory.annotations"), 1)
        hidden = self.cell(layers, g.op("Concat", embedded, context, axis=-1), "state.hidden")
        logits = self.deep_output(layers, g.op("Concat", hidden, embedded, context, axis=-1))
        g.output(weights, "attention", "float32", ["batch", "source"])
        g.output(hidden, f"{NEXT}state.hidden", "float32", ["batch", model.config.decoder_size])
        best(g, logits, len(self.embedding))
        return g

    def attention(self, layers: Layers, query: str) -> str:
        g, attention = layers.graph, self.model.attention
        query = g.unsqueeze(layers.linear(query, "attention.query", attention.query), 1)
        energy = g.op("Tanh", g.op("Add", query, "memory.projected"))  # [B, S, A]
        scores = g.op("MatMul", energy, g.weight("attention.score", array(attention.score.weight).T))
        return g.op("Softmax", g.op("Add", g.squeeze(scores, 2), "memory.bias"), axis=-1)

    def cell(self, layers: Layers, x: str, hidden: str) -> str:
        g, cell = layers.graph, self.model.cell
        inputs = g.many("Split", [layers.linear(x, "cell.input", cell.input)], 3, axis=1, num_outputs=3)
        hiddens = g.many("Split", [layers.linear(hidden, "cell.hidden", cell.hidden)], 3, axis=1, num_outputs=3)
        reset = g.op("Sigmoid", g.op("Add", inputs[0], hiddens[0]))
        update = g.op("Sigmoid", g.op("Add", inputs[1], hiddens[1]))
        new = g.op("Tanh", g.op("Add", inputs[2], g.op("Mul", reset, hiddens[2])))
        return g.op("Add", new, g.op("Mul", update, g.op("Sub", hidden, new)))

    def deep_output(self, layers: Layers, features: str) -> str:
        g, output = layers.graph, self.model.output
        pieces = layers.linear(features, "output.maxout", output.maxout)
        hidden = g.op("Max", *g.many("Split", [pieces], 2, axis=1, num_outputs=2))
        return layers.project_tied(hidden, "embedding", self.embedding, array(output.bias))
