from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.tokens import Tokenizer
from tests.service.fakes import train

ODD = st.lists(st.sampled_from([*"€$°½Ж漢 \u00a01234.,-−a\ue000\u0301", "1 234"]), max_size=30).map("".join)


def found(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    return [(span.text, span.kind) for span in tokenizer.unreadable.find(text, 0, len(text))]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("the cat sleeps.", []),
        ("今日はとても暑いです。", ["今日はとても暑いです"]),
        ("Сегодня очень  жарко, (очень)!", ["Сегодня очень  жарко", "очень"]),
        ("the cat «Мурка» sleeps\nкошка", ["Мурка", "кошка"]),
        ("Мурка\nкошка", ["Мурка", "кошка"]),
        ("the cat:Мурка, Мурка-кот", ["Мурка", "Мурка-кот"]),
        ("the می\u200cخواهم, עו\"ד כהן and Д'Артаньян", ["می\u200cخواهم", 'עו"ד כהן', "Д'Артаньян"]),
        ("the 東京・大阪、奈良 and 「日本」", ["東京・大阪、奈良", "「日本」"]),
        ("the Мурка1,234.5 and 1 234Мурка 5", ["Мурка1,234.5", "1 234Мурка"]),
        ("Škoda, ｃａｔ, ﬁn", []),
        ("\u0301 ١٢ —", []),
    ],
)
def test_words_in_other_letters(tokenizer: Tokenizer, text: str, kept: list[str]) -> None:
    assert found(tokenizer, text) == [(each, "letters") for each in kept]


def test_a_part_of_a_text(tokenizer: Tokenizer) -> None:
    assert [(each.start, each.end) for each in tokenizer.unreadable.find("кошка кот кошка", 6, 9)] == [(6, 9)]
    assert [(each.start, each.end) for each in tokenizer.unreadable.find("5 € 6 € 7", 3, 7)] == [(4, 7)]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("the cat costs 5 €.", ["5 €"]),
        ("(€20), $99/a or 7\u00a0£!", ["€20", "$99", "7\u00a0£"]),
        ("$1,234.56 of 1 234 567,89 €", ["$1,234.56", "1 234 567,89 €"]),
        ("US$ 9, $1.5M and €3bn", ["US$ 9", "$1.5M", "€3bn"]),
        ("a 90° cat at 20 °C, not -5 °C", ["90°", "20 °C", "-5 °C"]),
        ("§ 5: ±3 ‰ of x = 7", ["§ 5", "±3 ‰", "= 7"]),
        ("in 2010 €5 and 5 € 20 cats", ["€5", "5 €"]),
        ("€ 5 $, 5 € 7 $", ["€ 5 $", "5 €", "7 $"]),
        ("€ = −5", ["€", "= −5"]),
        ("€ = -5", ["€", "= -5"]),
        ("@anna, C#, #cat and AT&T, the cat & milk", ["@anna", "C#", "#cat", "AT&T"]),
        ("a {red, cat}, { $count } or C:\\cat\\milk", ["{red", "cat}", "{", "$count", "}", "\\cat\\milk"]),
        ("1½ cats, 5 km² of H₂O, 10⁶ or ⅔: ①", ["1½", "5 km²", "H₂O", "10⁶", "⅔", "①"]),
    ],
)
def test_signs_with_their_numbers(tokenizer: Tokenizer, text: str, kept: list[str]) -> None:
    assert [text for text, _ in found(tokenizer, text)] == kept


@pytest.mark.parametrize(
    ("text", "kind", "kept"),
    [
        ("5\u202f€", "amount", ["5\u202f€"]),
        ("Windows® is `ls` or ½", "word", ["Windows®", "`ls`", "½"]),
        ("the cat´s l`eau, l´eau€ and `a´", "word", ["l´eau€", "`a´"]),
        ("\ue001 the | cat\n© the cat 12 cat®", "symbol", ["\ue001", "|", "©"]),
    ],
)
def test_kinds(tokenizer: Tokenizer, text: str, kind: str, kept: list[str]) -> None:
    assert [text for text, each in found(tokenizer, text) if each == kind] == kept


@given(text=ODD)
def test_spans_are_in_order_and_apart(tokenizer: Tokenizer, text: str) -> None:
    spans = tokenizer.unreadable.find(text, 0, len(text))
    ends = [0, *(span.end for span in spans)]
    assert all(end <= span.start < span.end for end, span in zip(ends, spans, strict=False))
    assert all(text[span.start : span.end] == span.text for span in spans)
    kept = {place for span in spans for place in range(span.start, span.end)}
    assert not any(each in "€$°Ж漢\ue000" for place, each in enumerate(text) if place not in kept)


def test_what_the_vocabulary_has_is_read(tmp_path: Path) -> None:
    tokenizer = train(tmp_path, "5 € кошка 90° ®")
    assert found(tokenizer, "5 €, кошка, 90° or cat®: $5") == [("$5", "amount")]


def test_raised_digits_are_kept_where_they_would_be_read_as_plain_ones(tmp_path: Path) -> None:
    tokenizer = train(tmp_path, "km2 2 1⁄2")
    assert found(tokenizer, "5 km² or ½") == [("5 km²", "amount"), ("½", "word")]
