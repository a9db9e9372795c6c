"""Does a package say what the model says? Greedy decoding of its graphs, compared with PyTorch token by token."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import onnxruntime
import torch

from export.package import Manifest, Package, Precision
from models.data import pad
from models.tokenizer import Tokenizer
from models.translator import Translator, greedy

TOLERANCE = 1e-3
"""Largest difference of a log-probability allowed between PyTorch and fp32 ONNX."""
SENTENCES = 200
"""Fewest sentences that count as a check."""
BATCH_SIZES = (1, 2, 7, 16, 32)


class ParityError(Exception):
    """The graphs do not do what the model does."""


@dataclass(frozen=True)
class Parity:
    """What a comparison found."""

    sentences: int
    identical: int
    """Sentences with the same greedy tokens."""
    log_prob_difference: float
    """Largest absolute difference of a token's log-probability, over the identical sentences."""


class GraphDecoder:
    """The plainest use of a package's two graphs: one batch, greedy, until all rows have ended."""

    def __init__(self, package: Package, precision: Precision) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.manifest: Manifest = package.manifest
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(package.graph(precision, part)), options, providers)
            for part in ("encoder", "decoder")
        )

    def greedy(self, source: np.ndarray, lengths: np.ndarray, max_length: int) -> tuple[np.ndarray, np.ndarray]:
        """``source [B, S], lengths [B]`` -> tokens and log-probabilities, both ``[B, T]``, as ``models.greedy``."""
        rows = len(source)
        names = [output.name for output in self.encoder.get_outputs()]
        encoded = self.encoder.run(names, {"source_ids": source, "source_lengths": lengths})
        feeds: dict[str, np.ndarray] = dict(zip(names, encoded, strict=True))
        growing = [spec for spec in self.manifest.state if "time" in spec.shape]
        for spec in growing:
            sizes = {"batch": rows, "time": max_length}
            shape = [sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
            feeds[spec.name] = np.zeros(shape, spec.dtype)
        token = np.full(rows, self.manifest.special.bos, np.int64)
        ended = np.zeros(rows, bool)
        tokens, log_probs = [], []
        outputs = ["next_ids", "next_scores", *(f"next_{spec.name}" for spec in self.manifest.state)]
        for position in range(max_length):
            step = {"token": token, "position": np.full(rows, position), "top_k": np.array([1])}
            ids, scores, *states = self.decoder.run(outputs, {**feeds, **step})
            for spec, value in zip(self.manifest.state, states, strict=True):
                if spec in growing:
                    np.moveaxis(feeds[spec.name], spec.shape.index("time"), 0)[position] = value
                else:
                    feeds[spec.name] = value
            token = np.where(ended, self.manifest.special.eos, ids[:, 0])
            ended |= token == self.manifest.special.eos
            tokens.append(token)
            log_probs.append(scores[:, 0])
            if ended.all():
                break
        return np.stack(tokens, 1), np.stack(log_probs, 1)


def compare(
    model: Translator, tokenizer: Tokenizer, package: Package, precision: Precision, texts: Sequence[tuple[str, str]]
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
