import asyncio
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, generate_latest

from service import logs, metrics
from service.logs import JsonFormatter
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, run, started

MARKER = "Quetzalquux"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture):
    """All that is logged, as JSON, but for what the client that asks has to say."""
    caplog.set_level(logging.WARNING, logger="httpx")
    caplog.set_level(logging.DEBUG)
    before = caplog.handler.formatter
    caplog.handler.setFormatter(JsonFormatter())
    yield caplog
    caplog.handler.setFormatter(before)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict]:
    return [json.loads(line) for line in caplog.text.splitlines()]


def requests(caplog: pytest.LogCaptureFixture) -> list[dict]:
    return [line for line in lines(caplog) if line["message"] == "request"]


def test_a_request_has_a_line_with_names_and_numbers(client: Client, log) -> None:
    texts = ["The cat sleeps. It drinks.", "milk"]
    answer = client.request(
        "POST",
        "/v1/translate",
        json={"text": texts, "target": "fr", "source": "en"},
        headers={"X-Request-ID": "abc-1"},
    )
    [line] = requests(log)
    known = {
        "level": "info",
        "logger": "attentive",
        "message": "request",
        "request_id": "abc-1",
        "method": "POST",
        "route": "/v1/translate",
        "status": 200,
        "bytes_in": len(answer.request.content),
        "bytes_out": len(answer.content),
        "model": "echo",
        "source": "en",
        "target": "fr",
        "texts": 2,
        "characters": sum(map(len, texts)),
        "sentences": 3,
    }
    assert {name: line[name] for name in known} == known
    assert line["tokens_in"] == line["tokens_out"] > 0
    times = [line[name] for name in ("tokenize_ms", "queue_ms", "decode_ms")]
    assert all(time >= 0 for time in times)
    assert sum(times) <= line["ms"] + 0.2
    assert line["time"].endswith("+00:00")
    measured = {"time", "ms", "tokenize_ms", "queue_ms", "decode_ms", "tokens_in", "tokens_out"}
    assert line.keys() == known.keys() | measured


def test_the_same_line_as_text(client: Client, log) -> None:
    log.handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    client.translate(text="The cat.")
    [line] = [line for line in log.text.splitlines() if line.startswith("INFO request ")]
    for part in (" method=POST route=/v1/translate status=200 ", " model=echo source=en target=fr texts=1 "):
        assert part in line


def test_what_machines_ask_all_the_time_has_no_line(client: Client, log) -> None:
    assert client.request("GET", "/metrics").status_code == 200
    assert client.request("GET", f"/{MARKER}").status_code == 404
    assert [(line["route"], line["status"]) for line in requests(log)] == [("unmatched", 404)]


def test_two_requests_at_once_have_each_their_own_line(tokenizer: Tokenizer, log) -> None:
    engine = EchoEngine()
    client = Client(started([model(tokenizer, engine)], cache_bytes=0))
    log.clear()

    async def ask(texts: list[str]) -> None:
        async with client.open() as http:
            await http.post("/v1/translate", json={"text": texts, "target": "fr", "source": "en"})

    async def scenario() -> None:
        await asyncio.gather(*(ask(["cat"] * count) for count in range(1, 6)))

    run(scenario())
    assert sorted(line["sentences"] for line in requests(log)) == [1, 2, 3, 4, 5]


def test_no_text_in_logs_and_metrics_whatever_happens(tokenizer: Tokenizer, log) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)], max_text_chars=100, max_texts=3, request_timeout_s=0.05)
    client = Client(translator)
    text = f"{MARKER} sleeps."
    answers = [
        client.translate(text=text),
        client.translate(text=text, attention="weights", alternatives=2),
        client.translate(text=text, target=MARKER),
        client.translate(text=text, model=MARKER),
        client.translate(text=text, source=MARKER[:8]),
        client.translate(text=text, beam_size=MARKER),
        client.translate(text=text, **{MARKER: 1}),
        client.translate(text=[MARKER] * 4),
        client.translate(text=MARKER * 10),
        client.translate(text=text, target_prefix=MARKER * 20),
        client.request("POST", "/v1/translate", content=f'{{"text": "{MARKER}'),
        client.request("POST", "/v1/translate", content=MARKER.encode()),
        client.request("POST", f"/{MARKER}", json={"text": text}),
        client.request("GET", f"/v1/models?{MARKER}={MARKER}", headers={"X-Request-ID": f"{MARKER} {MARKER}"}),
        client.request("POST", "/translate", data={"q": text, "source": "en", "target": "fr"}),
        client.request("POST", "/v2/translate", json={"text": [text], "target_lang": MARKER}),
    ]
    engine.error = RuntimeError(MARKER)
    answers.append(client.translate(text=f"{text} Again."))
    engine.held = True
    answers.append(client.translate(text=f"{text} Never."))
    assert {answer.status_code for answer in answers} >= {200, 400, 404, 413, 422, 500, 504}
    translator.observe()
    assert requests(log)
    assert any(line["status"] == 500 and line["level"] == "warning" for line in requests(log))
    for said in (log.text, generate_latest(REGISTRY).decode(), metrics.exposition().decode()):
        assert MARKER not in said


def test_an_exception_is_part_of_its_line(log) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("other").exception("what %s", "broke")
    [line] = lines(log)
    assert (line["level"], line["logger"], line["message"]) == ("error", "other", "what broke")
    assert line["exception"].endswith("ValueError: why")


@given(st.text(), st.text())
def test_whatever_is_logged_is_one_line_of_json(message: str, argument: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "%s %s", (message, argument), None)
    line = JsonFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == f"{message} {argument}"


def test_configure_gives_all_handlers_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.StreamHandler()
    for name in (None, "bentoml", "circus", "uvicorn.error"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [handler] if name is None else [])
    logs.configure("text")
    assert handler.formatter is None
    logs.configure("json")
    assert isinstance(handler.formatter, JsonFormatter)


def test_nothing_is_noted_outside_of_a_request() -> None:
    record = logs.Record("x")
    with logs.recording(record):
        logs.note(model="a", source="")
        with logs.recording(None):
            logs.note(model="b")
            logs.phase("queue", 0, 1)
    logs.note(model="c")
    assert record.noted == {"model": "a"}
    assert record.phases == []
