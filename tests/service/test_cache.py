import asyncio
import tracemalloc
from dataclasses import fields, replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from service.cache import Cache
from service.dispatch import Dispatch
from service.engine import Hypothesis, Job
from service.registry import Model
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, run, started

JOB = Job(source_ids=[4, 6, 7, 3])
SIZE = 1_000_000


@pytest.fixture
def served(tokenizer: Tokenizer) -> Model:
    return model(tokenizer, EchoEngine())


def found(job: Job = JOB) -> list[Hypothesis]:
    return [EchoEngine.hypothesis(job, 0)]


def test_what_was_put_is_got(served: Model) -> None:
    cache, hypotheses = Cache(SIZE), found()
    assert cache.get(served, JOB) is None
    cache.put(served, JOB, hypotheses)
    assert cache.get(served, replace(JOB, deadline=5.0)) is hypotheses


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return 9 if value is None else [*value, 8]


@pytest.mark.parametrize("name", [field.name for field in fields(Job) if field.name != "deadline"])
def test_every_field_of_a_job_counts(served: Model, name: str) -> None:
    cache = Cache(SIZE)
    cache.put(served, JOB, found())
    assert cache.get(served, replace(JOB, **{name: other(getattr(JOB, name))})) is None


class Exact(EchoEngine):
    precision = "fp32"


@pytest.mark.parametrize("changes", [{"name": "other"}, {"version": "2"}, {"parameters": 7}])
def test_another_package_is_another(served: Model, tokenizer: Tokenizer, changes: dict[str, object]) -> None:
    """``parameters`` stands for the checksums: same name, same version, other contents."""
    cache = Cache(SIZE)
    cache.put(served, JOB, found())
    assert cache.get(model(tokenizer, EchoEngine(), **changes), JOB) is None
    assert cache.get(model(tokenizer, Exact()), JOB) is None
    assert cache.get(model(tokenizer, EchoEngine()), JOB) is not None


def test_the_least_recently_used_is_forgotten(served: Model) -> None:
    jobs = [Job(source_ids=[4, number, 3]) for number in range(3)]
    single = Cache(SIZE)
    single.put(served, jobs[0], found(jobs[0]))
    cache = Cache(2 * single.used)
    for job in jobs[:2]:
        cache.put(served, job, found(job))
    cache.get(served, jobs[0])
    cache.put(served, jobs[2], found(jobs[2]))
    assert [cache.get(served, job) is not None for job in jobs] == [True, False, True]


def test_what_is_larger_than_the_cache_is_not_kept(served: Model) -> None:
    cache = Cache(2000)
    large = [replace(found()[0], attention=np.zeros((100, 100), np.float32))]
    cache.put(served, JOB, large)
    assert cache.get(served, JOB) is None
    assert cache.used == 0


@pytest.mark.parametrize("attention", [False, True])
def test_it_takes_the_memory_that_it_may(served: Model, attention: bool) -> None:
    """Sizes are estimates: real memory stays within a tenth above them, and is used for the most part."""
    random = np.random.default_rng(1)
    cache = Cache(1_000_000)
    tracemalloc.start()
    try:
        for _ in range(1500):
            source, target = ([int(each) for each in random.integers(300, 8000, size=20)] for _ in range(2))
            matrix = np.zeros((20, 20), np.float32) if attention else None
            hypothesis = Hypothesis(target, -1.0 * random.random(), -1.0 * random.random(), False, False, matrix)
            cache.put(served, Job(source_ids=source, attention=attention), [hypothesis])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.99 * cache.size <= cache.used + 5000
    assert 0.6 * cache.size < taken < 1.1 * cache.size


def count(result: str) -> float:
    return REGISTRY.get_sample_value("attentive_cache_total", {"result": result}) or 0


def test_a_sentence_is_translated_once(served: Model) -> None:
    engine = served.engine
    assert isinstance(engine, EchoEngine)
    cache, hits, misses = Cache(SIZE), count("hit"), count("miss")
    work = [(served, Job(source_ids=[4, number, 3])) for number in range(6, 10)]
    first = run(Dispatch(work[:3], 2, cache).run())
    second = run(Dispatch(work, 2, cache).run())
    assert second[:3] == first
    assert second[3][0].token_ids == [9]
    assert len(engine.jobs) == 4
    assert (count("hit") - hits, count("miss") - misses) == (3, 4)


def test_off_is_off(served: Model) -> None:
    engine = served.engine
    assert isinstance(engine, EchoEngine)
    before = count("miss")
    for _ in range(2):
        run(Dispatch([(served, JOB)], 2, Cache(0)).run())
    assert len(engine.jobs) == 2
    assert count("miss") == before


def test_neither_failures_nor_what_was_cancelled_are_kept(tokenizer: Tokenizer) -> None:
    cache = Cache(SIZE)
    with pytest.raises(TimeoutError):
        run(Dispatch([(model(tokenizer, EchoEngine(error=TimeoutError())), JOB)], 1, cache).run())
    engine = EchoEngine(held=True)

    async def leave() -> None:
        task = asyncio.create_task(Dispatch([(model(tokenizer, engine), JOB)], 1, cache).run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(leave())
    assert engine.jobs == [JOB]
    assert cache.used == 0


def test_the_second_reply_is_the_first(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    client = Client(started([model(tokenizer, engine)]))
    begun = len(engine.jobs)
    options = {"text": "the cat sleeps. the dog drinks.", "attention": "weights"}
    replies = [client.translate(**options).json() for _ in range(2)]
    assert replies[0] == replies[1]
    assert len(engine.jobs) == begun + 2
