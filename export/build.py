"""A package from a trained run: graphs in every precision, tokenizer, manifest."""

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from export import bahdanau, transformer
from export.calibrate import ObservedLayers, Observer
from export.commands import commands
from export.int8 import Int8Layers
from export.linear import Float32Layers, Layers, MakeLayers
from export.marian import graphs as marian
from export.marian.graphs import MarianGraphs
from export.marian.layers import MarianLayers, OrderedLayers
from export.marian.model import Marian
from export.package import (
    Alignment,
    Corpus,
    File,
    FirstWeights,
    Graphs,
    Manifest,
    Package,
    Part,
    Special,
    Trained,
    sha256,
)
from export.transformer import TransformerGraphs
from export.weights import Weights
from models.bahdanau import Bahdanau
from models.checkpoint import Run
from models.tokenizer import BOS, EOS, PAD, UNK, Tokenizer
from models.transformer import Transformer
from models.translator import Translator

PARTS: tuple[Part, ...] = ("encoder", "decoder")
NEVER = -1e9
"""Output bias of a token that must never be produced."""


def forbid_specials(model: Translator, tokenizer: Tokenizer, languages: list[str]) -> None:
    """No target contains padding, the unknown token, BOS, a tag, or a number that the vocabulary has no sub-word for:
    unlikely after training, impossible after this.
    """
    model.output_bias.data[[PAD, UNK, BOS, *(tokenizer.tag(language) for language in languages)]] = NEVER
    model.output_bias.data[len(tokenizer) :] = NEVER


def alignment_of(model: Translator) -> Alignment:
    if isinstance(model, Transformer):
        layer = range(model.config.decoder_layers)[model.config.alignment_layer]
        head = model.config.alignment_head
        return Alignment(shift=model.config.alignment_shift, layer=layer, heads="mean" if head is None else str(head))
    return Alignment(shift=model.config.alignment_shift, layer=None, heads="single")


def write_graphs(model: Translator, directory: Path, label: str, kind: type[Layers], layers: MakeLayers) -> Graphs:
    """Encoder and decoder and the weights of both, named after ``label``."""
    weights = Weights(directory / f"weights.{label}.bin")
    graphs: TransformerGraphs | MarianGraphs | bahdanau.BahdanauGraphs
    if isinstance(model, Transformer):
        memory, state = transformer.memory_of(), transformer.state_of(model, kind.cache)
        graphs = TransformerGraphs(model, layers, weights)
    elif isinstance(model, Marian):
        memory, state = marian.memory_of(model), marian.state_of(model, kind.cache)
        graphs = MarianGraphs(model, layers, weights)
    else:
        assert isinstance(model, Bahdanau)
        memory, state = bahdanau.memory_of(model), bahdanau.state_of(model)
        graphs = bahdanau.BahdanauGraphs(model, layers, weights)
    axes = marian.axes_of(model) if isinstance(model, Marian) else {}
    paths = {part: directory / f"{part}.{label}.onnx" for part in PARTS}
    graphs.encoder().save(paths["encoder"])
    graphs.decoder().save(paths["decoder"])
    files = paths | {"weights": weights.path}
    known = {name: File(name=path.name, sha256=sha256(path)) for name, path in files.items()}
    return Graphs(**known, memory=memory, state=state, axes=axes)


def int8_layers(model: Translator, *, in_order: bool = False) -> type[Int8Layers]:
    """Those of a model whose weights are 8-bit already, with sums ``in_order`` or not, or those that find their scales.

    Raises ``ValueError`` where there is no order to keep to.
    """
    if isinstance(model, Marian) and marian.known(model):
        return OrderedLayers if in_order else MarianLayers
    if in_order:
        raise ValueError("sums have an order in models with 8-bit weights and multipliers of activations only")
    return Int8Layers


def calibrate(
    model: Translator, manifest: Manifest, sources: Sequence[Sequence[int]], kind: type[Int8Layers] = Int8Layers
) -> MakeLayers:
    """int8 layers that know what values occur while ``sources`` are translated."""
    with tempfile.TemporaryDirectory() as scratch:
        graphs = write_graphs(model, Path(scratch), "observed", ObservedLayers, ObservedLayers)
        observer = Observer(Package(Path(scratch), manifest.model_copy(update={"graphs": {"fp32": graphs}})))
        observer.observe(sources)
    ranges, magnitudes = observer.ranges(), observer.magnitudes()
    if isinstance(model, Marian) and issubclass(kind, MarianLayers):
        return partial(kind, ranges=ranges, magnitudes=magnitudes, known=marian.known(model))
    return partial(kind, ranges=ranges, magnitudes=magnitudes)


def trained(run: Run, version: str) -> Trained:
    """What the run cost, for the manifest."""
    known = run.training
    return Trained(
        device=known.device,
        minutes=known.minutes,
        processes=known.processes,
        steps=known.steps,
        tokens=known.tokens,
        initial=None if known.initial is None else FirstWeights.model_validate(known.initial),
        commands=commands(run.config, known, version),
    )


def build(
    run: Run, directory: Path, version: str, calibration: Sequence[tuple[str, str]]
) -> tuple[Translator, Package]:
    """Write a package in every precision into an empty directory; not yet checked against PyTorch.

    ``calibration`` has ``(text, target language)`` pairs, some hundreds like those that will be translated.
    """
    config, model = run.config, run.model()
    tokenizer = Tokenizer(run.tokenizer)
    languages = config.data.languages
    forbid_specials(model, tokenizer, languages)
    shutil.copyfile(run.tokenizer, directory / "tokenizer.model")
    manifest = Manifest(
        name=config.name,
        version=version,
        architecture=config.model.architecture,
        directions=config.data.directions,
        special=Special(pad=PAD, unk=UNK, bos=BOS, eos=EOS),
        tags={language: tokenizer.tag(language) for language in languages},
        placeholders=tokenizer.placeholders,
        max_length=config.model.max_length,
        learnt_length=config.data.max_tokens,
        tokenizer=File(name="tokenizer.model", sha256=sha256(directory / "tokenizer.model")),
        graphs={"fp32": write_graphs(model, directory, "fp32", Float32Layers, Float32Layers)},
        alignment=alignment_of(model),
        licence=config.licence,
        training_data=[
            Corpus(name=name, pairs=pairs, licence=config.data.licence(name))
            for name, pairs in run.training.corpora.items()
        ],
        training=trained(run, version),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    sources = [tokenizer.source(*pair)[: manifest.max_length] for pair in calibration]
    layers = calibrate(model, manifest, sources)
    manifest.graphs["int8"] = write_graphs(model, directory, "int8", Int8Layers, layers)
    package = Package(directory, manifest)
    package.save_manifest()
    return model, Package.open(directory)
