import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.text.tokens import Edit, Moves, Pieces, Token, Tokenizer

CHARACTERS = (
    st.sampled_from("the cat.,!' \t\u00a0éÉ😀👩\u200dﬁ½ｆ①漢\u0301\ufdfa\x00\x01\u00ad▁\ufffd<2fr>") | st.characters()
)
MIXED = st.text(CHARACTERS, max_size=40)


def texts(tokens: list[Token]) -> list[str]:
    return [token.text for token in tokens]


def check(found: Pieces, tokens: list[Token]) -> None:
    """In order, apart, inside the text, nothing but white space trimmed; every sub-word in exactly one."""
    position = piece = 0
    for token in tokens:
        assert position <= token.start < token.end <= len(found.text)
        assert token.text == found.text[token.start : token.end] == token.text.strip()
        assert token.first == piece < token.last
        position, piece = token.end, token.last
    if tokens:
        assert piece == len(found.ids)


@given(text=MIXED)
def test_spans_of_any_text(tokenizer: Tokenizer, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    found = tokenizer.pieces(text)
    assert found.ids == tokenizer.encode([text])[0]
    for tokens in (found.subwords(), found.words()):
        check(found, tokens)
        covered = {index for token in tokens for index in range(token.start, token.end)}
        left = [c for index, c in enumerate(text) if index not in covered]
        # What no span covers is white space, or what the normaliser drops, or takes for it, at the end of a text.
        assert all(c.isspace() or c in "▁\ufffd" or unicodedata.category(c)[0] in "CZM" for c in left)


@given(numbers=st.lists(st.integers(0, 10_000), max_size=30))
def test_spans_of_any_translation(tokenizer: Tokenizer, numbers: list[int]) -> None:
    ids = [number % tokenizer.model.get_piece_size() for number in numbers]
    found = tokenizer.decode(ids)
    assert found.text == found.text.strip() == tokenizer.model.decode(ids).strip()
    for tokens in (found.subwords(), found.words()):
        check(found, tokens)


@given(text=MIXED, numbers=st.lists(st.integers(0, 10_000), max_size=10), lost=st.integers(0, 3))
def test_spans_of_any_translation_that_begins_with_a_prefix(
    tokenizer: Tokenizer, text: str, numbers: list[int], lost: int
) -> None:
    text = text.encode("utf-8", "replace").decode().strip()
    prefix = tokenizer.pieces(text)
    ids = [*prefix.ids, *(number % tokenizer.model.get_piece_size() for number in numbers)]
    ids = ids[: len(ids) - lost]
    found = tokenizer.decode(ids, prefix)
    assert found.text.startswith(text)
    assert found.ids == ids
    for tokens in (found.subwords(), found.words()):
        check(found, tokens)
    if len(ids) > len(prefix.ids) and prefix.ids:
        whole, own = tokenizer.decode(ids).text, tokenizer.decode(prefix.ids).text
        assert found.text == text + whole[len(own) :]


def test_a_prefix_that_ends_inside_a_word(tokenizer: Tokenizer) -> None:
    # Encoded as a whole, other sub-words would stand where the prefix ends.
    prefix = tokenizer.pieces("une tabl")
    found = tokenizer.decode([*prefix.ids, *map(tokenizer.model.piece_to_id, ["e", "."])], prefix)
    assert found.ids != tokenizer.pieces(found.text).ids
    assert [(word.text, word.start, word.end) for word in found.words()] == [
        ("une", 0, 3),
        ("table", 4, 9),
        (".", 9, 10),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the cat sleeps.", ["the", "cat", "sleeps", "."]),
        ("  the   cat  ", ["the", "cat"]),
        ("« le chat ! »", ["«", "le", "chat", "!", "»"]),
        ("(the 'red' cat)...", ["(", "the", "'", "red", "'", "cat", ")..."]),
        ("l'eau, 3.14 dix-sept", ["l'eau", ",", "3.14", "dix-sept"]),
        ("😀 cat 👩\u200d👧", ["😀", "cat", "👩\u200d👧"]),
        ("ｃａｔ ½ ﬁn", ["ｃａｔ", "½", "ﬁn"]),
        ("e\u0301te\u0301 \ufdfa", ["e\u0301te\u0301", "\ufdfa"]),
        ("a\x00b", ["a\x00b"]),
    ],
)
def test_words(tokenizer: Tokenizer, text: str, words: list[str]) -> None:
    assert texts(tokenizer.pieces(text).words()) == words


def test_bytes_of_a_character_are_one_subword(tokenizer: Tokenizer) -> None:
    found = tokenizer.pieces("cat 😀")
    assert len(found.ids) > len(found.subwords())
    assert texts(found.subwords())[-1] == "😀"


def test_decode_gives_back_the_text(tokenizer: Tokenizer) -> None:
    text = "the cat drinks 😀 milk."
    [ids] = tokenizer.encode([text])
    assert texts(tokenizer.decode(ids).words()) == texts(tokenizer.pieces(text).words())


@given(text=MIXED.map(lambda text: text * 20), limit=st.integers(60, 100))
def test_split_keeps_to_the_limit_and_loses_nothing(tokenizer: Tokenizer, text: str, limit: int) -> None:
    text = text.encode("utf-8", "replace").decode()
    bounds = tokenizer.split(text, limit)
    assert all(len(tokenizer.encode([text[start:end]])[0]) <= limit for start, end in bounds)
    assert all(before[1] <= after[0] for before, after in pairwise(bounds))
    covered = "".join(text[start:end] for start, end in bounds)
    seen = "".join(token.text for token in tokenizer.pieces(text).subwords())
    assert len(covered) >= len(seen) - text.count(" ")


@given(
    text=MIXED,
    cuts=st.lists(st.integers(0, 60), max_size=8),
    puts=st.lists(st.text(max_size=4), min_size=4, max_size=4),
)
def test_edited_pieces(tokenizer: Tokenizer, text: str, cuts: list[int], puts: list[str]) -> None:
    text = text.encode("utf-8", "replace").decode()
    borders = sorted({cut for cut in cuts if cut <= len(text)})
    edits = [Edit(start, end, put) for start, end, put in zip(borders[::2], borders[1::2], puts, strict=False)]
    found = tokenizer.pieces(text).edited(edits)
    plain, position = "", 0
    for edit in edits:
        plain += text[position : edit.start] + edit.text
        position = edit.end
    assert found.text == plain + text[position:]
    assert [found.text[start:end] for start, end in found.atoms] == [edit.text for edit in edits if edit.text]
    for tokens in (found.subwords(), found.words()):
        place = piece = 0
        for token in tokens:
            assert place <= token.start < token.end <= len(found.text)
            assert token.text == found.text[token.start : token.end]
            assert token.first == piece < token.last
            place, piece = token.end, token.last
            # A token is an atom, or has no part in one.
            assert all(
                (token.start, token.end) == atom or token.end <= atom[0] or atom[1] <= token.start
                for atom in found.atoms
            )


def test_what_is_put_in_is_one_token(tokenizer: Tokenizer) -> None:
    found = tokenizer.pieces("the cat36 sleeps, 36.").edited([Edit(7, 9, " {x y}"), Edit(18, 20, "https://a.b/c")])
    assert texts(found.words()) == ["the", "cat", " {x y}", "sleeps", ",", "https://a.b/c", "."]
    assert found.text == "the cat {x y} sleeps, https://a.b/c."


def test_positions_after_edits() -> None:
    moves = Moves([Edit(2, 4, "abcde"), Edit(6, 9, "")])
    assert [moves.start(position) for position in range(11)] == [0, 1, 2, 2, 7, 8, 9, 9, 9, 9, 10]
    assert [moves.end(position) for position in range(11)] == [0, 1, 2, 7, 7, 8, 9, 9, 9, 9, 10]


def test_split_cuts_no_atom(tokenizer: Tokenizer) -> None:
    text = "cat36" * 100
    atoms = [(index, index + 2) for index in range(3, 500, 5)]
    bounds = tokenizer.split(text, 40, atoms)
    assert "".join(text[start:end] for start, end in bounds) == text
    assert not {border for pair in bounds for border in pair} & {start + 1 for start, _ in atoms}


def test_split_cuts_where_a_word_begins(tokenizer: Tokenizer) -> None:
    text = "the cat sleeps on the red table " * 30
    parts = [text[start:end] for start, end in tokenizer.split(text, 40)]
    assert " ".join(parts) == text.strip()
    assert len(parts) < 30


def test_split_cuts_where_a_clause_begins(tokenizer: Tokenizer) -> None:
    text = "the cat sleeps, the dog drinks milk and eats bread on the table"
    first, *_ = tokenizer.split(text, len(tokenizer.pieces(text).ids) - 6)
    assert text[slice(*first)] == "the cat sleeps, the dog drinks milk and eats bread on"
    with_comma = text.replace("milk and", "milk, and")
    first, *_ = tokenizer.split(with_comma, len(tokenizer.pieces(with_comma).ids) - 6)
    assert with_comma[slice(*first)] == "the cat sleeps, the dog drinks milk,"


def test_split_cuts_a_word_without_end(tokenizer: Tokenizer) -> None:
    text = "cat" * 500
    assert "".join(text[start:end] for start, end in tokenizer.split(text, 40)) == text
