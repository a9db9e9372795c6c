import numpy as np
import pytest

from export.package import Manifest, Package
from service.engine.search import Job, Search

EOS = 3


@pytest.fixture
def manifest(transformer_package: Package) -> Manifest:
    return transformer_package.manifest


def top(*rows: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """``ids, scores [rows, K]`` from token to probability, likeliest first."""
    ranked = [sorted(row.items(), key=lambda item: -item[1]) for row in rows]
    ids = np.array([[token for token, _ in row] for row in ranked])
    return ids, np.log(np.array([[probability for _, probability in row] for row in ranked]))


def test_a_beam_finds_what_greedy_misses(manifest: Manifest) -> None:
    """The likelier first word leads into a dead end."""
    search = Search(Job([4, 9, EOS], beam_size=2), manifest)
    move = search.advance(*top({10: 0.6, 11: 0.4, 12: 1e-9}), None)
    assert move is not None
    assert (move.parents, move.tokens) == ([0, 0], [10, 11])
    move = search.advance(*top({20: 0.3, 21: 0.2, 22: 0.1}, {30: 0.9, 31: 0.05, 32: 0.01}), None)
    assert move is not None
    assert (move.parents, move.tokens) == ([1, 0], [30, 20])
    assert search.advance(*top({EOS: 0.9, 40: 0.05, 41: 0.01}, {EOS: 0.9, 40: 0.05, 41: 0.01}), None) is None
    (best,) = search.result()
    assert best.token_ids == [11, 30]
    assert best.log_prob == pytest.approx(np.log(0.4 * 0.9 * 0.9))
    assert best.score == pytest.approx(best.log_prob / 3)


def test_an_end_ranked_below_the_beam_does_not_count(manifest: Manifest) -> None:
    search = Search(Job([4, 9, EOS], beam_size=2), manifest)
    search.advance(*top({10: 0.5, 11: 0.4, EOS: 0.1}), None)
    assert not search.finished


def test_attention_follows_the_beam(manifest: Manifest) -> None:
    """After re-ordering, every row of the result is what its own hypothesis saw."""
    search = Search(Job([4, 9, EOS], beam_size=2, attention=True), manifest)
    search.advance(*top({10: 0.6, 11: 0.4, 12: 1e-9}), np.array([[0.1, 0.2, 0.7]]))
    seen = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    search.advance(*top({20: 0.1, 21: 0.05, 22: 0.01}, {30: 0.9, 31: 0.05, 32: 0.01}), seen)
    last = np.array([[0.0, 0.5, 0.5], [0.25, 0.25, 0.5]])
    search.advance(*top({EOS: 0.9, 40: 0.05, 41: 0.01}, {EOS: 0.9, 40: 0.05, 41: 0.01}), last)
    best = search.result()[0]
    assert best.token_ids == [11, 30]
    assert manifest.alignment.shift == 1
    assert best.attention is not None
    assert np.allclose(best.attention, [seen[1], last[0]])


def test_an_immediate_end_is_an_empty_translation(manifest: Manifest) -> None:
    search = Search(Job([4, EOS], attention=True), manifest)
    assert search.advance(*top({EOS: 1.0}), np.array([[0.5, 0.5]])) is None
    (best,) = search.result()
    assert best.token_ids == []
    assert not best.truncated
    assert best.attention is not None
    assert best.attention.shape == (0, 2)
