import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.boundary import Boundary
from service.schemas.reply import ErrorReply
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, run, started, until

BODY = {"text": ["The cat sleeps. It is red.", "", "drinks milk"], "source": "en", "target": "fr"}
Message = MutableMapping[str, Any]


class Call:
    """A request to the application as a server makes it; :meth:`leave` is the client going away."""

    def __init__(self, client: Client, **changes: Any) -> None:
        self.app = client.app
        self.body = json.dumps(BODY | changes).encode()
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self.unread = True

    async def receive(self) -> Message:
        if self.unread:
            self.unread = False
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await asyncio.sleep(0)

    async def __call__(self) -> None:
        path = "/v1/translate/stream"
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        scope |= {"scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": ""}
        await self.app(scope | {"headers": [(b"content-type", b"application/json")]}, self.receive, self.send)

    def leave(self) -> None:
        self.gone.set()

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode("ascii")

    @property
    def events(self) -> list[tuple[str, Any]]:
        return events(self.text)


def events(text: str) -> list[tuple[str, Any]]:
    """Name and data of each event; comments are passed over."""
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    pairs = [block.split("\n") for block in blocks]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in pairs]


def test_sentences_come_in_order_and_texts_after_theirs(client: Client) -> None:
    answer = client.request("POST", "/v1/translate/stream", json=BODY)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-cache"
    found = events(answer.text)
    assert [(name, data.get("index")) for name, data in found] == [
        ("sentence", 0),
        ("sentence", 0),
        ("translation", 0),
        ("translation", 1),
        ("sentence", 2),
        ("translation", 2),
        ("done", None),
    ]
    assert found[-1][1] == {"translations": 3}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention": "weights", "alternatives": 1},
        {"attention": "alignment", "text": "\u2028 the cat.\x85\r\nIt 😀.\x00", "tokens": "subwords"},
    ],
)
def test_all_together_it_is_what_translate_answers(client: Client, options: dict[str, Any]) -> None:
    whole = client.request("POST", "/v1/translate", json=BODY | options).json()["translations"]
    text = client.request("POST", "/v1/translate/stream", json=BODY | options).text
    assert text.isascii()
    found = events(text)
    assert [data["translation"] for name, data in found if name == "translation"] == whole
    sentences = [(data["index"], data["sentence"]) for name, data in found if name == "sentence"]
    gaps = [sentence.pop("before") for _, sentence in sentences]
    assert all(gap.strip() == "" for gap in gaps)
    assert sentences == [(index, each) for index, translation in enumerate(whole) for each in translation["sentences"]]


@pytest.mark.parametrize("format_name", ["html", "xml"])
def test_a_page_is_one_event(client: Client, format_name: str) -> None:
    body = BODY | {"format": format_name, "text": "<p>The cat.</p><p>It is red.</p>"}
    found = events(client.request("POST", "/v1/translate/stream", json=body).text)
    assert [name for name, _ in found] == ["translation", "done"]
    assert found[0][1]["translation"]["text"] == body["text"]


def test_no_text_is_done_at_once(client: Client) -> None:
    answer = client.request("POST", "/v1/translate/stream", json=BODY | {"text": []})
    assert events(answer.text) == [("done", {"translations": 0})]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"target": "xx"}, 404, "unknown_direction"),
        ({"beam_size": 0}, 422, "invalid_request"),
        ({"text": ["a"] * 1000}, 413, "too_large"),
    ],
)
def test_what_fails_before_the_first_event_has_its_status(
    client: Client, change: dict[str, Any], status: int, code: str
) -> None:
    answer = client.request("POST", "/v1/translate/stream", json=BODY | change)
    assert (answer.status_code, ErrorReply.model_validate(answer.json()).error.code) == (status, code)


def test_a_full_queue_answers_at_once(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    client = Client(started([model(tokenizer, engine)]))
    engine.capacity = 0
    answer = client.request("POST", "/v1/translate/stream", json=BODY)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0


class Slow:
    """A server whose engine finishes a sentence when it is told to."""

    def __init__(self, tokenizer: Tokenizer, **settings: Any) -> None:
        self.engine = EchoEngine()
        self.client = Client(started([model(tokenizer, self.engine)], **settings))
        self.engine.held = True

    def watch(self, scenario: Callable[[Call, "asyncio.Task[None]"], Awaitable[None]], **changes: Any) -> Call:
        """``scenario`` with a request whose sentences are in the engine, and what became of it."""
        call = Call(self.client, **changes)

        async def work() -> None:
            task = asyncio.create_task(call())
            await until(lambda: self.engine.queued == 3)
            async with asyncio.timeout(30):
                await scenario(call, task)
                await task

        run(work())
        assert self.client.translator.gate.idle.is_set()
        assert all(future.done() for _, future in self.engine.waiting)
        return call

    def finish(self, *numbers: int, error: Exception | None = None) -> None:
        for number in numbers:
            job, future = self.engine.waiting[number]
            future.set_running_or_notify_cancel()
            if error is None:
                future.set_result([self.engine.hypothesis(job, 0)])
            else:
                future.set_exception(error)

    @property
    def cancelled(self) -> list[bool]:
        return [future.cancelled() for _, future in self.engine.waiting]


@pytest.fixture
def slow(tokenizer: Tokenizer) -> Slow:
    return Slow(tokenizer)


def names(call: Call) -> list[str]:
    return [name for name, _ in call.events]


def test_a_sentence_is_sent_when_it_and_all_before_it_are_finished(slow: Slow) -> None:
    async def scenario(call: Call, _task: Any) -> None:
        slow.finish(2)
        for _ in range(100):
            await asyncio.sleep(0)
        assert call.sent == []
        slow.finish(0)
        await until(lambda: names(call) == ["sentence"])
        slow.finish(1)

    call = slow.watch(scenario)
    assert names(call) == ["sentence", "sentence", "translation", "translation", "sentence", "translation", "done"]


@pytest.mark.parametrize(("begun", "status"), [(True, 200), (False, 499)])
@pytest.mark.parametrize("twice", [False, True])
def test_a_client_that_goes_away_takes_its_work_along(slow: Slow, begun: bool, status: int, twice: bool) -> None:
    async def scenario(call: Call, _task: Any) -> None:
        if begun:
            slow.finish(0)
            await until(lambda: names(call) == ["sentence"])
        call.leave()

    if twice:
        slow.client.app = Boundary(slow.client.app, Settings())  # type: ignore[assignment]
    call = slow.watch(scenario)
    assert call.sent[0]["status"] == status
    assert slow.cancelled == [not begun, True, True]


def test_a_server_that_is_cut_off_takes_its_work_along(slow: Slow) -> None:
    async def scenario(call: Call, task: "asyncio.Task[None]") -> None:
        slow.finish(0)
        await until(lambda: names(call) == ["sentence"])
        task.cancel()
        await asyncio.wait([task])
        task.uncancel()

    with pytest.raises(asyncio.CancelledError):
        slow.watch(scenario)
    assert slow.cancelled == [False, True, True]


def test_an_error_after_the_first_event_is_the_last_event(slow: Slow, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(call: Call, _task: Any) -> None:
        slow.finish(0)
        await until(lambda: names(call) == ["sentence"])
        slow.finish(1, error=RuntimeError("the red cat"))

    refused = {"code": "internal"}
    before = REGISTRY.get_sample_value("attentive_refused_total", refused) or 0
    call = slow.watch(scenario)
    assert names(call) == ["sentence", "error"]
    error = ErrorReply.model_validate(call.events[-1][1]).error
    assert error.code == "internal"
    assert ("x-request-id", error.request_id) in [(k.decode(), v.decode()) for k, v in call.sent[0]["headers"]]
    assert error.request_id
    assert error.request_id in caplog.text
    assert "red cat" not in caplog.text + call.text
    assert REGISTRY.get_sample_value("attentive_refused_total", refused) == before + 1
    assert call.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.mark.parametrize("begun", [True, False])
def test_the_deadline(slow: Slow, begun: bool) -> None:
    async def scenario(_call: Call, _task: Any) -> None:
        if begun:
            slow.finish(0)

    call = slow.watch(scenario, timeout_ms=100)
    assert slow.cancelled == [not begun, True, True]
    if begun:
        assert names(call) == ["sentence", "error"]
        assert call.events[-1][1]["error"]["code"] == "timeout"
    else:
        assert call.sent[0]["status"] == 504


def test_while_nothing_is_finished_the_connection_is_kept_alive(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(call: Call, _task: Any) -> None:
        slow.finish(0)
        await until(lambda: call.text.count(": ping\n\n") == 3)
        slow.finish(1, 2)

    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.01)
    call = slow.watch(scenario)
    assert names(call)[-1] == "done"
