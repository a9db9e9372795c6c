"""Where models looked, drawn with matplotlib."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .replies import Sentence

INCHES_PER_TOKEN = 0.42
MARGIN_INCHES = 1.6
MAX_TOKENS = 150
"""Tokens side by side; a wider picture is one that nobody can open."""
READABLE = 0.08
"""Weights from here on are written into their cells."""
DARK = 0.6
"""From here on a cell is too dark for black letters."""


def figure(sentences: Sequence[tuple[str, Sentence]]) -> Figure:
    """Matrices side by side, each under its title.

    Raises ``ValueError`` for more than ``MAX_TOKENS`` across or down, for no sentence, and for one without weights.
    """
    across = sum(len(sentence.source_tokens or []) for _, sentence in sentences)
    down = max((len(sentence.target_tokens or []) for _, sentence in sentences), default=0)
    if not all(sentence.weights for _, sentence in sentences) or not sentences:
        raise ValueError("there is no attention to draw")
    if max(across, down) > MAX_TOKENS:
        raise ValueError(f"a picture has room for {MAX_TOKENS} tokens, here are {max(across, down)}")
    size = across * INCHES_PER_TOKEN + MARGIN_INCHES * len(sentences), down * INCHES_PER_TOKEN + MARGIN_INCHES
    picture = Figure(figsize=size, layout="constrained")
    for axes, (title, sentence) in zip(picture.subplots(1, len(sentences), squeeze=False)[0], sentences, strict=True):
        _draw(axes, title, sentence)
    return picture


def _draw(axes: Axes, title: str, sentence: Sentence) -> None:
    """Target tokens down, source tokens across, one shade for each weight."""
    assert sentence.weights
    axes.imshow(sentence.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    read, written = (
        [token.text for token in tokens or []] for tokens in (sentence.source_tokens, sentence.target_tokens)
    )
    axes.set_xticks(range(len(read)), read, rotation=45, ha="left", parse_math=False)
    axes.set_yticks(range(len(written)), written, parse_math=False)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_title(title, pad=12, parse_math=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for row, line in enumerate(sentence.weights):
        for column, weight in enumerate(line):
            if weight >= READABLE:
                color = "white" if weight >= DARK else "black"
                axes.text(column, row, f"{weight:.2f}", ha="center", va="center", fontsize=7, color=color)
