import asyncio
import json
import re
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core import Translator
from service.schemas import reply as schemas
from service.schemas.reply import ErrorReply, Reply, TranslateReply, TranslationEvent
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, run, started, translate, until


def refused(answer: Any) -> tuple[int, str, str | None]:
    detail = ErrorReply.model_validate(answer.json()).error
    assert detail.request_id == answer.headers["X-Request-ID"]
    return answer.status_code, detail.code, detail.field


def test_the_least_request(client: Client) -> None:
    answer = client.request("POST", "/v1/translate", json={"text": "The cat drinks milk.", "target": "fr"})
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "echo",
        "translations": [
            {
                "text": "The cat drinks milk.",
                "source": "en",
                "target": "fr",
                "detected": {"language": "en", "confidence": 0.9768},
                "score": -0.5,
                "truncated": False,
                "warnings": [],
                "alternatives": [],
                "sentences": [
                    {
                        "source": {"text": "The cat drinks milk.", "start": 0, "end": 20},
                        "target": {"text": "The cat drinks milk.", "start": 0, "end": 20},
                        "score": -0.5,
                    }
                ],
            }
        ],
    }


def test_a_list_keeps_its_order(client: Client) -> None:
    texts = [f"cat {number}" for number in range(100)]
    reply = TranslateReply.model_validate(client.translate(text=texts).json())
    assert [translation.text for translation in reply.translations] == texts
    assert client.translate(text=[]).json() == {"model": "echo", "translations": []}


@pytest.mark.parametrize("attention", ["none", "alignment", "weights"])
def test_attention_only_where_it_is_asked_for(client: Client, attention: str) -> None:
    [sentence] = client.translate(text="the cat", attention=attention).json()["translations"][0]["sentences"]
    assert ("alignment" in sentence, "source_tokens" in sentence) == (attention != "none",) * 2
    assert ("weights" in sentence) == (attention == "weights")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", (400, "invalid_json", None)),
        (b"", (400, "invalid_json", None)),
        (b'{"text": "\xff", "target": "fr"}', (400, "invalid_json", None)),
        (b"[" * 200_000, (400, "invalid_json", None)),
        (b"[]", (422, "invalid_request", None)),
        (b'"x"', (422, "invalid_request", None)),
    ],
)
def test_bodies_that_are_no_request(client: Client, body: bytes, expected: tuple[int, str, str | None]) -> None:
    headers = {"content-type": "application/json"}
    assert refused(client.request("POST", "/v1/translate", content=body, headers=headers)) == expected


def test_json_must_be_called_json(client: Client) -> None:
    answer = client.request("POST", "/v1/translate", data={"text": "x", "target": "fr"})
    assert refused(answer) == (400, "invalid_json", None)
    assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"text": 1}, (422, "invalid_request", "text")),
        ({"text": None}, (422, "invalid_request", "text")),
        ({"text": {"a": 1}}, (422, "invalid_request", "text")),
        ({"text": ["a", 1]}, (422, "invalid_request", "text[1]")),
        ({"target": ""}, (422, "invalid_request", "target")),
        ({"target": 1}, (422, "invalid_request", "target")),
        ({"target": "x" * 100}, (422, "invalid_request", "target")),
        ({"target": "\ud800"}, (422, "invalid_request", "target")),
        ({"beam_size": 0}, (422, "invalid_request", "beam_size")),
        ({"beam_size": 9}, (422, "invalid_request", "beam_size")),
        ({"beam_size": "4"}, (422, "invalid_request", "beam_size")),
        ({"beam_size": True}, (422, "invalid_request", "beam_size")),
        ({"beam_size": float("nan")}, (422, "invalid_request", "beam_size")),
        ({"alternatives": 8}, (422, "invalid_request", "alternatives")),
        ({"attention": "all"}, (422, "invalid_request", "attention")),
        ({"tokens": "bytes"}, (422, "invalid_request", "tokens")),
        ({"split_sentences": 1}, (422, "invalid_request", "split_sentences")),
        ({"timeout_ms": 0}, (422, "invalid_request", "timeout_ms")),
        ({"length_penalty": -0.1}, (422, "invalid_request", "length_penalty")),
        ({"length_penalty": 2.1}, (422, "invalid_request", "length_penalty")),
        ({"length_penalty": float("nan")}, (422, "invalid_request", "length_penalty")),
        ({"length_penalty": True}, (422, "invalid_request", "length_penalty")),
        ({"no_repeat_ngram_size": -1}, (422, "invalid_request", "no_repeat_ngram_size")),
        ({"no_repeat_ngram_size": 1.5}, (422, "invalid_request", "no_repeat_ngram_size")),
        ({"min_length": -1}, (422, "invalid_request", "min_length")),
        ({"min_length": 40}, (422, "invalid_request", "min_length")),
        ({"min_length": 10**30}, (422, "invalid_request", "min_length")),
        ({"max_length": 0}, (422, "invalid_request", "max_length")),
        ({"max_length": 40}, (422, "invalid_request", "max_length")),
        ({"max_length": 4, "min_length": 5}, (422, "invalid_request", "max_length")),
        ({"target_prefix": 1}, (422, "invalid_request", "target_prefix")),
        ({"target_prefix": "\ud800"}, (422, "invalid_request", "target_prefix")),
        ({"target_prefix": "x" * 5001}, (422, "invalid_request", "target_prefix")),
        ({"target_prefix": "x " * 50}, (422, "invalid_request", "target_prefix")),
        ({"target_prefix": "x", "text": ["x", "y"]}, (422, "invalid_request", "target_prefix")),
        ({"target_prefix": "x", "text": []}, (422, "invalid_request", "target_prefix")),
        ({"typo": 1}, (422, "invalid_request", "typo")),
        ({"\ud800": 1}, (422, "invalid_request", None)),
        ({"target": "de"}, (404, "unknown_direction", "target")),
        ({"source": "fr"}, (404, "unknown_direction", "target")),
        ({"source": "x\x00"}, (404, "unknown_direction", "target")),
        ({"model": "gpt"}, (404, "unknown_model", "model")),
        ({"text": ["a"] * 10_000}, (413, "too_large", "text")),
        ({"text": "a" * 2_000_000}, (413, "too_large", None)),
        ({"text": ["a", "a" * 200_000]}, (413, "too_large", "text[1]")),
    ],
)
def test_the_table_of_errors(client: Client, change: dict[str, Any], expected: tuple[int, str, str | None]) -> None:
    body = json.dumps({"text": "x", "target": "fr", "source": "en"} | change)
    headers = {"content-type": "application/json"}
    assert refused(client.request("POST", "/v1/translate", content=body, headers=headers)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"length_penalty": 0},
        {"length_penalty": 2},
        {"no_repeat_ngram_size": 10**30},
        {"min_length": 39, "max_length": 39.0},
        {"max_length": None, "target_prefix": None},
        {"target_prefix": "</s> x", "text": ["x"]},
        {"target_prefix": " ", "text": ["x", "y"]},
    ],
)
def test_what_is_within_its_limits(client: Client, change: dict[str, Any]) -> None:
    assert client.translate(**({"text": "x"} | change)).status_code == 200


@pytest.mark.parametrize("field", ["text", "target"])
def test_missing_fields(client: Client, field: str) -> None:
    body = {"text": "x", "target": "fr"}
    del body[field]
    assert refused(client.request("POST", "/v1/translate", json=body)) == (422, "invalid_request", field)


def test_unknown_routes_and_methods(client: Client) -> None:
    assert refused(client.request("GET", "/nope")) == (404, "not_found", None)
    answer = client.request("GET", "/v1/translate")
    assert refused(answer) == (405, "method_not_allowed", None)
    assert answer.headers["Allow"] == "POST"


ODD = st.sampled_from("the cat. \n\x00\x01\u00a0\ufdfa😀👨\u200d👩é▁<2fr></s>") | st.characters(exclude_categories=[])


@given(text=st.text(ODD), attention=st.sampled_from(["none", "weights"]))
def test_any_text_has_a_valid_reply(tokenizer: Tokenizer, text: str, attention: str) -> None:
    client = Client(started([model(tokenizer, EchoEngine(), max_length=80)]))
    body = json.dumps({"text": text, "target": "fr", "source": "en", "attention": attention})
    headers = {"content-type": "application/json"}
    answer = client.request("POST", "/v1/translate", content=body, headers=headers)
    assert answer.status_code == 200
    [translation] = TranslateReply.model_validate(answer.json()).translations
    for sentence in translation.sentences:
        assert translation.text[sentence.target.start : sentence.target.end] == sentence.target.text
        assert sentence.weights is None or sentence.weights.sum(axis=-1) == pytest.approx(1, abs=1e-3)


def test_a_long_reply_is_written_beside_the_event_loop(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    for kind in (TranslateReply, TranslationEvent):

        def spy(reply: Reply, write: Any = kind.model_dump_json, **options: Any) -> Any:
            threads.append(threading.current_thread() is threading.main_thread())
            return write(reply, **options)

        monkeypatch.setattr(kind, "model_dump_json", spy)
    for text in ("the cat", "the cat. " * 600):
        for path in ("/v1/translate", "/v1/translate/stream"):
            reply = client.request("POST", path, json={"text": text, "source": "en", "target": "fr"})
            assert reply.status_code == 200
    assert threads == [True, True, False, False]


def test_who_writes_matrices_gives_way_after_each(translator: Translator) -> None:
    """Only where Python runs can another thread have the interpreter."""
    reply = translate(translator, "the cat. It sleeps. Milk.", attention="weights")
    assert len(reply.sentences) == 3
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append((event, frame.f_code)))
    reply.model_dump_json()
    sys.setprofile(None)
    assert calls.count(("call", schemas._rows.__code__)) == 3


def test_a_full_queue_answers_at_once(tokenizer: Tokenizer) -> None:
    engine = EchoEngine(capacity=2)
    client = Client(started([model(tokenizer, engine)]))
    engine.capacity = 0
    answer = client.translate(text="x")
    assert refused(answer) == (429, "overloaded", None)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_server_that_stops_says_so(client: Client) -> None:
    client.translator.drain()
    answer = client.translate(text="x")
    assert refused(answer) == (503, "unavailable", None)
    assert int(answer.headers["Retry-After"]) > 0


def test_the_deadline(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    client = Client(started([model(tokenizer, engine)]))
    engine.held = True
    assert refused(client.translate(text="x", timeout_ms=20)) == (504, "timeout", None)


def test_the_unexpected_is_told_to_the_log_only(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    engine = EchoEngine()
    client = Client(started([model(tokenizer, engine)]))
    engine.error = RuntimeError("the red cat")
    answer = client.translate(text="the red cat")
    assert refused(answer) == (500, "internal", None)
    assert "RuntimeError" not in answer.text
    assert answer.headers["X-Request-ID"] in caplog.text
    assert "RuntimeError" in caplog.text
    assert "red cat" not in caplog.text


def test_requests_are_translated_side_by_side(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    client = Client(started([model(tokenizer, engine)]))

    async def scenario() -> list[int]:
        engine.held = True
        async with client.open() as http:
            body = {"text": "the cat", "source": "en", "target": "fr"}
            tasks = [asyncio.create_task(http.post("/v1/translate", json=body)) for _ in range(8)]
            await until(lambda: len(engine.waiting) == 8)
            engine.release()
            return [answer.status_code for answer in await asyncio.gather(*tasks)]

    assert run(scenario()) == [200] * 8


def test_models_and_languages(client: Client) -> None:
    assert client.request("GET", "/v1/models").json() == {
        "models": [
            {
                "name": "echo",
                "architecture": "transformer",
                "directions": [["en", "fr"], ["fr", "en"]],
                "precision": "int8",
                "provider": "CPUExecutionProvider",
                "alignment": {"shift": 1, "layer": 0, "heads": "mean"},
                "version": "1",
                "memory_bytes": 1000,
            }
        ]
    }
    assert client.request("GET", "/v1/languages").json() == {
        "languages": [
            {"code": "en", "name": "English", "targets": ["fr"]},
            {"code": "fr", "name": "French", "targets": ["en"]},
        ]
    }


def test_metrics_and_docs(client: Client) -> None:
    client.translate(text="the cat")
    metrics = client.request("GET", "/metrics").text
    for name in (
        "requests_total",
        "request_seconds_count",
        "sentences_total",
        "tokens_in_total",
        "tokenize_seconds_count",
    ):
        assert f"attentive_{name}" in metrics
    assert client.request("GET", "/docs").status_code == 200
    assert client.request("GET", "/openapi.json").json() == client.app.openapi()


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_documentation_needs_no_other_host(client: Client, page: str) -> None:
    reply = client.request("GET", page)
    assert reply.status_code == 200
    links = re.findall(r'(?:src|href)="([^"]+)"', reply.text)
    assert links
    for link in links:
        assert link.startswith("/"), link
        assert client.request("GET", link).status_code == 200
