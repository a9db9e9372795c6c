"""What is asked of the engine, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from export.package import Manifest

LENGTH_FACTOR = 2
LENGTH_MARGIN = 10
"""A target may have twice the sub-words of its source and ten more, unless the job says otherwise."""
MAX_LENGTH_PENALTY = 2
LOOP_MARGIN = 8
"""Sub-words beyond the length of the source from which on a target is watched for loops: a source may repeat itself."""
LOOP_LOOK = 4
"""Steps between two looks."""
LOOP_UNIT = 16
"""Longest unit whose repetition is a loop."""
LOOP_TIMES = 3
LOOP_LENGTH = 9
"""A loop is a unit repeated three times, and nine sub-words at least."""


@dataclass(frozen=True)
class Job:
    """One sentence to translate."""

    source_ids: Sequence[int]
    """Tag, sub-words, EOS."""
    beam_size: int = 1
    n_best: int = 1
    attention: bool = False
    max_length: int | None = None
    """Most sub-words of the target, without EOS."""
    min_length: int = 0
    """Fewest sub-words of the target, without EOS."""
    length_penalty: float = 1.0
    """Hypotheses are ranked by ``log_prob / length ** length_penalty``, EOS counted; 0 to 2."""
    no_repeat_ngram: int = 0
    """No sequence of so many sub-words occurs twice; 0 allows it."""
    prefix: Sequence[int] = ()
    """The first sub-words of the target, which the model must have. They have no part in ``log_prob``."""
    repetition_guard: bool = True
    """A target that has become a loop is ended, and cut to one turn of it."""
    deadline: float | None = None
    """``time.monotonic()`` after which nobody wants the result."""

    @property
    def plain(self) -> bool:
        """Greedy, without a condition on any token."""
        return self.beam_size == 1 and not self.conditional

    @property
    def conditional(self) -> bool:
        return bool(self.min_length or self.no_repeat_ngram or self.prefix)

    def longest(self, manifest: Manifest) -> int:
        """Most sub-words of the target; the cache must hold EOS as well."""
        default = LENGTH_FACTOR * len(self.source_ids) + LENGTH_MARGIN
        return min(default if self.max_length is None else self.max_length, manifest.max_length - 1)


@dataclass(frozen=True)
class Hypothesis:
    token_ids: list[int]
    """Without EOS."""
    log_prob: float
    """Sum over the tokens, EOS included; of a loop, over all that was decoded before it was cut."""
    score: float
    """``log_prob`` over the number of its tokens to the power of the job's penalty: what hypotheses are ranked by."""
    truncated: bool
    """Ended by the length limit, not by EOS."""
    repeated: bool
    """Ended because it had become a loop."""
    attention: np.ndarray | None
    """[target tokens, source tokens], tag and EOS of the source included; row i aligns token i."""

    @property
    def whole(self) -> bool:
        return not (self.truncated or self.repeated)


def loop_in(tokens: np.ndarray) -> int:
    """Length up to which a sequence is no loop: its own, or that of the end of the first turn."""
    size = len(tokens)
    for unit in range(1, min(LOOP_UNIT, size // LOOP_TIMES) + 1):
        same = tokens[unit:] == tokens[:-unit]
        run = size - unit if same.all() else int(np.argmin(same[::-1]))
        if run + unit >= max(LOOP_TIMES * unit, LOOP_LENGTH):
            return size - run
    return size
