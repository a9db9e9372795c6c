"""``python -m export RUN --output DIR --sentences FILE.tsv``: a trained model becomes a checked package."""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from export.build import build
from export.package import Precision
from export.parity import SENTENCES, ParityError
from export.ship import check, replaceable, ship
from models.align import finished
from models.config import DataConfig
from models.pairs import read_pairs
from models.tokenizer import Tokenizer

CHECKED_PAIRS = 250
"""Pairs of each given file that int8 is calibrated on and that all is compared on, each in both directions."""


def read_texts(sentences: Path, data: DataConfig) -> list[tuple[str, str]]:
    """``(text, target language)`` of the first pairs of a TSV, in the directions that are trained."""
    first, second = data.pair_of(sentences).split("-")
    both = islice(read_pairs([sentences]), CHECKED_PAIRS)
    ways = [(column, way[1]) for column, way in enumerate(((first, second), (second, first))) if way in data.directions]
    return [(pair[column], target) for pair in both for column, target in ways]


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
    trained = finished(run)
    texts = [text for file in sentences for text in read_texts(file, trained.config.data)]
    if len(texts) < SENTENCES:
        names = ", ".join(map(str, sentences))
        raise typer.BadParameter(f"{names} has {len(texts)} sentences; at least {SENTENCES} are needed")
    if not replaceable(output):
        raise typer.BadParameter(f"{output} exists and is not a package")
    with tempfile.TemporaryDirectory() as scratch:
        model, package = build(trained, Path(scratch), version, texts)
        try:
            Console().print(check(model, Tokenizer(package.tokenizer_path), package, texts))
        except ParityError as error:
            raise typer.BadParameter(f"{run} is not exported: {error}") from error
        Console().print(ship(package, output, shipped))


if __name__ == "__main__":
    typer.run(main)
