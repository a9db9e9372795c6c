"""Parallel text: read, cleaned, tokenised once, and dealt out in batches by tokens."""

import lzma

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from models import data
from models.config import Config
from models.data import Column, Pair, ParallelText, is_clean, read_pairs
from models.tokenizer import BOS, EOS, PAD, Tokenizer

RESERVED = EOS + 1


def write(path, text):
    with lzma.open(path, "wt", encoding="utf-8") if path.suffix == ".xz" else path.open("w", encoding="utf-8") as file:
        file.write(text)
    return path


@pytest.mark.parametrize("name", ["news.tsv", "news.tsv.xz"])
def test_read_pairs(tmp_path, name):
    path = write(tmp_path / name, " A cat. \tUn chat.\ttatoeba\textra\nÉté\t夏\n\tx\ty\n")
    assert list(read_pairs([path])) == [
        Pair("A cat.", "Un chat.", "tatoeba"),
        Pair("Été", "夏", "news"),  # without a third column the corpus is the file
        Pair("", "x", "y"),
    ]


def test_read_pairs_goes_through_all_files(tmp_path):
    paths = [write(tmp_path / name, f"{name}\tx\n") for name in ("b.tsv", "a.tsv.xz")]
    assert [pair.corpus for pair in read_pairs(paths)] == ["b", "a"]


def test_windows_line_ends_are_not_part_of_the_corpus(tmp_path):
    path = tmp_path / "windows.tsv"
    path.write_bytes(b"a\tb\tc\r\n")
    assert list(read_pairs([path])) == [Pair("a", "b", "c")]


def test_a_line_with_one_column_is_named(tmp_path):
    path = write(tmp_path / "broken.tsv.xz", "a\tb\nno second column\n")
    with pytest.raises(ValueError, match=r"broken\.tsv\.xz:2: expected two tab-separated columns"):
        list(read_pairs([path]))


@pytest.mark.parametrize(
    ("first", "second", "clean"),
    [
        ("A cat.", "Un chat.", True),
        ("", "Un chat.", False),
        ("A cat.", "", False),
        ("Paris", "Paris", True),  # names are the same in both languages
        ("This was never translated.", "this was never translated.", False),
        ("a" * 10, "b" * 45, True),
        ("a" * 10, "b" * 46, False),
        ("b" * 46, "a" * 10, False),
    ],
)
def test_is_clean(first, second, clean):
    assert is_clean(Pair(first, second, "x")) is clean


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


def make_text(lengths, seed=0):
    """One pair for each ``(length of first, length of second)``, in corpora ``a`` and ``b`` by turns."""
    random = np.random.default_rng(seed)
    sides = ([random.integers(RESERVED, 100, pair[side]) for pair in lengths] for side in (0, 1))
    first, second = (Column.pack(side) for side in sides)
    return ParallelText((first, second), np.arange(len(lengths), dtype=np.uint8) % 2, ["a", "b"], (101, 102))


def test_both_directions():
    text = ParallelText(
        (Column.pack([[10, 11]]), Column.pack([[20, 21, 22]])), np.zeros(1, np.uint8), ["a"], (101, 102)
    )
    forward, backward = text.collate([0]), text.collate([1])
    assert forward.source.tolist() == [[102, 10, 11, EOS]]  # into the second language
    assert forward.target.tolist() == [[BOS, 20, 21, 22, EOS]]
    assert backward.source.tolist() == [[101, 20, 21, 22, EOS]]
    assert backward.target.tolist() == [[BOS, 10, 11, EOS]]
    both = text.collate([0, 1])
    assert both.source.tolist() == [[102, 10, 11, EOS, PAD], [101, 20, 21, 22, EOS]]
    assert both.source_lengths.tolist() == [4, 5]
    assert both.target.tolist() == [[BOS, 20, 21, 22, EOS], [BOS, 10, 11, EOS, PAD]]


def test_save_and_load(tmp_path):
    text = make_text([(3, 4), (1, 9), (5, 5)])
    text.save(tmp_path / "text.npz")
    loaded = ParallelText.load(tmp_path / "text.npz")
    assert len(loaded) == 6
    assert (loaded.names, loaded.tags) == (["a", "b"], (101, 102))
    assert loaded.pairs() == {"a": 2, "b": 1}
    for example in range(6):
        for ours, theirs in zip(text.collate([example]), loaded.collate([example]), strict=True):
            assert ours.tolist() == theirs.tolist()


def test_load_executes_nothing(tmp_path):
    names = ("first", "first_offsets", "second", "second_offsets", "corpus", "names", "tags")
    np.savez(tmp_path / "text.npz", **{name: np.array([print], dtype=object) for name in names})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        ParallelText.load(tmp_path / "text.npz")


def test_an_epoch_takes_its_share_of_every_corpus_in_both_directions():
    text = make_text([(1, 1)] * 4000)
    examples = text.epoch({"a": 1.0, "b": 0.25}, np.random.default_rng(0))
    pairs, counts = np.unique(examples // 2, return_counts=True)
    assert (counts == 2).all()
    assert len(set(examples.tolist())) == len(examples)
    assert np.count_nonzero(pairs % 2 == 0) == 2000
    assert 420 < np.count_nonzero(pairs % 2) < 580
    again = text.epoch({"a": 1.0, "b": 0.25}, np.random.default_rng(1))
    assert set(examples.tolist()) != set(again.tolist())


def test_a_corpus_that_is_not_named_is_left_out():
    examples = make_text([(1, 1)] * 10).epoch({"b": 1.0}, np.random.default_rng(0))
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
    pairs = [Pair("A cat.", "Un chat.", "home"), Pair("cat " * 20, "chat", "home"), Pair("Dog", "Chien", "street")]
    text = data.tokenize(pairs, tokenizer, config)
    assert len(text) == 4
    assert text.pairs() == {"home": 1, "street": 1}
    assert tokenizer.decode(text.columns[1][1].tolist()) == "Chien"
    assert text.tags == (tokenizer.tag("en"), tokenizer.tag("fr"))


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
    assert text.pairs() == {"home": 100, "street": 50}  # once each, nothing from elsewhere
    assert rows["home"][3:8:2] == ["201", "200", "100"]
    lines = [line.split("\t") for line in corpus.read_text().splitlines()]
    for i in (0, 70, 149):
        assert [tokenizer.decode(column[i].tolist()) for column in text.columns] == lines[i][:2]
    assert len(tokenizer) == Config.load(toml).model.vocab_size


def test_command_can_reuse_a_vocabulary(tmp_path, toml, corpus, tokenizer):
    result = run("--config", toml, "--output", tmp_path, "--tokenizer", tokenizer.path, corpus)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tokenizer.model").read_bytes() == tokenizer.path.read_bytes()


def test_command_says_when_nothing_is_left(tmp_path, toml):
    result = run("--config", toml, "--output", tmp_path / "data", write(tmp_path / "other.tsv", "a\tb\n"))
    assert result.exit_code == 2
    assert "no clean pairs" in result.output
