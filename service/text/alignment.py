"""Attention over sub-words to attention over tokens."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.text.tokens import Token

DECIMALS = 4


def merge(attention: NDArray[np.float32], source: Sequence[Token], target: Sequence[Token]) -> NDArray[np.float64]:
    """[target sub-words, tag + source sub-words + EOS] to [target tokens, source tokens], rows summing to 1.

    Tag, which not all models have, and EOS are no part of the text: their share goes to the others in proportion. The
    sub-words of a source token are summed, those of a target token averaged. ``source`` must not be empty.
    """
    tags = attention.shape[1] - 1 - source[-1].last
    real = attention[:, tags:-1].astype(np.float64)
    # A row that looked at nothing but tag and EOS says nothing about the words: it becomes uniform.
    real = np.where(real.sum(axis=1, keepdims=True) > 1e-9, real, 1.0)
    real /= real.sum(axis=1, keepdims=True)
    columns = np.add.reduceat(real, [token.first for token in source], axis=1)
    if not target:
        return np.empty((0, len(source)))
    rows = np.add.reduceat(columns, [token.first for token in target], axis=0)
    return rounded(rows / np.array([[token.last - token.first] for token in target]))


def links(weights: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """(source, target, weight) for each target token: the source token with the greatest weight."""
    return [(int(row.argmax()), index, float(row.max())) for index, row in enumerate(weights)]


def diagonal(blocks: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One matrix, with nothing outside the ``blocks``, of which there may be none."""
    if len(blocks) == 1:
        return blocks[0]
    whole = np.zeros((sum(block.shape[0] for block in blocks), sum(block.shape[1] for block in blocks)))
    row = column = 0
    for block in blocks:
        whole[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return whole


def rounded(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """To few decimals; what rounding takes or gives goes to the greatest weight, so that long rows still sum to 1."""
    few = weights.round(DECIMALS)
    few[np.arange(len(few)), few.argmax(axis=1)] += 1.0 - few.sum(axis=1)
    return few.round(DECIMALS)
