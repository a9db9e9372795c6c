import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.capitals import capitalise, is_capitals, lower, upper


@pytest.mark.parametrize(
    "text", ["PLEASE DO NOT TOUCH!", "HELLO", "ACHTUNG: HEIß UND GEFÄHRLICH", "ROOM 12, 2ND FLOOR"]
)
def test_capitals(text: str) -> None:
    assert is_capitals(text)


@pytest.mark.parametrize(
    "text", ["NATO", "USA!", "The NATO and the EU", "McDONALD", "12:30", "", "日本語日本語", "THE CAT and DOG"]
)
def test_no_capitals(text: str) -> None:
    assert not is_capitals(text)


def test_case() -> None:
    assert capitalise(lower("THE CAT AND I, I'M LATE. HI", "en")) == "The cat and I, I'm late. hi"
    assert lower("I", "fr") == "i"
    assert capitalise("«été»") == "«Été»"
    assert upper("straße, été, ﬁn") == "STRAẞE, ÉTÉ, ﬁN"
    assert lower("ΟΔΟΣ", "el") == "οδος"


@given(st.text())
def test_the_length_stays(text: str) -> None:
    assert len(lower(text, "en")) == len(upper(text)) == len(capitalise(text)) == len(text)
