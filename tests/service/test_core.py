import asyncio
import logging
from pathlib import Path

import pytest
from pydantic import ValidationError

from service import errors, gate, plan
from service.core import Translator
from service.registry import Registry
from service.schemas.request import BatchItem, TranslateRequest
from service.settings import Settings
from service.text.tokens import Tokenizer
from tests.service.fakes import EchoEngine, model, run, started, translate, until
from tests.service.speaking import SilentEngine


def test_what_lies_between_sentences_stays(translator: Translator) -> None:
    text = "\n  The cat sleeps.  It drinks milk!\r\n\r\n\tthe table\u2028end "
    found = translate(translator, text)
    assert found.text == text
    assert [sentence.source.text for sentence in found.sentences] == [
        "The cat sleeps.",
        "It drinks milk!",
        "the table",
        "end",
    ]


def test_spans_are_of_the_whole_texts(translator: Translator) -> None:
    # Full-width letters and a ligature: source and translation have other lengths.
    text = "😀 ｔｈｅ  cat.\n\nﬁn e\u0301te\u0301"
    found = translate(translator, text, attention="weights")
    assert found.text == "😀 the cat.\n\nfin été"
    for sentence in found.sentences:
        assert sentence.source_tokens
        assert sentence.target_tokens
        assert sentence.weights is not None
        assert sentence.alignment
        for whole, spans in (
            (text, [sentence.source, *sentence.source_tokens]),
            (found.text, [sentence.target, *sentence.target_tokens]),
        ):
            assert all(whole[span.start : span.end] == span.text for span in spans)
        assert sentence.weights.shape == (len(sentence.target_tokens), len(sentence.source_tokens))
        assert sentence.weights.sum(axis=1) == pytest.approx(1, abs=1e-3)
        # The engine repeats the source, so every token looks at its like.
        assert [(link.source, link.target) for link in sentence.alignment] == [
            (i, i) for i in range(len(sentence.target_tokens))
        ]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t \u00a0\u2028", "\x01\x02", "\u3000"])
def test_nothing_to_translate_comes_back(translator: Translator, engine: EchoEngine, text: str) -> None:
    sent = len(engine.jobs)
    found = translate(translator, text, attention="weights", source=None)
    assert (found.text, found.score, found.sentences) == (text, 0, [])
    assert len(engine.jobs) == sent


def test_a_sentence_over_the_limit_is_split_and_says_so(translator: Translator, engine: EchoEngine) -> None:
    text = "the cat sleeps on a red table " * 30 + "."
    found = translate(translator, text)
    assert found.text == text
    assert found.warnings == [plan.SPLIT]
    assert max(len(job.source_ids) for job in engine.jobs) <= 40


@pytest.mark.parametrize(("alternatives", "jobs"), [(0, 2), (1, 1)])
def test_a_sentence_is_not_lost_where_nothing_is_likeliest(tokenizer: Tokenizer, alternatives: int, jobs: int) -> None:
    engine = SilentEngine()
    translator = started([model(tokenizer, engine)])
    engine.jobs.clear()
    found = translate(translator, "the cat", alternatives=alternatives, attention="weights")
    assert (set(found.text), found.alternatives, len(engine.jobs)) == (set("the cat"), [], jobs)
    assert all(len(sentence.source_tokens or []) == 2 for sentence in found.sentences)


def test_lone_surrogates_are_replaced_one_for_one(translator: Translator) -> None:
    found = translate(translator, "the \ud800cat\udfff.")
    assert found.sentences[0].source.text == "the \ufffdcat\ufffd."
    assert found.warnings == [plan.REPLACED]


def test_the_language_is_detected_for_each_text(translator: Translator) -> None:
    request = TranslateRequest(text=["The cat drinks milk.", "Le chat boit du lait."], target="fr")
    english, french = run(translator.translate(request)).translations
    assert (english.source, english.warnings) == ("en", [])
    assert (french.source, french.warnings, french.sentences) == ("fr", [plan.UNCHANGED], [])


def test_a_doubtful_text_is_translated(translator: Translator) -> None:
    assert translate(translator, "chat", source=None).source == "en"


def test_codes_in_capitals(translator: Translator) -> None:
    found = translate(translator, "the cat", source="EN", target="FR")
    assert (found.source, found.target) == ("en", "fr")


def test_alternatives_widen_the_beam(translator: Translator, engine: EchoEngine) -> None:
    found = translate(translator, "the cat. milk", alternatives=3)
    assert (engine.jobs[-1].beam_size, engine.jobs[-1].n_best) == (4, 4)
    assert found.text == "the cat. milk"
    # The engine's second to fourth hypotheses are the same, so there is one alternative and not three.
    assert [alternative.score for alternative in found.alternatives] == [-1.0]
    assert found.score == -0.5


def test_subwords_on_request(translator: Translator) -> None:
    [words] = translate(translator, "a bcdxyz", attention="alignment").sentences
    [subwords] = translate(translator, "a bcdxyz", attention="alignment", tokens="subwords").sentences
    assert len(words.source_tokens or []) == 2
    assert len(subwords.source_tokens or []) > 2
    assert words.weights is None


def test_limits(tokenizer: Tokenizer) -> None:
    translator = started([model(tokenizer, EchoEngine())], max_text_chars=10)
    with pytest.raises(errors.TooLarge) as caught:
        translate(translator, "x" * 11)
    assert caught.value.field == "text"


@pytest.mark.parametrize(
    ("fitting", "over"),
    [
        ({"a": "x", "b": "y"}, {"a": "x", "b": "y", "c": "z"}),
        ({"a" * 10: "x"}, {"a" * 11: "x"}),
        ({"a": "x" * 10}, {"a": "x" * 11}),
    ],
)
def test_limits_of_a_glossary(tokenizer: Tokenizer, fitting: dict[str, str], over: dict[str, str]) -> None:
    translator = started([model(tokenizer, EchoEngine())], max_glossary_terms=2, max_term_chars=10)
    assert translate(translator, "the cat", glossary=fitting).text == "the cat"
    with pytest.raises(errors.TooLarge) as caught:
        translate(translator, "the cat", glossary=over)
    assert caught.value.field == "glossary"


@pytest.mark.parametrize("glossary", [{"a": ""}, {"a": " \n"}, {"a": 1}, {"a": "\ud800"}, ["a"]])
def test_glossaries_that_are_none(glossary: object) -> None:
    with pytest.raises(ValidationError):
        TranslateRequest.model_validate({"text": "", "target": "fr", "glossary": glossary})


def test_a_glossary_is_answered_only_where_there_is_one(translator: Translator) -> None:
    assert translate(translator, "the cat").glossary is None
    assert translate(translator, "the cat", glossary={}).glossary == []
    assert translate(translator, "the  cat", glossary={"dog": "x", "": "x", " ": "x", "\ud800": "x"}).glossary == []


def test_a_batch_spoils_nothing(translator: Translator) -> None:
    items: list[dict[str, object]] = [
        {"text": "the cat", "target": "fr"},
        {"text": "x", "target": "xx"},
        {"text": "x", "target": "fr", "beam_size": 99},
        {"text": "x", "target": "fr", "typo": 1},
        {"text": "x", "target": "fr", "source": "en", "min_length": 40},
        {"text": "milk", "target": "fr", "source": "en"},
    ]
    results = run(translator.translate_each([BatchItem.model_validate(item) for item in items]))
    assert [result.error and (result.error.code, result.error.field) for result in results] == [
        None,
        ("unknown_direction", "target"),
        ("invalid_request", "beam_size"),
        ("invalid_request", "typo"),
        ("invalid_request", "min_length"),
        None,
    ]
    assert results[-1].translation is not None
    assert results[-1].translation.text == "milk"


def test_the_schema_of_an_item_has_every_option() -> None:
    item, request = BatchItem.model_json_schema(), TranslateRequest.model_json_schema()
    assert set(item["properties"]) == set(request["properties"])
    assert item["properties"]["text"]["type"] == "string"
    assert item["required"] == ["text", "target"]


def test_a_failing_engine_fails_only_its_items(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])
    engine.error = RuntimeError("the cat")
    items = [BatchItem(text="the cat", target="fr"), BatchItem(text=" ", target="fr")]
    bad, good = run(translator.translate_each(items))
    assert bad.error is not None
    assert bad.error.code == "internal"
    assert good.translation is not None
    assert "the cat" not in caplog.text


def test_ready_only_after_a_translation(tokenizer: Tokenizer) -> None:
    engine = EchoEngine(held=True)
    translator = Translator(Settings(), Registry([model(tokenizer, engine)]))

    async def scenario() -> None:
        assert not translator.ready
        with pytest.raises(errors.Unavailable):
            await translator.translate(TranslateRequest(text="x", target="fr"))
        starting = asyncio.create_task(translator.start())
        await until(lambda: len(engine.waiting) == 2)
        assert not translator.ready
        early = asyncio.create_task(translator.translate(TranslateRequest(text="x", target="fr", source="en")))
        engine.release()
        await starting
        await until(lambda: len(engine.waiting) == 1)
        engine.release()
        assert (await early).translations[0].text == "x"
        assert translator.ready

    run(scenario())
    assert [job.source_ids[0] for job in engine.jobs] == [5, 4, 5]


def test_who_comes_while_it_starts_does_not_wait_for_ever(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "START_S", 0.01)
    engine = EchoEngine(held=True)
    translator = Translator(Settings(), Registry([model(tokenizer, engine)]))

    async def scenario() -> None:
        starting = asyncio.create_task(translator.start())
        await until(lambda: len(engine.waiting) == 2)
        with pytest.raises(errors.Unavailable):
            await translator.translate(TranslateRequest(text="x", target="fr"))
        engine.release()
        await starting

    run(scenario())


def test_a_model_that_cannot_translate_is_left_out(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    broken = EchoEngine(error=RuntimeError())
    translator = started([model(tokenizer, broken, name="broken"), model(tokenizer, EchoEngine(), name="sound")])
    assert translator.ready
    assert [info.name for info in translator.models()] == ["sound"]
    assert broken.closed
    assert "broken" in caplog.text


def test_without_packages_it_is_never_ready(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert not started([], models_dir=tmp_path).ready
    assert str(tmp_path) in caplog.text


def test_draining_refuses_new_work_and_finishes_the_old(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])

    async def scenario() -> str:
        engine.held = True
        request = TranslateRequest(text="the cat", target="fr", source="en")
        task = asyncio.create_task(translator.translate(request))
        await until(lambda: bool(engine.waiting))
        translator.drain()
        assert not translator.ready
        assert not translator.gate.idle.is_set()
        with pytest.raises(errors.Unavailable):
            await translator.translate(request)
        engine.release()
        reply = await task
        assert translator.gate.idle.is_set()
        await translator.close()
        return reply.translations[0].text

    assert run(scenario()) == "the cat"
    assert engine.closed


def test_the_deadline(tokenizer: Tokenizer) -> None:
    engine = EchoEngine()
    translator = started([model(tokenizer, engine)])
    engine.held = True
    with pytest.raises(errors.Timeout):
        translate(translator, "the cat", timeout_ms=20)
    assert all(future.cancelled() for _, future in engine.waiting)
    assert engine.jobs[-1].deadline is not None
