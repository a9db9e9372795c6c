import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.protect import (
    Protected,
    ascii_digits,
    gaps,
    number_pattern,
    numbers,
    overlapping,
    protect,
    words_with_numbers,
)

ODD = st.sampled_from(
    [*"{}%$#<>/@.:?=&()[]'\"0123 \n\u200d\ufe0f\u20e3⟦⟧", "http://", "www.", ".com", ".IO/", "😀", "🇫", "<b"]
)


def found(text: str) -> list[tuple[str, str]]:
    return [(span.text, span.kind) for span in protect(text)]


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("See https://example.com/a?b=c#d. Then", "url", ["https://example.com/a?b=c#d"]),
        ("(see https://en.wikipedia.org/wiki/A_(b))", "url", ["https://en.wikipedia.org/wiki/A_(b)"]),
        ("«http://a.b/c», www.a.fr! or example.com/path?", "url", ["http://a.b/c", "www.a.fr", "example.com/path"]),
        (
            "HTTPS://EXAMPLE.DE/PAGE or Https://a.b and SFTP://a",
            "url",
            ["HTTPS://EXAMPLE.DE/PAGE", "Https://a.b", "SFTP://a"],
        ),
        (
            "WWW.A.DE, Www.a.fr/b; Example.com EXAMPLE.ORG",
            "url",
            ["WWW.A.DE", "Www.a.fr/b", "Example.com", "EXAMPLE.ORG"],
        ),
        ("(example.io/docs/start), MÜLLER.DE/A.", "url", ["example.io/docs/start", "MÜLLER.DE/A"]),
        ("a.b-c.co.uk/ or a.dev:80/b, a.com:8080", "url", ["a.b-c.co.uk/", "a.dev:80/b", "a.com:8080"]),
        ("a.de?b=c#d or a.net?b=c? a.net?", "url", ["a.de?b=c#d", "a.net?b=c", "a.net"]),
        ("Write to a.b+c@d-e.co.uk.", "email", ["a.b+c@d-e.co.uk"]),
        ("Hi {{ user.name }}, {0} and {name}", "placeholder", ["{{ user.name }}", "{0}", "{name}"]),
        ("${x} %{y} #{z} {price:.2f} {}", "placeholder", ["${x}", "%{y}", "#{z}", "{price:.2f}", "{}"]),
        ("%s, %1$s %(count)d: %.2f %ld %@", "placeholder", ["%s", "%1$s", "%(count)d", "%.2f", "%ld", "%@"]),
        ("⟦0⟧ is mine", "placeholder", ["⟦0⟧"]),
        ("a <br/> b <b>c</b> <a href='x y'>", "tag", ["<br/>", "<b>", "</b>", "<a href='x y'>"]),
        ("click <0>here</0>, <12/> or <1 />", "tag", ["<0>", "</0>", "<12/>", "<1 />"]),
        ("😀 👍🏽 👩‍👩‍👧‍👦 ❤️ 1️⃣ → ™", "emoji", ["😀", "👍🏽", "👩‍👩‍👧‍👦", "❤️", "1️⃣", "→", "™"]),
        ("🇫🇷 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "emoji", ["🇫🇷", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]),
    ],
)
def test_what_is_found(text: str, kind: str, expected: list[str]) -> None:
    assert found(text) == [(each, kind) for each in expected]


@pytest.mark.parametrize(
    "text",
    [
        "100% sure, 50% de réduction",
        "5%s",
        "a < b > c",
        "I <3 you",
        "e.g. U.S. v1.2.3",
        "20 °C @ home",
        "{ a }",
        "C'est la fin.de",
        "Das Ende.Info folgt",
        "the end.Next/other",
        "and/or, he/she, 24/7, 1.5/2 km/h",
        "e.g./i.e. or e.g/i.e, U.S./UK, a.m/p.m",
        "z.B./d.h., inkl./exkl., u.ä/o.ä, St.Gallen/Chur",
        "Wait...what/who",
        "Is a.b?c so? x=y",
        "1 <2 and 3> 2, x<5",
    ],
)
def test_what_is_text(text: str) -> None:
    assert found(text) == []


def test_what_touches_is_one() -> None:
    assert found("😀😀 {a}%s <b>{x}</b>") == [
        ("😀😀", "emoji"),
        ("{a}%s", "placeholder"),
        ("<b>{x}</b>", "placeholder"),
    ]


def test_what_is_given_counts() -> None:
    text = "see http://a.b/c and x"
    inside = Protected(11, 14, "KEY", "markup")
    behind = Protected(21, 22, "", "markup")
    assert protect(text, [behind, inside, Protected(12, 16, "no", "markup")]) == [inside, behind]


@given(st.lists(ODD | st.characters(), max_size=80).map("".join))
def test_spans_are_in_order_and_apart(text: str) -> None:
    spans = protect(text)
    assert all(text[span.start : span.end] == span.text != "" for span in spans)
    rest = list(gaps(0, len(text), spans))
    assert all(start < end for start, end in rest[1:-1])
    assert "".join(text[a:b] for a, b in rest) == "".join(
        each for index, each in enumerate(text) if not overlapping(spans, index, index + 1)
    )


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a.",
        "a@",
        "http://",
        "http://)",
        "www.",
        "a.com ",
        "a.io/",
        "a.io:8",
        "a.io?b",
        "aa.",
        "a+",
        "a/",
        "{{",
        "{a",
        "%(",
        "%0",
        "<a ",
        "<0",
        "😀",
        "👩‍",
        "🇫",
        "1",
        "1 ",
        "1 000 ",
        "a1",
        "0.",
        "0:",
        "-0 ",
        "–",
    ],
)
def test_time_grows_with_the_text(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    started = time.process_time()
    protect(text)
    sum(1 for _ in numbers(text, 0, len(text)))
    sum(1 for _ in words_with_numbers(text, 0, len(text)))
    assert time.process_time() - started < 3


def test_numbers() -> None:
    text = "In 2010 300 people, 1 234 567,89 or 1,234.56; 5'000, ١٢ and COVID-19; -5, −1.5 °C, –7\n-8 and 3-5 at 7:30:"
    expected = [
        "2010",
        "300",
        "1 234 567,89",
        "1,234.56",
        "5'000",
        "١٢",
        "19",
        "-5",
        "−1.5",
        "–7",
        "-8",
        "3",
        "5",
        "7:30",
    ]
    assert [number.text for number in numbers(text, 0, len(text))] == expected


def test_words_with_numbers() -> None:
    text = "(12/05/2021) at 7:30, 5 % or 20 %. COVID-19, 21st «1971» 30 000 $5 a -5 %"
    expected = ["12/05/2021", "7:30", "5 %", "20 %", "COVID-19", "21st", "1971", "30 000", "$5", "-5 %"]
    words = list(words_with_numbers(text, 0, len(text)))
    assert [word.text for word in words] == expected
    assert all(text[word.start : word.end] == word.text for word in words)


@pytest.mark.parametrize(
    ("number", "translation", "is_there"),
    [
        ("1,234.56", "1 234,56 euros", True),
        ("1,234.56", "1\u202f234,56", True),
        ("1 234,56", "€1,234.56", True),
        ("05", "le 5 mai", True),
        ("5", "le 05.", True),
        ("0", "0 fois", True),
        ("٣", "3", True),
        ("12", "1 2 3", True),
        ("12", "123", False),
        ("12", "112", False),
        ("12", "douze", False),
        ("0199", "0199.", True),
        ("0199", "le 199", False),
        ("0.05", "0,05 %", True),
        ("007", "7", False),
        ("1,000.5", "1.000,5", True),
        ("1.000,5", "1 000,5.", True),
        ("1 000,5", "1000.5", True),
        ("1000", "1.000, 2", True),
        ("1,000", "1000", True),
        ("2020", "in 2020.", True),
        ("2020", "(2020, 5)", True),
        ("0.5", "1.5%", False),
        ("0.5", "05", False),
        ("7,0", "70 degrees", False),
        ("1.5", "15", False),
        ("1.5", "1,5", True),
        ("0.125", "0125", False),
        ("7:30", "um 7.30 Uhr", True),
        ("7.30", "à 7 h 30", True),
        ("7:30", "730", False),
        ("1:100", "1:100", True),
        ("1:100", "1100", False),
        ("1.2.3", "12.3", False),
        ("5", "12.5", False),
        ("5", "5,2", False),
        ("3", "2.3", False),
        ("10", "1.0", False),
        ("-5", "5 %", False),
        ("-5", "3-5", False),
        ("-5", "−5 °C", True),
        ("–5", "- 5", True),
        ("−1.5", "—1,5", True),
        ("5", "-5", True),
    ],
)
def test_numbers_in_translations(number: str, translation: str, is_there: bool) -> None:
    assert bool(number_pattern(number).search(ascii_digits(translation))) == is_there
