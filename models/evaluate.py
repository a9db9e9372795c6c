"""Quality of a trained model in PyTorch, before export."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sacrebleu
import torch

from models.config import DataConfig
from models.data import pad
from models.pairs import read_pairs
from models.tokenizer import BOS, EOS, Tokenizer
from models.translator import Translator, greedy


class Example(NamedTuple):
    text: str
    reference: str
    source: str
    target: str


def read_examples(file: Path, config: DataConfig, limit: int) -> list[Example]:
    """The first ``limit`` pairs of a file, in each of the directions that are trained."""
    first, second = config.pair_of(file).split("-")
    pairs = list(islice(read_pairs([file]), limit))
    forward = [Example(pair.first, pair.second, first, second) for pair in pairs]
    backward = [Example(pair.second, pair.first, second, first) for pair in pairs]
    return [each for each in forward + backward if (each.source, each.target) in config.directions]


def translate(
    model: Translator, tokenizer: Tokenizer, texts: Sequence[tuple[str, str]], batch_size: int = 64
) -> list[str]:
    """Greedy translations of ``(text, target language)`` in their order, decoded with similar lengths together.

    Of a source that is longer than the model reads, the rest is left out.
    """
    sources = [np.array(tokenizer.source(*text)[: model.config.max_length]) for text in texts]
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    device = next(model.parameters()).device
    results = [""] * len(sources)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        source, lengths = (tensor.to(device) for tensor in pad([sources[i] for i in chosen]))
        limits = [min(2 * len(sources[i]) + 10, model.config.max_length) for i in chosen]
        tokens, _ = greedy(model, source, lengths, bos=BOS, eos=EOS, max_length=max(limits))
        for i, row, limit in zip(chosen, tokens.tolist(), limits, strict=True):
            results[i] = tokenizer.decode(row[:limit])  # its own limit, whatever its companions'
    return results


def corpus_bleu(model: Translator, tokenizer: Tokenizer, examples: Sequence[Example]) -> dict[str, float]:
    """sacrebleu of every direction in ``examples``, greedy, keyed ``bleu_en-fr``."""
    with torch.inference_mode():
        outputs = translate(model, tokenizer, [(example.text, example.target) for example in examples])
    pairs = defaultdict(list)
    for example, output in zip(examples, outputs, strict=True):
        pairs[f"bleu_{example.source}-{example.target}"].append((output, example.reference))
    return {
        name: round(sacrebleu.corpus_bleu([o for o, _ in rows], [[r for _, r in rows]]).score, 2)
        for name, rows in pairs.items()
    }
