"""What the loops tell a trace, and through it in which order they work."""

from collections import Counter

import numpy as np
import pytest

from export.package import Package
from service.engine import Engine, Event, Job
from tests.service.engine.helpers import results, running, translate

SLOTS = 4


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    """Of all lengths and widths."""
    random = np.random.default_rng(5)
    lengths = random.integers(0, 30, size=40).tolist()
    return [
        Job([4, *random.integers(6, 300, size=n).tolist(), 3], beam_size=1 + i % 3, max_length=1 + i % 7)
        for i, n in enumerate(lengths)
    ]


@pytest.fixture(scope="module", params=[1, 2])
def events(package: Package, jobs: list[Job], request: pytest.FixtureRequest) -> list[Event]:
    """Of one or two loops that find everything waiting."""
    events: list[Event] = []
    engine = Engine(package, precision="fp32", slots=SLOTS, threads=request.param, trace=events.append)
    futures = engine.submit_all(jobs)
    engine.start()
    results(futures)
    engine.close()
    return events


def test_every_sentence_joins_and_leaves_once(events: list[Event], jobs: list[Job]) -> None:
    for kind in ("join", "leave"):
        found = {event.task: event for event in events if event.kind == kind}
        assert found.keys() == set(range(len(jobs)))
        assert [found[task].rows for task in range(len(jobs))] == [job.beam_size for job in jobs]
        assert sum(event.kind == kind for event in events) == len(jobs)
    joins = {event.task: event for event in events if event.kind == "join"}
    leaves = {event.task: event for event in events if event.kind == "leave"}
    for task, job in enumerate(jobs):
        assert joins[task].loop == leaves[task].loop
        assert joins[task].end <= leaves[task].start
        assert joins[task].tokens == len(job.source_ids)
        assert 1 <= leaves[task].tokens <= (job.max_length or 0) + 1


def test_each_loop_accounts_for_its_slots(events: list[Event]) -> None:
    """What joins and leaves is what is stepped; a slot has one row at a time."""
    for loop in {event.loop for event in events}:
        rows, steps = 0, Counter[str]()
        for event in (event for event in events if event.loop == loop):
            steps[event.kind] += 1
            rows += event.rows * ((event.kind == "join") - (event.kind == "leave"))
            assert 0 <= rows <= SLOTS
            if event.kind == "join":
                assert event.slot == rows - event.rows
            if event.kind == "step":
                assert event.rows >= rows > 0
                assert event.slot == event.task == -1
        assert rows == 0
        assert steps.keys() == {"encode", "join", "step", "leave"}


def test_times_follow_each_other_within_a_loop(events: list[Event]) -> None:
    for loop in {event.loop for event in events}:
        mine = [event for event in events if event.loop == loop]
        assert all(event.start <= event.end for event in mine)
        assert [event.end for event in mine] == sorted(event.end for event in mine)


def test_all_that_is_decoded_has_been_encoded_once(events: list[Event], jobs: list[Job]) -> None:
    encoded = [event for event in events if event.kind == "encode"]
    assert sum(event.rows for event in encoded) == len(jobs)
    assert sum(event.tokens for event in encoded) == sum(len(job.source_ids) for job in jobs)


def test_sentences_join_in_the_order_in_which_they_came(events: list[Event]) -> None:
    """Though they are encoded ahead, by length, and the wide ones wait for more slots than the narrow ones."""
    assert max(event.rows for event in events if event.kind == "encode") > 1
    for loop in {event.loop for event in events}:
        joined = [event.task for event in events if event.kind == "join" and event.loop == loop]
        assert joined == sorted(joined)


def test_where_more_wait_than_there_are_slots_a_loop_encodes_ahead(package: Package) -> None:
    """Rows leave one by one, sentences are encoded in groups all the same."""
    events: list[Event] = []
    engine = Engine(package, precision="fp32", slots=SLOTS, threads=1, trace=events.append)
    lengths = [2 + i % SLOTS for i in range(5 * SLOTS)]
    jobs = [Job([4, 9, 9, 3], min_length=n, max_length=n, repetition_guard=False) for n in lengths]
    futures = engine.submit_all(jobs)
    engine.start()
    results(futures)
    engine.close()
    encoded = [event.rows for event in events if event.kind == "encode"]
    assert encoded[0] == SLOTS
    assert len(encoded) < len(jobs) / 2


def test_what_waits_is_counted(package: Package) -> None:
    """In the queue, or encoded and still without a slot."""
    seen: list[tuple[int, int]] = []
    engine = Engine(
        package, precision="fp32", slots=2, threads=1, trace=lambda event: seen.append((engine.queued, engine.active))
    )
    futures = engine.submit_all([Job([4, 9, 9, 3], max_length=3, min_length=3)] * 8)
    assert (engine.queued, engine.active) == (8, 0)
    engine.start()
    results(futures)
    engine.close()
    assert (engine.queued, engine.active) == (0, 0)
    assert max(active for _, active in seen) == 2
    assert (6, 2) in seen


def test_a_short_sentence_does_not_wait_for_the_longest(package: Package) -> None:
    """It joins a batch that is under way, and answers before that ends."""
    events: list[Event] = []
    short, long = Job([4, 9, 3], max_length=2), Job([4, *[9] * 20, 3], min_length=40, repetition_guard=False)
    with running(package, slots=2, trace=events.append) as engine:
        translate(engine, [long, *[short] * 5])
    order = [event.task for event in events if event.kind == "leave"]
    assert order == [1, 2, 3, 4, 5, 0]
