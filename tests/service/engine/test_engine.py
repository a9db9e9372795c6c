import time
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest

from export.decoder import GraphDecoder
from export.package import Package
from service.engine import Engine, Hypothesis, Job, Overloaded

WAIT = 60


@pytest.fixture
def engine(package: Package):
    engine = Engine(package, precision="fp32", slots=8, threads=2)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture
def sources(package: Package) -> list[list[int]]:
    random = np.random.default_rng(1)
    tags = list(package.manifest.tags.values())
    return [
        [tags[i % 2], *random.integers(6, 300, size=random.integers(0, 40)).tolist(), package.manifest.special.eos]
        for i in range(60)
    ]


def results(futures: "list[Future[list[Hypothesis]]]") -> list[list[Hypothesis]]:
    return [future.result(WAIT) for future in futures]


def test_greedy_is_what_the_graphs_say(engine: Engine, package: Package, sources: list[list[int]]) -> None:
    decoder = GraphDecoder(package, "fp32")
    for source, (hypothesis,) in zip(sources, results(engine.submit_all([Job(s) for s in sources])), strict=True):
        longest = min(2 * len(source) + 10, package.manifest.max_length - 1)
        tokens, log_probs = decoder.greedy(np.array([source]), np.array([len(source)]), longest + 1)
        assert hypothesis.truncated == (tokens[0, -1] != package.manifest.special.eos)
        expected = tokens[0, :-1].tolist()
        log_probs = log_probs[:, :-1] if hypothesis.truncated else log_probs
        assert hypothesis.token_ids == expected
        assert hypothesis.log_prob == pytest.approx(float(log_probs.sum()), abs=1e-3)
        assert hypothesis.score == pytest.approx(float(log_probs.mean()), abs=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_companions_change_nothing(package: Package, sources: list[list[int]], precision: str) -> None:
    engine = Engine(package, precision=precision, slots=8, threads=1)
    engine.start()
    jobs = [Job(s, beam_size=1 + i % 4, attention=i % 3 == 0) for i, s in enumerate(sources)]
    alone = [engine.submit(job).result(WAIT) for job in jobs]
    together = results(engine.submit_all(jobs))
    engine.close()
    for job, (one,), (other,) in zip(jobs, alone, together, strict=True):
        assert one.token_ids == other.token_ids
        assert one.score == pytest.approx(other.score, abs=1e-4)
        if job.attention:
            assert one.attention is not None
            assert other.attention is not None
            assert np.allclose(one.attention, other.attention, atol=1e-4)


def test_attention_has_a_row_for_each_token_and_a_column_for_each_source_token(
    engine: Engine, sources: list[list[int]]
) -> None:
    jobs = [Job(s, attention=True, beam_size=1 + i % 3) for i, s in enumerate(sources)]
    for job, (hypothesis,) in zip(jobs, results(engine.submit_all(jobs)), strict=True):
        assert hypothesis.attention is not None
        assert hypothesis.attention.shape == (len(hypothesis.token_ids), len(job.source_ids))
        assert np.allclose(hypothesis.attention.sum(axis=1), 1, atol=1e-3)


def test_no_attention_unless_asked(engine: Engine, sources: list[list[int]]) -> None:
    assert engine.submit(Job(sources[3])).result(WAIT)[0].attention is None


def test_n_best_are_different_and_ranked(engine: Engine, sources: list[list[int]]) -> None:
    for source in sources[:20]:
        best = engine.submit(Job(source, beam_size=4, n_best=4, max_length=6)).result(WAIT)
        assert 1 <= len(best) <= 4
        assert len({tuple(hypothesis.token_ids) for hypothesis in best}) == len(best)
        ended = [hypothesis.score for hypothesis in best if not hypothesis.truncated]
        assert ended == sorted(ended, reverse=True)
        assert not any(hypothesis.truncated for hypothesis in best[: len(ended)])


def test_max_length_truncates_and_says_so(engine: Engine, sources: list[list[int]]) -> None:
    long = max(sources, key=len)
    full = engine.submit(Job(long)).result(WAIT)[0]
    assert len(full.token_ids) > 3
    short = engine.submit(Job(long, max_length=3)).result(WAIT)[0]
    assert short.truncated
    assert short.token_ids == full.token_ids[: len(short.token_ids)]
    assert len(short.token_ids) == 3


def test_a_full_queue_refuses_all_or_nothing(package: Package, sources: list[list[int]]) -> None:
    engine = Engine(package, precision="fp32", queue_size=5, threads=1)
    first = engine.submit_all([Job(s) for s in sources[:3]])
    with pytest.raises(Overloaded):
        engine.submit_all([Job(s) for s in sources[:3]])
    assert engine.queued == 3
    second = engine.submit_all([Job(s) for s in sources[:2]])
    engine.start()
    assert all(results(first + second))
    engine.close()


def test_a_passed_deadline_is_a_timeout(package: Package, sources: list[list[int]]) -> None:
    engine = Engine(package, precision="fp32", threads=1)
    late = engine.submit(Job(sources[0], deadline=time.monotonic() - 1))
    fine = engine.submit(Job(sources[1], deadline=time.monotonic() + WAIT))
    engine.start()
    with pytest.raises(TimeoutError):
        late.result(WAIT)
    assert fine.result(WAIT)
    engine.close()


def test_cancelled_work_is_dropped(package: Package, sources: list[list[int]]) -> None:
    engine = Engine(package, precision="fp32", threads=1)
    futures = engine.submit_all([Job(s) for s in sources[:4]])
    assert futures[1].cancel()
    engine.start()
    with pytest.raises(CancelledError):
        futures[1].result(WAIT)
    assert all(results([futures[0], *futures[2:]]))
    engine.close()
    assert engine.active == engine.queued == 0


def test_a_failing_step_fails_its_sentences_and_no_others(
    package: Package, sources: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(package, precision="fp32", threads=1)
    working = engine.session.step
    monkeypatch.setattr(engine.session, "step", lambda *args, **kwargs: 1 / 0)
    broken = engine.submit(Job(sources[0]))
    engine.start()
    with pytest.raises(ZeroDivisionError):
        broken.result(WAIT)
    monkeypatch.setattr(engine.session, "step", working)
    assert engine.submit(Job(sources[1])).result(WAIT)
    engine.close()


def test_a_sentence_that_cannot_be_encoded_fails_alone(engine: Engine, sources: list[list[int]]) -> None:
    length = 12
    good = [[*[*source[:-1], *([9] * length)][: length - 1], 3] for source in sources[:6]]
    expected = results(engine.submit_all([Job(source) for source in good]))
    poison = Job([4, *[10_000] * (length - 2), 3])  # no such token
    before, broken, after = (
        engine.submit_all([Job(source) for source in good[:3]]),
        engine.submit(poison),
        engine.submit_all([Job(source) for source in good[3:]]),
    )
    with pytest.raises(Exception, match="indices"):
        broken.result(WAIT)
    assert [h.token_ids for (h,) in results(before + after)] == [h.token_ids for (h,) in expected]


def test_close_finishes_what_was_submitted(engine: Engine, sources: list[list[int]]) -> None:
    futures = engine.submit_all([Job(s) for s in sources])
    engine.close()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(Job(sources[0]))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source_ids": []}, "sub-words"),
        ({"source_ids": [5] * 65}, "1 to 64 sub-words"),
        ({"beam_size": 0}, "beam_size"),
        ({"beam_size": 9}, "beam_size is 1 to 8"),
        ({"n_best": 2}, "n_best"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_impossible_jobs_are_refused(engine: Engine, changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        engine.submit(Job(**{"source_ids": [4, 3], **changes}))


def test_the_longest_source_is_translated(engine: Engine) -> None:
    longest = engine.package.manifest.max_length
    assert engine.submit(Job([4, *[9] * (longest - 2), 3], attention=True)).result(WAIT)


def test_an_unknown_provider_is_refused(package: Package) -> None:
    with pytest.raises(ValueError, match="NoSuchProvider is not one of"):
        Engine(package, provider="NoSuchProvider")
