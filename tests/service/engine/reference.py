"""What the engine should say: one sentence at a time, one hypothesis at a time, all of the vocabulary, no buffers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from export.decoder import Arrays, GraphDecoder
from export.package import Package, Precision
from service.engine import Hypothesis, Job

Tokens = tuple[int, ...]


class Oracle:
    """What a package says of the next token of any target of one source."""

    def __init__(self, decoder: GraphDecoder, vocabulary: int, source: Sequence[int]) -> None:
        self.decoder, self.manifest, self.vocabulary = decoder, decoder.manifest, vocabulary
        self._start = decoder.start(np.array([source]), np.array([len(source)]))
        self._known: dict[Tokens, tuple[np.ndarray, np.ndarray, Arrays]] = {}

    def _step(self, tokens: Tokens) -> tuple[np.ndarray, np.ndarray, Arrays]:
        if tokens not in self._known:
            before = self._step(tokens[:-1])[2] if tokens else self._start
            step = {
                "token": np.array([tokens[-1] if tokens else self.manifest.special.bos]),
                "position": np.array([len(tokens)], np.int32),
                "top_k": np.array([self.vocabulary]),
            }
            result = self.decoder.run(self.decoder.decoder, {**before, **step})
            after = before | {spec.name: result[f"next_{spec.name}"] for spec in self.decoder.specs.state}
            log_probs = np.full(self.vocabulary, -np.inf)
            log_probs[result["next_ids"][0]] = result["next_scores"][0]
            self._known[tokens] = log_probs, result["attention"][0], after
        return self._known[tokens]

    def log_probs(self, tokens: Tokens) -> np.ndarray:
        """Of every token to follow: ``[V]``."""
        return self._step(tokens)[0]

    def attention(self, tokens: Tokens) -> np.ndarray:
        """Over the source while the token behind ``tokens`` is looked for: ``[S]``."""
        return self._step(tokens)[1]


def oracles(package: Package, precision: Precision, vocabulary: int, sources: Sequence[Sequence[int]]) -> list[Oracle]:
    decoder = GraphDecoder(package, precision)
    return [Oracle(decoder, vocabulary, source) for source in sources]


def first_turn(tokens: Sequence[int]) -> int:
    """Where a sequence that ends as a loop has had the loop's unit once; its length if it is none."""
    size = len(tokens)
    for unit in range(1, 17):
        for start in range(size - max(3 * unit, 9) + 1):
            if all(tokens[i] == tokens[i + unit] for i in range(start, size - unit)):
                return start + unit
    return size


def repeats(tokens: Sequence[int], length: int) -> bool:
    """Does a sequence of ``length`` tokens occur twice?"""
    grams = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
    return len(set(grams)) < len(grams)


def is_loop(job: Job, tokens: Tokens) -> bool:
    """Is a target seen to be a loop? It is watched from a length on, and a plain one only now and then."""
    beyond = len(tokens) - len(job.source_ids) - 9
    looked = job.repetition_guard and beyond >= 0 and (not job.plain or beyond % 5 == 0)
    return looked and first_turn(tokens) < len(tokens)


def search(oracle: Oracle, job: Job) -> list[Hypothesis]:
    """Beam search, best first; with a beam of one, greedy search."""
    manifest, eos = oracle.manifest, oracle.manifest.special.eos
    size = len(job.source_ids)
    longest = min(2 * size + 10 if job.max_length is None else job.max_length, manifest.max_length - 1)
    alive: list[tuple[Tokens, float]] = [((), 0.0)]
    finished: list[Hypothesis] = []
    steps = 0

    def conclude(tokens: Tokens, log_prob: float) -> Hypothesis:
        ended = tokens[-1] == eos
        kept = tokens[:-1] if ended else tokens
        watched = job.repetition_guard and not ended and steps >= size + 8
        cut = first_turn(kept) if watched else len(kept)
        shown = kept[:cut]
        rows = [oracle.attention(shown[: i + manifest.alignment.shift]) for i in range(cut)]
        return Hypothesis(
            token_ids=list(shown),
            log_prob=log_prob,
            score=log_prob / len(tokens) ** job.length_penalty,
            truncated=not ended and cut == len(kept),
            repeated=cut < len(kept),
            attention=np.array(rows, np.float32).reshape(cut, size) if job.attention else None,
        )

    def keep(cut: list[tuple[Tokens, float]]) -> None:
        """What did not end; the best of those that are cut to the same."""
        for each in sorted((conclude(*each) for each in cut), key=lambda each: -each.score):
            if all(each.token_ids != other.token_ids for other in finished):
                finished.append(each)

    while alive and len(finished) < job.beam_size:
        steps = len(alive[0][0])
        if steps < len(job.prefix):
            alive = [((*alive[0][0], job.prefix[steps]), 0.0)]
        else:
            ended, chosen = step(oracle, job, alive)
            finished += [conclude(*each) for each in ended]
            if steps == longest:  # this step was for EOS only
                keep(alive)
                break
            alive = chosen
        loops = [each for each in alive if is_loop(job, each[0])]
        keep(loops)
        alive = [each for each in alive if each not in loops]
    return sorted(finished, key=lambda each: (each.truncated or each.repeated, -each.score))[: job.n_best]


def step(oracle: Oracle, job: Job, alive: Sequence[tuple[Tokens, float]]) -> tuple[list[tuple[Tokens, float]], ...]:
    """What ends, and what goes on, best first."""
    ended: list[tuple[Tokens, float]] = []
    chosen: list[tuple[Tokens, float]] = []
    for rank, (log_prob, parent, token) in enumerate(ways(oracle, job, alive)):
        if len(chosen) == job.beam_size:
            break
        tokens = (*alive[parent][0], token)
        if token != oracle.manifest.special.eos:
            chosen.append((tokens, log_prob))
        elif rank < job.beam_size:
            ended.append((tokens, log_prob))
    return ended, chosen


def ways(oracle: Oracle, job: Job, alive: Sequence[tuple[Tokens, float]]) -> list[tuple[float, int, int]]:
    """Log-probability, hypothesis and token of every way to go on, best first."""
    found = []
    for parent, (tokens, log_prob) in enumerate(alive):
        scores = oracle.log_probs(tokens).copy()
        if len(tokens) < job.min_length:
            scores[oracle.manifest.special.eos] = -np.inf
        if job.no_repeat_ngram:
            last = job.no_repeat_ngram - 1
            grams = {tokens[i : i + last + 1] for i in range(len(tokens) - last)}
            tail = tokens[len(tokens) - last :]
            scores[[gram[-1] for gram in grams if gram[:-1] == tail]] = -np.inf
        best = np.argsort(-scores)[: 2 * job.beam_size]
        found += [(log_prob + float(scores[token]), parent, int(token)) for token in best]
    return sorted((way for way in found if way[0] > -np.inf), key=lambda way: -way[0])


def assert_same(found: Sequence[Hypothesis], expected: Sequence[Hypothesis]) -> None:
    """Equal but for rounding."""
    assert [replace_floats(each) for each in found] == [replace_floats(each) for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert np.isclose(one.log_prob, other.log_prob, rtol=1e-4, atol=1e-3)
        assert np.isclose(one.score, other.score, rtol=1e-4, atol=1e-3)
        assert (one.attention is None) == (other.attention is None)
        if one.attention is not None and other.attention is not None:
            assert one.attention.shape == other.attention.shape
            assert np.allclose(one.attention, other.attention, atol=1e-3)


def replace_floats(hypothesis: Hypothesis) -> Hypothesis:
    return replace(hypothesis, log_prob=0.0, score=0.0, attention=None)
