"""What models read of a sentence."""

from typing import Any

import pytest

from service.parts import Kept, Piece, Stretch
from service.plan import Plan, Planner
from service.registry import Registry
from service.schemas.request import TranslateRequest
from service.text.glossary import Glossary
from service.text.protect import Protected
from service.text.tokens import Tokenizer
from tests.service.fakes import PLACEHOLDERS, EchoEngine, model


def plan(
    tokenizer: Tokenizer, text: str, placeholders: bool = False, terms: dict[str, str] | None = None, **options: object
) -> Plan:
    echo = model(tokenizer, EchoEngine(), placeholders=PLACEHOLDERS if placeholders else [], max_length=100)
    request = TranslateRequest.model_validate({"text": text, "target": "fr", "source": "en"} | options)
    return Planner(Registry([echo]), 0.9, 1000).plan(text, request, glossary=Glossary(terms or {}))


def parts(piece: Piece) -> list[str]:
    """What is read, and in brackets what is kept."""
    return [part.read if isinstance(part, Stretch) else f"[{part.text}]" for part in piece.parts]


def read(tokenizer: Tokenizer, text: str, placeholders: bool = False, **options: Any) -> list[str]:
    return [part for piece in plan(tokenizer, text, placeholders, **options).pieces for part in parts(piece)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the {0} cat, see http://a.b/c.", ["the 36 cat, see 25."]),
        ("the 36 cats of {0}", ["the 36 cats of 25"]),
        ("😀 the cat 🇫🇷 sleeps 😀😀.", ["[😀]", "the cat 36 sleeps", "[😀😀]", "[.]"]),
        ("<b>the cat</b> drinks <i>milk</i>", ["[<b>]", "the cat", "[</b>]", "drinks", "[<i>]", "milk", "[</i>]"]),
        ("the cat😀sleeps", ["the cat", "[😀]", "sleeps"]),
        ("({0}) the x{1}y", ["(36) the x", "[{1}]", "y"]),
        (
            " ".join(f"a {{{number}}}" for number in range(10)),
            ["a 36 a 25 a 64 a 17 a 84 a 96 a 48 a 72 a", "[{8}]", "a 36"],
        ),
    ],
)
def test_spans_are_marks_where_they_can_be(tokenizer: Tokenizer, text: str, expected: list[str]) -> None:
    assert read(tokenizer, text) == expected


def test_a_model_with_symbols_reads_those(tokenizer: Tokenizer) -> None:
    text = "the {0} cat, see http://a.b/c or {1}"
    assert read(tokenizer, text, placeholders=True) == ["the ⟦0⟧ cat, see ⟦1⟧ or", "[{1}]"]
    [stretch] = plan(tokenizer, "the {0} cat", placeholders=True).pieces[0].stretches
    assert PLACEHOLDERS[0] in stretch.ids


@pytest.mark.parametrize(
    "text", ["", "😀", "{0} {1}", "https://a.b/c?d=e! https://a.b", "12:30 — 13,5 %", "(😀)\n{0}."]
)
def test_without_letters_there_is_nothing_to_translate(tokenizer: Tokenizer, text: str) -> None:
    found = plan(tokenizer, text)
    assert found.pieces == []
    assert found.kept(0, len(text)) == text


def test_capitals_are_read_as_small_letters(tokenizer: Tokenizer) -> None:
    [piece] = plan(tokenizer, "😀 THE CAT AND I SLEEP {X}, 12").pieces
    assert parts(piece) == ["[😀]", "The cat and I sleep 36, 12"]
    assert piece.is_capital
    assert piece.stretches[0].text == "THE CAT AND I SLEEP {X}, 12"


def test_accents_typed_for_apostrophes_are_read_as_these(tokenizer: Tokenizer) -> None:
    assert read(tokenizer, "the cat´s table, l`eau and `cat` 5´") == ["the cat's table, l'eau and 36 25"]


def test_rare_hyphens_and_quotation_marks_are_read_as_usual_ones(tokenizer: Tokenizer) -> None:
    assert read(tokenizer, "‹the cat› and ‚red‐table‘ of\u2011") == ["«the cat» and „red-table‘ of-"]


@pytest.mark.parametrize("unseen", ["\u00ad", "\u200d", "\u2060", "\u2068", "\x00", "\x9d"])
def test_what_nobody_sees_is_read_over(tokenizer: Tokenizer, unseen: str) -> None:
    text = f"{unseen}the ta{unseen}{unseen}ble of {unseen}{{x}}{unseen}"
    [piece] = plan(tokenizer, text).pieces
    [stretch] = piece.stretches
    assert [stretch.ids] == tokenizer.encode(["the table of 36"])
    assert stretch.text == text
    assert stretch.items[0].span.text == "{x}"


def test_numbers_and_terms_are_read_as_they_are(tokenizer: Tokenizer) -> None:
    [piece] = plan(tokenizer, "The cat drinks 2 litres, {0}", terms={"CAT": "x", "cat": "matou"}).pieces
    [stretch] = piece.stretches
    assert stretch.read == "The cat drinks 2 litres, 36"
    assert [(item.span.text, item.mark) for item in stretch.items] == [("{0}", "36"), ("matou", None), ("2", None)]
    assert len(stretch.free) == 2


@pytest.mark.parametrize(
    ("text", "term", "expected"),
    [
        ("😀 .cat sleeps", ".cat", ["[😀]", ".cat sleeps"]),
        ("😀 (cat), 😀", "cat)", ["[😀]", "[(]", "cat)", "[,]", "[😀]"]),
        ("the cat 12% 😀", "12%", ["the cat 12%", "[😀]"]),
    ],
)
def test_no_term_is_cut_where_a_span_is(tokenizer: Tokenizer, text: str, term: str, expected: list[str]) -> None:
    [piece] = plan(tokenizer, text, terms={term: "matou"}).pieces
    assert parts(piece) == expected
    assert [item.span.text for item in piece.stretches[0].items] == ["matou"]


def test_what_is_lost_becomes_a_mark_and_then_a_cut(tokenizer: Tokenizer) -> None:
    found = plan(tokenizer, "on 12/05/2021 the cat had {0} in 30 000 {1}.", terms={"cat": "matou"})
    assert found.cutter is not None
    [piece] = found.pieces
    items = {item.span.text: item for item in piece.stretches[0].items}
    second = found.cutter.again(piece, [items["matou"], items["{1}"], items["05"]])
    assert parts(second) == ["on 36 the 25 had 64 in 30 000", "[{1}]", "[.]"]
    assert [(item.span.text, item.mark) for item in second.stretches[0].items] == [
        ("12/05/2021", "36"),
        ("matou", "25"),
        ("{0}", "64"),
        ("30 000", None),
    ]
    third = found.cutter.again(second, [second.stretches[0].items[0]])
    assert parts(third) == ["on", "[12/05/2021]", "the", "[matou]", "had", "[{0}]", "in", "[30 000]", "[{1}]", "[.]"]
    assert not any(stretch.items for stretch in third.stretches)
    assert (piece.attempt, second.attempt, third.attempt) == (1, 2, 3)


def test_a_piece_can_come_to_have_nothing_to_translate(tokenizer: Tokenizer) -> None:
    found = plan(tokenizer, "5km")
    assert found.cutter is not None
    [piece] = found.pieces
    third = found.cutter.again(found.cutter.again(piece, piece.stretches[0].items), [])
    assert third.parts == [Kept(0, 3, "5km")]


def test_what_is_too_long_is_cut_outside_of_spans(tokenizer: Tokenizer) -> None:
    text = "the {a} cat sleeps " * 40
    found = plan(tokenizer, text)
    assert len(found.pieces) > 3
    for piece in found.pieces:
        for stretch in piece.stretches:
            assert len(stretch.ids) <= 98
            assert text[stretch.start : stretch.end].count("{") == text[stretch.start : stretch.end].count("}")
            assert len(stretch.items) == stretch.text.count("{a}")


def test_a_sentence_of_many_parts_is_several_pieces(tokenizer: Tokenizer) -> None:
    found = plan(tokenizer, "x{0}" * 1000, split_sentences="none")
    assert sum(len(piece.stretches) for piece in found.pieces) == 1000
    assert all(piece.size <= 2 * 98 for piece in found.pieces)


def test_what_is_given_stands_in_the_text(tokenizer: Tokenizer) -> None:
    echo = model(tokenizer, EchoEngine())
    given = [Protected(0, 3, "THE", "markup"), Protected(8, 13, "", "markup")]
    request = TranslateRequest(text="x", target="fr", source="en")
    found = Planner(Registry([echo]), 0.9, 1000).plan("the cat. a. b the", request, given)
    assert [parts(piece) for piece in found.pieces] == [["36 cat."], ["36 the"]]
    assert found.kept(0, 17) == "THE cat. the"


def test_terms_and_spans_make_no_detour(tokenizer: Tokenizer) -> None:
    """A term inside an address is none."""
    [piece] = plan(tokenizer, "the cat of http://cat.com/cat", terms={"cat": "matou"}).pieces
    assert [(item.span.text, item.mark) for item in piece.stretches[0].items] == [
        ("http://cat.com/cat", "36"),
        ("matou", None),
    ]
