import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text import entries
from service.text.entries import UNFIT, Format

TERM = st.text(min_size=1, max_size=20).filter(lambda term: term == term.strip() and not UNFIT.search(term))
TERMS = st.dictionaries(TERM, TERM, min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("text", "form", "terms"),
    [
        ("cat\tmatou", "tsv", {"cat": "matou"}),
        (" river bank \t rive \r\n\r\n \t \ndog\tcabot\n", "tsv", {"river bank": "rive", "dog": "cabot"}),
        ('a "b", c\td,e', "tsv", {'a "b", c': "d,e"}),
        ("cat,matou\ndog , cabot", "csv", {"cat": "matou", "dog": "cabot"}),
        ('"cat, red","un ""chat"""\r\n', "csv", {"cat, red": 'un "chat"'}),
        ("cat,matou,en,fr\ndog,cabot,en,fr", "csv", {"cat": "matou", "dog": "cabot"}),
    ],
)
def test_reading(text: str, form: Format, terms: dict[str, str]) -> None:
    assert entries.read(text, form) == terms


@pytest.mark.parametrize(
    ("text", "form", "reason"),
    [
        ("", "tsv", "no terms"),
        (" \n\t\n", "tsv", "no terms"),
        ("\n", "csv", "no terms"),
        ("a\tb\ncat", "tsv", "line 2 is not"),
        ("a\tb\tc", "tsv", "line 1 is not"),
        ("a\t", "tsv", "line 1 is not"),
        ("\tb", "tsv", "line 1 is not"),
        ("a,b\n,b", "csv", "line 2 is not"),
        ("a", "csv", "line 1 is not"),
        ("a\tb\n a\tc", "tsv", "line 2 has a term that was"),
        ("a\tb\x07c", "tsv", "line 1 has a character"),
        ("a\u2028b\tc", "tsv", "line 1 has a character"),
        ("a\tb\ud800", "tsv", "line 1 has a character"),
        ('a,b\n"c,d', "csv", "line 2"),
        ('"a"b,c', "csv", "line 1"),
    ],
)
def test_what_is_no_list_of_terms(text: str, form: Format, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        entries.read(text, form)


@given(TERMS)
def test_whatever_is_written_is_read(terms: dict[str, str]) -> None:
    assert entries.read(entries.write(terms), "tsv") == terms
    file = io.StringIO()
    csv.writer(file).writerows(terms.items())
    assert entries.read(file.getvalue(), "csv") == terms


@given(st.text(), st.sampled_from(["tsv", "csv"]))
def test_any_text_is_terms_or_is_refused(text: str, form: Format) -> None:
    try:
        found = entries.read(text, form)
    except ValueError:
        return
    assert found
    assert all(term == term.strip() != "" for pair in found.items() for term in pair)
