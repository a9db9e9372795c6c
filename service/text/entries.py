"""Terms of a glossary as text: a source term and its translation on each line."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

Format = Literal["tsv", "csv"]

UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line breaks and halves of characters: no term has them."""
LINE = re.compile(r"\r\n|\r|\n")


def read(text: str, form: Format) -> dict[str, str]:
    """White space around terms is dropped, and so are empty lines; what follows the second column of CSV, where DeepL
    has languages, is passed over.

    Raises ``ValueError``, which names the line, for one that is no two terms, for a term with control characters, and
    for one that comes twice; and where there are no terms.
    """
    found: dict[str, str] = {}
    for number, row in _rows(text, form):
        terms = [term.strip() for term in row]
        if not any(terms):
            continue
        columns = terms[:2] if form == "csv" else terms
        if len(columns) != 2 or not all(columns):
            raise ValueError(f"line {number} is not a term and its translation")
        source, target = columns
        if UNFIT.search(source + target):
            raise ValueError(f"line {number} has a character that is in no term")
        if source in found:
            raise ValueError(f"line {number} has a term that was there before")
        found[source] = target
    if not found:
        raise ValueError("there are no terms")
    return found


def _rows(text: str, form: Format) -> Iterable[tuple[int, list[str]]]:
    if form == "tsv":
        return ((number, line.split("\t")) for number, line in enumerate(LINE.split(text), 1))
    return _csv(text)


def _csv(text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(LINE.split(text), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def write(terms: Mapping[str, str]) -> str:
    """As TSV."""
    return "\n".join(f"{source}\t{target}" for source, target in terms.items())
