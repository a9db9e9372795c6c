"""``python -m export RUN --output DIR --sentences FILE.tsv``: a trained model becomes a checked package."""

import shutil
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from export.build import build
from export.card import write_card
from export.package import MANIFEST, Package, Precision
from export.parity import SENTENCES, ParityError, compare, require
from models.checkpoint import Run
from models.config import DataConfig
from models.pairs import read_pairs
from models.tokenizer import Tokenizer
from models.translator import Translator

CHECKED_PAIRS = 250
"""Pairs of each given file that int8 is calibrated on and that all is compared on, each in both directions."""


def read_texts(sentences: Path, data: DataConfig) -> list[tuple[str, str]]:
    """``(text, target language)`` of the first pairs of a TSV, in the directions that are trained."""
    first, second = data.pair_of(sentences).split("-")
    both = islice(read_pairs([sentences]), CHECKED_PAIRS)
    ways = [(column, way[1]) for column, way in enumerate(((first, second), (second, first))) if way in data.directions]
    return [(pair[column], target) for pair in both for column, target in ways]


def check(model: Translator, package: Package, texts: Sequence[tuple[str, str]]) -> Table:
    """Every precision against PyTorch. Raises :class:`ParityError` where fp32 differs."""
    tokenizer = Tokenizer(package.tokenizer_path)
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
        list[Path],
        typer.Option(
            help="TSV of 100 pairs or more, one for each pair of languages: for calibrating int8 and checking all"
        ),
    ],
    precision: Annotated[Literal["fp32", "int8", "all"], typer.Option(help="what to ship; all are checked")] = "all",
    version: Annotated[str, typer.Option(help="version in the manifest")] = "0.1.0",
) -> None:
    """Export a trained model. Nothing is written unless fp32 ONNX does what PyTorch does."""
    shipped: list[Precision] = ["fp32", "int8"] if precision == "all" else [precision]
    trained = Run.open(run)
    texts = [text for file in sentences for text in read_texts(file, trained.config.data)]
    if len(texts) < SENTENCES:
        names = ", ".join(map(str, sentences))
        raise typer.BadParameter(f"{names} has {len(texts)} sentences; at least {SENTENCES} are needed")
    if not replaceable(output):
        raise typer.BadParameter(f"{output} exists and is not a package")
    with tempfile.TemporaryDirectory() as scratch:
        model, package = build(trained, Path(scratch), version, texts)
        try:
            Console().print(check(model, package, texts))
        except ParityError as error:
            raise typer.BadParameter(f"{run} is not exported: {error}") from error
        kept = {name: graphs for name, graphs in package.manifest.graphs.items() if name in shipped}
        package.manifest = package.manifest.model_copy(update={"graphs": kept})
        package.save_manifest()
        write_card(package)
        replace(package, output)
    size = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    Console().print(f"{output}: {', '.join(shipped)}, {size:.1f} MB")


def replaceable(output: Path) -> bool:
    """Nothing is lost by writing a package there: there is nothing, or a package."""
    return not output.exists() or not any(output.iterdir()) or (output / MANIFEST).exists()


def replace(package: Package, output: Path) -> None:
    """Put the package's files where an older package may be."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for name in (MANIFEST, "README.md", *(file.name for file in package.files())):
        shutil.copyfile(package.path / name, output / name)


if __name__ == "__main__":
    typer.run(main)
