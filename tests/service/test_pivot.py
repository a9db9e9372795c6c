"""A direction that no model has, through a third language."""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from service import pivot
from service.core import Translator
from service.engine import Hypothesis, Job
from service.logs import Record, recording
from service.pivot import compose
from service.plan import PREFIX_UNUSED
from service.schemas.reply import Sentence, Span, Translation
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, started, translate
from tests.service.speaking import SpeakingEngine

TAGS = {"en": 4, "fr": 5, "pt": 4}
PORTUGUESE = {
    "O gato dorme.": ["The cat sleeps."],
    "Bebe leite.": ["Drinks milk."],
    "O gato bebe 12 leites.": ["The cat drinks 12 milk."],
    "O gato 36 e 25.": ["The 25 and 36 cat."],
    "O gato bebe Xyz leite.": ["The cat drinks Xyz milk."],
    "O gato 12": ["12"],
}
ENGLISH = {
    "The cat sleeps.": ["Le chat dort.", "Un chat dort."],
    "Drinks milk.": ["Boit du lait."],
    "The cat drinks 12 milk.": ["Le chat boit 12 lait."],
    "The cat drinks Xyz milk.": ["Le chat boit Xyz lait."],
}


@pytest.fixture
def engines(tokenizer: Tokenizer) -> tuple[SpeakingEngine, SpeakingEngine]:
    first = SpeakingEngine(tokenizer, PORTUGUESE, {"cat": "gato", "sleeps": "dorme", "The": "O"})
    return first, SpeakingEngine(tokenizer, ENGLISH, {"chat": "cat", "dort": "sleeps", "Le": "The"})


@pytest.fixture
def translator(tokenizer: Tokenizer, engines: tuple[SpeakingEngine, SpeakingEngine]) -> Translator:
    legs = zip(engines, ("pt-en", "en-fr"), strict=True)
    return started(
        [
            model(tokenizer, engine, name=name, directions=[tuple(name.split("-"))], tags=TAGS)
            for engine, name in legs
        ],
        cache_bytes=0,
    )  # fmt: skip


@pytest.fixture
def client(translator: Translator) -> Client:
    return Client(translator)


def test_a_text_is_translated_twice(translator: Translator) -> None:
    found = translate(translator, "O gato dorme.\n\n  Bebe leite.", source="pt")
    assert found.text == "Le chat dort.\n\n  Boit du lait."
    assert (found.source, found.pivot, found.target) == ("pt", "en", "fr")
    assert found.score == -1.0
    assert [sentence.source.text for sentence in found.sentences] == ["O gato dorme.", "Bebe leite."]
    for sentence in found.sentences:
        assert found.text[sentence.target.start : sentence.target.end] == sentence.target.text


def test_the_reply_says_so(client: Client) -> None:
    reply = client.translate(text=["O gato dorme.", "Bebe leite."], source="pt").json()
    assert reply["model"] == "pt-en+en-fr"
    assert [each["pivot"] for each in reply["translations"]] == ["en", "en"]
    direct = client.translate(text="The cat sleeps.").json()
    assert "pivot" not in direct["translations"][0]
    assert direct["model"] == "en-fr"


def test_alignments_are_composed(translator: Translator) -> None:
    [sentence] = translate(translator, "O gato dorme.", source="pt", attention="weights").sentences
    assert sentence.source_tokens is not None
    assert sentence.target_tokens is not None
    assert sentence.alignment is not None
    source, target = ([token.text for token in each] for each in (sentence.source_tokens, sentence.target_tokens))
    linked = {target[link.target]: source[link.source] for link in sentence.alignment}
    assert linked["chat"] == "gato"
    assert linked["dort"] == "dorme"
    assert sentence.weights is not None
    assert np.allclose(sentence.weights.sum(axis=1), 1)


@pytest.mark.parametrize("attention", ["none", "alignment", "weights"])
def test_nothing_may_be_left_for_the_second(translator: Translator, attention: str) -> None:
    found = translate(translator, "O gato 12\nO gato dorme.", source="pt", attention=attention)
    assert found.text == "12\nLe chat dort."
    first, second = found.sentences
    if attention != "none":
        assert (first.target_tokens, first.alignment) == ([], [])
        assert second.target_tokens
    if attention == "weights":
        assert first.source_tokens
        assert first.weights is not None
        assert first.weights.shape == (0, len(first.source_tokens))


def test_spans_are_those_of_the_whole_texts(translator: Translator) -> None:
    text = "Bebe leite. O gato dorme."
    found = translate(translator, text, source="pt", attention="alignment")
    assert all(sentence.weights is None for sentence in found.sentences)
    for sentence in found.sentences:
        assert all(text[token.start : token.end] == token.text for token in sentence.source_tokens or [])
        assert all(found.text[token.start : token.end] == token.text for token in sentence.target_tokens or [])


def test_what_is_protected_comes_through_both(translator: Translator) -> None:
    assert translate(translator, "O gato bebe 12 leites.", source="pt").text == "Le chat boit 12 lait."
    assert "https://example.org/a" in translate(translator, "O gato https://example.org/a dorme.", source="pt").text


def test_what_changes_places_comes_through_both(client: Client, engines: tuple[SpeakingEngine, SpeakingEngine]) -> None:
    page = '<p>O gato <i translate="no">Abc</i> e <i translate="no">Xyz</i>.</p>'
    [found] = client.translate(text=page, source="pt", format="html").json()["translations"]
    assert engines[1].read[-1] == "The 36 and 25 cat."
    assert 'The <i translate="no">Xyz</i> and <i translate="no">Abc</i> cat.' in found["text"]


def test_a_glossary_is_honoured_by_both(translator: Translator) -> None:
    found = translate(translator, "O gato dorme.", source="pt", glossary={"gato": "matou"})
    assert "matou" in found.text
    assert [(term.source, term.target, term.honoured) for term in found.glossary or []] == [("gato", "matou", True)]


def test_alternatives_are_of_the_second(translator: Translator, engines: tuple[EchoEngine, EchoEngine]) -> None:
    found = translate(translator, "O gato dorme.", source="pt", alternatives=1)
    assert [each.text for each in found.alternatives] == ["Un chat dort."]
    assert engines[0].jobs[-1].n_best == 1
    assert engines[1].jobs[-1].n_best == 2


def test_a_prefix_is_for_the_second(translator: Translator, engines: tuple[EchoEngine, EchoEngine]) -> None:
    translate(translator, "O gato dorme. Bebe leite.", source="pt", target_prefix="Le")
    assert [bool(job.prefix) for job in engines[0].jobs[-2:]] == [False, False]
    assert [bool(job.prefix) for job in engines[1].jobs[-2:]] == [True, False]


@pytest.mark.parametrize("text", ["123", ""])
def test_a_prefix_without_a_sentence_is_not_dropped_in_silence(translator: Translator, text: str) -> None:
    for source in ("pt", "en"):
        assert translate(translator, text, source=source, target_prefix="Le").warnings == [PREFIX_UNUSED]
    assert translate(translator, text, source="pt").warnings == []


def test_replies_are_composed_beside_the_event_loop(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    compose_here = pivot.compose

    def spy(first: Sentence, second: Translation) -> NDArray[np.float64]:
        threads.append(threading.current_thread())
        return compose_here(first, second)

    monkeypatch.setattr(pivot, "compose", spy)
    translate(translator, "O gato dorme. Bebe leite.", source="pt", attention="alignment")
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def test_what_both_halves_of_the_way_are_composed_to_has_a_limit(tokenizer: Tokenizer) -> None:
    """A word between two long sentences: each half has few cells, and the reply would have many."""
    text = "O gato dorme na mesa"
    says = {text: ["Sleeps"]}, {"Sleeps": ["Le chat dort sur la table"]}
    models = [
        model(tokenizer, SpeakingEngine(tokenizer, each), name=name, directions=[tuple(name.split("-"))], tags=TAGS)
        for each, name in zip(says, ("pt-en", "en-fr"), strict=True)
    ]
    for cells, fits in ((30, True), (29, False)):
        client = Client(started(models, max_attention_cells=cells))
        assert client.translate(text=text, source="pt", attention="alignment").status_code == 200
        reply = client.translate(text=text, source="pt", attention="weights")
        assert reply.status_code == (200 if fits else 413)


def test_texts_of_a_request_go_their_own_ways(client: Client) -> None:
    texts = ["The cat sleeps.", "O gato dorme.", "", "Le chat dort."]
    reply = client.request("POST", "/v1/translate", json={"text": texts, "target": "fr"}).json()
    assert [each["text"] for each in reply["translations"]][:2] == ["Le chat dort.", "Le chat dort."]
    assert [each.get("pivot") for each in reply["translations"]][:2] == [None, "en"]
    assert reply["translations"][1]["detected"]["language"] == "pt"


def test_a_page_comes_through(client: Client) -> None:
    page = '<p>O <b>gato</b> dorme.</p><p>O gato bebe <i translate="no">Xyz</i> leite.</p>'
    reply = client.translate(text=page, source="pt", format="html").json()
    [found] = reply["translations"]
    assert found["pivot"] == "en"
    assert found["text"].startswith("<p>Le <b>chat</b> dort.</p>")
    assert '<i translate="no">Xyz</i>' in found["text"]


def test_a_stream_has_sentences_and_translations(client: Client) -> None:
    body = {"text": "O gato dorme.\nBebe leite.", "source": "pt", "target": "fr"}
    reply = client.request("POST", "/v1/translate/stream", json=body)
    events = [json.loads(line.removeprefix("data: ")) for line in reply.text.splitlines() if line.startswith("data: ")]
    sentences, [whole] = [e["sentence"] for e in events if "sentence" in e], [e for e in events if "translation" in e]
    assert "".join(each["before"] + each["target"]["text"] for each in sentences) == "Le chat dort.\nBoit du lait."
    assert whole["translation"]["pivot"] == "en"


def test_dialects_have_it(client: Client) -> None:
    deepl = client.request(
        "POST", "/v2/translate", json={"text": ["O gato dorme."], "target_lang": "FR", "source_lang": "PT"}
    )
    assert deepl.json()["translations"][0]["text"] == "Le chat dort."
    libre = client.request("POST", "/translate", json={"q": "O gato dorme.", "source": "pt", "target": "fr"})
    assert libre.json()["translatedText"] == "Le chat dort."
    listed = {each["code"]: each["targets"] for each in client.request("GET", "/languages").json()}
    assert "fr" in listed["pt"]


def test_it_is_listed_with_the_languages(client: Client) -> None:
    listed = {each["code"]: each["targets"] for each in client.request("GET", "/v1/languages").json()["languages"]}
    assert listed == {"en": ["fr"], "pt": ["en", "fr"]}
    models = client.request("GET", "/v1/models").json()["models"]
    assert [each["memory_bytes"] for each in models] == [1000, 1000]


def test_a_named_model_is_not_helped_by_another(client: Client) -> None:
    reply: httpx.Response = client.translate(text="O gato dorme.", source="pt", model="en-fr")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "unknown_direction"


def test_compose_is_the_product_over_shared_characters() -> None:
    def span(text: str, start: int) -> Span:
        return Span(text=text, start=start, end=start + len(text))

    first = Sentence(
        source=span("a b", 0), target=span("xy z", 5), score=0.0, source_tokens=[span("a", 0), span("b", 2)],
        target_tokens=[span("xy", 5), span("z", 8)], weights=np.eye(2),
    )  # fmt: skip
    inner = Sentence(
        source=span("xy z", 0), target=span("p q", 0), score=0.0,
        source_tokens=[span("x", 0), span("y", 1), span("z", 3)], target_tokens=[span("p", 0), span("q", 2)],
        weights=np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5]]),
    )  # fmt: skip
    second = Translation(
        text="p q",
        source="en",
        target="fr",
        score=0.0,
        truncated=False,
        warnings=[],
        alternatives=[],
        sentences=[inner],
    )
    assert compose(first, second).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_what_has_begun_is_not_refused_half_way(
    client: Client, engines: tuple[SpeakingEngine, SpeakingEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    admission, submit_all = client.translator.admission, engines[0].submit_all

    def while_others_come(jobs: Sequence[Job]) -> list[Future[list[Hypothesis]]]:
        admission.rate, admission.work = 1.0, admission.work + 1000
        return submit_all(jobs)

    monkeypatch.setattr(engines[0], "submit_all", while_others_come)
    reply = client.translate(text="O gato dorme.", source="pt")
    assert admission.full_up
    assert (reply.status_code, reply.json()["translations"][0]["text"]) == (200, "Le chat dort.")
    assert client.translate(text="Drinks milk.").status_code == 429


@pytest.mark.parametrize("page", [False, True])
def test_a_text_is_told_of_once(translator: Translator, page: bool) -> None:
    text = "<p>O gato dorme.</p><p>Bebe leite.</p>" if page else "O gato dorme. Bebe leite."
    labels = {"model": "pt-en+en-fr", "source": "pt", "target": "fr"}
    before = REGISTRY.get_sample_value("attentive_texts_total", labels) or 0
    record = Record("mine")
    with recording(record):
        translate(translator, text, source="pt", format="html" if page else "text")
    assert REGISTRY.get_sample_value("attentive_texts_total", labels) == before + 1
    counts = {"texts": 1, "characters": len(text), "sentences": 4}
    assert record.noted == labels | counts | {name: record.noted[name] for name in ("tokens_in", "tokens_out")}
