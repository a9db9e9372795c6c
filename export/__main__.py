"""``python -m export RUN --output DIR --sentences FILE.tsv``: a trained model becomes a checked package."""

import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from export import bahdanau, transformer
from export.card import write_card
from export.linear import LAYERS
from export.package import (
    Alignment,
    Corpus,
    File,
    Graphs,
    Manifest,
    Package,
    Part,
    Precision,
    Special,
    TensorSpec,
    sha256,
)
from export.parity import ParityError, compare, require
from models.bahdanau import Bahdanau
from models.checkpoint import Run
from models.data import read_pairs
from models.tokenizer import BOS, EOS, PAD, UNK, Tokenizer
from models.transformer import Transformer
from models.translator import Translator

PARTS: tuple[Part, ...] = ("encoder", "decoder")
CHECKED_PAIRS = 250
"""Pairs of the given file that are compared with PyTorch, each in both directions."""
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


def write_graphs(model: Translator, directory: Path, precision: Precision) -> Graphs:
    """Encoder and decoder of one precision."""
    layers = LAYERS[precision]
    if isinstance(model, Transformer):
        graphs: transformer.TransformerGraphs | bahdanau.BahdanauGraphs = transformer.TransformerGraphs(model, layers)
    else:
        assert isinstance(model, Bahdanau)
        graphs = bahdanau.BahdanauGraphs(model, layers)
    files = {}
    for part in PARTS:
        name = f"{part}.{precision}.onnx"
        (graphs.encoder() if part == "encoder" else graphs.decoder()).save(directory / name)
        files[part] = File(name=name, sha256=sha256(directory / name))
    return Graphs(**files)


def build(run: Run, directory: Path, version: str, precisions: list[Precision]) -> tuple[Translator, Package]:
    """Write a package into an empty directory; not yet checked against PyTorch."""
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
        graphs={precision: write_graphs(model, directory, precision) for precision in precisions},
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
    package = Package(directory, manifest)
    package.save_manifest()
    return model, Package.open(directory)


def check(model: Translator, package: Package, sentences: Path) -> Table:
    """Every precision against PyTorch. Raises :class:`ParityError` where fp32 differs."""
    tokenizer = Tokenizer(package.tokenizer_path)
    texts: list[tuple[str, str]] = []
    first, second = package.manifest.directions[0]
    for pair in islice(read_pairs([sentences]), CHECKED_PAIRS):
        texts += [(pair.first, second), (pair.second, first)]
    table = Table("precision", "sentences", "identical", "largest log-prob difference", title=package.manifest.name)
    for precision in package.manifest.precisions:
        parity = compare(model, tokenizer, package, precision, texts)
        cells = parity.sentences, parity.identical, f"{parity.log_prob_difference:.2g}"
        table.add_row(precision, *map(str, cells))
        if precision == "fp32":
            require(parity)
    return table


def main(
    run: Annotated[Path, typer.Argument(help="directory of a finished training run")],
    output: Annotated[Path, typer.Option(help="directory of the package; replaced if it is one already")],
    sentences: Annotated[
        Path, typer.Option(help="TSV of at least 100 pairs to compare with PyTorch, in both directions")
    ],
    precision: Annotated[Literal["fp32", "int8", "all"], typer.Option(help="what to ship; all are checked")] = "all",
    version: Annotated[str, typer.Option(help="version in the manifest")] = "0.1.0",
) -> None:
    """Export a trained model. Nothing is written unless fp32 ONNX does what PyTorch does."""
    shipped: list[Precision] = list(LAYERS) if precision == "all" else [precision]
    with tempfile.TemporaryDirectory() as scratch:
        model, package = build(Run.open(run), Path(scratch), version, list(LAYERS))
        try:
            Console().print(check(model, package, sentences))
        except ParityError as error:
            raise typer.BadParameter(f"{run} is not exported: {error}") from error
        kept = {name: graphs for name, graphs in package.manifest.graphs.items() if name in shipped}
        package.manifest = package.manifest.model_copy(update={"graphs": kept})
        package.save_manifest()
        write_card(package)
        replace(package, output)
    size = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    Console().print(f"{output}: {', '.join(shipped)}, {size:.1f} MB")


def replace(package: Package, output: Path) -> None:
    """Put the package's files where an older package may be. Raises ``typer.BadParameter`` for any other directory."""
    if output.exists():
        if any(output.iterdir()) and not (output / "manifest.json").exists():
            raise typer.BadParameter(f"{output} exists and is not a package")
        shutil.rmtree(output)
    output.mkdir(parents=True)
    for name in ("manifest.json", "README.md", *(file.name for file in package.files())):
        shutil.copyfile(package.path / name, output / name)


if __name__ == "__main__":
    typer.run(main)
