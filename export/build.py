"""A package from a trained run: graphs in every precision, tokenizer, manifest."""

import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from export import bahdanau, transformer
from export.calibrate import ObservedLayers, Observer
from export.linear import Float32Layers, Int8Layers, MakeLayers, Range
from export.package import Alignment, Corpus, File, Graphs, Manifest, Package, Part, Special, TensorSpec, sha256
from models.bahdanau import Bahdanau
from models.checkpoint import Run
from models.tokenizer import BOS, EOS, PAD, UNK, Tokenizer
from models.transformer import Transformer
from models.translator import Translator

PARTS: tuple[Part, ...] = ("encoder", "decoder")
NEVER = -1e9
"""Output bias of a token that must never be produced."""


def forbid_specials(model: Translator, tokenizer: Tokenizer, languages: list[str]) -> None:
    """No target contains padding, the unknown token, BOS or a tag: unlikely after training, impossible after this."""
    model.output_bias.data[[PAD, UNK, BOS, *(tokenizer.tag(language) for language in languages)]] = NEVER


def tensors_of(model: Translator) -> tuple[list[TensorSpec], list[TensorSpec], Alignment]:
    """Memory, state and alignment of the manifest."""
    if isinstance(model, Transformer):
        layer = range(model.config.decoder_layers)[model.config.alignment_layer]
        alignment = Alignment(shift=model.config.alignment_shift, layer=layer, heads="mean")
        return transformer.memory_of(model), transformer.state_of(model), alignment
    assert isinstance(model, Bahdanau)
    alignment = Alignment(shift=0, layer=None, heads="single")
    return bahdanau.memory_of(model), bahdanau.state_of(model), alignment


def write_graphs(model: Translator, directory: Path, label: str, layers: MakeLayers) -> Graphs:
    """Encoder and decoder, named after ``label``."""
    if isinstance(model, Transformer):
        graphs: transformer.TransformerGraphs | bahdanau.BahdanauGraphs = transformer.TransformerGraphs(model, layers)
    else:
        assert isinstance(model, Bahdanau)
        graphs = bahdanau.BahdanauGraphs(model, layers)
    files = {}
    for part in PARTS:
        name = f"{part}.{label}.onnx"
        (graphs.encoder() if part == "encoder" else graphs.decoder()).save(directory / name)
        files[part] = File(name=name, sha256=sha256(directory / name))
    return Graphs(**files)


def calibrate(model: Translator, manifest: Manifest, sources: Sequence[Sequence[int]]) -> dict[str, Range]:
    """What the inputs of the linear layers are while ``sources`` are translated."""
    with tempfile.TemporaryDirectory() as scratch:
        graphs = write_graphs(model, Path(scratch), "observed", ObservedLayers)
        observer = Observer(Package(Path(scratch), manifest.model_copy(update={"graphs": {"fp32": graphs}})))
        observer.observe(sources)
    return observer.ranges()


def build(
    run: Run, directory: Path, version: str, calibration: Sequence[tuple[str, str]]
) -> tuple[Translator, Package]:
    """Write a package in every precision into an empty directory; not yet checked against PyTorch.

    ``calibration`` has ``(text, target language)`` pairs, some hundreds like those that will be translated.
    """
    config, model = run.config, run.model()
    tokenizer = Tokenizer(run.tokenizer)
    languages = [config.data.source, config.data.target]
    forbid_specials(model, tokenizer, languages)
    shutil.copyfile(run.tokenizer, directory / "tokenizer.model")
    memory, state, alignment = tensors_of(model)
    manifest = Manifest(
        name=config.name,
        version=version,
        architecture=config.model.architecture,
        directions=[(languages[0], languages[1]), (languages[1], languages[0])],
        special=Special(pad=PAD, unk=UNK, bos=BOS, eos=EOS),
        tags={language: tokenizer.tag(language) for language in languages},
        max_length=config.model.max_length,
        tokenizer=File(name="tokenizer.model", sha256=sha256(directory / "tokenizer.model")),
        graphs={"fp32": write_graphs(model, directory, "fp32", Float32Layers)},
        memory=memory,
        state=state,
        alignment=alignment,
        licence=config.licence,
        training_data=[
            Corpus(name=name, pairs=pairs, licence=config.data.licences.get(name))
            for name, pairs in run.training.corpora.items()
        ],
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    sources = [tokenizer.source(*pair)[: manifest.max_length] for pair in calibration]
    ranges = calibrate(model, manifest, sources)
    manifest.graphs["int8"] = write_graphs(model, directory, "int8", partial(Int8Layers, ranges=ranges))
    package = Package(directory, manifest)
    package.save_manifest()
    return model, Package.open(directory)
