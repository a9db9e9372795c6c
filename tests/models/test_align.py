"""Alignments: of words by hand, of sub-words by a lexicon or by attention, and how far from each other they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models import align
from models.align import (
    Gold,
    Speller,
    attended,
    attention,
    error_rate,
    error_rates,
    explained,
    links_of,
    packed,
    places,
    read_gold,
    symmetrized,
    units,
)  # fmt: skip
from models.config import MOST_ALIGNED
from models.data import Batch, Column, ParallelText
from models.tokenizer import BOS, EOS, PAD
from models.translator import Translator
from tests.models.tiny import WORDS, sentences


def test_read_gold(tmp_path):
    path = tmp_path / "gold.en-fr.tsv"
    path.write_text("it is so\tc' est ça\t1-1 2p2 3-3 1p2\nyes\toui\t\n", encoding="utf-8")
    first, second = read_gold(path)
    assert first == Gold(["it", "is", "so"], ["c'", "est", "ça"], {(0, 0), (2, 2)}, {(0, 0), (1, 1), (2, 2), (0, 1)})
    assert (second.sure, second.possible) == (set(), set())


@pytest.mark.parametrize("line", ["a\tb", "a\tb\t1", "a\tb\t1-x", "a\tb\t1-1-1"])
def test_what_is_no_gold_is_named(tmp_path, line):
    path = tmp_path / "gold.tsv"
    path.write_text(f"a\tb\t1-1\n{line}\n")
    with pytest.raises(ValueError, match=r"gold\.tsv:2: "):
        read_gold(path)


def test_error_rate():
    gold = [Gold(["a"], ["b"], {(0, 0), (1, 1)}, {(0, 0), (1, 1), (1, 2)})]
    assert error_rate([{(0, 0), (1, 1)}], gold) == 0
    assert error_rate([{(0, 0), (1, 1), (1, 2)}], gold) == 0  # possible links cost nothing
    assert error_rate([{(2, 2)}], gold) == 100
    assert error_rate([{(0, 0)}], gold) == pytest.approx(100 * (1 - 2 / 3))
    assert error_rate([{(0, 0), (1, 1)}, {(5, 5)}], gold * 2) == pytest.approx(100 * (1 - 4 / 7))


def test_symmetrized():
    both = {(0, 0)}
    assert symmetrized(both | {(1, 1)}, both | {(4, 4)}) == {(0, 0), (1, 1)}  # a neighbour, and none
    assert symmetrized(both | {(1, 1), (2, 2)}, both) == {(0, 0), (1, 1), (2, 2)}  # of a neighbour
    assert symmetrized({(0, 0), (1, 1), (1, 0)}, {(0, 0), (1, 1)}) == {(0, 0), (1, 1)}  # neither word lacks a link
    assert symmetrized({(0, 0), (1, 0)}, {(0, 0)}) == {(0, 0), (1, 0)}
    assert symmetrized({(1, 1)}, {(2, 2)}) == set()


def test_every_target_is_linked_with_the_source_it_looks_at_most():
    forward, backward = np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]]), np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    assert links_of(forward, backward) == ({(1, 0), (0, 1), (1, 2)}, {(0, 1), (1, 2)})


class Looking(Translator):
    """Looks at source position ``t + 1`` in step ``t``, or two places further on from the second sentence on."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, source, source_lengths, target):
        (B, S), T = source.shape, target.shape[1]
        weights = torch.zeros(B, T, S)
        for b in range(B):
            for t in range(T):
                weights[b, t, min(t + 1 + 2 * (b > 0), S - 1)] = 1
        return torch.zeros(B, T, 1), weights


@pytest.mark.parametrize("shift", [0, 1])
def test_attention_is_that_of_the_words_at_the_step_that_aligns_them(configure, shift):
    model = Looking(configure("bahdanau").model.model_copy(update={"alignment_shift": shift}))
    source = torch.tensor([[4, 10, 11, 12, EOS], [4, 10, EOS, PAD, PAD]])
    target = torch.tensor([[BOS, 20, 21, EOS], [BOS, 22, EOS, PAD]])
    batch = Batch(source, torch.tensor([5, 3]), target)
    first, second = attention(model, batch)
    assert (first.shape, second.shape) == ((2, 3), (1, 1))
    assert first.argmax(1).tolist() == [shift, 1 + shift]
    assert second.tolist() == [[0.0]]  # it looks at what is no word


def test_words_from_sub_words(tokenizer):
    source, target = ["the", "unhouse", "cat"], ["chatmaison", "x"]
    speller = Speller(tokenizer)
    batch = speller.batch(source, target, "fr")
    assert batch.source[0].tolist() == [tokenizer.tag("fr"), *tokenizer.encode("the unhouse cat"), EOS]
    assert batch.target[0].tolist() == [BOS, *tokenizer.encode("chatmaison x"), EOS]
    sizes = [[len(tokenizer.encode(word)) for word in side] for side in (target, source)]
    weights = np.arange(sum(sizes[0]) * sum(sizes[1]), dtype=float).reshape(sum(sizes[0]), sum(sizes[1]))
    merged = speller.merged(weights, source, target)
    assert merged.shape == (2, 3)
    corner = weights[: sizes[0][0], : sizes[1][0]].sum() / weights[: sizes[0][0]].sum()
    assert merged[0, 0] == pytest.approx(corner)
    assert merged.sum(1).tolist() == pytest.approx([1, 1])


def test_error_rates_of_a_model(model, tokenizer):
    gold = [
        Gold(first.split(), second.split(), {(i, i) for i in range(len(first.split()))}, {(0, 0)})
        for first, second in sentences(5, seed=8)
        if len(first.split()) == len(second.split())
    ]
    rates = error_rates(model, tokenizer, gold, ("en", "fr"))
    assert len(rates) == 3
    assert all(0 < rate <= 100 for rate in rates)


def test_places_to_look_at(configure):
    transformer = list(places(configure("transformer").model))
    assert len({config.model_dump_json() for config in transformer}) == len(transformer) == 2 * 2 * 3
    assert [config.alignment_shift for config in places(configure("bahdanau").model)] == [0, 1]


def test_units():
    pieces = ["▁the", "▁gar", "den", "'", "s", "▁", "⟦0⟧", ".", "▁o", "ui"]
    assert units(pieces) == [[0], [1, 2], [3], [4], [5, 6], [7], [8, 9]]
    assert units([]) == []


def test_units_are_the_words_and_signs_of_a_text(tokenizer):
    text = "The cat'house today."
    column = Column.pack([tokenizer.encode(text)])
    spelled = align.Spelled(column, np.array([0]), tokenizer)
    assert spelled.words == [["The", "cat", "'", "house", "today", "."]]


@pytest.fixture
def text(prepared):
    return ParallelText.load(prepared / "text.npz")


def test_a_lexicon_aligns_the_sub_words_of_words_that_translate_each_other(text, tokenizer):
    pairs = np.arange(0, len(text.corpus), 2)
    found = dict(explained(text, tokenizer, pairs))
    assert sorted(found) == pairs.tolist()
    right = wrong = 0
    for pair, links in found.items():
        sides = [align.Spelled(column, np.array([pair]), tokenizer) for column in text.columns]
        word = [
            {place: word for unit, word in zip(s.units[0], s.words[0], strict=True) for place in unit} for s in sides
        ]
        for i, j in links:
            source = word[0][i].casefold()
            wanted = WORDS.get(source, source)
            right, wrong = right + (word[1][j].casefold() in wanted), wrong + (word[1][j].casefold() not in wanted)
    assert right > 100
    assert right > 5 * wrong


def test_a_model_aligns_what_it_attends_to_in_both_directions(model, text):
    pairs = np.array([3, 5, 8])
    found = dict(attended(model, text, pairs))
    assert set(found) == {3, 5, 8}
    [forward], [backward] = (attention(model, text.collate([2 * 5 + way])) for way in (0, 1))
    there, back = links_of(forward, backward)
    assert found[5] == there & back


def test_packed_links_are_those_of_the_batches(text, tmp_path):
    links = packed([(1, {(0, 2), (1, 0)}), (3, set())], len(text.corpus))
    np.savez(tmp_path / "alignment.npz", links=links.tokens, offsets=links.offsets)
    batch = text.aligned(tmp_path / "alignment.npz").collate([2, 3])
    assert sorted(batch.links[:, batch.links[0] == 0].T.tolist()) == [[0, 0, 2], [0, 2, 1]]
    assert sorted(batch.links[:, batch.links[0] == 1].T.tolist()) == [[1, 0, 3], [1, 1, 1]]


def test_links_of_the_longest_sentences_that_can_be_aligned(tmp_path):
    last = MOST_ALIGNED - 1
    sides = Column.pack([[9] * MOST_ALIGNED]), Column.pack([[9] * MOST_ALIGNED])
    one = np.zeros(1, np.uint8)
    text = ParallelText(sides, one, one, ["en-fr/home"], np.ones(1), np.array([[4, 5]]))
    links = packed([(0, {(3, last), (last, last)})], 1)
    np.savez(tmp_path / "alignment.npz", links=links.tokens, offsets=links.offsets)
    batch = text.aligned(tmp_path / "alignment.npz").collate([0])
    assert batch.links is not None
    assert batch.links.T.tolist() == [[0, last, 4], [0, last, last + 1]]


def invoke(*arguments):
    return CliRunner().invoke(align.app, [str(argument) for argument in arguments], env={"COLUMNS": "150"})


@pytest.fixture
def run(finished):
    return finished.path


def test_measure_command(run, tmp_path, architecture):
    gold = tmp_path / "gold.en-fr.tsv"
    gold.write_text("The cat .\tLe chat .\t1-1 2-2 3p3\n")
    result = invoke("measure", run, gold)
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("│")]
    assert len(rows) == {"transformer": 12, "bahdanau": 2}[architecture]


def test_an_unfinished_run_is_not_measured(tmp_path):
    result = invoke("measure", tmp_path, tmp_path / "gold.en-fr.tsv")
    assert result.exit_code == 2
    assert "is no finished run" in " ".join(result.output.replace("│", "").split())


def test_text_with_longer_sentences_is_not_labelled(toml, prepared, tmp_path):
    text = ParallelText.load(prepared / "text.npz")
    first, second = text.columns
    longest = Column.pack([[9] * (MOST_ALIGNED + 1), *(second[pair].tolist() for pair in range(1, len(text.corpus)))])
    replace(text, columns=(first, longest)).save(tmp_path / "text.npz")
    result = invoke("label", "--config", toml, "--data", tmp_path)
    assert result.exit_code == 2
    assert "has sentences of 257 sub-words" in " ".join(result.output.split())
    assert not (tmp_path / "alignment.npz").exists()


def test_label_command(run, toml, prepared, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("text.npz", "tokenizer.model"):
        (data / name).write_bytes((prepared / name).read_bytes())
    counts = {}
    for name, more in {"lexicon": (), "half": ("--share", 0.5), "model": ("--run", run)}.items():
        result = invoke("label", "--config", toml, "--data", data, *more)
        assert result.exit_code == 0, result.output
        aligned = ParallelText.load(data / "text.npz").aligned(data / "alignment.npz")
        assert aligned.links is not None
        counts[name] = int((aligned.links.lengths > 0).sum())
    assert 110 < counts["lexicon"] < 150  # all of one corpus, half of the other
    assert 0.3 < counts["half"] / counts["lexicon"] < 0.7
    assert counts["model"] > 0
    (data / "tokenizer.model").write_bytes(b"another")
    with pytest.raises(ValueError, match="or another vocabulary"):
        ParallelText.load(data / "text.npz").aligned(data / "alignment.npz")
    assert invoke("label", "--config", toml, "--data", data, "--run", run).exit_code != 0
