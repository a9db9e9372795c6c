"""Translating many sentences in PyTorch, and the score of what comes out."""

import pytest
import torch
from torch import nn

from models.evaluate import Example, corpus_bleu, translate
from models.translator import Translator
from tests.models.tiny import VOCABULARY, sentences

TEXTS = [pair[0] for pair in sentences(12, seed=5)]


class Parrot(Translator):
    """Says what it hears, whatever language was asked for."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.anchor = nn.Parameter(torch.zeros(1))
        self.batches = []

    def encode(self, source, source_lengths):
        self.batches.append(source.shape)
        return {"memory.source": nn.functional.pad(source, (0, 1))}, {}

    def step(self, token, position, memory, state):
        heard = memory["memory.source"][:, position + 1]  # behind the tag
        return nn.functional.one_hot(heard, VOCABULARY).float(), state, torch.zeros_like(heard)


@pytest.fixture
def parrot(configure):
    return Parrot(configure("transformer").model)


def test_translations_come_in_the_order_of_the_texts(parrot, tokenizer):
    assert translate(parrot, tokenizer, [(text, "fr") for text in TEXTS], batch_size=5) == TEXTS


def test_similar_lengths_are_decoded_together(parrot, tokenizer):
    translate(parrot, tokenizer, [(text, "fr") for text in TEXTS], batch_size=5)
    assert [rows for rows, _ in parrot.batches] == [5, 5, 2]
    widths = [width for _, width in parrot.batches]
    assert widths == sorted(widths)


def test_batch_size_changes_nothing(model, tokenizer):
    texts = [(text, target) for text, target in zip(TEXTS, ["fr", "en"] * 6, strict=True)]
    together = translate(model, tokenizer, texts, batch_size=12)
    assert len(set(together)) > 1
    assert together == translate(model, tokenizer, texts, batch_size=3)


def test_of_a_longer_source_the_model_reads_what_it_can(model, parrot, tokenizer):
    long, longest = " ".join(TEXTS), model.config.max_length
    assert len(tokenizer.source(long, "fr")) > longest
    _, short = translate(model, tokenizer, [(long, "fr"), (TEXTS[0], "fr")])
    assert [short] == translate(model, tokenizer, [(TEXTS[0], "fr")])
    translate(parrot, tokenizer, [(long, "fr")])
    assert parrot.batches == [(1, longest)]


def test_nothing_gives_nothing(parrot, tokenizer):
    assert translate(parrot, tokenizer, []) == []


def test_bleu_of_each_direction(parrot, tokenizer):
    right = [Example(text, text, "en", "fr") for text in TEXTS]
    wrong = [Example(text, "Tout autre chose, vraiment.", "fr", "en") for text in TEXTS]
    scores = corpus_bleu(parrot, tokenizer, [*right, *wrong])
    assert scores["bleu_en-fr"] == pytest.approx(100.0)
    assert scores["bleu_fr-en"] < 5
    assert len(scores) == 2
