import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import access
from service.api import deepl
from service.reply import TRUNCATED
from service.text.tokens import Tokenizer
from tests.service.api.refusals import refused_by_deepl as refused
from tests.service.fakes import Client, EchoEngine, model, started
from tests.service.speaking import CuttingEngine

FINE = {"text": ["the cat"], "source_lang": "EN", "target_lang": "FR"}
FORM = "application/x-www-form-urlencoded"


def ask(client: Client, **changes: Any) -> Any:
    return client.request("POST", "/v2/translate", json=FINE | changes)


def texts(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["text"] for each in answer.json()["translations"]]


def test_the_reply(client: Client) -> None:
    assert ask(client).json() == {"translations": [{"detected_source_language": "EN", "text": "the cat"}]}
    billed = ask(client, text=["the cat", "é😀"], show_billed_characters=True).json()["translations"]
    assert [each["billed_characters"] for each in billed] == [7, 2]


def test_nothing_is_cut_in_silence(tokenizer: Tokenizer) -> None:
    client = Client(started([model(tokenizer, CuttingEngine(8))]))
    whole, cut = ask(client, text=["cat", "the cat sleeps on a table"]).json()["translations"]
    assert "warnings" not in whole
    assert cut["warnings"] == [TRUNCATED]
    assert cut["text"] != "the cat sleeps on a table"


@pytest.mark.parametrize(
    "options",
    [
        {"json": {"text": ["a cat", "sleeps"], "target_lang": "fr"}},
        {"data": {"text": ["a cat", "sleeps"], "target_lang": "fr"}},
        {"data": {"text": ["a cat", "sleeps"]}, "params": {"target_lang": "fr"}},
        {"content": b"text=a+cat&text=sleeps&target_lang=fr", "headers": {"content-type": f"{FORM}; charset=UTF-8"}},
        {"files": [("text", (None, "a cat")), ("text", (None, "sleeps")), ("target_lang", (None, "fr"))]},
        {"params": {"text": ["a cat", "sleeps"], "target_lang": "fr"}},
    ],
)
def test_json_forms_and_the_query_string_say_the_same(client: Client, options: dict[str, Any]) -> None:
    assert texts(client.request("POST", "/v2/translate", **options)) == ["a cat", "sleeps"]


def test_a_text_without_a_list_is_a_list_of_one(client: Client) -> None:
    assert texts(ask(client, text="the cat")) == ["the cat"]
    assert texts(client.request("GET", "/v2/translate", params=FINE)) == ["the cat"]


def test_empty_texts_and_lists(client: Client) -> None:
    assert texts(ask(client, text=["", " \n"])) == ["", " \n"]
    assert texts(ask(client, text=[])) == []
    assert texts(client.request("POST", "/v2/translate", data=FINE | {"text": ""})) == [""]


@pytest.mark.parametrize("target", ["FR", "fr", "FR-CA", "fr_CH"])
def test_regions_are_one_language(client: Client, target: str) -> None:
    assert texts(ask(client, target_lang=target)) == ["the cat"]


@pytest.mark.parametrize(
    ("split", "sentences"),
    [
        ("0", ["The cat. It\nsleeps."]),
        ("1", ["The cat.", "It", "sleeps."]),
        ("nonewlines", ["The cat.", "It\nsleeps."]),
    ],
)
def test_where_sentences_end(client: Client, engine: EchoEngine, tokenizer: Tokenizer, split: str, sentences) -> None:
    engine.jobs.clear()
    assert ask(client, text=["The cat. It\nsleeps."], split_sentences=split).status_code == 200
    assert [job.source_ids[1:-1] for job in engine.jobs] == tokenizer.encode(sentences)


@pytest.mark.parametrize(
    "change",
    [
        {"formality": "prefer_more"},
        {"formality": "default"},
        {"preserve_formatting": True},
        {"preserve_formatting": "1"},
        {"context": "A story about animals."},
        {"source_lang": None},
        {"split_sentences": None, "preserve_formatting": None, "show_billed_characters": None},
        {"glossary_id": None},
        {"glossary_id": ""},
        {"ignore_tags": []},
        {"model_type": "quality_optimized", "outline_detection": False, "enable_beta_languages": True},
    ],
)
def test_what_is_accepted(client: Client, change: dict[str, Any]) -> None:
    assert texts(ask(client, **change)) == ["the cat"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"text": None}, 400, "invalid_request"),
        ({"text": 5}, 400, "invalid_request"),
        ({"text": ["a", None]}, 400, "invalid_request"),
        ({"text": {"a": 1}}, 400, "invalid_request"),
        ({"target_lang": None}, 400, "invalid_request"),
        ({"target_lang": ""}, 400, "invalid_request"),
        ({"target_lang": "-fr"}, 400, "invalid_request"),
        ({"target_lang": ["fr"]}, 400, "invalid_request"),
        ({"target_lang": "\ud800"}, 400, "invalid_request"),
        ({"target_lang": "DE"}, 400, "unknown_direction"),
        ({"target_lang": "EN-GB"}, 400, "unknown_direction"),
        ({"source_lang": "xx"}, 400, "unknown_direction"),
        ({"split_sentences": 1}, 400, "invalid_request"),
        ({"formality": "more"}, 400, "invalid_request"),
        ({"tag_handling": "sgml"}, 400, "invalid_request"),
        ({"preserve_formatting": "maybe"}, 400, "invalid_request"),
        ({"show_billed_characters": 1}, 400, "invalid_request"),
        ({"glossary_id": "no/id"}, 400, "invalid_request"),
        ({"glossary_id": "def3a26b"}, 404, "unknown_glossary"),
        ({"glossary_ids": ["def3a26b"]}, 400, "invalid_request"),
        ({"custom_instructions": ["Be brief."]}, 400, "invalid_request"),
        ({"ignore_tags": ["x"]}, 400, "invalid_request"),
        ({"splitting_tags": "p", "tag_handling": "html"}, 400, "invalid_request"),
        ({"non_splitting_tags": [1], "tag_handling": "xml"}, 400, "invalid_request"),
        ({"text": "<p>open", "tag_handling": "xml"}, 400, "invalid_request"),
        ({"text": ["a"] * 129}, 413, "too_large"),
        ({"text": ["a" * 100_001]}, 413, "too_large"),
        ({"text": ["a" * 1_000_000]}, 413, "too_large"),
    ],
)
def test_what_is_refused(client: Client, change: dict[str, Any], status: int, code: str) -> None:
    body = json.dumps(FINE | change)
    answer = client.request("POST", "/v2/translate", content=body, headers={"content-type": "application/json"})
    assert refused(answer) == (status, code)
    if code == "invalid_request":
        assert answer.json()["message"].startswith(next(iter(change)))


def translated(client: Client, engine: EchoEngine, xml: str, **options: object) -> int:
    """How many texts the engine was given for ``xml``, which comes back as it is."""
    before = len(engine.jobs)
    assert texts(ask(client, text=xml, tag_handling="xml", **options)) == [xml]
    return len(engine.jobs) - before


def test_what_separates_texts_in_xml(client: Client, engine: EchoEngine) -> None:
    rooms = itertools.count()

    def count(**options: object) -> int:
        room = next(rooms)  # no text comes twice: it would be known
        xml = f"<d><t>the {room} <u>cat {room}</u></t><t>table {room}</t></d>"
        return translated(client, engine, xml, **options)

    assert count() == 2
    assert count(splitting_tags="u") == 3
    assert count(outline_detection=False) == 1
    assert count(outline_detection="0", splitting_tags=["t"]) == 2
    assert count(non_splitting_tags="d,t") == 1


@pytest.mark.parametrize("listed", ["x,y", "x, y", ["x", "y"], ["x,y"]])
def test_what_is_not_translated_in_xml(client: Client, engine: EchoEngine, listed: object) -> None:
    xml = "<d><x>the cat</x><y>table &amp; milk</y></d>"
    assert translated(client, engine, xml, ignore_tags=listed) == 0
    assert translated(client, engine, xml, ignore_tags="x") == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/glossary", 404, "not_found"),
        ("POST", "/v2/document", 404, "not_found"),
        ("DELETE", "/v2/translate", 405, "method_not_allowed"),
        ("PUT", "/v2/usage", 405, "method_not_allowed"),
    ],
)
def test_other_routes_and_methods(client: Client, method: str, path: str, status: int, code: str) -> None:
    assert refused(client.request(method, path)) == (status, code)


@pytest.mark.parametrize("path", ["/v2/translate", "/v2/languages"])
def test_a_refused_method_names_the_others(client: Client, path: str) -> None:
    assert set(client.request("DELETE", path).headers["Allow"].split(", ")) == {"GET", "POST"}


def test_every_route_answers_in_the_shape_of_the_dialect(client: Client) -> None:
    for route in deepl.router.routes:
        assert refused(client.request("PATCH", route.path)) == (405, "method_not_allowed")  # type: ignore[attr-defined]


def test_a_server_that_stops_or_is_full_says_so(client: Client, engine: EchoEngine) -> None:
    engine.capacity = 0
    answer = ask(client)
    assert refused(answer) == (429, "overloaded")
    assert int(answer.headers["Retry-After"]) > 0
    client.translator.drain()
    assert refused(ask(client)) == (503, "unavailable")


def test_the_unexpected_is_told_to_the_log_only(client: Client, engine: EchoEngine) -> None:
    engine.error = RuntimeError("the red cat")
    answer = ask(client)
    assert refused(answer) == (500, "internal")
    assert "cat" not in answer.text


def test_languages(client: Client) -> None:
    source = [{"language": "EN", "name": "English"}, {"language": "FR", "name": "French"}]
    english = [{"language": "EN-GB", "name": "English (British)"}, {"language": "EN-US", "name": "English (American)"}]
    target = [each | {"supports_formality": False} for each in [*english, source[1]]]
    assert client.request("GET", "/v2/languages").json() == source
    assert client.request("GET", "/v2/languages?type=target").json() == target
    assert client.request("GET", "/v2/languages", data={"type": "target"}).json() == target
    assert client.request("POST", "/v2/languages", json={"type": "source"}).json() == source
    assert refused(client.request("GET", "/v2/languages?type=both")) == (400, "invalid_request")


def test_usage_counts_what_was_translated(client: Client) -> None:
    ask(client, text=["the cat", "é😀"])
    ask(client, target_lang="DE")
    assert client.request("GET", "/v2/usage").json() == {"character_count": 9, "character_limit": 10**12}


def test_keys(tokenizer: Tokenizer, tmp_path) -> None:
    keys = {name: access.new(name) for name in ("anna", "ben")}
    file = tmp_path / "keys"
    file.write_text("\n".join(line for _, line in keys.values()))
    client = Client(started([model(tokenizer, EchoEngine())], keys_file=str(file)))
    anna, ben = ({"Authorization": f"DeepL-Auth-Key {key}"} for key, _ in keys.values())

    def used(headers: dict[str, str]) -> int:
        return client.request("GET", "/v2/usage", headers=headers).json()["character_count"]

    assert texts(client.request("POST", "/v2/translate", json=FINE, headers=anna)) == ["the cat"]
    assert texts(client.request("GET", "/v2/translate", params=FINE | {"auth_key": keys["ben"][0]})) == ["the cat"]
    assert texts(client.request("POST", "/v2/translate", data=FINE | {"text": "a"}, headers=ben)) == ["a"]
    assert (used(anna), used(ben)) == (7, 8)
    for wrong in ({}, {"Authorization": "DeepL-Auth-Key wrong"}, {"Authorization": keys["ben"][0]}):
        for method, path in (("POST", "/v2/translate"), ("GET", "/v2/languages"), ("GET", "/v2/usage")):
            assert refused(client.request(method, path, headers=wrong)) == (403, "unauthorized")


def test_rates(tokenizer: Tokenizer) -> None:
    client = Client(started([model(tokenizer, EchoEngine())], rate_limit="1/day"))
    assert texts(ask(client)) == ["the cat"]
    answer = ask(client)
    assert refused(answer) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) > 0


def multipart(value: bytes, more: bytes = b"") -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="text"' + more + b"\r\n\r\n" + value + b"\r\n--x--\r\n"


MULTIPART = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"text=%ff&target_lang=FR", FORM),
        (b"text=\xff&target_lang=FR", FORM),
        (b"text=%ED%A0%80&target_lang=FR", FORM),
        (b'{"text": ["\xff"], "target_lang": "FR"}', "application/json"),
        (b'{"text": ["x"]', "application/json"),
        (b"[" * 200_000, "application/json"),
        (b'{"text": ["x"], "target_lang": "FR"}', "text/plain"),
        (b'{"text": ["x"], "target_lang": "FR"}', ""),
        (b"abc", "multipart/form-data"),
        (b"--x\r\n\r\nabc", MULTIPART),
        (multipart(b"\xff"), MULTIPART),
        (multipart(b"a"), f"{MULTIPART}; charset=punycode"),
        (multipart(b"a", b'; filename="a"'), MULTIPART),
    ],
)
def test_bodies_that_cannot_be_read(client: Client, body: bytes, kind: str) -> None:
    answer = client.request("POST", "/v2/translate", content=body, headers={"content-type": kind})
    assert refused(answer) == (400, "invalid_json")


def test_a_query_string_that_is_not_utf8(client: Client) -> None:
    assert refused(client.request("GET", "/v2/translate?text=%ff&target_lang=FR")) == (400, "invalid_json")


ODD_PART = rb'\A(--x\r\n[A-Za-z-]{0,20}: [a-z;= "]{0,30}\r\n\r\n.{0,9}(\r\n--x(--)?)?\r\n){1,3}'
ODD_KIND = st.sampled_from(["application/json", FORM, MULTIPART, "multipart/form-data; boundary=", "text/plain", ""])


@given(
    body=st.binary(max_size=60) | st.from_regex(ODD_PART),
    kind=ODD_KIND | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
)
def test_no_body_is_too_odd(tokenizer: Tokenizer, body: bytes, kind: str) -> None:
    client = Client(started([model(tokenizer, EchoEngine())]))
    answer = client.request("POST", "/v2/translate", content=body, headers={"content-type": kind})
    assert refused(answer)[0] == 400
