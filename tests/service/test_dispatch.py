import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from service import errors
from service.cache import Cache
from service.dispatch import TURN_S, Dispatch
from service.engine import Hypothesis, Job
from service.registry import Model
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model, run


def jobs(model: Model, count: int) -> list[tuple[Model, Job]]:
    return [(model, Job(source_ids=[4, number, 3])) for number in range(6, 6 + count)]


def ids(results: Sequence[list[Hypothesis]]) -> list[int]:
    return [found[0].token_ids[0] for found in results]


async def settle() -> None:
    """Let every callback that is due run."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("window", [1, 3, 100])
def test_the_order_is_kept(tokenizer: Tokenizer, window: int) -> None:
    first, second = model(tokenizer, EchoEngine()), model(tokenizer, EchoEngine())
    work = [pair for pairs in zip(jobs(first, 20), jobs(second, 20), strict=True) for pair in pairs]
    assert ids(run(Dispatch(work, window).run())) == [job.source_ids[1] for _, job in work]


def test_no_more_than_the_window_is_under_way(tokenizer: Tokenizer) -> None:
    engine = EchoEngine(held=True)

    async def scenario() -> None:
        task = asyncio.create_task(Dispatch(jobs(model(tokenizer, engine), 10), 4).run())
        for sent in (4, 8, 10):
            await settle()
            assert len(engine.jobs) == sent
            engine.release()
        assert ids(await task) == list(range(6, 16))

    run(scenario())


def test_a_full_queue_refuses_at_once_and_leaves_nothing(tokenizer: Tokenizer) -> None:
    roomy, full = EchoEngine(held=True), EchoEngine(capacity=1, held=True)
    work = [*jobs(model(tokenizer, roomy), 3), *jobs(model(tokenizer, full), 3)]
    with pytest.raises(errors.Overloaded):
        run(Dispatch(work, 100).run())
    assert len(roomy.waiting) == 3
    assert all(future.cancelled() for _, future in roomy.waiting)
    assert full.jobs == []


def test_a_request_that_has_begun_waits_for_room(tokenizer: Tokenizer) -> None:
    engine = EchoEngine(capacity=2, held=True)
    served = model(tokenizer, engine)

    async def scenario() -> list[int]:
        task = asyncio.create_task(Dispatch(jobs(served, 3), 2).run())
        await settle()
        engine.release()
        engine.submit_all([Job(source_ids=[4, 9, 3])] * 2)
        await settle()
        assert not task.done()
        engine.held = False
        engine.release()
        return ids(await task)

    assert run(scenario()) == [6, 7, 8]


def test_cancelling_takes_the_work_back(tokenizer: Tokenizer) -> None:
    engine = EchoEngine(held=True)

    async def scenario() -> None:
        task = asyncio.create_task(Dispatch(jobs(model(tokenizer, engine), 5), 3).run())
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settle()

    run(scenario())
    assert all(future.cancelled() for _, future in engine.waiting)
    assert len(engine.jobs) == 3


def test_one_failure_fails_the_request(tokenizer: Tokenizer) -> None:
    with pytest.raises(ArithmeticError):
        run(Dispatch(jobs(model(tokenizer, EchoEngine(error=ArithmeticError())), 3), 2).run())


class SlowCache(Cache):
    """Looking something up takes more than a turn."""

    def get(self, model: Model, job: Job) -> list[Hypothesis] | None:
        time.sleep(1.2 * TURN_S)
        return super().get(model, job)


def test_looking_up_gives_way_to_the_others(tokenizer: Tokenizer) -> None:
    work = jobs(model(tokenizer, EchoEngine()), 10)

    async def scenario() -> int:
        task = asyncio.create_task(Dispatch(work, 10, SlowCache(1_000_000)).run())
        turns = 0
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert run(scenario()) >= 10


@pytest.mark.parametrize("cached", [False, True])
def test_a_request_gives_way_to_the_others(tokenizer: Tokenizer, cached: bool) -> None:
    """Though all its results are there at once, and each takes a while."""
    work = jobs(model(tokenizer, EchoEngine()), 10)
    cache = Cache(1_000_000)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def scenario() -> int:
        if cached:
            await Dispatch(work, 10, cache).run()
        task = asyncio.create_task(other())
        async with aclosing(Dispatch(work, 10, cache).results()) as results:
            async for _ in results:
                before = turns
                time.sleep(1.2 * TURN_S)  # noqa: ASYNC251 - it keeps the others waiting
        task.cancel()
        return before

    assert run(scenario()) >= 9
