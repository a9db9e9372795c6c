"""Changed copies of pairs: both sides alike, nothing invented, the same for the same seed."""

import random
import re

import pytest

from models import augment
from models.augment import BACKWARD, BOTH, EMOJI, FORWARD, Augmenter, Example, misspelt, slip, with_placeholders
from models.config import AugmentConfig
from models.pairs import Pair
from models.tokenizer import PLACEHOLDERS

PAIR = Pair("Tom doesn't like the old garden.", "Tom n'aime pas l'ancien jardin.", "x")
OTHER = Pair("Where is he?", "Où est-il ?", "x")


def copies(pair=PAIR, pairs=(PAIR, OTHER), seed=1, **shares):
    examples = list(Augmenter(AugmentConfig(**shares), random.Random(seed)).examples([pair, *pairs[1:]]))
    assert examples[0] == Example(pair, BOTH)
    return [example for example in examples if example.pair not in (pair, *pairs[1:])]


def test_without_shares_nothing_is_added():
    assert copies() == []


def test_capitals():
    assert copies(capitals=1.0)[0].pair[:2] == (PAIR.first.upper(), PAIR.second.upper())


def test_title():
    assert copies(title=1.0)[0].pair.first == "Tom Doesn't Like The Old Garden."


def test_final_punctuation():
    first, second = copies(unpunctuated=1.0)
    assert first.pair[:2] == ("Tom doesn't like the old garden", "Tom n'aime pas l'ancien jardin")
    assert second.pair[:2] == ("Where is he", "Où est-il")


@pytest.mark.parametrize("text", ["Well...", "(yes.)", "no", "!", "."])
def test_final_punctuation_that_stays(text):
    assert augment.unpunctuated(text) == text


def test_a_pair_of_which_one_side_stays_is_no_copy():
    assert copies(Pair("The end", "La fin.", "x"), (PAIR,), unpunctuated=1.0) == []


def test_emoji():
    for seed in range(20):
        copy = copies(emoji=1.0, seed=seed)[0].pair
        added = [new.replace(old, "").strip() for new, old in zip(copy[:2], PAIR[:2], strict=True)]
        assert added[0] == added[1]
        assert any(added[0] in (emoji, 2 * emoji) for emoji in EMOJI)


def test_joined():
    many = [Pair(f"one{i}", f"un{i}", "x") for i in range(20)]
    for seed in range(10):
        joined = Augmenter(AugmentConfig(), random.Random(seed)).joined(many[0], many)
        numbers = joined.first.replace("one", "").split()
        assert 2 <= len(numbers) <= augment.MOST_JOINED
        assert joined.second == " ".join(f"un{number}" for number in numbers)


def test_joined_lines_are_not_too_long():
    long = Pair("a" * 200, "b" * 200, "x")
    assert Augmenter(AugmentConfig(), random.Random(1)).joined(long, [long]) == long


def test_typos_are_in_the_source_alone():
    found = {copy.way: copy.pair for seed in range(5) for copy in copies(typos=1.0, pairs=(PAIR,), seed=seed)}
    assert set(found) == {FORWARD, BACKWARD}
    assert found[FORWARD].second == PAIR.second
    assert found[BACKWARD].first == PAIR.first


def test_slips():
    draw = random.Random(1)
    slips = {slip("garden", draw) for _ in range(200)}
    assert {"graden", "gaden", "gaarden"} <= slips
    assert all(text.startswith("g") and text.endswith("n") and abs(len(text) - 6) <= 1 for text in slips)
    assert slip("a cat is in it", draw) == "a cat is in it"


def test_missing_accents_and_capitals():
    draw = random.Random(1)
    found = {misspelt("Où est-il ?", draw) for _ in range(50)}
    assert {"où est-il ?", "Ou est-il ?"} <= found


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("Tom likes it.", "Tom aime ça.", "Tom"),
        ("See https://a.org/b?c=1.", "Voir https://a.org/b?c=1.", "https://a.org/b?c=1"),
        ("Write to a.b@c.org!", "Écrire à a.b@c.org !", "a.b@c.org"),
        ("It costs 3.50 here", "Ça coûte 3.50 ici", "3.50"),
        ("On 12/05/2020, yes", "Le 12/05/2020, oui", "12/05/2020"),
    ],
)
def test_placeholders_stand_for_what_is_the_same(first, second, text):
    found = {with_placeholders(Pair(first, second, "x"), random.Random(seed)) for seed in range(100)}
    wanted = {Pair(first.replace(text, symbol), second.replace(text, symbol), "x") for symbol in PLACEHOLDERS}
    assert found == wanted | {Pair(first, second, "x")}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Was it?", "Was es?"),  # means something else
        ("It costs 3.50", "Ça coûte 3,50"),
        ("Tom saw Tom.", "Tom a vu Tom."),  # which is which?
        ("MP3s", "MP3"),
    ],
)
def test_what_is_not_replaced(first, second):
    pair = Pair(first, second, "x")
    assert {with_placeholders(pair, random.Random(seed)) for seed in range(20)} == {pair}


def test_a_digit_that_is_replaced_is_not_looked_for_in_symbols():
    pair = Pair("Debian Jessie 2 and 1 and 0", "Debian Jessie 2 et 1 et 0", "x")
    for seed in range(200):
        for text in with_placeholders(pair, random.Random(seed))[:2]:
            symbols = re.findall("⟦[^⟧]*⟧", text)
            assert set(symbols) <= set(PLACEHOLDERS)
            assert len(symbols) == len(set(symbols)) == text.count("⟦") == text.count("⟧")


def test_placeholders_are_in_order_or_not():
    names = " ".join(f"Name{i}" for i in range(10, 22))
    found = [with_placeholders(Pair(names, names, "x"), random.Random(seed)) for seed in range(40)]
    symbols = [[word for word in pair.first.split() if word in PLACEHOLDERS] for pair in found]
    assert all(pair.first == pair.second for pair in found)
    assert max(map(len, symbols)) == len(PLACEHOLDERS)
    assert {row == sorted(row) for row in symbols} == {True, False}


def test_the_seed_decides():
    pairs = [PAIR, OTHER] * 20
    shares = AugmentConfig(capitals=0.3, emoji=0.3, joined=0.3, typos=0.3, placeholders=0.3)
    one, same, other = (list(Augmenter(shares, random.Random(seed)).examples(pairs)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert 60 < len(one) < 120
