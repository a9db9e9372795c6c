import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text import alignment
from service.text.tokens import Token


def tokens(*sizes: int) -> list[Token]:
    ends = np.cumsum(sizes).tolist()
    return [Token("x", 0, 1, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def test_sums_columns_and_averages_rows() -> None:
    attention = np.array([[0.2, 0.3, 0.1, 0.4, 0.0], [0.0, 0.5, 0.5, 0.0, 0.0], [0.1, 0.0, 0.0, 0.8, 0.1]], np.float32)
    merged = alignment.merge(attention, tokens(2, 1), tokens(1, 2))
    assert merged == pytest.approx(np.array([[0.5, 0.5], [0.5, 0.5]]))
    assert alignment.links(merged) == [(0, 0, 0.5), (0, 1, 0.5)]


def test_a_row_that_looked_only_at_tag_and_eos_is_uniform() -> None:
    merged = alignment.merge(np.array([[0.6, 0.0, 0.0, 0.4]], np.float32), tokens(1, 1), tokens(1))
    assert merged.tolist() == [[0.5, 0.5]]


def test_a_translation_without_tokens_has_no_rows() -> None:
    assert alignment.merge(np.empty((0, 5), np.float32), tokens(1, 2), []).shape == (0, 2)


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 1000))
def test_rows_sum_to_one_however_long(columns: int, rows: int, seed: int) -> None:
    attention = np.random.default_rng(seed).dirichlet([0.1] * (columns + 2), rows).astype(np.float32)
    merged = alignment.merge(attention, tokens(*[1] * columns), tokens(*[1] * rows))
    assert merged.shape == (rows, columns)
    assert merged.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert (merged >= 0).all()


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([], (0, 0)),
        ([np.ones((0, 2))], (0, 2)),
        ([np.ones((0, 2)), np.ones((3, 1))], (3, 3)),
    ],
)
def test_a_matrix_of_blocks_may_have_nothing_in_it(blocks: list[np.ndarray], expected: tuple[int, int]) -> None:
    whole = alignment.diagonal(blocks)
    assert whole.shape == expected
    assert whole.sum() == sum(block.sum() for block in blocks)
