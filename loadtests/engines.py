"""Running engines, and sentences in the form that they take, for measurements without a server."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from export.package import Manifest, Package, PackageError
from loadtests.machine import ROOT
from loadtests.peers import pinned
from service.engine import Engine
from service.text.tokens import Tokenizer

if TYPE_CHECKING:
    # What scores translations takes a quarter of an idle process's memory, and memory is measured with this module.
    from loadtests.sets import Set

SHIPPED = ROOT / "models" / "trained"
PATIENCE = 600.0
"""Seconds without an answer after which it is taken to be lost."""

Packages = Annotated[
    list[Path] | None,
    typer.Option("--package", help="directory of a model package; several in turn; those that ship unless given"),
]
Precision = Annotated[str, typer.Option(help="int8 or fp32, whichever the packages have")]
Output = Annotated[Path, typer.Option(help="directory of the report")]


@dataclass(frozen=True)
class Sentence:
    """A sentence as text, and as what the encoder of one package reads: tag, sub-words, EOS."""

    text: str
    source: str
    target: str
    source_ids: list[int]

    @property
    def words(self) -> int:
        return len(self.text.split())


def opened(paths: Sequence[Path] | None, precision: str) -> list[Package]:
    """The packages at ``paths``, those that ship for None.

    Raises ``typer.BadParameter`` where one cannot be opened or does not have the precision, or there is none.
    """
    paths = paths or sorted(manifest.parent for manifest in SHIPPED.glob("*/manifest.json"))
    try:
        packages = [Package.open(path) for path in paths]
    except PackageError as error:
        raise typer.BadParameter(str(error)) from error
    for package in packages:
        if precision not in (there := package.manifest.precisions):
            raise typer.BadParameter(f"{package.path} has {', '.join(there)}, not {precision}")
    if not packages:
        raise typer.BadParameter(f"no package in {SHIPPED}")
    return packages


@contextmanager
def running(package: Package, **options: Any) -> Iterator[Engine]:
    """An engine with these options, closed afterwards."""
    engine = Engine(package, **options)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def on_one_core(package: Package, **options: Any) -> Iterator[Engine]:
    """One decode loop with a core of its own; the caller moves to the others where there are any, until the end."""
    cores = os.sched_getaffinity(0)
    with pinned(1), running(package, threads=1, **options) as engine:
        os.sched_setaffinity(0, cores - os.sched_getaffinity(0) or cores)
        yield engine


def tag(manifest: Manifest, target: str) -> list[int]:
    """What a source begins with: nothing where a model has one direction and no tag."""
    return [manifest.tags[target]] if target in manifest.tags else []


def read(package: Package, sets: "Sequence[Set]") -> list[Sentence]:
    """Every sentence of the sets that the package has the direction and the length for.

    Raises ``ValueError`` where none is left.
    """
    manifest, tokenizer = package.manifest, Tokenizer(package.tokenizer_path)
    found = [
        Sentence(text, each.source, each.target, [*tag(manifest, each.target), *ids, manifest.special.eos])
        for each in sets
        if (each.source, each.target) in manifest.directions
        for text, ids in zip(each.sentences, tokenizer.encode(each.sentences), strict=True)
        if len(ids) + 2 <= manifest.max_length
    ]
    if not found:
        raise ValueError(f"{manifest.name} can translate no sentence of these sets")
    return found
