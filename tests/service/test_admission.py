import asyncio
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.types import Message

from service.admission import COUNTED, PATHS, WINDOW_S, Admission, Door
from service.dispatch import Dispatch
from service.engine import Job
from service.errors import Overloaded
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, run, started, until

JOB = Job(source_ids=range(10))
FULL = 8


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(1.0, FULL, clock)


def work(admission: Admission, clock: Clock, rate: float, rows: int, seconds: float) -> None:
    """``rows`` jobs are always under way, and ``rate`` of them a second are done."""
    for _ in range(rows):
        admission.begin(JOB)
    for _ in range(int(seconds * rate)):
        clock.now += 1 / rate
        admission.end(JOB, done=True)
        admission.begin(JOB)
    for _ in range(rows):
        admission.end(JOB, done=False)


def begin(admission: Admission, count: int) -> None:
    for _ in range(count):
        admission.begin(JOB)


def test_nothing_is_refused_before_the_rate_is_known(admission: Admission) -> None:
    begin(admission, 1000)
    admission.check()
    assert admission.wait == 0


def test_the_rate_is_measured(admission: Admission, clock: Clock) -> None:
    work(admission, clock, rate=20, rows=FULL, seconds=3)
    assert admission.rate == pytest.approx(200, rel=0.05)


def test_refused_at_the_objective_and_not_before(admission: Admission, clock: Clock) -> None:
    work(admission, clock, rate=20, rows=FULL, seconds=3)
    begin(admission, 19)
    admission.check()
    begin(admission, 2)
    with pytest.raises(Overloaded) as refusal:
        admission.check()
    assert refusal.value.retry_after == 2
    admission.end(JOB, done=True)
    admission.end(JOB, done=False)
    admission.check()


def test_an_idle_server_is_no_slow_one(admission: Admission, clock: Clock) -> None:
    """One sentence at a time says nothing about how many are done when there are many."""
    work(admission, clock, rate=4, rows=1, seconds=20)
    assert admission.rate is None
    work(admission, clock, rate=20, rows=FULL, seconds=3)
    known = admission.rate
    work(admission, clock, rate=4, rows=1, seconds=20)
    assert admission.rate == known


def test_pauses_are_not_counted(admission: Admission, clock: Clock) -> None:
    for _ in range(10):
        work(admission, clock, rate=20, rows=FULL, seconds=1)
        clock.now += 60
    assert admission.rate == pytest.approx(200, rel=0.1)


def test_it_follows_a_slower_and_a_faster_server(admission: Admission, clock: Clock) -> None:
    for rate in (20, 5, 40):
        work(admission, clock, rate=rate, rows=FULL, seconds=8)
        assert admission.rate == pytest.approx(10 * rate, rel=0.1)
    work(admission, clock, rate=80, rows=FULL // 2, seconds=8)
    assert admission.rate == pytest.approx(800, rel=0.1)


def test_what_was_given_up_is_not_done(admission: Admission, clock: Clock) -> None:
    begin(admission, 2 * FULL)
    clock.now += WINDOW_S
    for _ in range(FULL):
        admission.end(JOB, done=False)
    assert admission.rate is None
    assert admission.work == FULL * len(JOB.source_ids)


def test_a_beam_is_more_work(admission: Admission) -> None:
    admission.begin(Job(source_ids=range(10), beam_size=4))
    assert (admission.rows, admission.work) == (4, 40)


def test_a_deadline_that_cannot_be_met_is_refused(admission: Admission, clock: Clock) -> None:
    work(admission, clock, rate=20, rows=FULL, seconds=3)
    admission.check(deadline=clock.now - 1)  # nothing waits: whether it is in time is the engine's to say
    begin(admission, 10)
    admission.check(deadline=clock.now + 0.6)
    with pytest.raises(Overloaded):
        admission.check(deadline=clock.now + 0.4)


def test_off_is_off(clock: Clock) -> None:
    admission = Admission(0, FULL, clock)
    work(admission, clock, rate=20, rows=FULL, seconds=3)
    begin(admission, 1000)
    admission.check(deadline=clock.now)


def loaded(admission: Admission, clock: Clock) -> Admission:
    work(admission, clock, rate=20, rows=FULL, seconds=3)
    begin(admission, 100)
    return admission


def test_dispatch_asks_before_it_hands_over(tokenizer: Tokenizer, admission: Admission, clock: Clock) -> None:
    engine = EchoEngine()
    jobs = [(model(tokenizer, engine), Job(source_ids=[4, 6, 3]))]
    with pytest.raises(Overloaded):
        run(Dispatch(jobs, 1, admission=loaded(admission, clock)).run())
    assert engine.jobs == []


def test_what_has_begun_goes_on(tokenizer: Tokenizer, admission: Admission, clock: Clock) -> None:
    engine = EchoEngine(held=True)
    jobs = [(model(tokenizer, engine), Job(source_ids=[4, number, 3])) for number in range(6, 9)]

    async def scenario() -> int:
        task = asyncio.create_task(Dispatch(jobs, 1, admission=admission).run())
        await asyncio.sleep(0)
        loaded(admission, clock)
        engine.held = False
        engine.release()
        return len(await task)

    assert run(scenario()) == 3


def test_a_part_of_what_has_begun_is_not_refused(tokenizer: Tokenizer, admission: Admission, clock: Clock) -> None:
    engine = EchoEngine()
    jobs = [(model(tokenizer, engine), Job(source_ids=[4, number, 3])) for number in range(6, 9)]
    average = loaded(admission, clock).average
    assert len(run(Dispatch(jobs, 10, admission=admission, begun=True).run())) == 3
    assert (admission.average, admission.requests, admission.rows) == (average, 0, 100)


def test_a_document_leaves_room_for_others(tokenizer: Tokenizer, admission: Admission) -> None:
    """200 sub-words a second: half of the objective are 100, and a sentence has ten."""
    admission.rate = 200
    engine = EchoEngine(held=True)
    jobs = [(model(tokenizer, engine), Job(source_ids=[4, *range(6, 14), 3])) for _ in range(40)]

    async def scenario() -> list[int]:
        """How many sentences of two documents were with the engine after each had its turn."""
        tasks = [asyncio.create_task(Dispatch(jobs, 30, admission=admission).run())]
        found = []
        for _ in range(5):
            await asyncio.sleep(0)
        found.append(len(engine.waiting))
        admission.check()
        tasks.append(asyncio.create_task(Dispatch(jobs, 30, admission=admission).run()))
        for _ in range(5):
            await asyncio.sleep(0)
        found.append(len(engine.waiting))
        engine.held = False
        engine.release()
        await asyncio.gather(*tasks)
        return found

    alone, together = run(scenario())
    assert alone == 10
    assert together == alone + FULL
    assert len(engine.jobs) == 80


@pytest.mark.parametrize("error", [None, ArithmeticError()])
def test_whatever_ends_nothing_is_left(
    tokenizer: Tokenizer, admission: Admission, error: ArithmeticError | None
) -> None:
    engine = EchoEngine(held=True, error=error)
    jobs = [(model(tokenizer, engine), Job(source_ids=[4, number, 3], beam_size=2)) for number in range(6, 16)]

    async def scenario() -> None:
        left = asyncio.create_task(Dispatch(jobs, 3, admission=admission).run())
        stayed = asyncio.create_task(Dispatch(jobs, 3, admission=admission).run())
        await asyncio.sleep(0)
        assert (admission.rows, admission.work) == (12, 36)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert (admission.rows, admission.work) == (6, 18)
        engine.held = False
        engine.release()
        await asyncio.gather(stayed, return_exceptions=True)

    run(scenario())
    assert (admission.rows, admission.work) == (0, 0)


async def call(app: Any, path: str, headers: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body is not read")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return sent


def test_requests_that_are_read_or_answered_count_as_the_average(admission: Admission, clock: Clock) -> None:
    work(admission, clock, rate=20, rows=FULL, seconds=3)
    for _ in range(100):
        with admission.inside(), admission.engaged([JOB] * 2):
            assert admission.wait == 0
    assert admission.average == pytest.approx(20, rel=0.01)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(admission.inside())
        admission.check()
        stack.enter_context(admission.inside())
        with pytest.raises(Overloaded):
            admission.check()
        with admission.engaged([JOB] * 2):
            admission.check()
    assert (admission.requests, admission.wait) == (0, 0)


async def reached(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "reached"})


def test_the_door_refuses_without_reading(admission: Admission, clock: Clock) -> None:
    door = Door(reached, admission)
    labels = {"route": "/v1/translate", "status": "429"}
    before = REGISTRY.get_sample_value("attentive_requests_total", labels) or 0
    assert run(call(door, "/v1/translate", [])) == [{"type": "reached"}]
    assert admission.requests == 0
    loaded(admission, clock)
    start, body = run(call(door, "/v1/translate", [(b"x-request-id", b"mine")]))
    headers = dict(start["headers"])
    assert (start["status"], headers[b"retry-after"], headers[b"x-request-id"]) == (429, b"5", b"mine")
    assert b'"code":"overloaded"' in body["body"]
    assert b'"request_id":"mine"' in body["body"]
    for _ in range(2):
        admission.flush()
        assert REGISTRY.get_sample_value("attentive_requests_total", labels) == before + 1
    for path in ("/livez", "/v1/models", "/metrics"):
        assert run(call(door, path, [])) == [{"type": "reached"}]


TRANSLATE = {"type": "http", "method": "POST", "path": "/v1/translate", "headers": []}
STREAM = TRANSLATE | {"path": "/v1/translate/stream"}


def test_a_request_counts_from_its_whole_body_to_its_result(admission: Admission) -> None:
    """Neither who does not send a body nor who does not read an answer keeps the others out."""
    body: asyncio.Queue[Message] = asyncio.Queue()
    counted = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            counted.append(admission.requests)
        counted.append(admission.requests)
        await send({"type": "http.response.start"})
        await send({"type": "http.response.body"})

    async def send(_message: Message) -> None:
        counted.append(admission.requests)

    async def scenario() -> None:
        task = asyncio.create_task(Door(app, admission)(TRANSLATE, body.get, send))
        await asyncio.sleep(0)
        counted.append(admission.requests)
        body.put_nowait({"type": "http.request", "more_body": True})
        body.put_nowait({"type": "http.request", "more_body": False})
        await task

    run(scenario())
    assert counted == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("path", sorted(PATHS - COUNTED))
def test_what_counts_itself_is_not_counted_twice(admission: Admission, path: str) -> None:
    counted = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()
        counted.append(admission.requests)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(_message: Message) -> None:
        pass

    run(Door(app, admission)(TRANSLATE | {"path": path}, receive, send))
    assert counted == [0]


def test_a_stream_that_nobody_reads_counts_until_it_is_found(client: Client, engine: EchoEngine) -> None:
    admission = client.translator.admission
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b'{"text": "the cat", "source": "en", "target": "fr"}'})
    scope = STREAM | {"headers": [(b"content-type", b"application/json")], "query_string": b"", "root_path": ""}
    engine.held = True
    sending = asyncio.Event()

    async def send(_message: Message) -> None:
        sending.set()
        await asyncio.Event().wait()

    async def scenario() -> None:
        task = asyncio.create_task(Door(client.app, admission)(scope, messages.get, send))
        await until(lambda: bool(engine.waiting))
        assert (admission.requests, admission.rows) == (0, 1)
        engine.release()
        await sending.wait()
        await until(client.translator.gate.idle.is_set)
        assert (admission.requests, admission.rows) == (0, 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenario())
    assert admission.requests == 0


def test_the_door_knows_every_route_that_translates(client: Client) -> None:
    posts = {path for path, item in client.app.openapi()["paths"].items() if "post" in item}
    assert {path for path in posts if "translate" in path} | {"/translate_batch"} == PATHS


def test_an_overloaded_server_says_so(tokenizer: Tokenizer, clock: Clock) -> None:
    client = Client(started([model(tokenizer, EchoEngine())]))
    client.translator.admission = loaded(Admission(1.0, FULL, clock), clock)
    answer = client.translate(text="the cat")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert answer.headers["Retry-After"] == "5"
