"""``attentive import DIR --name en-pt``: a model of others becomes a checked package."""

import re
import tempfile
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from export.build import calibrate, int8_layers, write_graphs
from export.foreign import Foreign, open_foreign
from export.int8 import Int8Layers
from export.linear import Float32Layers
from export.marian.reader import FileError
from export.marian.vocabulary import Vocabulary
from export.package import Alignment, File, Manifest, Package, Precision, sha256
from export.parity import SENTENCES, ParityError
from export.ship import check, replaceable, ship

Direction = tuple[str, str]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DIRECTION = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")
MOST = 400
"""Sentences that int8 is calibrated on and that all is compared on."""
PACKAGES = Path(__file__).resolve().parents[1] / "models" / "trained"
"""Where the server looks for packages unless its settings say otherwise."""
DRAWN_LENGTH = 24
"""Sub-words of a sentence drawn from the vocabulary, at most."""


class Sources:
    """Makes of a text what the encoder reads, as the server does it."""

    def __init__(self, found: Foreign, tags: dict[str, int]) -> None:
        self.vocabulary, self.tags, self.eos = found.source, tags, found.special.eos

    def source(self, text: str, target_language: str) -> list[int]:
        tag = self.tags.get(target_language)
        return [*([] if tag is None else [tag]), *self.vocabulary.encode(text), self.eos]


def directions_of(name: str, directions: Sequence[str]) -> list[Direction]:
    """Those that are given, or the one that the name says. Raises ``typer.BadParameter``."""
    found = [DIRECTION.fullmatch(direction) for direction in directions or [name]]
    if not all(found):
        what = directions or [name]
        raise typer.BadParameter(f"{', '.join(what)}: a direction is written as en-pt; give it with --direction")
    return [(match[1], match[2]) for match in found if match]


def tags_of(found: Foreign, directions: Sequence[Direction], tags: Sequence[str]) -> dict[str, int]:
    """The tag of each target language, as ``--tag fr=fra`` says or as the language is written.

    Raises ``typer.BadParameter`` where one is missing or of no target, or there are several targets and no tags.
    """
    targets = list(dict.fromkeys(target for _, target in directions))
    if not found.tags:
        if len(targets) > 1 or tags:
            raise typer.BadParameter("the model has no tags for target languages, so it writes one only")
        return {}
    names = dict(tag.split("=", 1) for tag in tags if "=" in tag)
    for tag in tags:
        language = tag.partition("=")[0]
        if language not in targets or not names.get(language):
            raise typer.BadParameter(f"--tag {tag}: a tag is written as fr=fra, for one of {', '.join(targets)}")
    chosen = {target: f">>{names.get(target, target)}<<" for target in targets}
    if missing := [tag for tag in chosen.values() if tag not in found.tags]:
        known = " ".join(sorted(found.tags))
        raise typer.BadParameter(f"the model has no {missing[0]}, but {known}; say which one with --tag")
    return {target: found.tags[tag] for target, tag in chosen.items()}


def draw(vocabulary: Vocabulary, count: int) -> list[str]:
    """Texts of sub-words as frequent as SentencePiece found them: no language, but what a model reads has its sizes."""
    chance = np.random.default_rng(0)
    usual, frequencies = vocabulary.frequencies()
    lengths = chance.integers(2, DRAWN_LENGTH, count)
    return [vocabulary.decode(chance.choice(usual, n, p=frequencies).tolist()) for n in lengths]


def read_sentences(path: Path) -> list[str]:
    """The first column of a file's first lines. Raises ``typer.BadParameter`` where there are too few."""
    with path.open(encoding="utf-8") as file:
        lines = [line.split("\t")[0].strip() for line in islice(file, MOST)]
    found = [line for line in lines if line]
    if len(found) < SENTENCES:
        raise typer.BadParameter(f"{path} has {len(found)} sentences; at least {SENTENCES} are needed")
    return found


def build(
    found: Foreign, directory: Path, name: str, version: str, directions: list[Direction], tags: dict[str, int],
    texts: Sequence[tuple[str, str]], kind: type[Int8Layers],
) -> Package:  # fmt: skip
    """Write a package in every precision into an empty directory; not yet checked against PyTorch."""
    (directory / "tokenizer.model").write_bytes(found.source.content)
    files = ["tokenizer.model"]
    if found.target.content != found.source.content:
        (directory / "target.model").write_bytes(found.target.content)
        files.append("target.model")
    tokenizers = [File(name=file, sha256=sha256(directory / file)) for file in files]
    shape = found.model.shape
    layer = range(shape.decoder_layers)[shape.alignment_layer]
    heads = "mean" if shape.alignment_head is None else str(shape.alignment_head)
    manifest = Manifest(
        name=name,
        version=version,
        architecture="marian",
        directions=directions,
        special=found.special,
        tags=tags,
        max_length=found.longest,
        tokenizer=tokenizers[0],
        target_tokenizer=tokenizers[-1] if len(tokenizers) > 1 else None,
        graphs={"fp32": write_graphs(found.model, directory, "fp32", Float32Layers, Float32Layers)},
        alignment=Alignment(shift=shape.alignment_shift, layer=layer, heads=heads),
        licence=found.licence,
        origin=found.origin,
        training_data=[],
        parameters=sum(parameter.numel() for parameter in found.model.parameters()),
    )
    sources = [Sources(found, tags).source(*text)[: found.longest] for text in texts]
    layers = calibrate(found.model, manifest, sources, kind)
    manifest.graphs["int8"] = write_graphs(found.model, directory, "int8", kind, layers)
    package = Package(directory, manifest)
    package.save_manifest()
    return Package.open(directory)


def main(
    directory: Annotated[Path, typer.Argument(help="directory of a Marian model: Firefox Translations or OPUS-MT")],
    name: Annotated[str, typer.Option(help="name of the package; as en-pt it says the direction, too")],
    output: Annotated[
        Path | None,
        typer.Option(help="directory of the package, replaced if it is one already; else among the shipped ones"),
    ] = None,
    direction: Annotated[
        list[str] | None, typer.Option(help="source and target, as en-fr; several for several targets")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="what a model calls a target language: fr=fra where it reads >>fra<<")
    ] = None,
    sentences: Annotated[
        Path | None,
        typer.Option(
            help="200 sentences or more in the source language, one in each line: for calibrating int8 and checking "
            "all; else they are drawn from the vocabulary"
        ),
    ] = None,
    shortlist: Annotated[
        Path | None,
        typer.Option(help="shortlist of the sub-words that each source sub-word may become; else lex.*.bin beside it"),
    ] = None,
    full_vocabulary: Annotated[bool, typer.Option("--full-vocabulary", help="use no shortlist")] = False,
    in_order: Annotated[
        bool,
        typer.Option(
            "--in-order",
            help="of 8-bit models: add scores up in the order of Marian's engines, too, for even more equal texts on "
            "processors without VNNI; slower, and takes memory",
        ),
    ] = False,
    precision: Annotated[Literal["fp32", "int8", "all"], typer.Option(help="what to ship; all are checked")] = "int8",
    version: Annotated[str, typer.Option(help="version in the manifest")] = "0.1.0",
) -> None:
    """Import a model. Nothing is written unless fp32 ONNX does what the model does."""
    shipped: list[Precision] = ["fp32", "int8"] if precision == "all" else [precision]
    if not NAME.fullmatch(name):
        raise typer.BadParameter(f"{name}: a name has letters, digits, dots, dashes and underscores")
    directions = directions_of(name, direction or [])
    output = output or PACKAGES / name
    if not replaceable(output):
        raise typer.BadParameter(f"{output} exists and is not a package")
    try:
        found = open_foreign(directory, shortlist, whole=full_vocabulary)
        kind = int8_layers(found.model, in_order=in_order)
    except (FileError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    tags = tags_of(found, directions, tag or [])
    chosen = read_sentences(sentences) if sentences else draw(found.source, SENTENCES)
    texts = list(zip(chosen, cycle(dict.fromkeys(target for _, target in directions)), strict=False))
    with tempfile.TemporaryDirectory() as scratch:
        package = build(found, Path(scratch), name, version, directions, tags, texts, kind)
        try:
            Console().print(check(found.model, Sources(found, tags), package, texts))
        except ParityError as error:
            raise typer.BadParameter(f"{directory} is not imported: {error}") from error
        Console().print(ship(package, output, shipped))
    Console().print(f"licence: {found.licence}")
    if found.model.shortlist is not None:
        Console().print("translates to the sub-words of its shortlist; --full-vocabulary imports it without")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app(prog_name="attentive import")
