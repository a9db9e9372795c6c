import time

import pytest

from service.text.glossary import Glossary


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


def test_time_grows_with_the_text() -> None:
    glossary = Glossary({f"{'a ' * count}b": "x" for count in range(1, 50)})
    started = time.process_time()
    assert not list(glossary.find("a " * 50_000))
    assert time.process_time() - started < 5
