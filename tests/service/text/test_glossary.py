import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text import glossary as module
from service.text.glossary import TOKEN, Glossary

WORDS = st.sampled_from(["a", "A", "b", "B", "ß", "ss", "SS", "7", "+"])
PHRASES = st.lists(WORDS, max_size=5).map(" ".join)


def found(text: str, *terms: str) -> list[str]:
    return [text[span.start : span.end] for _, span in Glossary(dict.fromkeys(terms, "x")).find(text)]


@pytest.mark.parametrize(
    ("text", "terms", "expected"),
    [
        ("The cat, a Cat and CATS", ["cat"], ["cat", "Cat"]),
        ("Apple and apple", ["Apple"], ["Apple"]),
        ("a river\n bank, the bank", ["bank", "river bank"], ["river\n bank", "bank"]),
        ("new york city", ["new york", "york city"], ["new york"]),
        ("C++ and C", ["C++"], ["C++"]),
        ("l'eau, d'eau douce", ["eau douce", "eau"], ["eau", "eau douce"]),
        ("catalogue", ["cat"], []),
        ("", ["cat"], []),
        ("cat", [], []),
    ],
)
def test_terms(text: str, terms: list[str], expected: list[str]) -> None:
    assert found(text, *terms) == expected


def test_a_term_with_capitals_comes_before_one_without() -> None:
    glossary = Glossary({"apple": "pomme", "Apple": "Apple Inc."})
    assert [(term, span.text) for term, span in glossary.find("Apple apple APPLE")] == [
        ("Apple", "Apple Inc."),
        ("apple", "pomme"),
        ("apple", "pomme"),
    ]


@given(text=st.lists(WORDS, max_size=20).map(" ".join), terms=st.dictionaries(PHRASES, st.just("x"), max_size=8))
def test_terms_are_those_that_trying_each_at_every_word_finds(text: str, terms: dict[str, str]) -> None:
    places = [(term, span.start, span.end) for term, span in Glossary(terms).find(text)]
    assert places == list(tried(text, terms))


def tried(text: str, terms: Mapping[str, str]) -> Iterator[tuple[str, int, int]]:
    tokens = list(TOKEN.finditer(text))
    # The longest first; of two that are as long, the one with capitals.
    ranked = sorted(terms, key=lambda term: (-len(TOKEN.findall(term)), term.islower()))
    while tokens:
        term = next((term for term in ranked if begins([token[0] for token in tokens], term)), "")
        if length := len(TOKEN.findall(term)):
            yield term, tokens[0].start(), tokens[length - 1].end()
        tokens = tokens[max(length, 1) :]


def begins(tokens: list[str], term: str) -> bool:
    words = TOKEN.findall(term)
    there = tokens[: len(words)]
    return there == words or (term.islower() and list(map(str.casefold, there)) == list(map(str.casefold, words)))


ALIKE = {
    "none with capitals": {f"{'a ' * count}b": "x" for count in range(1, 50)},
    "all with capitals": {f"{'A ' * count}{last}": "x" for count in range(1, 50) for last in "aA"},
    "symbols": {f"{'+' * count}-": "x" for count in range(1, 100)},
}


@pytest.mark.parametrize("terms", ALIKE.values(), ids=ALIKE)
def test_work_grows_with_the_text_and_not_with_the_terms(terms: dict[str, str]) -> None:
    for text in ("a " * 1000, "A " * 1000, "+" * 1000):
        assert lines_run(Glossary(terms), text) < 3 * lines_run(Glossary({"b": "x"}), text) + 100


def lines_run(glossary: Glossary, text: str) -> int:
    """Lines of the module that a search runs, repetitions included."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        list(glossary.find(text))
    finally:
        sys.settrace(before)
    return count
