"""Parallel text: read, cleaned, tokenised once, and dealt out in batches by tokens."""

import json
import lzma

import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from models import data
from models.augment import BACKWARD, BOTH, FORWARD, Example
from models.config import AugmentConfig, Config
from models.data import Column, ParallelText, fingerprint
from models.pairs import Pair
from models.tokenizer import BOS, EOS, PAD, Tokenizer

RESERVED = EOS + 1


def write(path, text):
    with lzma.open(path, "wt", encoding="utf-8") if path.suffix == ".xz" else path.open("w", encoding="utf-8") as file:
        file.write(text)
    return path


@given(rows=st.lists(st.lists(st.integers(0, 65_535), max_size=5), max_size=6))
@settings(deadline=None)
def test_column_keeps_its_rows(rows):
    column = Column.pack(iter(rows))
    assert column.tokens.dtype == np.uint16
    assert column.lengths.tolist() == [len(row) for row in rows]
    assert [column[i].tolist() for i in range(len(rows))] == rows


def test_column_refuses_what_does_not_fit():
    with pytest.raises(OverflowError):
        Column.pack([[65_536]])


TAGS = np.array([[101, 102], [101, 103]])


def make_text(lengths, seed=0, ways=None, prepared=(1.0, 1.0)):
    """One pair for each ``(length of first, length of second)``, in corpora ``en-fr/a`` and ``en-de/b`` by turns."""
    random = np.random.default_rng(seed)
    sides = ([random.integers(RESERVED, 100, pair[side]) for pair in lengths] for side in (0, 1))
    first, second = (Column.pack(side) for side in sides)
    corpus = np.arange(len(lengths), dtype=np.uint8) % 2
    ways = np.full(len(lengths), BOTH, np.uint8) if ways is None else np.array(ways, np.uint8)
    return ParallelText((first, second), corpus, ways, ["en-fr/a", "en-de/b"], np.array(prepared), TAGS)


def test_both_directions_of_two_pairs_of_languages():
    columns = Column.pack([[10, 11], [12]]), Column.pack([[20, 21, 22], [30]])
    text = ParallelText(columns, np.arange(2), np.zeros(2), ["en-fr/a", "en-de/b"], np.ones(2), TAGS)
    forward, backward = text.collate([0]), text.collate([1])
    assert forward.source.tolist() == [[102, 10, 11, EOS]]  # into the second language
    assert forward.target.tolist() == [[BOS, 20, 21, 22, EOS]]
    assert backward.source.tolist() == [[101, 20, 21, 22, EOS]]
    assert backward.target.tolist() == [[BOS, 10, 11, EOS]]
    both = text.collate([0, 2, 3])
    assert both.source.tolist() == [[102, 10, 11, EOS], [103, 12, EOS, PAD], [101, 30, EOS, PAD]]
    assert both.source_lengths.tolist() == [4, 3, 3]
    assert both.target.tolist() == [[BOS, 20, 21, 22, EOS], [BOS, 30, EOS, PAD, PAD], [BOS, 12, EOS, PAD, PAD]]


def test_save_and_load(tmp_path):
    text = make_text([(3, 4), (1, 9), (5, 5)], ways=[BOTH, FORWARD, BACKWARD], prepared=(0.5, 1.0))
    text.save(tmp_path / "text.npz")
    loaded = ParallelText.load(tmp_path / "text.npz")
    assert len(loaded) == 6
    assert loaded.names == ["en-fr/a", "en-de/b"]
    assert (loaded.tags.tolist(), loaded.prepared.tolist()) == (TAGS.tolist(), [0.5, 1.0])
    assert loaded.ways.tolist() == [BOTH, FORWARD, BACKWARD]
    assert loaded.pairs() == {"en-fr/a": 2, "en-de/b": 1}
    for example in range(6):
        ours, theirs = text.collate([example]), loaded.collate([example])
        assert ours.source.tolist() == theirs.source.tolist()
        assert ours.target.tolist() == theirs.target.tolist()


def test_alignments_are_read_in_both_directions(tmp_path):
    text = make_text([(3, 4), (2, 2)])
    links = Column.pack([[256 * 0 + 3, 256 * 2 + 1], []])
    np.savez(tmp_path / "alignment.npz", links=links.tokens, offsets=links.offsets)
    aligned = text.aligned(tmp_path / "alignment.npz")
    batch = aligned.collate([2, 0, 1])  # a pair without links, and the other in both directions
    assert batch.links.tolist() == [[1, 1, 2, 2], [3, 1, 0, 2], [1, 3, 4, 2]]  # a source begins with its tag
    assert text.collate([0]).links is None
    assert aligned.collate([2]).links.shape == (3, 0)
    assert batch.to(torch.device("cpu")).links.tolist() == batch.links.tolist()


def test_alignments_of_another_text_are_refused(tmp_path):
    np.savez(tmp_path / "alignment.npz", links=np.zeros(0, np.uint16), offsets=np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="aligns 2 pairs, and there are 3"):
        make_text([(1, 1)] * 3).aligned(tmp_path / "alignment.npz")


def test_alignments_are_of_the_text_and_the_vocabulary_beside_them(tmp_path):
    text, links = make_text([(3, 4)]), Column.pack([[257]])
    text.save(tmp_path / "text.npz")
    (tmp_path / "tokenizer.model").write_bytes(b"one")
    of = np.array(fingerprint(tmp_path))
    np.savez(tmp_path / "alignment.npz", links=links.tokens, offsets=links.offsets, of=of)
    assert text.aligned(tmp_path / "alignment.npz").links is not None
    for name, content in (("tokenizer.model", b"another"), ("text.npz", b"another")):
        old = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"run python -m models\.align label"):
            text.aligned(tmp_path / "alignment.npz")
        (tmp_path / name).write_bytes(old)


def test_load_executes_nothing(tmp_path):
    names = ("first", "first_offsets", "second", "second_offsets", "corpus", "ways", "names", "prepared", "tags")
    np.savez(tmp_path / "text.npz", **{name: np.array([print], dtype=object) for name in names})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        ParallelText.load(tmp_path / "text.npz")


def test_an_epoch_takes_its_share_of_every_corpus_in_both_directions():
    text = make_text([(1, 1)] * 4000)
    examples = text.epoch({"en-fr/a": 1.0, "en-de/b": 0.25}, np.random.default_rng(0))
    pairs, counts = np.unique(examples // 2, return_counts=True)
    assert (counts == 2).all()
    assert len(set(examples.tolist())) == len(examples)
    assert np.count_nonzero(pairs % 2 == 0) == 2000
    assert 420 < np.count_nonzero(pairs % 2) < 580
    again = text.epoch({"en-fr/a": 1.0, "en-de/b": 0.25}, np.random.default_rng(1))
    assert set(examples.tolist()) != set(again.tolist())


def test_an_epoch_makes_up_for_what_was_not_prepared():
    examples = make_text([(1, 1)] * 4000, prepared=(1.0, 0.5)).epoch({"en-de/b": 0.25}, np.random.default_rng(0))
    assert 900 < len(examples) // 2 < 1100  # half of the 2000 pairs, which are half of the corpus


def test_a_pair_is_learnt_in_its_direction_alone():
    text = make_text([(1, 1)] * 3, ways=[BOTH, FORWARD, BACKWARD])
    examples = text.epoch({"en-fr/a": 1.0, "en-de/b": 1.0}, np.random.default_rng(0))
    assert sorted(examples.tolist()) == [0, 1, 2, 5]


def test_a_corpus_that_is_not_named_is_left_out():
    examples = make_text([(1, 1)] * 10).epoch({"en-de/b": 1.0}, np.random.default_rng(0))
    assert sorted(set(examples // 2 % 2)) == [1]


@settings(deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60),
    batch_tokens=st.integers(32, 200),
)
def test_batches_hold_every_example_once_and_never_too_many_tokens(lengths, batch_tokens):
    text = make_text(lengths)
    examples = np.arange(len(text))
    batches = text.batches(examples, batch_tokens, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == examples.tolist()
    for chosen in batches:
        batch = text.collate(chosen.tolist())
        assert batch.source.numel() <= batch_tokens
        assert batch.target.numel() <= batch_tokens


def test_batches_are_full_and_hold_similar_lengths_in_random_order():
    random = np.random.default_rng(0)
    text = make_text([(n, n) for n in random.integers(1, 40, 500).tolist()])
    batches = text.batches(np.arange(len(text)), 400, np.random.default_rng(0))
    sizes = [text.collate(chosen.tolist()).source for chosen in batches]
    assert np.mean([size.numel() for size in sizes]) > 350
    assert np.mean([(size == PAD).float().mean() for size in sizes]) < 0.03
    widths = [size.shape[1] for size in sizes]
    assert widths != sorted(widths)


def test_batches_depend_on_the_seed_alone():
    text = make_text([(3, 3)] * 50)
    one, same, other = (
        [batch.tolist() for batch in text.batches(np.arange(100), 50, np.random.default_rng(seed))]
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_tokenize_leaves_out_long_pairs(tokenizer, configure):
    config = configure("bahdanau").data.model_copy(update={"max_tokens": 12})
    rows = [
        ("A cat.", "Un chat.", "en-fr/home"),
        ("cat " * 20, "chat", "en-fr/home"),
        ("Dog", "Chien", "en-fr/street"),
    ]
    text = data.tokenize([Example(Pair(*row), FORWARD) for row in rows], tokenizer, config)
    assert len(text) == 4
    assert text.pairs() == {"en-fr/home": 1, "en-fr/street": 1}
    assert tokenizer.decode(text.columns[1][1].tolist()) == "Chien"
    assert text.tags.tolist() == [[tokenizer.tag("en"), tokenizer.tag("fr")]] * 2
    assert text.ways.tolist() == [FORWARD] * 2


def configured(configure, fractions, **augment):
    return configure("bahdanau").data.model_copy(update={"fractions": fractions, "augment": AugmentConfig(**augment)})


def test_changed_copies_stay_in_their_corpus(configure):
    pairs = [Pair("A cat.", "Un chat.", "en-fr/x"), Pair("A dog.", "Ein Hund.", "en-de/x")] * 2
    examples = list(data.augment(pairs, configured(configure, {"en-fr": {}}, capitals=1.0, joined=1.0), seed=1))
    assert len(examples) == 12
    assert {example.pair.corpus for example in examples if "HUND" in example.pair.second} == {"en-de/x"}
    assert not any("chat" in example.pair.second and "Hund" in example.pair.second for example in examples)
    assert examples == list(data.augment(pairs, configured(configure, {"en-fr": {}}, capitals=1.0, joined=1.0), seed=1))


@pytest.mark.parametrize(("one_way", "way"), [(["en-fr"], FORWARD), (["fr-en"], BACKWARD)])
def test_one_way_is_the_only_way(configure, one_way, way):
    """The other pair is learnt both ways."""
    pairs = [Pair("A quiet cat.", "Un chat calme.", "en-fr/x"), Pair("A quiet dog.", "Ein ruhiger Hund.", "en-de/x")]
    config = configured(configure, {"en-fr": {}, "en-de": {}}, typos=1.0).model_copy(update={"one_way": one_way})
    examples = list(data.augment(pairs, config, seed=1))
    chosen = [example for example in examples if example.pair.corpus == "en-fr/x"]
    assert [example.way for example in chosen] == [way, way]  # as it is, and misspelt
    assert BOTH in {example.way for example in examples if example.pair.corpus == "en-de/x"}


app = typer.Typer()
app.command()(data.main)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def test_command(tmp_path, toml, corpus):
    twice = write(tmp_path / "again.tsv.xz", corpus.read_text() + "\tempty\thome\n")
    result = run("--config", toml, "--output", tmp_path / "data", corpus, twice)
    assert result.exit_code == 0, result.output
    rows = {
        words[1]: words for line in result.output.splitlines() if len(words := line.replace("│", " │ ").split()) > 5
    }
    text, tokenizer = (
        ParallelText.load(tmp_path / "data" / "text.npz"),
        Tokenizer(tmp_path / "data" / "tokenizer.model"),
    )
    assert text.pairs() == {"en-fr/home": 100, "en-fr/street": 50}  # once each, nothing from elsewhere
    assert rows["en-fr/home"][3:6:2] == ["201", "100"]
    counts = json.loads((tmp_path / "data" / "clean.json").read_text())
    assert counts["en-fr/home"] == {"kept": 100, "repeated": 100, "empty": 1}
    lines = {tuple(line.split("\t")[:2]) for line in corpus.read_text().splitlines()}
    found = {tuple(tokenizer.decode(column[i].tolist()) for column in text.columns) for i in range(150)}
    assert found < lines
    assert len(found) == 150
    assert len(tokenizer) == Config.load(toml).model.vocab_size


def test_command_can_reuse_a_vocabulary(tmp_path, toml, corpus, tokenizer):
    result = run("--config", toml, "--output", tmp_path, "--tokenizer", tokenizer.path, corpus)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tokenizer.model").read_bytes() == tokenizer.path.read_bytes()


def test_alignments_of_the_text_before_are_deleted(tmp_path, toml, corpus):
    (tmp_path / "alignment.npz").write_bytes(b"of what was here")
    assert run("--config", toml, "--output", tmp_path, corpus).exit_code == 0
    assert not (tmp_path / "alignment.npz").exists()


def test_command_says_when_nothing_is_left(tmp_path, toml):
    result = run("--config", toml, "--output", tmp_path / "data", write(tmp_path / "other.tsv", "a\tb\n"))
    assert result.exit_code == 2
    assert "no clean pairs" in result.output
