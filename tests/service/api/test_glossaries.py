import json
from pathlib import Path
from typing import Any

import pytest

from service import access
from service.text.tokens import Tokenizer
from tests.service.api.refusals import refused_by_deepl as refused
from tests.service.fakes import Client, EchoEngine, model, started

ONE = {"name": "Animals", "source_lang": "EN", "target_lang": "fr", "entries": "cat\tmatou", "entries_format": "tsv"}
DICTIONARY = {"source_lang": "en", "target_lang": "FR", "entries": "cat,matou\ntable,bureau", "entries_format": "csv"}
BACK = {"source_lang": "fr", "target_lang": "en-GB", "entries": "chat\ttomcat"}
NOWHERE = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def client(tokenizer: Tokenizer, tmp_path: Path) -> Client:
    return Client(started([model(tokenizer, EchoEngine())], glossaries_file=str(tmp_path / "kept.sqlite")))


def ask(client: Client, method: str, path: str, **options: Any) -> Any:
    answer = client.request(method, path, **options)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def made(client: Client, **changes: Any) -> str:
    return str(ask(client, "POST", "/v2/glossaries", json=ONE | changes)["glossary_id"])


def test_a_glossary_from_its_making_to_its_end(client: Client) -> None:
    answer = client.request("POST", "/v2/glossaries", json=ONE)
    found = answer.json()
    id_ = found["glossary_id"]
    assert answer.status_code == 201
    assert found == {
        "glossary_id": id_,
        "name": "Animals",
        "ready": True,
        "source_lang": "en",
        "target_lang": "fr",
        "creation_time": found["creation_time"],
        "entry_count": 1,
    }
    assert ask(client, "GET", "/v2/glossaries") == {"glossaries": [found]}
    assert ask(client, "GET", f"/v2/glossaries/{id_}") == found
    entries = client.request("GET", f"/v2/glossaries/{id_}/entries")
    assert (entries.text, entries.headers["content-type"]) == ("cat\tmatou", "text/tab-separated-values; charset=utf-8")
    deleted = client.request("DELETE", f"/v2/glossaries/{id_}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert ask(client, "GET", "/v2/glossaries") == {"glossaries": []}
    for method, path in (("GET", ""), ("GET", "/entries"), ("DELETE", "")):
        assert refused(client.request(method, f"/v2/glossaries/{id_}{path}")) == (404, "unknown_glossary")


def test_json_and_forms_say_the_same(client: Client) -> None:
    assert ask(client, "POST", "/v2/glossaries", data=ONE)["entry_count"] == 1


def test_translating_with_one(client: Client) -> None:
    fine: dict[str, Any] = {"text": ["the cat sleeps", "milk"], "source_lang": "EN-US", "target_lang": "FR"}
    found = ask(client, "POST", "/v2/translate", json=fine | {"glossary_id": made(client)})["translations"]
    assert [each["text"] for each in found] == ["the matou sleeps", "milk"]
    assert not any("warnings" in each for each in found)
    html = fine | {"text": "<p>the <b>cat</b></p>", "tag_handling": "html", "glossary_id": made(client)}
    assert ask(client, "POST", "/v2/translate", data=html)["translations"][0]["text"] == "<p>the <b>matou</b></p>"


def test_a_term_that_is_not_honoured_is_told(client: Client) -> None:
    query = {"text": "http://cat.com/ the cat", "source_lang": "en", "target_lang": "fr"}
    kept = made(client, entries="com\tnet\nthe\tla")
    found = ask(client, "POST", "/v2/translate", json=query | {"glossary_id": kept})["translations"][0]
    assert found["text"].startswith("http://cat.com/ la")
    assert found["warnings"] == ["the term 'com' could not be translated as 'net'"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"glossary_id": NOWHERE}, 404, "unknown_glossary"),
        ({"glossary_id": "\ud800"}, 400, "invalid_request"),
        ({"source_lang": None}, 400, "invalid_request"),
        ({"source_lang": "fr", "target_lang": "en-GB"}, 400, "invalid_request"),
        ({"glossary_ids": ["a", "b"]}, 400, "invalid_request"),
    ],
)
def test_translating_with_one_that_does_not_fit(client: Client, change: dict[str, Any], status: int, code: str) -> None:
    fine = {"text": ["the cat"], "source_lang": "en", "target_lang": "fr", "glossary_id": made(client)}
    body, headers = json.dumps(fine | change), {"content-type": "application/json"}
    assert refused(client.request("POST", "/v2/translate", content=body, headers=headers)) == (status, code)


@pytest.mark.parametrize(
    ("change", "status", "code", "named"),
    [
        ({"name": ""}, 400, "invalid_request", "name"),
        ({"name": "a\nb"}, 400, "invalid_request", "name"),
        ({"name": "x" * 1025}, 400, "invalid_request", "name"),
        ({"name": None}, 400, "invalid_request", "name"),
        ({"entries": "cat"}, 400, "invalid_request", "entries: line 1"),
        ({"entries": ""}, 400, "invalid_request", "entries: there are no terms"),
        ({"entries": "a\t\ud800"}, 400, "invalid_request", "entries"),
        ({"entries_format": "xlsx"}, 400, "invalid_request", "entries_format"),
        ({"target_lang": "de"}, 400, "unknown_direction", "no model translates"),
        ({"source_lang": "fr"}, 400, "unknown_direction", "no model translates"),
        ({"entries": "\n".join(f"{i}\tx" for i in range(5001))}, 413, "too_large", "a glossary has at most 5000"),
        ({"entries": f"cat\t{'x' * 101}"}, 413, "too_large", "a term has at most 100"),
    ],
)
def test_what_is_not_kept(client: Client, change: dict[str, Any], status: int, code: str, named: str) -> None:
    body, headers = json.dumps(ONE | change), {"content-type": "application/json"}
    answer = client.request("POST", "/v2/glossaries", content=body, headers=headers)
    assert refused(answer) == (status, code)
    assert answer.json()["message"].startswith(named)
    assert ask(client, "GET", "/v3/glossaries") == {"glossaries": []}


def test_as_much_as_there_may_be_is_kept(client: Client) -> None:
    made(client, name="x" * 1024, entries="\n".join(f"{'y' * 95}{i:05}\t{i}" for i in range(5000)))


def test_several_dictionaries_in_one(client: Client) -> None:
    new = {"name": "Both", "dictionaries": [DICTIONARY, BACK]}
    found = ask(client, "POST", "/v3/glossaries", json=new)
    id_ = found["glossary_id"]
    assert found == {
        "glossary_id": id_,
        "name": "Both",
        "creation_time": found["creation_time"],
        "dictionaries": [
            {"source_lang": "en", "target_lang": "fr", "entry_count": 2},
            {"source_lang": "fr", "target_lang": "en", "entry_count": 1},
        ],
    }
    assert ask(client, "GET", f"/v3/glossaries/{id_}") == found
    assert ask(client, "GET", "/v3/glossaries") == {"glossaries": [found]}
    assert ask(client, "GET", "/v2/glossaries") == {"glossaries": []}
    assert refused(client.request("GET", f"/v2/glossaries/{id_}")) == (404, "unknown_glossary")
    back = {"text": ["le chat"], "source_lang": "FR", "target_lang": "EN-US", "glossary_id": id_}
    assert ask(client, "POST", "/v2/translate", json=back)["translations"][0]["text"] == "le tomcat"


def test_changing_one(client: Client) -> None:
    path = f"/v3/glossaries/{made(client)}"
    more = DICTIONARY | {"entries": "cat\tminou\ndog\tcabot", "entries_format": "tsv"}
    found = ask(client, "PATCH", path, json={"name": "Pets", "dictionaries": [more, BACK]})
    assert (found["name"], [each["entry_count"] for each in found["dictionaries"]]) == ("Pets", [2, 1])
    pair = {"source_lang": "EN", "target_lang": "FR"}
    written = {"source_lang": "en", "target_lang": "fr", "entries": "cat\tminou\ndog\tcabot", "entries_format": "tsv"}
    assert ask(client, "GET", f"{path}/entries", params=pair) == {"dictionaries": [written]}
    size = {"source_lang": "en", "target_lang": "fr", "entry_count": 2}
    assert ask(client, "PUT", f"{path}/dictionaries", json=DICTIONARY) == size
    assert ask(client, "DELETE", f"{path}/dictionaries", params=pair) is None
    for method, what in (("DELETE", "dictionaries"), ("GET", "entries")):
        assert refused(client.request(method, f"{path}/{what}", params=pair)) == (404, "unknown_glossary")
    assert [each["source_lang"] for each in ask(client, "GET", path)["dictionaries"]] == ["fr"]
    assert ask(client, "DELETE", path) is None
    assert refused(client.request("PATCH", path, json={"name": "gone"})) == (404, "unknown_glossary")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", {"name": "None", "dictionaries": []}),
        ("POST", "", {"name": "Twice", "dictionaries": [DICTIONARY, DICTIONARY | {"source_lang": "en-GB"}]}),
        ("POST", "", {"dictionaries": [DICTIONARY]}),
        ("POST", "", {"name": "No list", "dictionaries": DICTIONARY}),
        ("PATCH", f"/{NOWHERE}", {"dictionaries": [DICTIONARY | {"entries": "x"}]}),
        ("PUT", f"/{NOWHERE}/dictionaries", {"source_lang": "en"}),
        ("GET", f"/{NOWHERE}/entries", None),
    ],
)
def test_what_is_wrong_with_several(client: Client, method: str, path: str, body: object) -> None:
    assert refused(client.request(method, f"/v3/glossaries{path}", json=body)) == (400, "invalid_request")


def test_the_languages_of_glossaries(client: Client, tokenizer: Tokenizer) -> None:
    pairs = [{"source_lang": "en", "target_lang": "fr"}, {"source_lang": "fr", "target_lang": "en"}]
    assert ask(client, "GET", "/v2/glossary-language-pairs") == {"supported_languages": pairs}
    without = Client(started([model(tokenizer, EchoEngine())]))
    assert ask(without, "GET", "/v2/glossary-language-pairs") == {"supported_languages": []}
    assert ask(without, "GET", "/v2/glossaries") == {"glossaries": []}
    answer = without.request("POST", "/v2/glossaries", json=ONE)
    assert refused(answer) == (400, "invalid_request")
    assert "ATTENTIVE_GLOSSARIES_FILE" in answer.json()["message"]


def test_each_key_has_its_own(tokenizer: Tokenizer, tmp_path: Path) -> None:
    keys = dict(access.new(name) for name in ("ann", "bob"))
    (tmp_path / "keys").write_text("\n".join(keys.values()))
    settings = {"glossaries_file": str(tmp_path / "kept.sqlite"), "keys_file": str(tmp_path / "keys")}
    client = Client(started([model(tokenizer, EchoEngine())], **settings))
    ann, bob = ({"Authorization": f"DeepL-Auth-Key {key}"} for key in keys)
    id_ = ask(client, "POST", "/v2/glossaries", json=ONE, headers=ann)["glossary_id"]
    assert len(ask(client, "GET", "/v3/glossaries", headers=ann)["glossaries"]) == 1
    assert ask(client, "GET", "/v3/glossaries", headers=bob) == {"glossaries": []}
    assert refused(client.request("DELETE", f"/v3/glossaries/{id_}", headers=bob)) == (404, "unknown_glossary")
    for path in ("/v2/glossaries", "/v3/glossaries", "/v2/glossary-language-pairs", f"/v3/glossaries/{id_}"):
        assert refused(client.request("GET", path)) == (403, "unauthorized")


def test_other_routes_and_methods(client: Client) -> None:
    assert refused(client.request("GET", "/v3/style_rules")) == (404, "not_found")
    assert refused(client.request("PUT", "/v2/glossaries")) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v2/glossaries", {"GET", "POST"}),
        (f"/v2/glossaries/{NOWHERE}", {"DELETE", "GET"}),
        (f"/v3/glossaries/{NOWHERE}", {"DELETE", "GET", "PATCH"}),
        (f"/v3/glossaries/{NOWHERE}/dictionaries", {"DELETE", "PUT"}),
        ("/metrics", {"GET"}),
        ("/openapi.json", {"GET", "HEAD"}),
    ],
)
def test_a_refused_method_names_the_others(client: Client, path: str, methods: set[str]) -> None:
    assert set(client.request("OPTIONS", path).headers["Allow"].split(", ")) == methods
