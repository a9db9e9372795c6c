import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.boundary import Boundary
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, run, started

Message = dict[str, Any]


async def call(app: Any, chunks: list[bytes], path: str = "/v1/translate") -> tuple[int, list[Message]]:
    """An HTTP request whose body comes in ``chunks``, with no length announced; gives how many were read."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []
    read = 0

    async def receive() -> Message:
        nonlocal read
        if read == len(messages):
            return {"type": "http.disconnect"}
        read += 1
        return messages[read - 1]

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
    }
    await app(scope | {"scheme": "http", "server": ("test", 80), "root_path": ""}, receive, send)
    return read, sent


def test_an_endless_body_is_refused_while_it_is_read(client: Client) -> None:
    chunk = b"x" * 100_000
    read, sent = run(call(client.app, [chunk] * 1000))
    assert sent[0]["status"] == 413
    assert read <= Settings().max_body_bytes // len(chunk) + 1


@pytest.mark.parametrize("end", ["\n", "\r", "\x00"])
def test_a_path_with_a_line_break_is_no_route(client: Client, end: str) -> None:
    """A router that takes it for one would go round whoever compares paths."""
    read, sent = run(call(client.app, [b"{}"], f"/v1/models{end}"))
    assert (read, sent[0]["status"]) == (0, 404)
    assert b'"code":"not_found"' in sent[1]["body"]


def test_an_announced_length_is_believed(client: Client) -> None:
    answer = client.request("POST", "/v1/translate", content=b"x" * 2_000_000)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"


def test_a_body_that_does_not_come_is_not_waited_for(tokenizer: Tokenizer) -> None:
    client = Client(started([model(tokenizer, EchoEngine())], body_timeout_s=0.05))

    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"text": "the'
        await asyncio.Event().wait()

    async def late() -> AsyncIterator[bytes]:
        for part in (b'{"text": "the cat",', b' "source": "en", "target": "fr"}'):
            await asyncio.sleep(0)
            yield part

    headers = {"Content-Type": "application/json"}
    refused = client.request("POST", "/v1/translate", content=stalled(), headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (408, "body_timeout")
    assert refused.headers["Connection"] == "close"
    assert client.request("POST", "/v1/translate", content=late(), headers=headers).status_code == 200


@pytest.mark.parametrize(("given", "kept"), [("abc-1", True), ("a b", False), ("x" * 200, False), ("", False)])
def test_the_request_id(client: Client, given: str, kept: bool) -> None:
    answer = client.request("GET", "/nope", headers={"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] == answer.json()["error"]["request_id"]
    assert (answer.headers["X-Request-ID"] == given) == kept


def test_twice_is_once(client: Client) -> None:
    labels = {"route": "/v1/models", "status": "200"}
    before = REGISTRY.get_sample_value("attentive_requests_total", labels) or 0
    client.app = Boundary(client.app, Settings())  # type: ignore[assignment]
    assert client.request("GET", "/v1/models").status_code == 200
    assert REGISTRY.get_sample_value("attentive_requests_total", labels) == before + 1


def test_twice_the_unexpected_has_its_shape_too(client: Client, engine: EchoEngine) -> None:
    client.app = Boundary(client.app, Settings())  # type: ignore[assignment]
    engine.error = RuntimeError("the red cat")
    answer = client.translate(text="the red cat")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")


def test_paths_nobody_serves_share_one_series(client: Client) -> None:
    for number in range(20):
        client.request("GET", f"/{number}")
    routes = {
        sample.labels["route"] for metric in REGISTRY.collect() for sample in metric.samples if "route" in sample.labels
    }
    assert "unmatched" in routes
    assert not {f"/{number}" for number in range(20)} & routes


def test_a_client_that_goes_away_takes_its_work_along(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    client = Client(started([model(tokenizer, engine)]))
    engine.held = True
    _, sent = run(asyncio.wait_for(call(client.app, [b'{"text": "the cat", "source": "en", "target": "fr"}']), 30))
    assert sent[0]["status"] == 499
    assert all(future.cancelled() for _, future in engine.waiting)
    assert client.translator.gate.idle.is_set()
