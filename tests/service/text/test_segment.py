import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.segment import WINDOW, Mode, segment

AWKWARD = st.sampled_from('ab.J M!?"«»()\u00a0\u2003\u2028\r\n\t😀é。1\x00\u200b') | st.characters(codec="utf-8")


def parts(text: str, language: str = "en", mode: Mode = "default") -> list[str]:
    return [text[start:end] for start, end in segment(text, language, mode)]


def test_sentences_and_lines() -> None:
    text = "Hello there.  How is Dr. Smith?\n\n\tFine\r\nthanks. "
    assert parts(text) == ["Hello there.", "How is Dr. Smith?", "Fine", "thanks."]
    assert parts(text, mode="newlines") == ["Hello there.  How is Dr. Smith?", "Fine", "thanks."]
    assert parts(text, mode="punctuation") == ["Hello there.", "How is Dr. Smith?", "Fine\r\nthanks."]
    assert parts(text, mode="none") == [text.strip()]


@given(
    st.text(AWKWARD, max_size=80),
    st.sampled_from(["en", "fr", "xx"]),
    st.sampled_from(["default", "newlines", "punctuation", "none"]),
)
def test_nothing_is_lost(text: str, language: str, mode: Mode) -> None:
    position = 0
    for start, end in segment(text, language, mode):
        assert position <= start < end <= len(text)
        assert text[position:start].strip() == ""
        assert text[start:end] == text[start:end].strip()
        position = end
    assert text[position:].strip() == ""


@pytest.mark.parametrize("text", ["J.\u00a0Smith left.", "\u00a0a.\u2003b. c", "M.\u202fDupont dort."])
def test_wide_white_space_after_an_initial(text: str) -> None:
    assert "".join("".join(parts(text)).split()) == "".join(text.split())


@pytest.mark.parametrize("unit", ["你好。", '. "', "a", "The fox (see above) runs. ", "word "])
def test_a_megabyte_in_one_line(unit: str) -> None:
    text = unit * (1_000_000 // len(unit))
    started = time.process_time()
    spans = segment(text, "en")
    assert time.process_time() - started < 5
    assert all(end - start <= WINDOW for start, end in spans)
    assert sum(end - start for start, end in spans) >= len(text.replace(" ", ""))


def test_no_sentence_ends_inside_a_whole() -> None:
    text = "See a. b? c now. Go! d\nee. Fine"
    found = [text[a:b] for a, b in segment(text, "en", whole=[(4, 11), (21, 26)])]
    assert found == ["See a. b? c now.", "Go!", "d\nee.", "Fine"]
    assert segment(text, "en", "newlines", whole=[(3, 4), (21, 26)]) == [(0, len(text))]
    assert segment("a. b. c", "en", whole=[(1, 6)]) == [(0, 7)]
    long = "x" * (5 * WINDOW - 7)
    assert segment(f"Go. {long} on. Stop.", "en", whole=[(4, 4 + len(long))])[1] == (4, 8 + len(long))


def test_a_stray_quote_hides_no_sentence() -> None:
    text = '"' + "The cat sleeps. " * 1000
    assert len(parts(text)) > 900


def test_a_sentence_on_the_border_of_a_window_stays_whole() -> None:
    sentence = "The cat sleeps on the red table."
    assert set(parts(" ".join([sentence] * 500))) == {sentence}
