"""Engines that say what a test wants to hear."""

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from service.engine import Hypothesis, Job
from service.text.tokens import SPACE_MARK, Pieces, Tokenizer
from tests.service.fakes import EchoEngine


class SpeakingEngine(EchoEngine):
    """Writes what it is told for what it reads, best first, and else what it reads.

    ``looks`` has for a word that it writes the word that it looked at; all others looked at the beginning.
    """

    def __init__(
        self, tokenizer: Tokenizer, says: Mapping[str, Sequence[str]], looks: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self.tokenizer, self.says, self.looks = tokenizer, says, looks or {}
        self.read: list[str] = []

    def hypothesis(self, job: Job, rank: int) -> Hypothesis:  # type: ignore[override]
        source = self.tokenizer.decode(list(job.source_ids[1:-1]))
        if not rank:
            self.read.append(source.text)
        texts = self.says.get(source.text, [source.text])
        [ids] = self.tokenizer.encode([texts[min(rank, len(texts) - 1)]])
        target = self.tokenizer.decode(ids)
        attention = np.full((len(ids), len(job.source_ids)), 0.01, np.float32)
        attention[:, 1] = 1
        for word, looked_at in self.looks.items():
            rows, columns = places(target, word), places(source, looked_at)
            if rows and columns:
                attention[rows, 1] = 0.01
                attention[np.ix_(rows, [column + 1 for column in columns])] = 1
        attention /= attention.sum(axis=1, keepdims=True)
        return Hypothesis(
            ids, -1.0, -0.5, truncated=False, repeated=False, attention=attention if job.attention else None
        )


class CuttingEngine(EchoEngine):
    """Cuts what it reads after ``longest`` sub-words."""

    def __init__(self, longest: int) -> None:
        super().__init__()
        self.longest = longest

    def hypothesis(self, job: Job, rank: int) -> Hypothesis:  # type: ignore[override]
        whole = super().hypothesis(job, rank)
        kept = whole.token_ids[: self.longest]
        return replace(whole, token_ids=kept, truncated=len(kept) < len(whole.token_ids))


class SilentEngine(EchoEngine):
    """Writes nothing unless it must; with a beam it has something else to say in the second place."""

    def hypothesis(self, job: Job, rank: int) -> Hypothesis:  # type: ignore[override]
        whole = super().hypothesis(job, rank)
        return whole if job.min_length or rank else replace(whole, token_ids=[], attention=None)


class CarelessEngine(EchoEngine):
    """Loses, doubles and makes up sub-words, and looks anywhere: by chance, but for the same job always the same."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.size = tokenizer.model.get_piece_size()

    def hypothesis(self, job: Job, rank: int) -> Hypothesis:  # type: ignore[override]
        draw = random.Random(zlib.crc32(repr((list(job.source_ids), rank)).encode()))
        ids = [piece for piece in job.source_ids[1:-1] for _ in range(draw.choice((0, 1, 1, 1, 1, 1, 2)))]
        for _ in range(draw.choice((0, 0, 0, 1, 3))):
            ids.insert(draw.randint(0, len(ids)), draw.randrange(6, self.size))
        chance = np.random.default_rng(draw.randrange(10**6))
        attention = chance.dirichlet([0.1] * len(job.source_ids), len(ids)).astype(np.float32)
        return Hypothesis(
            ids, -1.0, -0.5, truncated=False, repeated=False, attention=attention if job.attention else None
        )


def places(pieces: Pieces, word: str) -> list[int]:
    """Sub-words of a word, with that of the space before it."""
    start = pieces.text.find(word)
    end = start + len(word)
    found = [index for index, (a, b) in enumerate(pieces.spans) if 0 <= start < b and a < end]
    return [found[0] - 1, *found] if found and pieces.pieces[found[0] - 1] == SPACE_MARK else found
