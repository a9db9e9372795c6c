"""``python -m export.restore PACKAGE --config FILE --output RUN``: a package as a run that training can start from.

``models.train --initial RUN`` goes on from it, with other text for instance. What a package of 8 bits has lost by
rounding is lost; fp32 graphs, where a package has them, give the weights back as they were. The configuration has to be
that of the model: a package does not know how its numbers were arranged in PyTorch.
"""

import math
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import torch
import typer
from onnx import numpy_helper
from rich.console import Console
from torch import nn

from export.bahdanau import torch_gates
from export.build import NEVER, PARTS
from export.graph import nodes_of
from export.package import Manifest, Package, Precision
from models import checkpoint
from models.bahdanau import Bahdanau
from models.checkpoint import Training
from models.config import Config
from models.transformer import Transformer
from models.translator import Translator

PRODUCT = "MatMulIntegerToFloat"


class Stored:
    """The numbers in a package's graphs, by the names that the exporter gives them, as fp32."""

    def __init__(self, package: Package, precision: Precision) -> None:
        graphs = [onnx.load(str(package.graph(precision, part))).graph for part in PARTS]
        self.arrays = {each.name: numpy_helper.to_array(each) for graph in graphs for each in graph.initializer}
        nodes = [node for graph in graphs for node in nodes_of(graph)]
        turned = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Transpose"}
        products = [node.input for node in nodes if node.op_type == PRODUCT]
        self.scale_of = {turned.get(inputs[1], inputs[1]): self.arrays[inputs[3]] for inputs in products}

    def scales(self, name: str) -> np.ndarray | None:
        """One for each output, or for all."""
        return self.scale_of.get(f"{name}.weight")

    def linear(self, name: str, *layers: nn.Linear, factor: np.ndarray | float = 1.0) -> None:
        """Into one layer or several that are one product in the graph, times ``factor``, one for each output."""
        scales, weight = self.scales(name), self.arrays[f"{name}.weight"]
        rows = weight if scales is None else (weight * scales).T  # [outputs, inputs]
        bias = self.arrays[f"{name}.bias"] * factor
        rows = rows * (factor if np.isscalar(factor) else np.asarray(factor)[:, None])
        ends = np.cumsum([layer.out_features for layer in layers])[:-1]
        for layer, part, its in zip(layers, np.split(rows, ends), np.split(bias, ends), strict=True):
            fill(layer.weight, part)
            if layer.bias is not None:
                fill(layer.bias, its)

    def norm(self, name: str, layer: nn.LayerNorm) -> None:
        fill(layer.weight, self.arrays[f"{name}.scale"])
        fill(layer.bias, self.arrays[f"{name}.bias"])

    def embedding(self, model: Translator, embedding: nn.Embedding) -> None:
        """The embedding and the output layer tied to it. What must never be said becomes what is said least."""
        scales, rows, bias = self.scales("embedding"), self.arrays["embedding.weight"], self.arrays["embedding.bias"]
        allowed = bias > NEVER
        rows = rows if scales is None else (rows.T * scales).T
        fill(embedding.weight, rows)
        fill(model.output_bias, np.where(allowed, bias, bias[allowed].min()))

    def steps(self, name: str, size: int) -> np.ndarray:
        """What the keys and values of an attention are measured in, one for each of their features ``[2 size]``."""
        parts = [self.arrays.get(f"{name}.{kind}.steps", np.ones(size)) for kind in ("key", "value")]
        return np.concatenate([part.ravel() for part in parts])


def fill(parameter: torch.Tensor, array: np.ndarray) -> None:
    parameter.data.copy_(torch.from_numpy(array.astype(np.float32)))


def restore_transformer(stored: Stored, model: Transformer) -> None:
    size, depth = model.config.size, model.config.size // model.config.heads
    # The encoder's queries have the scale of the attention in them.
    queries = np.concatenate([np.full(size, math.sqrt(depth)), np.ones(2 * size)])
    for i, reader in enumerate(model.encoder):
        name, own = f"encoder.{i}", reader.self_attention
        stored.norm(f"{name}.self.norm", reader.self_norm)
        stored.linear(f"{name}.self.qkv", own.query, own.key, own.value, factor=queries)
        stored.linear(f"{name}.self.output", own.output)
        stored.norm(f"{name}.feed_forward.norm", reader.feed_forward_norm)
        stored.linear(f"{name}.feed_forward.up", reader.feed_forward.up)
        stored.linear(f"{name}.feed_forward.down", reader.feed_forward.down)
    stored.norm("encoder.norm", model.encoder_norm)
    for i, writer in enumerate(model.decoder):
        name, own, cross = f"decoder.{i}", writer.self_attention, writer.cross_attention
        stored.norm(f"{name}.self.norm", writer.self_norm)
        kept = np.concatenate([np.ones(size), stored.steps(f"{name}.self", size)])
        stored.linear(f"{name}.self.qkv", own.query, own.key, own.value, factor=kept)
        stored.linear(f"{name}.self.output", own.output)
        stored.norm(f"{name}.cross.norm", writer.cross_norm)
        stored.linear(f"{name}.cross.query", cross.query)
        stored.linear(f"{name}.cross.key_value", cross.key, cross.value, factor=stored.steps(f"{name}.cross", size))
        stored.linear(f"{name}.cross.output", cross.output)
        stored.norm(f"{name}.feed_forward.norm", writer.feed_forward_norm)
        stored.linear(f"{name}.feed_forward.up", writer.feed_forward.up)
        stored.linear(f"{name}.feed_forward.down", writer.feed_forward.down)
    stored.norm("decoder.norm", model.decoder_norm)
    stored.embedding(model, model.embedding)


def restore_bahdanau(stored: Stored, model: Bahdanau) -> None:
    for way, suffix in enumerate(("", "_reverse")):
        halves = np.split(stored.arrays["encoder.bias"][way], 2)
        parts = [stored.arrays["encoder.input"][way], stored.arrays["encoder.hidden"][way], *halves]
        for kind, array in zip(("weight_ih", "weight_hh", "bias_ih", "bias_hh"), parts, strict=True):
            fill(getattr(model.encoder.gru, f"{kind}_l0{suffix}"), torch_gates(array))
    fill(model.attention.score.weight, stored.arrays["attention.score"].T)
    for name, layer in {
        "attention.key": model.attention.key,
        "attention.query": model.attention.query,
        "initial": model.initial,
        "cell.input": model.cell.input,
        "cell.hidden": model.cell.hidden,
        "output.maxout": model.output.maxout,
    }.items():
        stored.linear(name, layer)
    stored.embedding(model, model.embedding)


def heads_of(manifest: Manifest, precision: Precision) -> int | str:
    """Of a Transformer: its weights have the same shapes with any number of them."""
    [shape] = [spec.shape for spec in manifest.graphs[precision].state if spec.name == "state.self.key.0"]
    return shape[1]


def restore(package: Package, config: Config, output: Path) -> Precision:
    """Write a finished run; returns the precision that its weights come from. Raises ``ValueError``, ``KeyError`` or
    ``RuntimeError`` where the package was not made by a model of this configuration.
    """
    manifest, model = package.manifest, checkpoint.build(config)
    if manifest.architecture != config.model.architecture or manifest.training is None:
        raise ValueError(f"{manifest.name} was not trained here as {config.model.architecture}")
    precision: Precision = "fp32" if "fp32" in manifest.precisions else "int8"
    if isinstance(model, Transformer) and (heads := heads_of(manifest, precision)) != model.config.heads:
        raise ValueError(f"{manifest.name} has {heads} heads, not {model.config.heads}")
    stored = Stored(package, precision)
    if isinstance(model, Transformer):
        restore_transformer(stored, model)
    else:
        assert isinstance(model, Bahdanau)
        restore_bahdanau(stored, model)
    output.mkdir(parents=True)
    shutil.copyfile(package.tokenizer_path, output / "tokenizer.model")
    (output / "config.json").write_text(config.model_dump_json(indent=2))
    known = manifest.training
    training = Training(
        steps=known.steps,
        tokens=known.tokens,
        minutes=known.minutes,
        processes=known.processes,
        device=known.device,
        corpora={corpus.name: corpus.pairs for corpus in manifest.training_data},
        history=[],
        initial=None if known.initial is None else known.initial.model_dump(),
    )
    (output / "training.json").write_text(training.model_dump_json(indent=2))
    checkpoint.save(output / "final.pt", {"model": model.state_dict()})
    return precision


def main(
    package: Annotated[Path, typer.Argument(help="package of a model that was trained here")],
    config: Annotated[Path, typer.Option(help="configuration that the model was trained with")],
    output: Annotated[Path, typer.Option(help="directory of the run; must not exist")],
) -> None:
    """Take the weights of a package as the start of further training."""
    if output.exists():
        raise typer.BadParameter(f"{output} exists")
    precision = restore(Package.open(package), Config.load(config), output)
    Console().print(f"{output}: weights from the {precision} graphs of {package}")


if __name__ == "__main__":
    typer.run(main)
