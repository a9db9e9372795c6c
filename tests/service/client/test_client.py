import json
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from service.client import AttentiveError, Client, LanguageInfo, ModelInfo, Translation
from tests.service.client.helpers import Ask, Scripted

BUSY = {"error": {"code": "overloaded", "message": "too many", "field": None, "request_id": "r1"}}
REPLY = {"model": "echo", "translations": []}


def busy(wait: str | None = "2", status: int = 429) -> httpx.Response:
    return httpx.Response(status, json=BUSY, headers={} if wait is None else {"Retry-After": wait})


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a client would have slept."""
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    # Only what the client sees: the server in the other thread sleeps as it likes.
    monkeypatch.setattr("service.client.client.time", SimpleNamespace(sleep=waits.append))
    monkeypatch.setattr("service.client.client.asyncio", SimpleNamespace(sleep=wait))
    return waits


def test_one_text_has_one_translation(ask: Ask, url: str) -> None:
    found = ask(url, "translate", "the cat", "fr")
    assert isinstance(found, Translation)
    assert (found.text, found.source, found.target) == ("the cat", "en", "fr")


def test_a_list_has_a_list(ask: Ask, url: str) -> None:
    texts = ["the cat", "", "drinks milk"]
    assert [found.text for found in ask(url, "translate", texts, "fr")] == texts
    assert ask(url, "translate", [], "fr") == []


def test_options_arrive(ask: Ask, url: str) -> None:
    options = {"source": "en", "model": "echo", "alternatives": 1, "attention": "weights", "tokens": "subwords"}
    found = ask(url, "translate", "the cat", "fr", **options)
    [sentence] = found.sentences
    assert len(found.alternatives) == 1
    assert len(sentence.weights) == len(sentence.target_tokens)
    assert sentence.alignment[0].target == 0


def test_any_string_can_be_sent(ask: Ask, url: str) -> None:
    found = ask(url, "translate", "the \ud83d cat \x00 \u2028", "fr", source="en")
    assert "surrogate" in found.warnings[0]


def test_models_and_languages(ask: Ask, url: str) -> None:
    [model] = ask(url, "models")
    assert isinstance(model, ModelInfo)
    assert model.directions == [("en", "fr"), ("fr", "en")]
    english = ask(url, "languages")[0]
    assert english == LanguageInfo(code="en", name="English", targets=["fr"])


def test_languages_are_detected(ask: Ask, url: str) -> None:
    likeliest, other = ask(url, "detect", "The cat sleeps on a red table.")
    assert (likeliest.language, other.language) == ("en", "fr")
    assert likeliest.confidence > other.confidence


def test_a_refusal_without_a_code(ask: Ask) -> None:
    script = Scripted(httpx.Response(403, json={"error": "the API key is missing"}))
    with pytest.raises(AttentiveError, match="the API key is missing") as raised:
        ask("http://test", "detect", "a", client={"transport": script})
    assert (raised.value.status, raised.value.code) == (403, "refused")


@pytest.mark.parametrize("method", ["translate", "stream"])
@pytest.mark.parametrize(
    ("options", "status", "code", "field"),
    [({"source": "xx"}, 404, "unknown_direction", "target"), ({"beam_size": 0}, 422, "invalid_request", "beam_size")],
)
def test_a_refusal_is_told_whole(
    ask: Ask, url: str, method: str, options: dict[str, Any], status: int, code: str, field: str
) -> None:
    with pytest.raises(AttentiveError) as raised:
        ask(url, method, "the cat", "fr", **options)
    error = raised.value
    assert (error.status, error.code, error.field, error.retry_after) == (status, code, field, None)
    assert error.request_id
    assert error.message in str(error)
    assert error.request_id in str(error)


@pytest.mark.parametrize("method", ["translate", "stream"])
def test_a_busy_server_is_asked_again_when_it_says(ask: Ask, slept: list[float], method: str) -> None:
    events = "event: done\ndata: {}\n\n"
    done = httpx.Response(200, text=events, headers={"Content-Type": "text/event-stream"})
    script = Scripted(busy("2"), busy("0.5", 503), httpx.Response(200, json=REPLY) if method == "translate" else done)
    assert ask("http://test", method, [], "fr", client={"transport": script}) == []
    assert slept == [2, 0.5]
    assert len({request.content for request in script.requests}) == 1


@pytest.mark.parametrize("wait", ["31", "tomorrow", None])
def test_a_server_that_asks_for_too_much_patience_or_none_is_not(
    ask: Ask, slept: list[float], wait: str | None
) -> None:
    script = Scripted(busy(wait))
    with pytest.raises(AttentiveError) as raised:
        ask("http://test", "models", client={"transport": script})
    assert raised.value.retry_after == (31 if wait == "31" else None)
    assert slept == []


@pytest.mark.parametrize("retries", [0, 2])
def test_patience_ends(ask: Ask, slept: list[float], retries: int) -> None:
    script = Scripted(*[busy() for _ in range(5)])
    with pytest.raises(AttentiveError) as raised:
        ask("http://test", "models", client={"transport": script, "retries": retries})
    assert (raised.value.status, raised.value.code, raised.value.retry_after) == (429, "overloaded", 2)
    assert slept == [2] * retries


def test_other_refusals_are_final(ask: Ask, slept: list[float]) -> None:
    script = Scripted(httpx.Response(500, json=BUSY, headers={"Retry-After": "1"}))
    with pytest.raises(AttentiveError, match="too many"):
        ask("http://test", "models", client={"transport": script})
    assert slept == []


@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        (httpx.ConnectError("Connection refused"), "unreachable", None),
        (httpx.ConnectTimeout(""), "unreachable", None),
        (httpx.ReadTimeout(""), "interrupted", None),
        (httpx.ReadError(""), "interrupted", None),
        (httpx.RemoteProtocolError("incomplete"), "interrupted", None),
        (httpx.DecodingError("incorrect header check"), "interrupted", None),
        (httpx.Response(502, text="<h1>Bad gateway</h1>"), "unexpected_reply", 502),
        (httpx.Response(307, headers={"Location": "http://elsewhere"}), "unexpected_reply", 307),
        (httpx.Response(204), "unexpected_reply", 204),
        (httpx.Response(202, text="later"), "unexpected_reply", 202),
        (httpx.Response(200, text="<h1>Welcome</h1>"), "unexpected_reply", 200),
        (httpx.Response(200, json={"translations": 1}), "unexpected_reply", 200),
    ],
)
@pytest.mark.parametrize("method", ["translate", "stream"])
def test_connections_that_fail_and_servers_that_are_none(
    ask: Ask, method: str, reply: httpx.Response | Exception, code: str, status: int | None
) -> None:
    with pytest.raises(AttentiveError) as raised:
        ask("http://test", method, "a", "fr", client={"transport": Scripted(reply)})
    assert (raised.value.code, raised.value.status) == (code, status)
    assert "http://test" in raised.value.message


@pytest.mark.parametrize(
    "url", ["127.0.0.1:3000", "ftp://test", "http://[", "http://test:99999", "", "nonsense", "http://a..b"]
)
def test_addresses_of_no_server(ask: Ask, url: str) -> None:
    with pytest.raises(AttentiveError) as raised:
        ask(url, "models")
    assert raised.value.code == "unreachable"


def test_nobody_listens(ask: Ask) -> None:
    with pytest.raises(AttentiveError, match=r"cannot reach http://127\.0\.0\.1:1") as raised:
        ask("http://127.0.0.1:1", "models")
    assert raised.value.code == "unreachable"


@pytest.mark.parametrize(
    ("key", "shown"),
    [("secret", "Bearer secret"), (" secret\r\n", "Bearer secret"), ("", None), ("\n", None), (None, None)],
)
def test_the_key_is_shown(ask: Ask, key: str | None, shown: str | None) -> None:
    script = Scripted(httpx.Response(200, json={"models": []}))
    ask("http://test", "models", client={"api_key": key, "transport": script})
    assert script.requests[0].headers.get("Authorization") == shown


@pytest.mark.parametrize("key", ["sec\rret", "sec\nret", "sec\x00ret", "sec\x7fret", "sécret", "sec\udc80ret"])
def test_a_key_that_cannot_be_sent_is_not_quoted(ask: Ask, key: str) -> None:
    script = Scripted()
    with pytest.raises(AttentiveError) as raised:
        ask("http://test", "models", client={"api_key": key, "transport": script})
    assert (raised.value.code, raised.value.status) == ("invalid_key", None)
    assert not any(part in str(raised.value) for part in ("sec", "ret"))


def test_a_path_before_the_api_is_kept(ask: Ask) -> None:
    script = Scripted(httpx.Response(200, json={"models": []}))
    ask("http://test/attentive/", "models", client={"transport": script})
    assert str(script.requests[0].url) == "http://test/attentive/v1/models"


def test_what_a_later_server_adds_is_kept() -> None:
    sent = {"models": [], "new": {"a": [1, None]}}
    with Client(transport=Scripted(httpx.Response(200, json=sent))) as client:
        from service.client import wire

        reply = client.ask(wire.models())
    assert json.loads(reply.model_dump_json(exclude_unset=True)) == sent
