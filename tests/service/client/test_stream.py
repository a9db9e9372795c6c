import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.client import AsyncClient, AttentiveError, Client, SentenceEvent, TranslationEvent
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.served import until
from tests.service.client.helpers import Ask, Scripted, listening
from tests.service.fakes import EchoEngine, model, started

SPAN = '{"text": "a", "start": 0, "end": 1}'
SENTENCE = f'event: sentence\ndata: {{"index": 0, "sentence": {{"source": {SPAN}, "target": {SPAN}, "score": -1}}}}\n\n'
DONE = 'event: done\ndata: {"translations": 0}\n\n'
ERROR = 'event: error\ndata: {"error": {"code": "timeout", "message": "late", "field": null, "request_id": "r"}}\n\n'


def stream(ask: Ask, text: str, content_type: str = "text/event-stream; charset=utf-8") -> Any:
    reply = httpx.Response(200, text=text, headers={"Content-Type": content_type})
    return ask("http://test", "stream", "a", "fr", client={"transport": Scripted(reply)})


def test_sentences_and_then_their_text(ask: Ask, url: str) -> None:
    texts = ["The cat sleeps. It is red.", "drinks milk \u2028 \x85 😀"]
    found = ask(url, "stream", texts, "fr", source="en", attention="alignment")
    whole = ask(url, "translate", texts, "fr", source="en", attention="alignment")
    assert [(type(event), event.index) for event in found] == [
        pair
        for index, each in enumerate(whole)
        for pair in [*[(SentenceEvent, index)] * len(each.sentences), (TranslationEvent, index)]
    ]
    assert [event.translation for event in found if isinstance(event, TranslationEvent)] == whole
    sentences = [event.sentence for event in found if isinstance(event, SentenceEvent)]
    assert [sentence.before for sentence in sentences][:2] == ["", " "]
    assert [sentence.model_dump(exclude={"before"}) for sentence in sentences] == [
        sentence.model_dump(exclude={"before"}) for translation in whole for sentence in translation.sentences
    ]


@pytest.mark.parametrize("change", [str, lambda text: text.replace("\n", "\r\n")])
def test_comments_and_what_a_later_server_tells_are_passed_over(ask: Ask, change: Callable[[str], str]) -> None:
    [event] = stream(ask, change(": ping\n\n" + SENTENCE + 'id: 7\nevent: news\ndata: {"a": 1}\n\n: ping\n\n' + DONE))
    assert isinstance(event, SentenceEvent)
    assert event.sentence.target.text == "a"


def test_an_error_in_the_middle_is_raised(ask: Ask) -> None:
    with pytest.raises(AttentiveError) as raised:
        stream(ask, SENTENCE + ERROR)
    error = raised.value
    assert (error.code, error.message, error.request_id, error.status) == ("timeout", "late", "r", None)


@pytest.mark.parametrize(
    ("text", "content_type", "code"),
    [
        (SENTENCE, "text/event-stream", "interrupted"),
        (SENTENCE + DONE[:-2], "text/event-stream", "interrupted"),
        ("", "text/event-stream", "interrupted"),
        (SENTENCE.replace("index", "number") + DONE, "text/event-stream", "unexpected_reply"),
        ("event: error\ndata: {}\n\n", "text/event-stream", "unexpected_reply"),
        ("{}", "application/json", "unexpected_reply"),
    ],
)
def test_streams_that_break_off_or_are_none(ask: Ask, text: str, content_type: str, code: str) -> None:
    with pytest.raises(AttentiveError) as raised:
        stream(ask, text, content_type)
    assert raised.value.code == code


def test_a_connection_that_breaks(ask: Ask) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"content-length", b"10000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": SENTENCE.encode(), "more_body": True})
        raise RuntimeError

    with listening(app) as url, pytest.raises(AttentiveError) as raised:
        ask(url, "stream", "a", "fr")
    assert raised.value.code == "interrupted"


def first_of_stream(url: str) -> None:
    with Client(url) as client:
        events = client.stream("The cat. It is red. It sleeps.", "fr", source="en")
        assert isinstance(next(events), SentenceEvent)
        events.close()


def first_of_async_stream(url: str) -> None:
    async def work() -> None:
        async with (
            AsyncClient(url) as client,
            aclosing(client.stream("The cat. It is red. It sleeps.", "fr", source="en")) as events,
        ):
            assert isinstance(await anext(events), SentenceEvent)

    asyncio.run(work())


class OneByOne(EchoEngine):
    """Finishes the first sentence only."""

    def release(self) -> None:
        rest = self.waiting[1:]
        self.waiting = self.waiting[:1]
        super().release()
        self.waiting = rest


@pytest.mark.parametrize("read", [first_of_stream, first_of_async_stream])
def test_closing_a_stream_stops_the_server(tokenizer: Tokenizer, read: Callable[[str], None]) -> None:
    engine = OneByOne()
    translator = started([model(tokenizer, engine, directions=[("en", "fr")])])
    with listening(create_app(translator, Settings())) as url:
        read(url)
        until(lambda: translator.gate.in_flight == 0)
    assert [future.cancelled() for _, future in engine.waiting] == [True, True]
