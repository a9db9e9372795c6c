"""Translations that begin with what must come through."""

import pytest

from service.core import Translator
from service.reply import LOST
from service.text.tokens import Tokenizer
from tests.service.fakes import PLACEHOLDERS, model, started, translate
from tests.service.speaking import SpeakingEngine


def speaking(
    tokenizer: Tokenizer, says: dict[str, str], placeholders: bool = False
) -> tuple[Translator, SpeakingEngine]:
    engine = SpeakingEngine(tokenizer, {read: [written] for read, written in says.items()})
    symbols = PLACEHOLDERS if placeholders else []
    return started([model(tokenizer, engine, placeholders=symbols, max_length=100)]), engine


@pytest.mark.parametrize(
    ("text", "prefix", "forced", "expected"),
    [
        ("😀 the cat sleeps.", "😀 le chat", "le chat", "😀 le chat dort."),
        ("😀 the cat sleeps.", "😀 \u00a0le chat", "le chat", "😀 \u00a0le chat dort."),
        ("(😀) 🇫🇷 the cat sleeps.", "(😀)  🇫🇷le chat", "le chat", "(😀)  🇫🇷le chat dort."),
        ("😀\nthe cat sleeps.", "😀\nle chat", "le chat", "😀\nle chat dort."),
        ("😀 the cat sleeps.", "😀", "", "😀 le chat dort."),
        ("😀 the cat sleeps.", "le chat", "le chat", "😀 le chat dort."),
    ],
)
def test_what_is_kept_before_the_sentence_is_not_doubled(
    tokenizer: Tokenizer, text: str, prefix: str, forced: str, expected: str
) -> None:
    translator, engine = speaking(tokenizer, {"the cat sleeps.": "le chat dort."})
    found = translate(translator, text, target_prefix=prefix, attention="weights")
    assert (found.text, found.warnings) == (expected, [])
    assert tokenizer.decode(engine.jobs[-1].prefix).text == forced
    tokens = [token for sentence in found.sentences for token in sentence.target_tokens or []]
    assert all(found.text[token.start : token.end] == token.text == token.text.strip() for token in tokens)


@pytest.mark.parametrize("placeholders", [False, True])
@pytest.mark.parametrize("again", ["", " {a}"])
def test_an_item_that_the_prefix_has_is_not_written_again(tokenizer: Tokenizer, placeholders: bool, again: str) -> None:
    a, b = ("⟦0⟧", "⟦1⟧") if placeholders else ("36", "25")
    again = again.format(a=a)
    says = {f"the {a} cat and the {b} cat": f"le {a} chat{again} et le {b} chat"}
    translator, engine = speaking(tokenizer, says, placeholders)
    found = translate(translator, "the {x} cat and the {x} cat", target_prefix="le {x} chat", attention="weights")
    assert (found.text, found.warnings) == ("le {x} chat et le {x} chat", [])
    assert tokenizer.decode(engine.jobs[-1].prefix).text == f"le {a} chat"
    tokens = [token.text for token in found.sentences[0].target_tokens or []]
    assert tokens == ["le", "{x}", "chat", "et", "le", "{x}", "chat"]


def test_nor_is_an_amount_that_it_has_with_a_word_for_the_sign(tokenizer: Tokenizer) -> None:
    says = {"the cat drinks € 5 of milk": "le chat boit 5 euros de lait"}
    translator, engine = speaking(tokenizer, says)
    found = translate(translator, "the cat drinks € 5 of milk", target_prefix="le chat boit 5 euros")
    assert (found.text, found.warnings) == ("le chat boit 5 euros de lait", [])
    assert tokenizer.decode(engine.jobs[-1].prefix).text == "le chat boit 5 euros"
    found = translate(speaking(tokenizer, {})[0], "the cat drinks € 5 of milk", target_prefix="le chat")
    assert "€ 5" in found.text
    both = "the cat drinks € 5 of milk. the cat eats € 5"
    found = translate(speaking(tokenizer, says)[0], both, target_prefix="le chat boit 5 euros")
    assert found.text.count("€ 5") == 1


def test_it_has_to_be_there_as_a_whole(tokenizer: Tokenizer) -> None:
    says = {"the cat of 36 sleeps": "le chat a@b.deu 36 dort"}
    found = translate(speaking(tokenizer, says)[0], "the cat of a@b.de sleeps", target_prefix="le chat a@b.deu")
    assert found.text == "le chat a@b.deu a@b.de dort"


@pytest.mark.parametrize(
    ("text", "prefix", "says", "expected"),
    [
        ("😀 🇫🇷 the cat", "😀 le chat", {"the cat": "😀 le chat"}, "🇫🇷 😀 le chat"),
        ("😀 the cat", "le 😀 chat", {"the cat": "le 😀 chat"}, "le 😀 chat"),
        ("the cat sleeps 😀.", "le chat dort 😀", {"the cat sleeps": "le chat dort 😀"}, "le chat dort 😀."),
        (
            "the cat😀sleeps {0} table",
            "le {0} chat",
            {"the cat": "le {0} chat", "sleeps 36 table": "dort 36 table"},
            "le {0} chat😀dort table",
        ),
        ("😀 the cat sleeps", "Le chat", {"the cat sleeps": "Le chat dort"}, "😀 Le chat dort"),
        ("the cat😀sleeps", "le chat.", {"the cat": "le chat.", "sleeps": "dort"}, "le chat.😀dort"),
    ],
)
def test_what_is_kept_elsewhere_is_not_doubled(
    tokenizer: Tokenizer, text: str, prefix: str, says: dict[str, str], expected: str
) -> None:
    translator, _ = speaking(tokenizer, says)
    found = translate(translator, text, target_prefix=prefix, split_sentences="none", attention="weights")
    assert found.text == expected
    for token in found.sentences[0].target_tokens or []:
        assert found.text[token.start : token.end] == token.text


def test_a_further_attempt_begins_as_the_first(tokenizer: Tokenizer) -> None:
    says = {"the 36 cat 25 sleeps": "le 36 chat dort", "the 36 cat": "le 36 chat", "sleeps": "dort"}
    translator, engine = speaking(tokenizer, says)
    found = translate(translator, "the {0} cat {1} sleeps", target_prefix="le {0}")
    assert found.text == "le {0} chat {1} dort"
    assert found.warnings == [LOST.format(kinds="placeholder")]
    assert [tokenizer.decode(job.prefix).text for job in engine.jobs[-3:]] == ["le 36", "le 36", ""]
