"""Where a model looked, drawn with characters."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from .replies import Sentence, Span

SHADES = " ░▒▓█"
CELL = 2
"""Columns of the terminal for each source token."""


def heatmap(sentence: Sentence, width: int) -> Text:
    """Target tokens down, source tokens across with their letters one below the other; the fuller, the more weight.

    The source tokens that ``width`` columns have no room for follow below. Nothing for a sentence without weights.
    """
    if not (sentence.weights and sentence.source_tokens and sentence.target_tokens):
        return Text()
    read, written = _labels(sentence.source_tokens), _labels(sentence.target_tokens)
    margin = max(map(cell_len, written)) + 1
    band = max(1, (width - margin) // CELL)
    lines: list[str] = []
    for first in range(0, len(read), band):
        lines += ["", *_head(read[first : first + band], margin)]
        for label, row in zip(written, sentence.weights, strict=True):
            cells = "".join(_shade(weight) * CELL for weight in row[first : first + band])
            lines.append(" " * (margin - 1 - cell_len(label)) + f"{label} {cells}")
    return Text("\n".join(lines[1:]), no_wrap=True)


def _labels(tokens: Sequence[Span]) -> list[str]:
    """Tokens as a terminal can show them: without what would move its cursor."""
    return ["".join(char if char.isprintable() else "·" for char in token.text) for token in tokens]


def _head(labels: Sequence[str], margin: int) -> list[str]:
    height = max(map(len, labels))
    columns = [label.rjust(height) for label in labels]
    rows = ("".join(_cell(column[line]) for column in columns) for line in range(height))
    return [" " * margin + row for row in rows]


def _cell(char: str) -> str:
    return char + " " * (CELL - cell_len(char))


def _shade(weight: float) -> str:
    return SHADES[min(int(weight * len(SHADES)), len(SHADES) - 1)]
