"""Does a package say what the model says? Greedy decoding of its graphs, compared with PyTorch token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

import numpy as np
import torch

from export.decoder import GraphDecoder
from export.package import Package, Precision
from models.data import pad
from models.translator import Translator, greedy

TOLERANCE = 1e-3
"""Largest difference of a log-probability allowed between PyTorch and fp32 ONNX."""
SENTENCES = 200
"""Fewest sentences that count as a check."""
BATCH_SIZES = (1, 2, 7, 16, 32)


class ParityError(Exception):
    """The graphs do not do what the model does."""


class Sources(Protocol):
    """Makes of a text what an encoder reads."""

    def source(self, text: str, target_language: str, /) -> list[int]: ...


@dataclass(frozen=True)
class Parity:
    """What a comparison found."""

    sentences: int
    identical: int
    """Sentences with the same greedy tokens."""
    log_prob_difference: float
    """Largest absolute difference of a token's log-probability, over the identical sentences."""


def compare(
    model: Translator, tokenizer: Sources, package: Package, precision: Precision, texts: Sequence[tuple[str, str]]
) -> Parity:
    """Translate ``(text, target language)`` pairs both ways, in batches of several sizes."""
    decoder, eos = GraphDecoder(package, precision), package.manifest.special.eos
    identical, difference, start = 0, 0.0, 0
    sizes = cycle(BATCH_SIZES)
    while start < len(texts):
        chosen = texts[start : start + next(sizes)]
        start += len(chosen)
        source, lengths = pad([np.array(tokenizer.source(*pair)[: package.manifest.max_length]) for pair in chosen])
        limit = min(2 * source.shape[1] + 10, package.manifest.max_length)
        with torch.inference_mode():
            ours = greedy(model, source, lengths, bos=package.manifest.special.bos, eos=eos, max_length=limit)
        theirs = decoder.greedy(source.numpy(), lengths.numpy(), limit)
        for row in range(len(chosen)):
            expected, found = ours[0][row].tolist(), theirs[0][row].tolist()
            length = expected.index(eos) + 1 if eos in expected else len(expected)
            if expected[:length] == found[:length]:
                identical += 1
                gap = np.abs(ours[1][row, :length].numpy() - theirs[1][row, :length])
                difference = float(np.max(gap, initial=difference))  # unlike max(), this keeps a NaN
    return Parity(len(texts), identical, difference)


def require(parity: Parity) -> None:
    """Raises :class:`ParityError` where an fp32 package may not be written."""
    if parity.sentences < SENTENCES:
        raise ParityError(f"checked on {parity.sentences} sentences; at least {SENTENCES} are needed")
    if parity.identical < parity.sentences:
        raise ParityError(f"{parity.sentences - parity.identical} of {parity.sentences} sentences differ from PyTorch")
    if not parity.log_prob_difference <= TOLERANCE:  # NaN is no number to be within
        raise ParityError(f"log-probabilities differ by {parity.log_prob_difference:.2g}, over {TOLERANCE}")
