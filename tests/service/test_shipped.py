"""What must come through, with the shipped packages."""

import asyncio
from collections.abc import Iterator

import pytest

from service.core import Translator
from service.schemas.reply import Translation
from service.settings import Settings
from service.text.protect import ascii_digits, number_pattern, numbers
from tests.service.fakes import translate

MODELS = ["transformer", "bahdanau"]


@pytest.fixture(scope="module")
def translator() -> Iterator[Translator]:
    translator = Translator(Settings(threads=1))
    asyncio.run(translator.start())
    yield translator
    asyncio.run(translator.close())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Visit https://example.com/a?b=c for more information.", ["https://example.com/a?b=c"]),
        (
            "Visit HTTPS://EXAMPLE.DE/PAGE or example.io/docs/start today.",
            ["HTTPS://EXAMPLE.DE/PAGE", "example.io/docs/start"],
        ),
        ("Click <0>here</0> to continue.", ["<0>", "</0>"]),
        ("Contact us at support@example.org today, please!", ["support@example.org"]),
        ("Hello {{name}}, you have {0} new messages and %1$s friends.", ["{{name}}", "{0}", "%1$s"]),
        ("Good morning! 😀 I love you 👩‍👩‍👧 and the flag 🇫🇷 very much.", ["😀", "👩‍👩‍👧", "🇫🇷"]),
        ("Click on <br/> to <b>continue</b>.", ["<br/>", "<b>", "</b>"]),
    ],
)
def test_spans_come_through(translator: Translator, model: str, text: str, kept: list[str]) -> None:
    found = translate(translator, text, model=model, attention="weights")
    assert all(found.text.count(span) == 1 for span in kept)
    assert found.text != text
    tokens = [token for sentence in found.sentences for token in sentence.target_tokens or []]
    assert set(kept) <= {token.text for token in tokens}
    sliced(found)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("en", "The price is 1,234.56 dollars for 3 apples at 7:30."),
        ("en", "The price rose by -5% in May."),
        ("fr", "Le 12 mai 1984, 250 personnes sont venues."),
        ("fr", "Il fait 7,0 degrés dehors."),
    ],
)
def test_numbers_come_through(translator: Translator, model: str, source: str, text: str) -> None:
    found = translate(translator, text, source=source, target="fr" if source == "en" else "en", model=model)
    assert all(number_pattern(each.text).search(ascii_digits(found.text)) for each in numbers(text, 0, len(text)))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The ticket costs 5 €.", "5 €"),
        ("The ticket costs €20.", "€20"),
        ("The ticket costs $99.", "$99"),
        ("The angle is 90° wide.", "90°"),
        ("Add 1½ cups of milk.", "1½"),
        ("The house costs 3² euros.", "3²"),
        ("\ue001 Home page", "\ue001"),
        ("@anna sleeps.", "@anna"),
        ("AT&T is a company.", "AT&T"),
        ("Press \\ to continue.", "\\"),
    ],
)
def test_signs_come_through(translator: Translator, model: str, text: str, kept: str) -> None:
    found = translate(translator, text, model=model, attention="weights")
    assert found.text.count(kept) == 1
    assert "\ufffd" not in found.text
    assert found.warnings == []
    sliced(found)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("source", "text", "plain"),
    [
        ("de", "Die Daten\u00adschutz\u00aderklärung ist lang.", "Die Datenschutzerklärung ist lang."),
        ("en", "Hello \u2068{name}\u2069, how are you?", "Hello {name}, how are you?"),
        ("en", "\u202aThe garden\u202c is beautiful.", "The garden is beautiful."),
    ],
)
def test_what_nobody_sees_changes_nothing(
    translator: Translator, model: str, source: str, text: str, plain: str
) -> None:
    target = "fr" if source == "en" else "en"
    found = translate(translator, text, source=source, target=target, model=model, attention="weights")
    assert found.text == translate(translator, plain, source=source, target=target, model=model).text
    sliced(found)


@pytest.mark.parametrize(
    ("source", "text", "plain"),
    [("en", "THE CAT SLEEPS ON THE TABLE.", "The cat sleeps on the table."), ("fr", "LE CHAT DORT.", "Le chat dort.")],
)
def test_capitals_are_translated(translator: Translator, source: str, text: str, plain: str) -> None:
    target = "fr" if source == "en" else "en"
    found = translate(translator, text, source=source, target=target, attention="alignment")
    assert found.text == translate(translator, plain, source=source, target=target).text.upper()
    sliced(found)


@pytest.mark.parametrize("model", MODELS)
def test_terms_are_honoured(translator: Translator, model: str) -> None:
    terms = {"dog": "cabot", "House": "Baraque", "my father": "mon paternel", "boat": "rafiot"}
    text = "My dog sleeps in the House. I saw my father and his dog."
    found = translate(translator, text, model=model, glossary=terms, attention="weights")
    assert {term.source: term.honoured for term in found.glossary or []} == {
        "dog": True,
        "House": True,
        "my father": True,
    }
    assert found.text.lower().count("cabot") == 2
    assert "Baraque" in found.text
    assert "mon paternel" in found.text.lower()
    sliced(found)


def test_common_terms_need_no_cut(translator: Translator) -> None:
    found = translate(translator, "The dog sleeps in the house.", glossary={"dog": "cabot", "house": "baraque"})
    assert {"cabot", "baraque"} <= set(found.text.rstrip(".").split())
    assert found.warnings == []


def sliced(found: Translation) -> None:
    for sentence in found.sentences:
        assert all(found.text[token.start : token.end] == token.text for token in sentence.target_tokens or [])
        assert sentence.weights is None or sentence.weights.sum(axis=1) == pytest.approx(1, abs=1e-3)
