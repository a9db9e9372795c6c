"""Sentence by sentence."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from service import errors
from service.core import Translator
from service.schemas.reply import Sentence, Translation
from service.schemas.request import TranslateRequest
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model, run, started, until
from tests.service.speaking import SpeakingEngine

TEXTS = ["\n The cat sleeps. 😀\n{0} It drinks  milk! ", "", "THE CAT, 5"]


async def collect(translator: Translator, request: TranslateRequest) -> list[tuple[int, Sentence | Translation]]:
    async with aclosing(translator.stream(request)) as results:
        return [result async for result in results]


def dump(found: Sentence | Translation) -> dict[str, Any]:
    """With matrices as lists: arrays have no one answer to whether they are equal."""
    return found.model_dump()


def test_it_finds_what_translate_finds(translator: Translator) -> None:
    request = TranslateRequest(text=TEXTS, target="fr", source="en", attention="weights", alternatives=1)
    results = run(collect(translator, request))
    assert [index for index, _ in results] == [0, 0, 0, 1, 2, 2]
    whole = [result for _, result in results if isinstance(result, Translation)]
    assert list(map(dump, whole)) == list(map(dump, run(translator.translate(request)).translations))
    for index, translation in enumerate(whole):
        sentences = [found for at, found in results if at == index and isinstance(found, Sentence)]
        assert [dump(each) | {"before": None} for each in sentences] == list(map(dump, translation.sentences))
        text = "".join((each.before or "") + each.target.text for each in sentences)
        assert translation.text.startswith(text)
        assert translation.text[len(text) :] == TEXTS[index][sentences[-1].source.end if sentences else 0 :]


def test_sentences_come_as_they_are_finished(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])

    async def scenario() -> None:
        engine.held = True
        request = TranslateRequest(text="the cat. a table. milk.", target="fr", source="en")
        async with aclosing(translator.stream(request)) as results:
            first = asyncio.ensure_future(anext(results))
            await until(lambda: len(engine.waiting) == 3)
            # The last one is finished first, and waits for the others.
            finish(engine, 2)
            await asyncio.sleep(0)
            assert not first.done()
            finish(engine, 0)
            index, sentence = await first
            assert isinstance(sentence, Sentence)
            assert (index, sentence.target.text) == (0, "the cat.")
            finish(engine, 0)
            rest = [result async for _, result in results]
        assert [each.target.text for each in rest[:-1] if isinstance(each, Sentence)] == ["a table.", "milk."]
        assert isinstance(rest[-1], Translation)

    run(scenario())


def finish(engine: EchoEngine, index: int) -> None:
    waiting = engine.waiting
    engine.waiting = [waiting.pop(index)]
    engine.release()
    engine.waiting = waiting


def test_who_leaves_takes_the_work_along(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])

    async def scenario() -> None:
        engine.held = True
        request = TranslateRequest(text="the cat. a table. milk.", target="fr", source="en")
        async with aclosing(translator.stream(request)) as results:
            first = asyncio.ensure_future(anext(results))
            await until(lambda: len(engine.waiting) == 3)
            assert translator.gate.in_flight == 1
            finish(engine, 0)
            await first
        assert translator.gate.idle.is_set()

    run(scenario())
    assert [future.cancelled() for _, future in engine.waiting] == [True, True]


def test_the_deadline_strikes_in_the_stream_only(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])

    async def scenario() -> None:
        engine.held = True
        request = TranslateRequest(text="the cat. milk.", target="fr", source="en", timeout_ms=50)
        async with aclosing(translator.stream(request)) as results:
            first = asyncio.ensure_future(anext(results))
            await until(lambda: len(engine.waiting) == 2)
            finish(engine, 0)
            await first
            await asyncio.sleep(0.1)
            with pytest.raises(errors.Timeout):
                await anext(results)

    run(scenario())
    assert [future.cancelled() for _, future in engine.waiting] == [True]


def test_what_is_refused_is_refused_before_the_first_sentence(tokenizer: Tokenizer) -> None:
    engine = EchoEngine(capacity=2)
    translator = started([model(tokenizer, engine)])
    engine.held = True
    with pytest.raises(errors.Overloaded):
        run(collect(translator, TranslateRequest(text=["", "the cat. a table. milk."], target="fr", source="en")))


def test_another_attempt_waits_for_its_turn_and_goes_before_the_rest(tokenizer: Tokenizer) -> None:
    engine = SpeakingEngine(tokenizer, {"a 36 cat": ["a cat"]})
    translator = started([model(tokenizer, engine)], max_request_sentences=1)
    results = run(collect(translator, TranslateRequest(text="a {0} cat\nthe table\nmilk", target="fr", source="en")))
    assert [result.target.text for _, result in results[:-1] if isinstance(result, Sentence)] == [
        "a {0} cat",
        "the table",
        "milk",
    ]
    assert engine.read[-5:] == ["a 36 cat", "a", "cat", "the table", "milk"]
