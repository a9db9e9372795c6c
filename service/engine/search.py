"""Beam search over one sentence; a beam of one is greedy decoding."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from export.package import Manifest

LENGTH_FACTOR = 2
LENGTH_MARGIN = 10
"""A target may have twice the sub-words of its source and ten more, unless the job says otherwise."""


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
    deadline: float | None = None
    """``time.monotonic()`` after which nobody wants the result."""


@dataclass(frozen=True)
class Hypothesis:
    token_ids: list[int]
    """Without EOS."""
    log_prob: float
    """Sum over the tokens, EOS included."""
    score: float
    """``log_prob`` per token: what hypotheses are ranked by."""
    truncated: bool
    """Ended by the length limit, not by EOS."""
    attention: np.ndarray | None
    """[target tokens, source tokens], tag and EOS of the source included; row i aligns token i."""


@dataclass(frozen=True, slots=True)
class Node:
    """A token of a hypothesis, linked to the one before it."""

    token: int
    log_prob: float
    """Of the whole hypothesis so far."""
    parent: "Node | None"
    attention: np.ndarray | None
    """[S] of the step that predicted this token."""


ROOT = Node(-1, 0.0, None, None)


@dataclass(frozen=True, slots=True)
class Move:
    """What a search wants next: for each of its rows the row to continue, and the token to feed it."""

    parents: list[int]
    tokens: list[int]


@dataclass
class Search:
    """State of one job. Rows are numbered from 0 within the job."""

    job: Job
    manifest: Manifest
    alive: list[Node] = field(init=False)
    finished: list[Node] = field(default_factory=list)
    length: int = 0

    def __post_init__(self) -> None:
        self.alive = [ROOT]
        longest = LENGTH_FACTOR * len(self.job.source_ids) + LENGTH_MARGIN
        wanted = self.job.max_length if self.job.max_length is not None else longest
        self.longest = min(wanted, self.manifest.max_length - 1)

    @property
    def rows(self) -> int:
        return self.job.beam_size

    @property
    def top_k(self) -> int:
        """One more than the beam, so that EOS at the top of a row does not leave the beam short."""
        return 1 if self.job.beam_size == 1 else self.job.beam_size + 1

    def advance(self, ids: np.ndarray, scores: np.ndarray, attention: np.ndarray | None) -> Move | None:
        """``ids, scores [rows, K], attention [rows, S]`` -> the next move, or None when the search has ended."""
        self.length += 1
        beam, eos = self.job.beam_size, self.manifest.special.eos
        candidates = sorted(
            (
                (node.log_prob + score, row, token)
                for row, node in enumerate(self.alive)
                for token, score in zip(
                    ids[row, : self.top_k].tolist(), scores[row, : self.top_k].tolist(), strict=True
                )
            ),
            key=lambda candidate: -candidate[0],
        )
        alive: list[Node] = []
        parents: list[int] = []
        for rank, (log_prob, row, token) in enumerate(candidates):
            node = Node(token, log_prob, self.alive[row], None if attention is None else attention[row])
            if token != eos:
                alive.append(node)
                parents.append(row)
            elif rank < beam:
                self.finished.append(node)
            if len(alive) == beam:
                break
        self.alive = alive
        if not alive or len(self.finished) >= beam or self.length > self.longest:
            return None
        missing = beam - len(alive)
        return Move(parents + parents[:1] * missing, [node.token for node in alive] + [eos] * missing)

    def result(self) -> list[Hypothesis]:
        """The best hypotheses, best first; unfinished ones only where too few have ended."""
        finished = sorted((self._hypothesis(node) for node in self.finished), key=lambda h: -h.score)
        if len(finished) >= self.job.n_best:
            return finished[: self.job.n_best]
        # The step after the longest target was for EOS only: rows that differ in nothing else are the same.
        unfinished: dict[tuple[int, ...], Hypothesis] = {}
        for hypothesis in map(self._hypothesis, self.alive):
            unfinished.setdefault(tuple(hypothesis.token_ids), hypothesis)
        return [*finished, *unfinished.values()][: self.job.n_best]

    def _hypothesis(self, last: Node) -> Hypothesis:
        nodes = []
        node: Node | None = last
        while node is not None and node is not ROOT:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        ended = last.token == self.manifest.special.eos
        tokens = nodes[:-1] if ended else nodes[: self.longest]
        scored = nodes if ended else tokens
        return Hypothesis(
            token_ids=[node.token for node in tokens],
            log_prob=scored[-1].log_prob,
            score=scored[-1].log_prob / len(scored),
            truncated=not ended,
            attention=self._attention(nodes, len(tokens)) if self.job.attention else None,
        )

    def _attention(self, nodes: list[Node], tokens: int) -> np.ndarray:
        """Row i is the attention that aligns token i."""
        shift, width = self.manifest.alignment.shift, len(self.job.source_ids)
        steps = [nodes[min(i + shift, len(nodes) - 1)].attention for i in range(tokens)]
        rows = [step[:width] for step in steps if step is not None]
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, width), np.float32)
