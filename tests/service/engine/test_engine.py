"""Jobs in, hypotheses out: the queue, its ends, and that no sentence spoils another."""

import gc
import shutil
import time
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, wait
from pathlib import Path
from threading import Event as Flag
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export.decoder import GraphDecoder
from export.package import Package
from service.engine import Engine, Event, Job, Overloaded
from service.engine import loop as loop_module
from service.engine.loop import Loop
from service.engine.session import GROUP_TOKENS, Session, Stepper
from service.engine.slots import Encoded, Slots
from tests.service.engine.helpers import WAIT, results, running, translate
from tests.service.engine.reference import assert_same


def test_greedy_is_what_the_graphs_say(engine: Engine, package: Package, sources: list[list[int]]) -> None:
    decoder, eos = GraphDecoder(package, "fp32"), package.manifest.special.eos
    found = translate(engine, [Job(source, repetition_guard=False) for source in sources])
    for source, (hypothesis,) in zip(sources, found, strict=True):
        longest = min(2 * len(source) + 10, package.manifest.max_length - 1)
        tokens, log_probs = decoder.greedy(np.array([source]), np.array([len(source)]), longest + 1)
        assert hypothesis.truncated == (tokens[0, -1] != eos)
        log_probs = log_probs[:, :-1] if hypothesis.truncated else log_probs
        assert hypothesis.token_ids == tokens[0, :-1].tolist()
        assert hypothesis.log_prob == pytest.approx(float(log_probs.sum()), abs=1e-3)
        assert hypothesis.score == pytest.approx(float(log_probs.mean()), abs=1e-3)


def test_memory_for_the_largest_groups_of_all_loops_is_there_from_the_start(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    monkeypatch.setattr(Session, "encode", lambda _session, sources: encoded.append(sum(map(len, sources))))
    Engine(package, precision="fp32", threads=3)
    assert sum(encoded) >= 3 * GROUP_TOKENS


@pytest.mark.parametrize(
    ("lengths", "groups"),
    [
        ([8, *[10] * 31], [25, 7]),
        ([64] * 5, [4, 1]),
        ([10, 13, 14], [2, 1]),
        ([3] * 90, [85, 5]),
    ],
)
def test_a_group_has_little_padding_and_at_most_so_many_tokens_with_it(
    package: Package, monkeypatch: pytest.MonkeyPatch, lengths: list[int], groups: list[int]
) -> None:
    shapes: list[tuple[int, int]] = []
    encoding = Session.encode

    def encode(session: Session, sources: list[list[int]]) -> Encoded:
        shapes.append((len(sources), max(map(len, sources))))
        return encoding(session, sources)

    engine = Engine(package, precision="fp32", slots=128, threads=1)
    monkeypatch.setattr(Session, "encode", encode)
    futures = engine.submit_all([Job([4, *[9] * (length - 2), 3], max_length=1) for length in lengths])
    engine.start()
    assert all(results(futures))
    engine.close()
    assert [rows for rows, _ in shapes] == groups
    assert max(rows * longest for rows, longest in shapes) <= GROUP_TOKENS


def test_a_full_queue_refuses_all_or_nothing(package: Package, sources: list[list[int]]) -> None:
    engine = Engine(package, precision="fp32", queue_size=5, threads=1)
    first = engine.submit_all([Job(source) for source in sources[:3]])
    with pytest.raises(Overloaded, match="3 of 5"):
        engine.submit_all([Job(source) for source in sources[:3]])
    assert engine.queued == 3
    second = engine.submit_all([Job(source) for source in sources[:2]])
    assert engine.submit_all([]) == []
    engine.start()
    assert all(results(first + second))
    engine.close()


def test_one_bad_job_keeps_all_of_its_company_out(engine: Engine, sources: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="beam_size"):
        engine.submit_all([Job(sources[0]), Job(sources[1], beam_size=0)])
    assert engine.queued == engine.active == 0


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
    events: list[Event] = []
    engine = Engine(package, precision="fp32", threads=1, trace=events.append)
    futures = engine.submit_all([Job(source) for source in sources[:4]])
    assert futures[1].cancel()
    engine.start()
    assert not wait(futures, WAIT).not_done
    with pytest.raises(CancelledError):
        futures[1].result()
    assert all(results([futures[0], *futures[2:]]))
    engine.close()
    assert engine.active == engine.queued == 0
    assert {event.task for event in events if event.kind == "join"} == {0, 2, 3}


class Interrupt:
    """Does something at the third step of a loop."""

    def __init__(self) -> None:
        self.steps = 0
        self.do: Callable[[], object] = lambda: None
        self.leaves: dict[int, int] = {}

    def __call__(self, event: Event) -> None:
        self.steps += event.kind == "step"
        if event.kind == "step" and self.steps == 3:
            self.do()
        if event.kind == "leave":
            self.leaves[event.task] = event.tokens


@pytest.fixture
def always_sweeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.loop.SWEEP", 0.0)


def long_jobs(sources: list[list[int]], **changes: object) -> list[Job]:
    """Three that decode for twenty steps, in one group."""
    chosen = sorted(sources, key=len)[-3:]
    return [Job(s, beam_size=2, min_length=20, max_length=20, **changes) for s in chosen]  # type: ignore[arg-type]


@pytest.mark.usefixtures("always_sweeping")
def test_a_row_whose_client_has_gone_leaves_and_its_companions_do_not_notice(
    package: Package, sources: list[list[int]]
) -> None:
    interrupt = Interrupt()
    jobs = long_jobs(sources)
    with running(package) as engine:
        expected = translate(engine, jobs)
    engine = Engine(package, precision="fp32", threads=1, trace=interrupt)
    futures = engine.submit_all(jobs)
    interrupt.do = lambda: None if futures[0].cancel() else pytest.fail("cannot be cancelled")
    engine.start()
    for future, alone in zip(futures[1:], expected[1:], strict=True):
        assert_same(future.result(WAIT), alone)
    engine.close()
    assert futures[0].cancelled()
    assert not wait(futures, WAIT).not_done
    assert interrupt.leaves == {0: 3, 1: 21, 2: 21}


@pytest.mark.usefixtures("always_sweeping")
def test_a_row_whose_deadline_passes_leaves(
    package: Package, sources: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], perf_counter=time.perf_counter)
    for module in ("loop", "scheduler"):
        monkeypatch.setattr(f"service.engine.{module}.time", clock)
    interrupt = Interrupt()
    jobs = [*long_jobs(sources)[:2], *long_jobs(sources, deadline=5.0)[:1]]
    engine = Engine(package, precision="fp32", threads=1, trace=interrupt)
    futures = engine.submit_all(jobs)
    interrupt.do = lambda: now.append(now.pop() + 6.0)
    engine.start()
    with pytest.raises(TimeoutError):
        futures[2].result(WAIT)
    assert all(results(futures[:2]))
    engine.close()
    assert interrupt.leaves == {2: 3, 0: 21, 1: 21}


def test_a_failing_step_fails_its_sentences_and_no_others(
    package: Package, sources: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are being decoded; the loop begins afresh with those that wait."""
    with running(package) as engine:
        expected = translate(engine, [Job(source) for source in sources])
    working, broken = Stepper.run, Flag()

    def run(self: Stepper, top_k: int, attention: bool) -> object:
        if not broken.is_set():
            broken.set()
            raise ZeroDivisionError
        return working(self, top_k, attention)

    monkeypatch.setattr(Stepper, "run", run)
    engine = Engine(package, precision="fp32", slots=2, threads=1)
    futures = engine.submit_all([Job(source) for source in sources])
    engine.start()
    failed = [isinstance(future.exception(WAIT), ZeroDivisionError) for future in futures]
    assert failed[0]
    assert 1 <= sum(failed) <= 4  # those in slots and those encoded ahead of them
    for future, bad, alone in zip(futures, failed, expected, strict=True):
        if not bad:
            assert_same(future.result(), alone)
    engine.close()
    assert engine.active == engine.queued == 0


@pytest.mark.parametrize("broken", ["room", "join", "step", "leave"])
def test_every_future_resolves_whatever_fails_between_two_steps(
    package: Package, sources: list[list[int]], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """There is no room for a row that was encoded ahead, or the trace fails."""
    calls: Counter[str] = Counter()
    joining = Slots.join

    def tell(what: str) -> None:
        calls[what] += 1
        if what == broken and calls[what] == 6:
            raise MemoryError

    def join(self: Slots, encoded: Encoded, row: int, copies: int) -> list[int]:
        tell("room")
        return joining(self, encoded, row, copies)

    monkeypatch.setattr(Slots, "join", join)
    engine = Engine(package, precision="fp32", slots=4, threads=1, trace=lambda event: tell(event.kind))
    futures = engine.submit_all([Job(source) for source in sources])
    engine.start()
    assert not wait(futures, WAIT).not_done
    failed = [isinstance(future.exception(), MemoryError) for future in futures]
    assert 1 <= sum(failed) < len(sources) / 2  # those in slots and those encoded ahead of them
    assert all(future.result() for future, bad in zip(futures, failed, strict=True) if not bad)
    engine.close()
    assert engine.active == engine.queued == 0


def test_a_sentence_that_cannot_be_encoded_fails_alone(engine: Engine, sources: list[list[int]]) -> None:
    length = 12
    good = [Job([*[*source[:-1], *([9] * length)][: length - 1], 3]) for source in sources[:6]]
    expected = translate(engine, good)
    poison = Job([4, *[10_000] * (length - 2), 3])  # no such token
    before, broken, after = engine.submit_all(good[:3]), engine.submit(poison), engine.submit_all(good[3:])
    with pytest.raises(Exception, match="indices"):
        broken.result(WAIT)
    for found, alone in zip(results(before + after), expected, strict=True):
        assert_same(found, alone)


def test_close_finishes_what_was_submitted(engine: Engine, sources: list[list[int]]) -> None:
    futures = engine.submit_all([Job(source) for source in sources])
    engine.close()
    assert all(future.done() and future.result() for future in futures)
    assert engine.active == engine.queued == 0
    with pytest.raises(RuntimeError, match="closed"):
        engine.submit(Job(sources[0]))
    engine.close()  # a second time is no harm


def test_a_closed_engine_needs_no_garbage_collector(package: Package) -> None:
    """What was there when a server had started is frozen: the collector never looks at it again."""
    gc.disable()
    try:
        engine = Engine(package, precision="fp32", threads=2)
        engine.start()
        gone = weakref.ref(engine)
        engine.close()
        del engine
        assert gone() is None
    finally:
        gc.enable()


def test_the_size_of_what_serves_is_known_when_its_files_are_gone(package: Package, tmp_path: Path) -> None:
    path = shutil.copytree(package.path, tmp_path / "package")
    engine = Engine(Package.open(path), precision="fp32", threads=1)
    size = engine.memory_bytes
    path.rename(tmp_path / "old")
    assert engine.memory_bytes == size > 0


def test_a_loop_begins_anew_when_there_is_memory_again(
    package: Package, sources: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(package) as engine:
        expected = translate(engine, [Job(sources[0])])
        lacking = [MemoryError(), MemoryError()]
        begin, run = Loop.reset, Stepper.run

        def reset(loop: Loop) -> None:
            if lacking:
                raise lacking.pop()
            begin(loop)

        def fail(*_: Any, **__: Any) -> None:
            monkeypatch.setattr(Stepper, "run", run)
            raise MemoryError

        monkeypatch.setattr(loop_module, "RECOVER", 0.0)
        monkeypatch.setattr(Loop, "reset", reset)
        monkeypatch.setattr(Stepper, "run", fail)
        with pytest.raises(MemoryError):
            engine.submit(Job(sources[0])).result(WAIT)
        assert_same(engine.submit(Job(sources[0])).result(WAIT), expected[0])
        assert lacking == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source_ids": []}, "1 to 64 sub-words, not 0"),
        ({"source_ids": [5] * 65}, "1 to 64 sub-words, not 65"),
        ({"beam_size": 0}, "beam_size is 1 to 8, not 0"),
        ({"beam_size": 9}, "beam_size is 1 to 8, not 9"),
        ({"n_best": 0}, "n_best is 1 to beam_size"),
        ({"beam_size": 2, "n_best": 3}, "n_best is 1 to beam_size, not 3"),
        ({"max_length": 0}, "max_length is at least 1"),
        ({"min_length": -1}, "min_length is 0 to 14, not -1"),
        ({"min_length": 15}, "min_length is 0 to 14, not 15"),
        ({"max_length": 100, "min_length": 64}, "min_length is 0 to 63"),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram is at least 0"),
        ({"length_penalty": -0.1}, "length_penalty is 0 to 2, not -0.1"),
        ({"length_penalty": 2.1}, "length_penalty is 0 to 2, not 2.1"),
        ({"length_penalty": float("nan")}, "length_penalty is 0 to 2, not nan"),
        ({"prefix": [9] * 15}, "prefix has at most 14 sub-words"),
        ({"max_length": 2, "prefix": [9] * 3}, "prefix has at most 2 sub-words"),
        ({"prefix": [9, 3]}, "no EOS"),
    ],
)
def test_impossible_jobs_are_refused(engine: Engine, changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        engine.submit(Job(**{"source_ids": [4, 3], **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"beam_size": 8, "n_best": 8},
        {"max_length": 1, "min_length": 1},
        {"min_length": 14},
        {"prefix": [9] * 14},
        {"length_penalty": 0.0},
        {"length_penalty": 2.0},
        {"max_length": 1000, "min_length": 63},
        {"no_repeat_ngram": 100},
    ],
)
def test_jobs_at_the_edge_are_not(engine: Engine, changes: dict) -> None:
    assert engine.submit(Job(**{"source_ids": [4, 3], **changes})).result(WAIT)


def test_the_longest_source_is_translated(engine: Engine) -> None:
    longest = engine.package.manifest.max_length
    assert engine.submit(Job([4, *[9] * (longest - 2), 3], attention=True)).result(WAIT)


def test_an_unknown_provider_is_refused(package: Package) -> None:
    with pytest.raises(ValueError, match="NoSuchProvider is not one of"):
        Engine(package, provider="NoSuchProvider")


def test_an_unknown_precision_is_a_key_error(package: Package) -> None:
    with pytest.raises(KeyError):
        Engine(package, precision="fp64")
