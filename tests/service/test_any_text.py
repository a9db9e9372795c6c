"""Whatever the text and whatever the model makes of it: a valid reply that says what is where, and nothing is lost."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from service.core import Translator
from service.plan import SPLIT, clean
from service.schemas.reply import Span, Translation
from service.text.protect import ascii_digits, gaps, number_pattern, numbers, protect
from service.text.tokens import Tokenizer
from tests.service.fakes import PLACEHOLDERS, EchoEngine, model, started, translate
from tests.service.speaking import CarelessEngine

ODD = st.sampled_from(
    [
        "{0}",
        "{{a b}}",
        " {x} ",
        "https://a.b/c?d=e. ",
        "HTTPS://A.B ",
        "the.io/cat",
        "<0>",
        "a@b.de",
        "%1$s",
        "<br/>",
        "<b>",
        "</b>",
        "😀",
        "👩\u200d👩\u200d👧",
        "🇫🇷",
        "⟦0⟧",
        "1,234.5",
        "5 €",
        "$12",
        "90° ",
        "\ue001",
        "12",
        "7:30",
        " 30 000 ",
        "36",
        "٣",
        "the cat",
        "THE CAT SLEEPS. ",
        "red table",
        "cat",
        "'s",
        "l'",
        ". ",
        "! ",
        "\n",
        "\r\n",
        "\u2028",
        "  ",
        "\xa0",
        "\x01",
        "ﷺ",
        "ß",
        "İ",
        "ﬁ",
        "é",
        "́",
        "“",
        "(",
        ")",
    ]
)
ODD_TEXT = st.lists(ODD | st.text(max_size=8), max_size=60).map("".join)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=2000)


@pytest.fixture(scope="module", params=["echo", "careless", "careless with placeholders"])
def translator(request: pytest.FixtureRequest, tokenizer: Tokenizer) -> Translator:
    engine = EchoEngine() if request.param == "echo" else CarelessEngine(tokenizer)
    symbols = PLACEHOLDERS if "placeholders" in request.param else []
    return started([model(tokenizer, engine, placeholders=symbols)])


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    text=ODD_TEXT | ANY_TEXT,
    mode=st.sampled_from(["default", "newlines", "punctuation", "none"]),
    tokens=st.sampled_from(["words", "subwords"]),
    options=st.sampled_from([{}, {"alternatives": 2}, {"min_length": 3}, {"target_prefix": "le 5 {0}"}]),
)
@example(text="G0ñ\uef50ᰀ1,234.5", mode="default", tokens="words", options={})
@example(text="1,234.5the.io/cat", mode="default", tokens="words", options={})
@example(text="07ï", mode="default", tokens="words", options={})
def test_any_text(translator: Translator, text: str, mode: str, tokens: str, options: dict[str, object]) -> None:
    found = translate(translator, text, split_sentences=mode, tokens=tokens, attention="weights", **options)
    text = clean(text)
    written = found.model_dump_json()
    assert Translation.model_validate_json(written).model_dump_json() == written
    position = target_position = 0
    for sentence in found.sentences:
        check(text, sentence.source, sentence.source_tokens or [])
        check(found.text, sentence.target, sentence.target_tokens or [])
        assert sentence.weights is not None
        assert sentence.weights.shape == (len(sentence.target_tokens or []), len(sentence.source_tokens or []))
        assert sentence.weights.sum(axis=1) == pytest.approx(1, abs=1e-3)
        assert [link.target for link in sentence.alignment or []] == list(range(len(sentence.weights)))
        # What lies between sentences comes back as it was.
        between = found.text[target_position : sentence.target.start]
        assert between == text[position : sentence.source.start]
        position, target_position = sentence.source.end, sentence.target.end
    assert found.text[target_position:] == text[position:]
    comes_through(text, found)


@given(text=ODD_TEXT)
@example(text="the cat:Ά")
def test_terms_that_are_honoured(translator: Translator, text: str) -> None:
    found = translate(
        translator, text, glossary={"cat": "matou", "red table": "Table Rouge", "The": "LE", "12": "douze"}
    )
    honoured = [term.target.lower() for term in found.glossary or [] if term.honoured]
    assert all(target in found.text.lower() for target in honoured)


def check(text: str, whole: Span, tokens: list[Span]) -> None:
    """Spans slice to what they name; tokens are in order and apart."""
    assert text[whole.start : whole.end] == whole.text
    position = whole.start
    for token in tokens:
        assert position <= token.start < token.end <= whole.end
        assert text[token.start : token.end] == token.text
        position = token.end


def comes_through(text: str, found: Translation) -> None:
    spans = protect(text)
    for wanted in {span.text for span in spans}:
        assert found.text.count(wanted) >= sum(span.text == wanted for span in spans)
    if SPLIT not in found.warnings:
        for start, end in gaps(0, len(text), spans):
            for number in numbers(text, start, end):
                pattern = number_pattern(number.text)
                # Next to digits of an address a number is none even in the source.
                assert pattern.search(ascii_digits(found.text)) or not pattern.search(ascii_digits(text))
