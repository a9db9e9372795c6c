"""The shipped packages behind the real server, over HTTP."""

import gc
import itertools
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bentoml
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from loadtests.traffic import SENTENCES, read_sentences
from tests.served import ROOT, Server, serve, until

DIRECTIONS = [("en", "fr"), ("fr", "en"), ("en", "de"), ("de", "en")]
PIVOTED = [("fr", "de"), ("de", "fr")]
MODELS = ["transformer", "bahdanau"]
WORDS = {
    "fr": {"le", "la", "les", "un", "une", "est", "de", "je", "il", "et"},
    "en": {"the", "a", "is", "of", "i", "he", "and"},
    "de": {"der", "die", "das", "ein", "eine", "ist", "ich", "er", "und"},
}


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def translate(
    client: httpx.Client, text: str | Sequence[str], target: str = "fr", **options: Any
) -> list[dict[str, Any]]:
    reply = client.post("/v1/translate", json={"text": text, "target": target, **options})
    assert reply.status_code == 200, reply.text
    return reply.json()["translations"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("source", "target"), DIRECTIONS + PIVOTED)
def test_both_models_translate_in_all_directions(client: httpx.Client, model: str, source: str, target: str) -> None:
    sentences = read_sentences(SENTENCES)[source][:30]
    found = translate(client, sentences, target, source=source, model=model)
    assert {t.get("pivot") for t in found} == {None if (source, target) in DIRECTIONS else "en"}
    words = [word for t in found for word in t["text"].lower().split()]
    share = {language: sum(word in known for word in words) / len(words) for language, known in WORDS.items()}
    assert share[target] > 2 * share[source]


def test_what_is_served_is_listed(client: httpx.Client) -> None:
    models = client.get("/v1/models").json()["models"]
    assert {model["architecture"] for model in models} == set(MODELS)
    assert all({tuple(way) for way in model["directions"]} == set(DIRECTIONS) for model in models)
    languages = client.get("/v1/languages").json()["languages"]
    assert {(one["code"], target) for one in languages for target in one["targets"]} == {*DIRECTIONS, *PIVOTED}


@pytest.mark.parametrize(
    ("model", "tokens", "beam_size"), list(itertools.product(MODELS, ["words", "subwords"], [1, 4]))
)
def test_attention_has_the_shape_of_its_tokens_and_rows_that_sum_to_one(
    client: httpx.Client, model: str, tokens: str, beam_size: int
) -> None:
    texts = [*read_sentences(SENTENCES)["en"][:20], "I drink milk. It is late!\n\nGood night.", "🙂", "x" * 300]
    options: dict[str, Any] = {
        "source": "en",
        "model": model,
        "tokens": tokens,
        "beam_size": beam_size,
        "attention": "weights",
    }
    for text, translation in zip(texts, translate(client, texts, **options), strict=True):
        for sentence in translation["sentences"]:
            assert len(sentence["weights"]) == len(sentence["target_tokens"]) == len(sentence["alignment"])
            for row in sentence["weights"]:
                assert len(row) == len(sentence["source_tokens"])
                assert sum(row) == pytest.approx(1, abs=1e-3)
            for side, whole in (("source", text), ("target", translation["text"])):
                for span in [sentence[side], *sentence[f"{side}_tokens"]]:
                    assert whole[span["start"] : span["end"]] == span["text"]


@pytest.mark.parametrize("model", MODELS)
def test_alone_in_a_list_and_in_a_crowd_are_the_same(client: httpx.Client, server: Server, model: str) -> None:
    sentences = read_sentences(SENTENCES)["en"][:64]
    options = {"source": "en", "model": model}
    alone = [translate(client, sentence, **options)[0]["text"] for sentence in sentences]
    listed = [t["text"] for t in translate(client, sentences, **options)]
    with (
        ThreadPoolExecutor(32) as pool,
        httpx.Client(base_url=server.url, timeout=120, limits=httpx.Limits(max_connections=32)) as many,
    ):
        crowd = list(pool.map(lambda sentence: translate(many, sentence, **options)[0]["text"], sentences))
    same = sum(a == b == c for a, b, c in zip(alone, listed, crowd, strict=True))
    assert same >= 0.97 * len(sentences)


def test_line_breaks_and_spaces_come_back(client: httpx.Client) -> None:
    (translation,) = translate(client, "\n\nGood morning.\n\n\tI am here.  Thank you.\r\n", source="en")
    assert translation["text"].startswith("\n\n")
    assert translation["text"].endswith("\r\n")
    assert "\n\n\t" in translation["text"]
    assert "  " in translation["text"]
    assert len(translation["sentences"]) == 3


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n", "\u00a0\u3000"])
def test_white_space_comes_back_as_it_is(client: httpx.Client, text: str) -> None:
    (translation,) = translate(client, text, source="en")
    assert translation["text"] == text
    assert translation["sentences"] == []


@pytest.mark.parametrize(
    "text", ["🙂", "I love 🍕!", "a\x00b", "\x00", "\u202e\u200b", "日本語", "é" * 500, "....", "<b>hi"]
)
@pytest.mark.parametrize("model", MODELS)
def test_odd_text_is_translated(client: httpx.Client, text: str, model: str) -> None:
    assert len(translate(client, text, source="en", model=model, attention="weights")) == 1


def test_a_lone_surrogate_is_replaced_and_said_so(client: httpx.Client) -> None:
    body = json.dumps({"text": "broken \ud83d here", "target": "fr", "source": "en"})
    reply = client.post("/v1/translate", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 200
    assert "surrogate" in reply.json()["translations"][0]["warnings"][0]


@pytest.mark.parametrize(
    "prefix", ["Dans le jardin", "Les enf", "«\u00a0Les ﬁlles…", "😀", "le le le le le le le le le le"]
)
@pytest.mark.parametrize("model", MODELS)
def test_a_translation_begins_with_its_prefix(client: httpx.Client, model: str, prefix: str) -> None:
    text = "The children are playing in the garden. It is late."
    options: dict[str, Any] = {"source": "en", "model": model, "alternatives": 2, "attention": "weights"}
    (translation,) = translate(client, text, target_prefix=prefix, **options)
    assert all(found["text"].startswith(prefix) for found in [translation, *translation["alternatives"]])
    first, second = translation["sentences"]
    for sentence in (first, second):
        for span in [sentence["target"], *sentence["target_tokens"]]:
            assert translation["text"][span["start"] : span["end"]] == span["text"]
    (alone,) = translate(client, "It is late.", **options)
    assert second["target"]["text"] == alone["text"]


@pytest.mark.parametrize("model", MODELS)
def test_lengths_are_kept(client: httpx.Client, model: str) -> None:
    options: dict[str, Any] = {"source": "en", "model": model, "attention": "alignment", "tokens": "subwords"}

    def length(**more: Any) -> tuple[int, dict[str, Any]]:
        (found,) = translate(client, "The children are playing in the garden.", **options, **more)
        return len(found["sentences"][0]["target_tokens"]), found

    usual, whole = length()
    assert not whole["truncated"]
    shortest, short = length(max_length=3)
    assert shortest <= 3
    assert short["truncated"]
    assert "longest length" in short["warnings"][0]
    # Without a sub-word that occurs twice there is no loop to be cut.
    longer, _ = length(min_length=2 * usual + 10, no_repeat_ngram_size=1)
    assert longer > usual


@pytest.mark.parametrize("model", MODELS)
def test_a_loop_is_cut_and_says_so(client: httpx.Client, model: str) -> None:
    texts = ["Bla bla bla bla.", "ha ha ha", "Hello.", "The house."]
    found = translate(client, texts, source="en", model=model, min_length=150)
    assert any("repetition" in warning for each in found for warning in each["warnings"])
    assert all(each["truncated"] == bool(each["warnings"]) for each in found)


@pytest.mark.parametrize("length_penalty", [0, 1, 2])
def test_alternatives_are_ranked_by_score(client: httpx.Client, length_penalty: float) -> None:
    texts = read_sentences(SENTENCES)["en"][:10]
    options: dict[str, Any] = {"source": "en", "alternatives": 3, "length_penalty": length_penalty}
    options["split_sentences"] = "none"
    for found in translate(client, texts, **options):
        scores = [each["score"] for each in [found, *found["alternatives"]]]
        assert scores == sorted(scores, reverse=True)
        assert found["score"] == found["sentences"][0]["score"]


FINE = {"text": "Hello.", "target": "fr"}


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ("{not json", 400, "invalid_json", None),
        ("", 400, "invalid_json", None),
        ({"target": "fr"}, 422, "invalid_request", "text"),
        ({"text": "Hello."}, 422, "invalid_request", "target"),
        (FINE | {"text": 5}, 422, "invalid_request", "text"),
        (FINE | {"text": {"a": 1}}, 422, "invalid_request", "text"),
        (FINE | {"text": [None]}, 422, "invalid_request", "text"),
        (FINE | {"beam_size": 0}, 422, "invalid_request", "beam_size"),
        (FINE | {"beam_size": 9}, 422, "invalid_request", "beam_size"),
        (FINE | {"beam_size": "4"}, 422, "invalid_request", "beam_size"),
        (FINE | {"attention": "some"}, 422, "invalid_request", "attention"),
        (FINE | {"length_penalty": 3}, 422, "invalid_request", "length_penalty"),
        (FINE | {"no_repeat_ngram_size": -1}, 422, "invalid_request", "no_repeat_ngram_size"),
        (FINE | {"source": "en", "min_length": 100_000}, 422, "invalid_request", "min_length"),
        (FINE | {"source": "en", "max_length": 100_000}, 422, "invalid_request", "max_length"),
        (FINE | {"min_length": 3, "max_length": 2}, 422, "invalid_request", "max_length"),
        (FINE | {"source": "en", "target_prefix": "x " * 2000}, 422, "invalid_request", "target_prefix"),
        (FINE | {"text": ["a", "b"], "target_prefix": "x"}, 422, "invalid_request", "target_prefix"),
        (FINE | {"surprise": 1}, 422, "invalid_request", "surprise"),
        ([1, 2], 422, "invalid_request", None),
        (FINE | {"model": "none"}, 404, "unknown_model", "model"),
        (FINE | {"target": "xx"}, 404, "unknown_direction", "target"),
        (FINE | {"source": "xx"}, 404, "unknown_direction", "target"),
        (FINE | {"text": "a " * 1_000_000}, 413, "too_large", None),
        (FINE | {"text": ["a"] * 10_000}, 413, "too_large", "text"),
        (FINE | {"text": "a" * 100_001}, 413, "too_large", "text"),
    ],
)
def test_a_bad_request_gets_its_status_and_code(
    client: httpx.Client, body: Any, status: int, code: str, field: str | None
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    headers = {"Content-Type": "application/json", "X-Request-ID": "bad-one"}
    reply = client.post("/v1/translate", content=content, headers=headers)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == reply.headers["X-Request-ID"] == "bad-one"
    if field is not None:
        assert error["field"] is not None
        assert error["field"].startswith(field)


def test_the_largest_list_is_translated(client: httpx.Client) -> None:
    assert len(translate(client, ["Yes."] * 128, source="en")) == 128


def test_a_passed_deadline_is_a_timeout(client: httpx.Client) -> None:
    body = FINE | {"text": ["I am writing a rather long letter to my old friend."] * 128, "timeout_ms": 1}
    reply = client.post("/v1/translate", json=body | {"source": "en"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")


def bentoml_batch(url: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def call() -> list[dict[str, Any]]:
        with bentoml.SyncHTTPClient(url) as client:
            return client.call("translate_batch", items=items)

    results = call()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the client forgets a directory, which goes with it
        gc.collect()
    return results


def test_bentoml_clients_are_served(server: Server) -> None:
    texts = [("I drink milk.", "fr"), ("Hello.", "xx"), ("", "en")]
    good, bad, empty = bentoml_batch(server.url, [{"text": text, "target": target} for text, target in texts])
    assert good["translation"]["text"]
    assert bad["error"]["code"] == "unknown_direction"
    assert empty["translation"]["text"] == ""


def test_bentoml_clients_have_the_same_options(server: Server) -> None:
    changes: list[dict[str, Any]] = [{"target_prefix": "Salut à"}, {"min_length": 100_000}, {"length_penalty": -1}]
    good, *bad = bentoml_batch(server.url, [FINE | {"source": "en"} | change for change in changes])
    assert good["translation"]["text"].startswith("Salut à")
    assert [each["error"]["field"] for each in bad] == ["min_length", "length_penalty"]


def test_much_that_is_wrong_in_a_batch_is_one_error(client: httpx.Client) -> None:
    reply = client.post("/translate_batch", json={"items": [1] * 1000})
    assert reply.status_code == 400
    assert [each["loc"] for each in reply.json()["detail"]] == [["items", 0]]


def test_metrics_count_and_keep_secrets(client: httpx.Client) -> None:
    marker = "Zanzibarquux"
    translate(client, f"{marker} is far away.", source="en")
    client.get(f"/{marker}")
    text = client.get("/metrics").text
    assert 'attentive_sentences_total{model="transformer-en-fr-de"}' in text
    assert marker not in text


def test_logs_keep_secrets(client: httpx.Client, server: Server) -> None:
    marker = "Xylophonquux"
    translate(client, f"{marker} is far away.", source="en")
    client.post("/v1/translate", json={"text": f"{marker}", "target": "xx"})
    client.post("/translate_batch", json={"items": [marker]})
    assert marker not in server.log.read_text()


def test_a_stopping_server_finishes_what_it_has_begun(tmp_path) -> None:
    text = ["The children are playing in the garden behind the old house."] * 128
    with serve(tmp_path, drain_s=1) as server, server.client() as busy, server.client() as late:
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(busy.post, "/v1/translate", json={"text": text, "target": "fr", "beam_size": 8})
            until(lambda: in_flight(late) > 0 or begun.done())
            server.process.terminate()
            until(lambda: late.get("/readyz").status_code == 503)
            refused = late.post("/v1/translate", json=FINE)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
            assert int(refused.headers["Retry-After"]) > 0
            answered = begun.result()
        assert answered.status_code == 200
        assert len(answered.json()["translations"]) == len(text)
        assert server.process.wait(60) == 0


def in_flight(client: httpx.Client) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("attentive_in_flight"))


def test_a_damaged_package_is_refused_by_name_while_the_other_serves(tmp_path) -> None:
    models = shutil.copytree(ROOT / "models" / "trained", tmp_path / "models")
    broken = models / "bahdanau-en-fr-de" / "decoder.int8.onnx"
    broken.write_bytes(broken.read_bytes()[:-100])
    with serve(tmp_path / "home", models_dir=models) as server, server.client() as client:
        assert [model["architecture"] for model in client.get("/v1/models").json()["models"]] == ["transformer"]
        reply = client.post("/v1/translate", json=FINE | {"model": "bahdanau"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_model")
        assert translate(client, "Hello.", source="en")
        assert str(broken) in server.log.read_text()


BEYOND_SCHEMA = {"alternatives", "attention", "min_length", "max_length", "target_prefix"}
"""Their limits depend on the model, or on other fields."""
SAID_BEYOND_SCHEMA = (
    "no model translates",
    "Input is for format xml only",
    "Input is for tag_handling xml only",
    "not well-formed XML",
    "entries: ",
    "dictionaries: two",
    "A name has no control characters",
    "Input needs source_lang",
)
"""So do which languages there are, what options of XML are for, XML itself, and terms as text: the status depends on
the API."""

EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
"""Generated requests for each operation and phase: as many as there is time for."""

schema = schemathesis.openapi.from_path(ROOT / "service" / "openapi.json")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_openapi_allows_or_forbids_gets_a_reply_it_describes(
    case: schemathesis.Case, server: Server
) -> None:
    # 504 is the right answer to a timeout_ms of 1.
    excluded: list[Any] = [schemathesis.checks.not_a_server_error]
    reply = case.call(base_url=server.url)
    beyond = reply.status_code == 422 and reply.json()["error"]["field"] in BEYOND_SCHEMA
    if beyond or any(said in reply.text for said in SAID_BEYOND_SCHEMA):
        excluded.append(schemathesis.checks.positive_data_acceptance)
    case.validate_response(reply, excluded_checks=excluded)
    assert reply.status_code < 500 or reply.status_code == 504
