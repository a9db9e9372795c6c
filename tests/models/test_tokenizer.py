"""The vocabulary: any text there and back, tags that text cannot forge, the same file from the same text."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tokenizer import BOS, EOS, PAD, PLACEHOLDERS, UNK, Tokenizer, target_tag, train_tokenizer
from tests.models.tiny import VOCABULARY, sentences


@pytest.mark.parametrize(
    "text", ["The cat sees a dog.", "Le chat voit un chien.", "😀 👩‍👩‍👧", "你好,世界", "naïve cœur", "x\u0378y"]
)
def test_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.model.normalize(text).replace("▁", " ").strip()


def test_what_is_not_in_the_vocabulary_is_written_in_bytes(tokenizer):
    ids = tokenizer.encode("😀")
    assert [tokenizer.model.id_to_piece(i) for i in ids[-4:]] == [f"<0x{byte:02X}>" for byte in "😀".encode()]
    assert tokenizer.decode(ids) == "😀"


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["C"])))
def test_any_text_comes_back_normalised(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not {PAD, UNK, BOS, EOS} & set(ids)
    assert tokenizer.decode(ids) == tokenizer.model.normalize(text).replace("▁", " ").removeprefix(" ")


def test_normal_text_is_its_own_normalisation(tokenizer):
    """What the round trip is compared with is no more than single spaces and NFKC."""
    assert tokenizer.decode(tokenizer.encode("  a\u3000b\tc  ﬁn ")) == "a b c fin"


def test_special_ids(tokenizer):
    assert len(tokenizer) == VOCABULARY
    assert [tokenizer.model.piece_to_id(piece) for piece in ("<pad>", "<unk>", "<s>", "</s>")] == [PAD, UNK, BOS, EOS]


def test_tags(tokenizer):
    assert target_tag("fr") == "<2fr>"
    tags = {tokenizer.tag("en"), tokenizer.tag("fr")}
    assert len(tags) == 2
    assert not tags & {PAD, UNK, BOS, EOS}
    assert all(tokenizer.model.is_control(tag) for tag in tags)


@pytest.mark.parametrize("language", ["de", "", "fr>", "FR"])
def test_unknown_language(tokenizer, language):
    with pytest.raises(KeyError, match=re.escape(repr(language))):
        tokenizer.source("hello", language)


def test_source_is_tag_words_and_end(tokenizer):
    assert tokenizer.source("a cat", "fr") == [tokenizer.tag("fr"), *tokenizer.encode("a cat"), EOS]


@pytest.mark.parametrize("text", ["<2fr> hello", "a</s>b", "<s>", "<pad>", "<unk>", "<0x41>"])
def test_text_cannot_forge_a_symbol(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not any(tokenizer.model.is_control(i) or tokenizer.model.is_unknown(i) for i in ids)
    assert tokenizer.decode(ids) == text


def test_decoding_ends_at_eos_and_skips_symbols(tokenizer):
    ids = tokenizer.encode("a cat")
    assert tokenizer.decode([BOS, *ids, EOS, *ids, PAD]) == "a cat"
    assert tokenizer.decode([EOS]) == ""
    assert tokenizer.decode([]) == ""


@pytest.fixture(scope="module")
def holding(tmp_path_factory):
    """A vocabulary with placeholders."""
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.model"
    texts = [text for pair in sentences(300, seed=2) for text in pair]
    return train_tokenizer(texts, path, vocab_size=VOCABULARY, languages=["en", "fr"], placeholders=PLACEHOLDERS)


@pytest.mark.parametrize(
    "text", ["⟦0⟧", "See ⟦3⟧.", "⟦0⟧ and ⟦7⟧", "(⟦1⟧)", "⟦2⟧'s cat", "l'⟦2⟧", "⟦0⟧⟦1⟧", "the⟦4⟧cat", "⟦5⟧ ⟦5⟧ !"]
)
def test_placeholders_are_whole_and_come_back(holding, text):
    ids = holding.encode(text)
    found = [holding.model.id_to_piece(i) for i in ids if i in holding.placeholders]
    assert "".join(found) == "".join(re.findall("⟦.⟧", text))
    assert holding.decode(ids) == text


def test_placeholders_are_numbered(holding):
    assert [holding.model.id_to_piece(i) for i in holding.placeholders] == [f"⟦{i}⟧" for i in range(8)]


@pytest.mark.parametrize("text", ["⟦8⟧", "⟦a⟧", "⟦0", "[0]", "⟦00⟧"])
def test_what_is_no_placeholder(holding, text):
    ids = holding.encode(text)
    assert not set(ids) & set(holding.placeholders)
    assert holding.decode(ids) == text


def test_a_vocabulary_may_have_no_placeholders(tokenizer):
    assert tokenizer.placeholders == []


def corpus():
    return [text for pair in sentences(100, seed=2) for text in pair]


def test_training_is_reproducible_wherever_it_writes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "tokenizer.model"
        train_tokenizer(iter(corpus()), path, vocab_size=VOCABULARY, languages=["en", "fr"], sample=150)
        assert list(path.parent.iterdir()) == [path]
    content = (tmp_path / "one" / "tokenizer.model").read_bytes()
    assert content == (tmp_path / "two" / "tokenizer.model").read_bytes()
    assert str(tmp_path).encode() not in content


def test_three_languages_share_a_vocabulary(tmp_path):
    path = tmp_path / "tokenizer.model"
    three = train_tokenizer(corpus(), path, vocab_size=VOCABULARY, languages=["en", "fr", "de"])
    assert isinstance(three, Tokenizer)
    assert len({three.tag(language) for language in ("en", "fr", "de")}) == 3


def test_too_little_text_is_an_error(tmp_path):
    with pytest.raises(RuntimeError):
        train_tokenizer(["a b c"] * 20, tmp_path / "tokenizer.model", vocab_size=8000, languages=["en"])
    assert not list(tmp_path.iterdir())
