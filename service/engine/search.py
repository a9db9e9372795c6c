"""Beam search over one sentence whose rows are slots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from export.package import Manifest
from service.engine.job import LOOP_MARGIN, Hypothesis, Job, loop_in
from service.engine.slots import Slots

NEVER = np.iinfo(np.int32).max
"""A position that no row comes to."""


class Candidate(NamedTuple):
    """A way to continue."""

    log_prob: float
    """Of the hypothesis with the token."""
    row: int
    token: int


@dataclass
class Results:
    """What becomes of the rows of a job."""

    job: Job
    manifest: Manifest
    slots: Slots

    def __post_init__(self) -> None:
        self.longest = self.job.longest(self.manifest)
        self.unwatched = len(self.job.source_ids) + LOOP_MARGIN if self.job.repetition_guard else NEVER
        """Position up to which a target is not watched for loops."""
        self.calm = min(self.longest, self.unwatched)
        """Position up to which nothing but its end ends a hypothesis."""

    def hypothesis(self, slot: int, steps: int, log_prob: float, *, ended: bool) -> Hypothesis:
        """Of the first ``steps`` tokens of a slot; the last one is EOS if the hypothesis has ``ended``.

        The step after the longest target was for EOS only: if it gave another token, ``log_prob`` is without that.
        """
        job, tokens = self.job, self.slots.tokens[slot, :steps]
        length, scored, repeated = steps - 1, steps, False
        if not ended:
            length = scored = min(steps, self.longest)
            kept = self._kept(slot, length) if self.watched(steps) else length
            repeated, length = kept < length, kept
        return Hypothesis(
            token_ids=tokens[:length].tolist(),
            log_prob=log_prob,
            score=log_prob / scored**job.length_penalty,
            truncated=not ended and not repeated,
            repeated=repeated,
            attention=self._attention(slot, length, steps) if job.attention else None,
        )

    def _attention(self, slot: int, length: int, steps: int) -> np.ndarray:
        """Row i is the attention that aligns token i."""
        chosen = np.minimum(np.arange(length) + self.manifest.alignment.shift, steps - 1)
        return self.slots.attention_of(slot, chosen)

    def watched(self, steps: int) -> bool:
        return steps > self.unwatched

    def looping(self, slot: int, steps: int) -> bool:
        """Is a hypothesis that is longer than its source a loop?"""
        return self.watched(steps) and self._kept(slot, steps) < steps

    def _kept(self, slot: int, steps: int) -> int:
        """What a loop is cut to; a prefix is wanted as it is."""
        start = min(len(self.job.prefix), steps)
        return start + loop_in(self.slots.tokens[slot, start:steps])


class Moves(NamedTuple):
    """What a step does to rows; all are slots, or numbers for each of them."""

    origins: np.ndarray
    copies: np.ndarray
    """Continue the hypotheses of ``origins``."""
    rows: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    """Minus infinity for a row without a hypothesis."""


class Search:
    """Beam search, and greedy search under conditions, over rows that are slots; rows are numbered from 0 here.

    A step has two halves, so that the loop can move the rows of all its searches at once between them.
    """

    def __init__(self, results: Results, slots: list[int]) -> None:
        """``slots`` are the rows' places, kept up to date by the caller; the first row has the empty hypothesis."""
        self.results, self.slots = results, slots
        self.job, self.eos = results.job, results.manifest.special.eos
        self.conditional = self.job.conditional
        self.finished: list[Hypothesis] = []
        self.steps = 0
        results.slots.log_prob[slots[1:]] = -np.inf

    @property
    def alive(self) -> list[int]:
        """Rows with a hypothesis."""
        return np.flatnonzero(self.results.slots.log_prob[self.slots] > -np.inf).tolist()

    def banned(self, row: int) -> set[int]:
        """Tokens that a hypothesis may not continue with."""
        banned = {self.eos} if self.steps < self.job.min_length else set()
        if not self.job.no_repeat_ngram:
            return banned
        tokens = self.results.slots.tokens[self.slots[row], : self.steps].tolist()
        known = self.job.no_repeat_ngram - 1
        tail = tokens[max(len(tokens) - known, 0) :]
        return banned | {tokens[i + known] for i in range(len(tokens) - known) if tokens[i : i + known] == tail}

    @property
    def top_k(self) -> int:
        """Candidates needed of a row: one more than the beam, so that EOS does not leave it short, and the banned."""
        if self.steps < len(self.job.prefix):
            return 1
        banned = max(len(self.banned(row)) for row in self.alive) if self.conditional else 0
        return (1 if self.job.beam_size == 1 else self.job.beam_size + 1) + banned

    def candidates(self, log_probs: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> list[Candidate]:
        """Ways to continue under conditions, best first: ``log_probs [rows]``, ``ids, scores [rows, K]``."""
        if self.steps < len(self.job.prefix):
            return [Candidate(0.0, 0, self.job.prefix[self.steps])]
        found = []
        for row in np.flatnonzero(log_probs > -np.inf).tolist():
            banned = self.banned(row)
            ways = dict(zip(ids[row].tolist(), scores[row].tolist(), strict=True))
            # Of few candidates all may be banned: then the end, which is always one, is not.
            left = [token for token, score in ways.items() if token not in banned and score > -np.inf] or [self.eos]
            found += [Candidate(float(log_probs[row]) + ways[token], row, token) for token in left]
        return sorted(found, key=lambda candidate: -candidate.log_prob)

    def choose(self, log_probs: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> Moves:
        """The first half of a step under conditions: end hypotheses, choose those to go on with.

        ``log_probs [rows]`` are those before the step, ``ids, scores [rows, K]`` are of it.
        """
        candidates = self.candidates(log_probs, ids, scores)
        self.steps += 1
        beam = self.job.beam_size
        chosen: list[Candidate] = []
        for rank, candidate in enumerate(candidates):
            if len(chosen) == beam:
                break
            if candidate.token != self.eos:
                chosen.append(candidate)
            elif rank < beam:
                self.end(candidate.row, candidate.log_prob)
        if self.over:
            alive = np.flatnonzero(log_probs > -np.inf).tolist()
            chosen = [Candidate(float(log_probs[row]), row, self.eos) for row in alive]
        chosen += [Candidate(-np.inf, -1, self.eos)] * (beam - len(chosen))
        log_prob, parent, token = (np.array([field]) for field in zip(*chosen, strict=True))
        return place(np.array([self.slots]), parent, token, log_prob)

    @property
    def over(self) -> bool:
        """Was the last step for EOS only? Then what has not ended stays where and what it is."""
        return self.steps > self.results.longest

    def end(self, row: int, log_prob: float) -> None:
        """A hypothesis whose next token is EOS."""
        self.finished.append(self.results.hypothesis(self.slots[row], self.steps, log_prob, ended=True))

    def settle(self) -> bool:
        """The second half, after the rows have moved: has the search ended?"""
        results, log_probs = self.results, self.results.slots.log_prob
        found, beam = len(self.finished), self.job.beam_size
        if found < beam and self.steps <= results.calm:
            return found > 0 and not self.alive
        slots = [self.slots[row] for row in self.alive]
        cut = [slot for slot in slots if self.over or results.looping(slot, self.steps)]
        unfinished = [results.hypothesis(slot, self.steps, float(log_probs[slot]), ended=False) for slot in cut]
        log_probs[cut] = -np.inf
        known = {tuple(hypothesis.token_ids) for hypothesis in self.finished}
        for hypothesis in sorted(unfinished, key=lambda hypothesis: -hypothesis.score):
            if tuple(hypothesis.token_ids) not in known:  # cut, it may be what has ended
                known.add(tuple(hypothesis.token_ids))
                self.finished.append(hypothesis)
        return not self.alive or len(self.finished) >= beam

    def result(self) -> list[Hypothesis]:
        """The best hypotheses, best first; those that were cut come last."""
        ranked = sorted(self.finished, key=lambda hypothesis: (not hypothesis.whole, -hypothesis.score))
        return ranked[: self.job.n_best]


def choose_alike(searches: Sequence[Search], log_probs: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> Moves:
    """:meth:`Search.choose` without conditions, for all searches of one beam size at once.

    ``log_probs [B]``, ``ids, scores [B, K]`` of all rows in use.
    """
    beam, eos = searches[0].job.beam_size, searches[0].eos
    rows = np.array([search.slots for search in searches])  # [searches, beam]
    each = np.arange(len(rows))[:, None]
    width, before = min(beam + 1, ids.shape[1]), log_probs.take(rows)
    log_prob = (before[:, :, None] + scores.take(rows, axis=0)[:, :, :width]).reshape(len(rows), -1)
    order = (-log_prob).argsort(axis=1, kind="stable")[:, : 2 * beam]
    token = ids.take(rows, axis=0)[:, :, :width].reshape(len(rows), -1)[each, order]
    log_prob, parent = log_prob[each, order], order // width
    for search in searches:
        search.steps += 1
    ended = (token == eos) & (log_prob > -np.inf)
    for i, rank in zip(*(found.tolist() for found in ended[:, :beam].nonzero()), strict=True):
        searches[i].end(int(parent[i, rank]), float(log_prob[i, rank]))
    order = ended.argsort(axis=1, kind="stable")[:, :beam]  # the best that are not EOS, in order
    log_prob, parent, token, short = (array[each, order] for array in (log_prob, parent, token, ended))
    parent[short], log_prob[short] = -1, -np.inf
    for i, search in enumerate(searches):
        if search.over:
            parent[i], log_prob[i] = np.where(before[i] > -np.inf, range(beam), -1), before[i]
    return place(rows, parent, token, log_prob)


def place(rows: np.ndarray, parent: np.ndarray, token: np.ndarray, log_prob: np.ndarray) -> Moves:
    """Give chosen continuations their rows; all are ``[searches, beam]``, a parent of -1 is no continuation.

    A parent's first child stays in its row, so that little is copied; what is left takes rows without a child.
    """
    each, beam = np.arange(len(rows))[:, None], rows.shape[1]
    same = parent[:, :, None] == parent[:, None, :]
    alive = parent >= 0
    first = alive & ~(same & np.tri(beam, k=-1, dtype=bool)).any(axis=2)
    used = (parent[:, :, None] == np.arange(beam)).any(axis=1)
    row = parent.copy()
    row[~first] = (~used).nonzero()[1]  # as many in each search, and both in the order of the searches
    slots = rows[each, row]
    moved = alive & ~first
    origins = rows[each, np.maximum(parent, 0)][moved]
    return Moves(origins, slots[moved], slots.ravel(), token.ravel(), log_prob.ravel())
