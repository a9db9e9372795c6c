"""Which words translate each other, learnt from sentence pairs alone, in both directions.

Every word ``f`` of one side is explained by a word ``e`` of the other, rather one at the same part of the sentence, or
by none: ``p(f at j) = sum over i of d(i|j) t(f|e_i)`` with ``d(i|j)`` falling off as ``exp(-4 |i / I - j / J|)``. This
is IBM model 2 (Brown et al. 1993) as Dyer, Chahuneau and Smith (2013) simplified it; ``t`` is what is learnt. It has
two uses.

The *agreement* of a pair is how much likelier the other side makes a word than its frequency ``u(f)`` does,

    ``mean over words f of log((0.9 p(f) + 0.1 u(f)) / u(f))``

averaged over both directions: about nothing where the two have nothing to do with each other. It says nothing of
grammar.

The *alignment* of a pair is the likeliest explanation of each word.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

STEM = 6
"""Letters of a word that count: enough to tell words apart, few enough for most endings not to matter."""
MOST_WORDS = 60_000
"""Of a side, the most frequent; others are all one word, which is not judged."""
LONGEST = 60
"""Words of a sentence that are looked at."""
LEARNT_PAIRS = 100_000
ROUNDS = 4
SLOPE, NONE_AT_ALL = 4.0, 0.08
"""How steeply the likelihood of a place falls off, and the likelihood that no word explains one."""
TRUST = 0.9
LEAST = 1e-4
"""Translations less likely than this are forgotten."""
BLOCK = 10_000
"""Pairs looked at a time."""
NO_WORD, RARE = 0, 1

Sentences = Sequence[Sequence[str]]


def split(text: str) -> list[str]:
    """Words and signs."""
    return "".join(char if char.isalnum() else f" {char} " for char in text).split()


class Words:
    """Numbers of the words of one side, case and endings aside, and how frequent they are."""

    def __init__(self, sentences: Iterable[Sequence[str]]) -> None:
        counts = Counter(map(self.stem, chain.from_iterable(sentences))).most_common(MOST_WORDS)
        self.numbers = {word: number for number, (word, _) in enumerate(counts, RARE + 1)}
        shares = np.array([0, 0, *(count for _, count in counts)], float)
        self.frequency = shares / max(shares.sum(), 1)

    @staticmethod
    def stem(word: str) -> str:
        return word.casefold()[:STEM]

    def __len__(self) -> int:
        return len(self.frequency)

    def of(self, sentences: Sentences) -> list[np.ndarray]:
        """``[words]`` of each sentence."""
        return [
            np.array([self.numbers.get(self.stem(word), RARE) for word in words[:LONGEST]], np.int64)
            for words in sentences
        ]


class Cells:
    """Every word of one side, and behind them none, beside every word of the other: ``L`` for ``N`` asked words."""

    def __init__(self, given: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> None:
        choices = [np.append(words, NO_WORD) for words in given]
        self.lengths = np.array([len(words) for words in asked], np.int64)
        self.runs = np.repeat([len(words) for words in choices], self.lengths)
        """Cells of each asked word ``[N]``."""
        self.starts = np.cumsum(self.runs) - self.runs
        self.asked = np.concatenate(asked)
        """``[N]``"""
        self.given = np.concatenate([np.tile(words, n) for words, n in zip(choices, self.lengths, strict=True)])
        """``[L]``"""
        self.place = self.places()

    def places(self) -> np.ndarray:
        """``d(i|j)`` of each cell ``[L]``."""
        given = np.repeat(self.runs - 1, self.runs)
        i = np.arange(len(self.given)) - np.repeat(self.starts, self.runs)
        first_asked = np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        middle = (np.arange(len(self.asked)) - first_asked + 0.5) / np.repeat(self.lengths, self.lengths)
        far = np.abs((i + 0.5) / np.maximum(given, 1) - np.repeat(middle, self.runs))
        likely = np.where(i < given, np.exp(-SLOPE * far), 0.0)
        likely *= (1 - NONE_AT_ALL) / np.repeat(np.maximum(self.sums(likely), 1e-9), self.runs)
        return np.where(i < given, likely, NONE_AT_ALL).astype(np.float32)

    def keys(self, words: int) -> np.ndarray:
        """A number for each cell's two words ``[L]``."""
        return np.repeat(self.asked, self.runs) * words + self.given

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Over the cells of each asked word: ``[L] -> [N]``."""
        return np.add.reduceat(values, self.starts) if len(self.starts) else np.zeros(0)


@dataclass(frozen=True)
class Translations:
    """``t(f|e)`` of one direction, where it is not about zero."""

    words: int
    """Of the given side."""
    keys: np.ndarray
    """Sorted, see :meth:`Cells.keys`."""
    values: np.ndarray
    frequency: np.ndarray
    """Of the words of the asked side."""

    @classmethod
    def learn(
        cls, given: Sequence[np.ndarray], asked: Sequence[np.ndarray], sides: tuple[Words, Words]
    ) -> "Translations":
        """Expectation maximisation from equal probabilities."""
        cells, words = Cells(given, asked), len(sides[0])
        keys, place = np.unique(cells.keys(words), return_inverse=True)
        of_given = keys % words
        values: np.ndarray = np.ones(len(keys))
        for _ in range(ROUNDS):
            share = values[place] * cells.place
            share /= np.repeat(cells.sums(share), cells.runs)
            counts = np.bincount(place, share, len(keys))
            values = counts / np.maximum(np.bincount(of_given, counts, words), 1e-9)[of_given]
        kept = values > LEAST
        return cls(words, keys[kept], values[kept], sides[1].frequency)

    def likely(self, cells: Cells) -> np.ndarray:
        """``d(i|j) t(f|e)`` of each cell ``[L]``."""
        keys = cells.keys(self.words)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[place] == keys, self.values[place], 0.0) * cells.place

    def agreement(self, given: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> np.ndarray:
        """Of each pair ``[pairs]``, 0 where no word is known."""
        cells = Cells(given, asked)
        known = cells.asked > RARE
        frequency = np.where(known, self.frequency[cells.asked], 1.0)
        gain = np.where(known, np.log(TRUST * cells.sums(self.likely(cells)) / frequency + 1 - TRUST), 0.0)
        sentence = np.repeat(np.arange(len(asked)), cells.lengths)
        judged = np.bincount(sentence, known, len(asked))
        return np.bincount(sentence, gain, len(asked)) / np.maximum(judged, 1)

    def alignment(self, given: Sequence[np.ndarray], asked: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of each asked word the place of the given word that explains it, or -1: ``[asked words]`` of each pair."""
        cells = Cells(given, asked)
        likely = self.likely(cells)
        none = cells.starts + cells.runs - 1
        likely[none] = np.maximum(likely[none], np.finfo(float).tiny)  # a word that nothing explains
        order = np.lexsort((likely, np.repeat(np.arange(len(cells.asked)), cells.runs)))
        best = order[none] - cells.starts
        best = np.where(best == cells.runs - 1, -1, best)
        return np.split(best, np.cumsum(cells.lengths)[:-1])


class Lexicon:
    """Both directions of one pair of languages."""

    def __init__(self, first: Sentences, second: Sentences, seed: int) -> None:
        """Learnt from as many pairs of sentences as is enough."""
        if len(first) > LEARNT_PAIRS:
            chosen = random.Random(seed).sample(range(len(first)), LEARNT_PAIRS)
            first, second = [first[i] for i in chosen], [second[i] for i in chosen]
        self.first, self.second = Words(first), Words(second)
        left, right = self.first.of(first), self.second.of(second)
        self.forward = Translations.learn(left, right, (self.first, self.second))
        self.backward = Translations.learn(right, left, (self.second, self.first))

    def blocks(self, first: Sentences, second: Sentences) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
        for start in range(0, len(first), BLOCK):
            yield self.first.of(first[start : start + BLOCK]), self.second.of(second[start : start + BLOCK])

    def agreement(self, first: Sentences, second: Sentences) -> np.ndarray:
        """Of each pair ``[pairs]``."""
        scores = [
            (self.forward.agreement(a, b) + self.backward.agreement(b, a)) / 2 for a, b in self.blocks(first, second)
        ]
        return np.concatenate([np.zeros(0), *scores])

    def alignment(self, first: Sentences, second: Sentences) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each pair what explains each word of the second side, and each of the first: places, -1 for none."""
        for a, b in self.blocks(first, second):
            yield from zip(self.forward.alignment(a, b), self.backward.alignment(b, a), strict=True)
