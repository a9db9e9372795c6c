"""What must come through, in what a model has written."""

import re
from dataclasses import replace

import numpy as np
import pytest

from service.core import Translator
from service.engine import Hypothesis, Job
from service.plan import SPLIT
from service.reply import BROKEN, LOST
from service.schemas.reply import Translation
from service.text.tokens import Tokenizer
from tests.service.fakes import PLACEHOLDERS, EchoEngine, model, started, translate
from tests.service.speaking import SpeakingEngine


def speaking(
    tokenizer: Tokenizer,
    says: dict[str, str | list[str]],
    looks: dict[str, str] | None = None,
    placeholders: bool = False,
) -> tuple[Translator, SpeakingEngine]:
    told = {read: [written] if isinstance(written, str) else written for read, written in says.items()}
    engine = SpeakingEngine(tokenizer, told, looks)
    symbols = PLACEHOLDERS if placeholders else []
    return started([model(tokenizer, engine, placeholders=symbols, max_length=100)]), engine


def say(tokenizer: Tokenizer, text: str, says: dict[str, str | list[str]], **options: object) -> Translation:
    return translate(speaking(tokenizer, says)[0], text, **options)


def lost(*kinds: str) -> list[str]:
    return [LOST.format(kinds=", ".join(kinds))]


@pytest.mark.parametrize("placeholders", [False, True])
def test_marks_become_what_they_stand_for(tokenizer: Tokenizer, placeholders: bool) -> None:
    a, b = ("⟦0⟧", "⟦1⟧") if placeholders else ("36", "25")
    says: dict[str, str | list[str]] = {f"the {a}, cat {b}.": f"{b} chat le ({a})."}
    translator, _ = speaking(tokenizer, says, {a: a, b: b, "chat": "cat"}, placeholders)
    found = translate(translator, "the {0}, cat a@b.de.", attention="weights")
    assert found.text == "a@b.de chat le ({0})."
    assert found.warnings == []
    [sentence] = found.sentences
    assert [token.text for token in sentence.source_tokens or []] == ["the", "{0}", ",", "cat", "a@b.de", "."]
    assert [token.text for token in sentence.target_tokens or []] == ["a@b.de", "chat", "le", "(", "{0}", ")."]
    links = {(link.source, link.target) for link in sentence.alignment or []}
    assert {(4, 0), (3, 1), (1, 4)} <= links


@pytest.mark.parametrize("written", ["le chat", "le 36 chat 36", "le 365 chat", "le x36 chat"])
def test_what_loses_or_doubles_a_mark_is_translated_in_parts(tokenizer: Tokenizer, written: str) -> None:
    says: dict[str, str | list[str]] = {"the 36 cat sleeps": written, "the": "Le.", "cat sleeps": "Chat dort !"}
    found = say(tokenizer, "the  {0}  cat sleeps", says, attention="weights")
    # White space around what is kept stays; a part neither ends nor begins like a sentence.
    assert found.text == "Le  {0}  chat dort !"
    assert found.warnings == lost("placeholder")
    [sentence] = found.sentences
    assert [token.text for token in sentence.source_tokens or []] == ["the", "{0}", "cat", "sleeps"]
    assert [token.text for token in sentence.target_tokens or []] == ["Le", "{0}", "chat", "dort", "!"]
    assert sentence.weights is not None
    assert sentence.weights[:2].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_what_no_attempt_keeps_is_kept_by_the_third(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {"a 36 b 25 c": "a b 25", "b 36 c": "bc"}
    translator, engine = speaking(tokenizer, says)
    found = translate(translator, "a {0} b {1} c")
    assert found.text == "a {0} b {1} c"
    assert found.warnings == lost("placeholder")
    assert engine.read[-6:] == ["a 36 b 25 c", "a", "b 36 c", "a", "b", "c"]


def test_an_alternative_that_is_whole_is_taken(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {"the 36 cat": ["le chat", "36 chat", "le 36 chat"]}
    found = say(tokenizer, "the {0} cat", says, alternatives=2)
    assert (found.text, found.warnings) == ("{0} chat", [])
    assert [alternative.text for alternative in found.alternatives] == ["le {0} chat"]


@pytest.mark.parametrize("written", ["on 1 234,5 and 36", "on 1\u00a0234.5, 36"])
def test_a_number_may_be_written_otherwise(tokenizer: Tokenizer, written: str) -> None:
    found = say(tokenizer, "on 1,234.5 and 36", {"on 1,234.5 and 36": written})
    assert found.text == written.replace("\u00a0", " ")
    assert found.warnings == []


def test_a_number_that_was_changed_is_put_back(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {"the 12 cat and 7 cat": "les douze chat et 7 chat"}
    translator, _ = speaking(tokenizer, says, {"douze": "12"})
    found = translate(translator, "the 12 cat and 7 cat")
    assert (found.text, found.warnings) == ("les 12 chat et 7 chat", [])


@pytest.mark.parametrize(
    ("written", "looked", "expected"),
    [
        ("le chat 5", "5", "le chat -5"),
        ("le chat —7", "—7", "le chat -5"),
        ("le chat 1,5.", "1,5", "le chat -5."),
        ("le chat 8:45", "8:45", "le chat -5"),
        ("le chat − 5.", "chat", "le chat − 5."),
    ],
)
def test_a_minus_belongs_to_its_number(tokenizer: Tokenizer, written: str, looked: str, expected: str) -> None:
    translator, _ = speaking(tokenizer, {"the cat -5": written}, {looked: "-5"})
    found = translate(translator, "the cat -5")
    assert (found.text, found.warnings) == (expected, [])


def test_what_the_caller_has_forced_stays(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {
        "the 12 cat": "les douze chat",
        "the 36 cat": "les douze chat 36",
    }
    translator, _ = speaking(tokenizer, says, {"douze": "12"})
    assert translate(translator, "the 12 cat").text == "les 12 chat"
    found = translate(translator, "the 12 cat", target_prefix="les douze")
    assert (found.text, found.warnings) == ("les douze chat 12", [])


def test_a_number_that_is_nowhere_becomes_a_mark_and_then_a_cut(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {"the cat of 12/05": "le chat", "the cat of 36": "chat le 36"}
    assert say(tokenizer, "the cat of 12/05", says).text == "chat le 12/05"
    found = say(tokenizer, "the cat of 12/05", says | {"the cat of 36": "chat"})
    assert found.text == "the cat of 12/05"
    assert found.warnings == lost("number")


@pytest.mark.parametrize(
    ("written", "looks", "expected"),
    [
        ("le matou dort", {}, "le matou dort"),
        ("Le Matou dort", {}, "Le matou dort"),
        ("le chat dort", {"chat": "cat"}, "le matou dort"),
        ("Chat dort", {"Chat": "cat"}, "Matou dort"),
        ("l'eau dort", {"eau": "cat"}, "l'matou dort"),
        ("le petit chat dort", {"petit": "cat", "chat": "cat"}, "le matou dort"),
    ],
)
def test_a_term_is_put_where_the_translation_looked_at_it(
    tokenizer: Tokenizer, written: str, looks: dict[str, str], expected: str
) -> None:
    translator, _ = speaking(tokenizer, {"the cat sleeps": written}, looks)
    found = translate(translator, "the cat sleeps", glossary={"cat": "matou", "dog": "cabot"}, attention="weights")
    assert (found.text, found.warnings) == (expected, [])
    assert [term.model_dump() for term in found.glossary or []] == [
        {"source": "cat", "target": "matou", "honoured": True}
    ]
    tokens = [token.text.lower() for token in found.sentences[0].target_tokens or []]
    assert "matou" in tokens


def test_a_term_whose_place_is_unclear(tokenizer: Tokenizer) -> None:
    """Two words apart looked at it: so it becomes a mark."""
    says: dict[str, str | list[str]] = {"the cat sleeps": "chat dort chat rouge", "the 36 sleeps": "le 36 dort"}
    translator, _ = speaking(tokenizer, says, {"dort": "the", "chat": "cat", "rouge": "cat"})
    found = translate(translator, "the cat sleeps", glossary={"cat": "Matou"})
    assert (found.text, found.warnings) == ("le Matou dort", [])


def test_terms_in_addresses_are_not_honoured(tokenizer: Tokenizer) -> None:
    found = say(
        tokenizer, "a http://cat.com/ red cat", {}, glossary={"cat": "matou", "red": "rouge"}, attention="weights"
    )
    assert [(term.source, term.honoured) for term in found.glossary or []] == [("cat", False), ("red", True)]


def test_capitals_come_back(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {"The cat drinks 36 ß": "Le chat boit 36 ß"}
    translator, _ = speaking(tokenizer, says, {"chat": "cat", "boit": "drinks"})
    found = translate(
        translator, "THE CAT DRINKS {x} ß", glossary={"cat": "matou", "drinks": "Boit"}, attention="alignment"
    )
    assert found.text == "LE MATOU Boit {x} ẞ"
    [sentence] = found.sentences
    assert [token.text for token in sentence.source_tokens or []] == ["THE", "CAT", "DRINKS", "{x}", "ß"]
    assert [token.text for token in sentence.target_tokens or []] == ["LE", "MATOU", "Boit", "{x}", "ẞ"]


def test_a_prefix_stays_as_it_was_given(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {"The cat sleeps": "le chat dort"}
    assert say(tokenizer, "THE CAT SLEEPS", says, target_prefix="le chat").text == "le chat DORT"


def test_symbols_that_stand_for_nothing_go(tokenizer: Tokenizer) -> None:
    says: dict[str, str | list[str]] = {"the ⟦0⟧ cat": "le ⟦1⟧ ⟦0⟧ chat"}
    translator, _ = speaking(tokenizer, says, placeholders=True)
    assert translate(translator, "the {x} cat").text == "le {x} chat"


class BreakingEngine(EchoEngine):
    """Writes a half of the one character in ``text`` that its vocabulary lacks."""

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        super().__init__()
        [ids] = tokenizer.encode([text])
        pieces = map(tokenizer.model.id_to_piece, ids)
        last = max(index for index, piece in enumerate(pieces) if re.fullmatch("<0x[8-F].>", piece))
        self.ids = ids[:last] + ids[last + 1 :]

    def hypothesis(self, job: Job, rank: int) -> Hypothesis:  # type: ignore[override]
        written = [*job.prefix, *self.ids]
        attention = np.full((len(written), len(job.source_ids)), 1 / len(job.source_ids), np.float32)
        return replace(super().hypothesis(job, rank), token_ids=written, attention=attention)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("le chat 漢.", "le chat."),
        ("漢 le chat", "le chat"),
        ("le 漢 chat", "le chat"),
        ("le 漢chat", "le chat"),
        ("le cha漢t", "le chat"),
        ("漢", ""),
    ],
)
def test_no_half_of_a_character_comes_out(tokenizer: Tokenizer, written: str, expected: str) -> None:
    translator = started([model(tokenizer, BreakingEngine(tokenizer, written))])
    found = translate(translator, "the cat", attention="weights")
    assert (found.text, found.warnings) == (expected, [BROKEN])
    for token in found.sentences[0].target_tokens or []:
        assert found.text[token.start : token.end] == token.text


def test_numbers_do_not_grow_by_what_is_left_out(tokenizer: Tokenizer) -> None:
    translator = started([model(tokenizer, BreakingEngine(tokenizer, "le 7漢1 chat"))])
    found = translate(translator, "the 7 cat")
    assert found.text == "le 71 chat 7 le 71 chat"
    assert found.warnings == [BROKEN, *lost("number")]


def test_a_prefix_may_have_what_is_no_character(tokenizer: Tokenizer) -> None:
    translator = started([model(tokenizer, BreakingEngine(tokenizer, "chat 漢."))])
    assert translate(translator, "the cat", target_prefix="le \ufffd").text == "le \ufffd chat."


def test_kinds_are_told_and_never_texts(tokenizer: Tokenizer) -> None:
    found = say(tokenizer, "a {secret} b http://secret.com c", {"a 36 b 25 c": "abc"})
    assert found.warnings == lost("placeholder", "url")
    assert "secret" not in "".join(found.warnings)
    assert SPLIT not in found.warnings
