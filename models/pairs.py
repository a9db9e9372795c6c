"""Reading parallel text: ``english<TAB>french<TAB>corpus`` lines, any two languages."""

import lzma
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

LANGUAGES = re.compile("[a-z]{2,3}-[a-z]{2,3}")
"""What between the dots of a file's name says which languages its columns are in."""


class Pair(NamedTuple):
    first: str
    second: str
    corpus: str


def read_pairs(paths: Sequence[Path]) -> Iterator[Pair]:
    """Lines of TSV files, plain or ``.xz``; without a third column the file's name, less its languages, is the corpus.

    Raises ``ValueError`` naming file and line that has too few columns.
    """
    for path in paths:
        parts = path.name.removesuffix(".xz").removesuffix(".tsv").split(".")
        name = ".".join(part for part in parts if not LANGUAGES.fullmatch(part)) or parts[0]
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                columns = line.rstrip("\n").split("\t")
                if len(columns) < 2:
                    raise ValueError(f"{path}:{number}: expected two tab-separated columns or more")
                yield Pair(columns[0].strip(), columns[1].strip(), columns[2] if len(columns) > 2 else name)
