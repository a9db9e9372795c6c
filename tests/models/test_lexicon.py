"""The lexicon finds which words translate each other, where, and which sentences do not."""

from itertools import pairwise

import numpy as np
import pytest

from models.lexicon import LONGEST, NO_WORD, NONE_AT_ALL, RARE, Cells, Lexicon, Words, split
from tests.models.tiny import WORDS, sentences


@pytest.fixture(scope="module")
def pairs():
    return [tuple(map(split, pair)) for pair in sentences(1500, seed=6)]


@pytest.fixture(scope="module")
def lexicon(pairs):
    return Lexicon([pair[0] for pair in pairs], [pair[1] for pair in pairs], seed=1)


def test_split():
    assert split("L'été, the  Garden!") == ["L", "'", "été", ",", "the", "Garden", "!"]


def test_words_are_numbered_by_frequency():
    words = Words([["a", "B", "A"], ["a", "c", "c"]])
    assert words.numbers == {"a": RARE + 1, "c": RARE + 2, "b": RARE + 3}
    assert words.frequency == pytest.approx([0, 0, 1 / 2, 1 / 3, 1 / 6])
    [numbers, many] = words.of([["b", "x", "a"], ["a"] * 100])
    assert numbers.tolist() == [RARE + 3, RARE, RARE + 1]
    assert len(many) == LONGEST


def test_endings_do_not_matter():
    assert len(Words([["gardens", "gardeners", "Garden"]])) == RARE + 2


@pytest.fixture
def cells():
    given = [np.array([2, 3]), np.array([], int), np.array([4])]
    return Cells(given, [np.array([5, 6]), np.array([7]), np.array([], int)])


def test_cells_hold_every_word_beside_every_other_and_none(cells):
    found = list(zip(np.repeat(cells.asked, cells.runs).tolist(), cells.given.tolist(), strict=True))
    assert found == [(5, 2), (5, 3), (5, NO_WORD), (6, 2), (6, 3), (6, NO_WORD), (7, NO_WORD)]
    assert cells.sums(cells.given).tolist() == [5, 5, 0]
    assert (cells.keys(10) // 10).tolist() == [5, 5, 5, 6, 6, 6, 7]


def test_the_same_part_of_a_sentence_is_likelier(cells):
    near, far = 1 / (1 + np.exp(-2)), np.exp(-2) / (1 + np.exp(-2))
    rest = 1 - NONE_AT_ALL
    wanted = [near * rest, far * rest, NONE_AT_ALL, far * rest, near * rest, NONE_AT_ALL, NONE_AT_ALL]
    assert cells.place == pytest.approx(np.array(wanted))


def test_words_find_their_translations(lexicon):
    back = {number: word for word, number in lexicon.second.numbers.items()}
    table = lexicon.forward
    for source, target in WORDS.items():
        mine = table.keys % table.words == lexicon.first.numbers[source[:6]]
        best = table.keys[mine][table.values[mine].argmax()] // table.words
        assert back[best] in [*map(Words.stem, split(target))]


def test_probabilities_of_a_word_sum_to_one(lexicon):
    for table in (lexicon.forward, lexicon.backward):
        sums = np.bincount(table.keys % table.words, table.values, table.words)
        np.testing.assert_allclose(sums[sums > 0], 1, atol=0.01)


def test_translations_agree_and_others_do_not(lexicon, pairs):
    good = lexicon.agreement(*zip(*pairs[:300], strict=True))
    bad = lexicon.agreement(*zip(*((a[0], b[1]) for a, b in pairwise(pairs[:301])), strict=True))
    assert np.quantile(good, 0.1) > 0.5
    assert np.quantile(bad, 0.9) < 0.5
    assert (good > bad).mean() > 0.97


def test_agreement_by_hand():
    """The only word of each side: nothing makes it likelier than it is, and less so without the other."""
    lexicon = Lexicon([["a"]], [["c"]], seed=1)
    assert lexicon.agreement([["a"]], [["c"]]) == pytest.approx(0, abs=1e-6)
    assert lexicon.agreement([["x"]], [["c"]]) == pytest.approx((np.log(0.9 * NONE_AT_ALL + 0.1) + 0) / 2)


def test_unknown_words_are_not_judged(lexicon):
    assert lexicon.agreement([["xyzzy"], []], [["plugh"], []]).tolist() == [0, 0]


def test_alignment_of_words_in_order(lexicon):
    first, second = split("The small cat sees the old garden"), split("Le petit chat voit le vieux jardin")
    [(there, back)] = lexicon.alignment([first], [second])
    assert there.tolist() == back.tolist() == list(range(7))


def test_alignment_of_words_in_another_order(lexicon):
    [(there, back)] = lexicon.alignment([["window", "hears", "bird"]], [["oiseau", "fenêtre", "entend"]])
    assert there.tolist() == [2, 0, 1]
    assert back.tolist() == [1, 2, 0]


def test_what_nothing_explains_is_aligned_to_none(lexicon):
    [(there, back)] = lexicon.alignment([["cat", "xyzzy"]], [["jardin", "chat"]])
    assert there.tolist() == [-1, 0]
    assert back.tolist() == [1, -1]


def test_sentences_without_words(lexicon):
    [(a, b), (c, d)] = lexicon.alignment([[], ["cat"]], [["chat"], ["chat"]])
    assert [part.tolist() for part in (a, b, c, d)] == [[-1], [], [0], [0]]


def test_blocks_change_nothing(lexicon, pairs, monkeypatch):
    both = list(zip(*pairs[:50], strict=True))
    whole, aligned = lexicon.agreement(*both), list(lexicon.alignment(*both))
    monkeypatch.setattr("models.lexicon.BLOCK", 7)
    np.testing.assert_allclose(lexicon.agreement(*both), whole)
    for one, other in zip(lexicon.alignment(*both), aligned, strict=True):
        assert [part.tolist() for part in one] == [part.tolist() for part in other]


def test_no_pairs(lexicon):
    assert lexicon.agreement([], []).shape == (0,)
    assert list(lexicon.alignment([], [])) == []


def test_it_learns_from_a_part_of_much_text(pairs, monkeypatch):
    monkeypatch.setattr("models.lexicon.LEARNT_PAIRS", 300)
    first, second = zip(*pairs, strict=True)
    few, same = (Lexicon(first, second, seed=1) for _ in range(2))
    assert few.forward.keys.tolist() == same.forward.keys.tolist()
    [(there, _)] = few.alignment([["window", "hears", "bird"]], [["oiseau", "fenêtre", "entend"]])
    assert there.tolist() == [2, 0, 1]
