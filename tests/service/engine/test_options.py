"""Every option of a job, against a plain search over the same graphs, alone and in company."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from export.package import Package
from service.engine import Engine, Hypothesis, Job
from tests.packages import VOCABULARY
from tests.service.engine.helpers import running, translate, translate_alone
from tests.service.engine.reference import Oracle, assert_same, oracles, repeats, search


def mixed(sources: list[list[int]], vocabulary: int = 300) -> list[Job]:
    """Jobs that differ in everything."""
    random = np.random.default_rng(8)

    def job(i: int, source: list[int]) -> Job:
        beam = 1 + i % 4
        return Job(
            source,
            beam_size=beam,
            n_best=int(random.integers(1, beam + 1)),
            attention=bool(random.integers(2)),
            max_length=None if random.integers(2) else int(random.integers(8, 30)),
            min_length=int(random.choice([0, 0, 5])),
            length_penalty=float(random.choice([0.0, 0.6, 1.0, 2.0])),
            no_repeat_ngram=int(random.choice([0, 0, 1, 3])),
            prefix=tuple(random.integers(6, vocabulary, size=random.choice([0, 0, 1, 4])).tolist()),
            repetition_guard=bool(random.integers(2)),
        )

    return [job(i, source) for i, source in enumerate(sources)]


def check(jobs: list[Job], found: list[list[Hypothesis]], known: list[Oracle]) -> None:
    for job, hypotheses, oracle in zip(jobs, found, known, strict=True):
        assert_same(hypotheses, search(oracle, job))


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_search_finds_what_a_plain_one_finds(
    engine: Engine, sources: list[list[int]], known: list[Oracle], beam: int
) -> None:
    jobs = [Job(source, beam_size=beam, n_best=beam, attention=True) for source in sources]
    found = translate(engine, jobs)
    check(jobs, found, known)
    ways = Counter("cut" if best.truncated else "loop" if best.repeated else "ended" for best, *_ in found)
    assert len(ways) == 3, "the model should end in every way there is"


@pytest.mark.parametrize("threads", [1, 2])
def test_jobs_of_all_kinds_share_a_batch(
    package: Package, sources: list[list[int]], known: list[Oracle], threads: int
) -> None:
    jobs = mixed(sources)
    with running(package, threads=threads) as engine:
        check(jobs, translate(engine, jobs), known)


def test_int8_says_the_same_in_any_company(package: Package, sources: list[list[int]]) -> None:
    """To the bit where it can be seen, which is more than fp32 products of other sizes promise."""
    jobs = mixed(sources)
    with running(package, precision="int8") as engine:
        alone, together = translate_alone(engine, jobs), translate(engine, jobs)
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)
    known = oracles(package, "int8", VOCABULARY, sources)
    check(jobs, together, known)


def test_no_attention_unless_asked(engine: Engine, sources: list[list[int]]) -> None:
    jobs = [Job(source, attention=i % 2 == 0) for i, source in enumerate(sources)]
    assert [best.attention is None for best, *_ in translate(engine, jobs)] == [not job.attention for job in jobs]


def test_attention_of_every_hypothesis_is_over_its_own_source(engine: Engine, sources: list[list[int]]) -> None:
    jobs = [Job(source, attention=True, beam_size=1 + i % 3, n_best=1 + i % 3) for i, source in enumerate(sources)]
    for job, hypotheses in zip(jobs, translate(engine, jobs), strict=True):
        for hypothesis in hypotheses:
            assert hypothesis.attention is not None
            assert hypothesis.attention.dtype == np.float32
            assert hypothesis.attention.shape == (len(hypothesis.token_ids), len(job.source_ids))
            assert np.allclose(hypothesis.attention.sum(axis=1), 1, atol=1e-3)
            assert hypothesis.attention.min(initial=0) >= 0


def test_n_best_are_different_and_ranked(engine: Engine, sources: list[list[int]]) -> None:
    jobs = [Job(source, beam_size=4, n_best=4, max_length=6 + i) for i, source in enumerate(sources)]
    for best in translate(engine, jobs):
        assert 1 <= len(best) <= 4
        assert len({tuple(hypothesis.token_ids) for hypothesis in best}) == len(best)
        order = [(not hypothesis.whole, -hypothesis.score) for hypothesis in best]
        assert order == sorted(order)


def test_the_first_of_n_best_is_the_best(engine: Engine, sources: list[list[int]]) -> None:
    several = translate(engine, [Job(source, beam_size=4, n_best=4) for source in sources])
    one = translate(engine, [Job(source, beam_size=4) for source in sources])
    for best, only in zip(several, one, strict=True):
        assert_same(best[:1], only)


@pytest.mark.parametrize("min_length", [1, 7, 30])
def test_min_length_is_kept(engine: Engine, sources: list[list[int]], known: list[Oracle], min_length: int) -> None:
    jobs = [Job(s, beam_size=1 + i % 2, min_length=min_length, max_length=30) for i, s in enumerate(sources)]
    jobs = [replace(job, repetition_guard=False) for job in jobs]
    found = translate(engine, jobs)
    assert all(len(best.token_ids) >= min_length for best, *_ in found)
    check(jobs, found, known)


@pytest.mark.parametrize("max_length", [1, 2, 9])
@pytest.mark.parametrize("beam", [1, 3])
def test_max_length_is_kept_and_told(
    engine: Engine, sources: list[list[int]], known: list[Oracle], max_length: int, beam: int
) -> None:
    """What is as long as it may be has still been asked for EOS."""
    jobs = [Job(source, beam_size=beam, max_length=max_length) for source in sources]
    found = translate(engine, jobs)
    lengths = [(len(best.token_ids), best.truncated) for best, *_ in found]
    assert (max_length, True) in lengths
    assert all(length <= max_length for length, _ in lengths)
    assert all(length == max_length for length, truncated in lengths if truncated)
    check(jobs, found, known)


def test_a_greedy_cut_is_the_beginning_of_the_whole(engine: Engine, sources: list[list[int]]) -> None:
    whole = translate(engine, [Job(source, repetition_guard=False) for source in sources])
    cut = translate(engine, [Job(source, repetition_guard=False, max_length=3) for source in sources])
    for (full,), (short,) in zip(whole, cut, strict=True):
        assert short.token_ids == full.token_ids[:3]
        assert short.truncated == (len(full.token_ids) > 3)


def test_no_target_is_longer_than_the_model_allows(engine: Engine) -> None:
    longest = engine.package.manifest.max_length
    job = Job([4, *[9] * (longest - 2), 3], max_length=10 * longest, min_length=longest - 1, repetition_guard=False)
    for attention in (False, True):
        (best,) = translate(engine, [replace(job, attention=attention)])[0]
        assert len(best.token_ids) == longest - 1


@pytest.mark.parametrize("beam", [1, 4])
def test_a_prefix_is_kept_and_gone_on_from(
    engine: Engine, sources: list[list[int]], known: list[Oracle], beam: int
) -> None:
    jobs = [Job(s, beam_size=beam, prefix=tuple(range(20, 20 + i % 9)), attention=True) for i, s in enumerate(sources)]
    found = translate(engine, jobs)
    for job, (best, *_) in zip(jobs, found, strict=True):
        assert tuple(best.token_ids[: len(job.prefix)]) == job.prefix or best.repeated
    assert any(len(best.token_ids) > len(job.prefix) > 0 for job, (best, *_) in zip(jobs, found, strict=True))
    check(jobs, found, known)


def test_the_greedy_target_as_a_prefix_changes_nothing(engine: Engine, sources: list[list[int]]) -> None:
    """Whatever part of it is forced, the rest follows, and what is forced costs nothing."""
    plain = translate(engine, [Job(source, repetition_guard=False) for source in sources])
    for share in (0.3, 1.0):
        prefixes = [best.token_ids[: int(share * len(best.token_ids))] for (best,) in plain]
        jobs = [Job(s, repetition_guard=False, prefix=prefix) for s, prefix in zip(sources, prefixes, strict=True)]
        for (best,), (forced,) in zip(plain, translate(engine, jobs), strict=True):
            assert forced.token_ids == best.token_ids
            assert forced.log_prob >= best.log_prob - 1e-3


def test_a_prefix_as_long_as_the_target_may_be(engine: Engine) -> None:
    ((best,),) = translate(engine, [Job([4, 9, 3], max_length=3, prefix=(7, 8, 9))])
    assert best.token_ids == [7, 8, 9]
    assert best.truncated == (best.log_prob == 0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_n_gram_comes_twice(engine: Engine, sources: list[list[int]], known: list[Oracle], size: int) -> None:
    free = translate(engine, [Job(source, repetition_guard=False) for source in sources])
    assert any(repeats(best.token_ids, size) for (best,) in free)
    jobs = [Job(s, beam_size=1 + i % 3, n_best=1 + i % 3, no_repeat_ngram=size) for i, s in enumerate(sources)]
    found = translate(engine, jobs)
    assert not any(repeats(best.token_ids, size) for hypotheses in found for best in hypotheses)
    check(jobs, found, known)
