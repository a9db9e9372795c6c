"""Sentences of files, as the packages read them, for commands that are given both. Apart from :mod:`loadtests.engines`,
with which memory is measured: what reads files is not to be in it.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import typer

from export.package import Package
from loadtests.engines import Sentence, read
from loadtests.sets import read_sets


def read_files(packages: Sequence[Package], paths: Sequence[Path]) -> list[list[Sentence]]:
    """For each package, every sentence of the files that it has the direction and the length for.

    Raises ``typer.BadParameter`` where a file is not there or of another form, or no sentence is left.
    """
    try:
        sets = [each for path in paths for each in read_sets(path)]
        return [read(package, sets) for package in packages]
    except (FileNotFoundError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def sampled(packages: Sequence[Package], paths: Sequence[Path], count: int, seed: int) -> list[list[Sentence]]:
    """``count`` of them at random, all where there are fewer; raises what :func:`read_files` raises."""
    return [Random(seed).sample(found, min(count, len(found))) for found in read_files(packages, paths)]
