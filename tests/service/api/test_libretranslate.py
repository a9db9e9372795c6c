import json
from typing import Any

import pytest

from service import access
from service.api import libretranslate
from service.plan import REPLACED
from service.reply import TRUNCATED
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, started
from tests.service.speaking import CuttingEngine

FINE = {"q": "the cat", "source": "en", "target": "fr"}
ENGLISH = "The cat sleeps on the table and I drink milk."
FRENCH = "Le chat dort sur la table et je bois du lait."


def ask(client: Client, **changes: Any) -> Any:
    return client.request("POST", "/translate", json=FINE | changes)


def refused(answer: Any) -> tuple[int, str]:
    assert set(answer.json()) == {"error"}
    assert answer.headers["X-Request-ID"]
    return answer.status_code, answer.json()["error"]


def natively(client: Client, text: str) -> list[str]:
    """The alternative of the native API."""
    [translation] = client.translate(text=text, alternatives=1).json()["translations"]
    return [each["text"] for each in translation["alternatives"]]


def test_the_reply(client: Client) -> None:
    assert ask(client).json() == {"translatedText": "the cat"}
    assert ask(client, q=["the cat", "milk"]).json() == {"translatedText": ["the cat", "milk"]}


def test_nothing_is_cut_in_silence(tokenizer: Tokenizer) -> None:
    client = Client(started([model(tokenizer, CuttingEngine(8))]))
    whole, cut = "cat", "the cat sleeps on a table"
    found = ask(client, q=cut).json()
    assert found["translatedText"] != cut
    assert found["warnings"] == [TRUNCATED]
    listed = {"translatedText": [whole, found["translatedText"]], "warnings": [[], [TRUNCATED]]}
    assert ask(client, q=[whole, cut]).json() == listed
    assert ask(client, q=[whole, whole]).json() == {"translatedText": [whole, whole]}


@pytest.mark.parametrize("q", ["", " \n", [], ["", "x"]])
def test_nothing_stays_nothing(client: Client, q: Any) -> None:
    assert ask(client, q=q).json() == {"translatedText": q}


@pytest.mark.parametrize(
    "options",
    [
        {"json": FINE | {"alternatives": 1}},
        {"data": FINE | {"alternatives": "1"}},
        {"params": FINE | {"alternatives": "1"}},
        {"files": [(name, (None, value)) for name, value in (FINE | {"alternatives": "1"}).items()]},
        {"json": FINE | {"alternatives": 1.0}},
    ],
)
def test_json_forms_and_the_query_string_say_the_same(client: Client, options: dict[str, Any]) -> None:
    answer = client.request("POST", "/translate", **options)
    assert answer.json() == {"translatedText": "the cat", "alternatives": natively(client, "the cat")}


@pytest.mark.parametrize(
    "options",
    [
        {"json": FINE | {"format": None, "alternatives": None}},
        {"json": FINE | {"format": ""}},
        {"data": FINE | {"format": ""}},
    ],
)
def test_what_is_not_said_is_as_by_default(client: Client, options: dict[str, Any]) -> None:
    assert client.request("POST", "/translate", **options).json() == {"translatedText": "the cat"}


def test_alternatives_of_a_list(client: Client) -> None:
    texts = ["the cat", "the milk", ""]
    answer = ask(client, q=texts, alternatives=1)
    assert answer.json() == {"translatedText": texts, "alternatives": [natively(client, text) for text in texts]}


def test_the_language_is_found(client: Client) -> None:
    answer = ask(client, q=ENGLISH, source="auto").json()
    assert answer["detectedLanguage"]["language"] == "en"
    assert 50 < answer["detectedLanguage"]["confidence"] <= 100
    listed = ask(client, q=[ENGLISH, FRENCH], source="auto").json()
    assert [each["language"] for each in listed["detectedLanguage"]] == ["en", "fr"]
    assert listed["translatedText"] == [ENGLISH, FRENCH]
    page = ask(client, q=f"<p>{FRENCH}</p>", source="auto", target="en", format="html", alternatives=2).json()
    assert page["detectedLanguage"] == listed["detectedLanguage"][1]
    assert page["translatedText"] == f"<p>{FRENCH}</p>"
    assert page["alternatives"] == []


@pytest.mark.parametrize("form", ["text", "html"])
def test_a_language_into_itself(client: Client, engine: EchoEngine, form: str) -> None:
    engine.jobs.clear()
    texts = ["<p>the  cat", "", "le chat\n"]
    assert ask(client, q=texts, target="EN-gb", format=form).json() == {"translatedText": texts}
    one = ask(client, q=texts[0], source="fr", format=form, alternatives=2)
    assert one.json() == {"translatedText": texts[0], "alternatives": []}
    found = ask(client, q=FRENCH, source="auto", format=form).json()
    assert (found["translatedText"], found["detectedLanguage"]["language"]) == (FRENCH, "fr")
    body = json.dumps(FINE | {"q": "a\ud800", "target": "en"})
    answer = client.request("POST", "/translate", content=body, headers={"content-type": "application/json"})
    assert answer.json() == {"translatedText": "a\ufffd", "warnings": [REPLACED]}
    assert engine.jobs == []


@pytest.mark.parametrize(("text", "language"), [(ENGLISH, "en"), (FRENCH, "fr")])
def test_detect(client: Client, text: str, language: str) -> None:
    for options in ({"json": {"q": text}}, {"data": {"q": text}}, {"params": {"q": text}}):
        found = client.request("POST", "/detect", **options).json()
        assert [each["language"] for each in found] == sorted(["en", "fr"], key=lambda code: code != language)
        assert found[0]["confidence"] >= 90
        assert sum(each["confidence"] for each in found) == pytest.approx(100, abs=1)


@pytest.mark.parametrize("text", ["", "1234", "\ud800", "\x00", "a" * 100_000])
def test_a_language_is_found_for_anything(client: Client, text: str) -> None:
    body = json.dumps({"q": text})
    answer = client.request("POST", "/detect", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert all(0 <= each["confidence"] <= 100 for each in answer.json())


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"q": None}, 400, "q: "),
        ({"q": 5}, 400, "q: "),
        ({"q": ["a", None]}, 400, "q[1]: "),
        ({"source": None}, 400, "source: "),
        ({"source": ""}, 400, "source: "),
        ({"target": ["fr"]}, 400, "target: "),
        ({"target": "zz"}, 400, "no model translates"),
        ({"source": "zz"}, 400, "no model translates"),
        ({"source": "zz", "target": "zz"}, 400, "no model translates"),
        ({"target": "en", "q": ["a"] * 129}, 413, "a request takes at most 128 texts"),
        ({"format": "xml"}, 400, "format: "),
        ({"alternatives": "many"}, 400, "alternatives: "),
        ({"alternatives": -1}, 400, "alternatives: "),
        ({"alternatives": 8}, 400, "alternatives: "),
        ({"alternatives": True}, 400, "alternatives: "),
        ({"q": ["a"] * 129}, 413, "a request takes at most 128 texts"),
        ({"q": "a" * 100_001}, 413, "a text has at most 100000 characters"),
        ({"q": "a" * 1_000_000}, 413, "a body has at most 1000000 bytes"),
    ],
)
def test_what_is_refused(client: Client, change: dict[str, Any], status: int, message: str) -> None:
    found, error = refused(ask(client, **change))
    assert found == status
    assert error.startswith(message)


@pytest.mark.parametrize("missing", ["q", "source", "target"])
def test_missing_parameters(client: Client, missing: str) -> None:
    given = {name: value for name, value in FINE.items() if name != missing}
    for options in ({"json": given}, {"data": given}, {"params": given}):
        status, error = refused(client.request("POST", "/translate", **options))
        assert (status, error.partition(":")[0]) == (400, missing)


@pytest.mark.parametrize("body", [b"[]", b'["q"]', b"5", b"{", b'"\xff"'])
def test_bodies_that_are_no_object(client: Client, body: bytes) -> None:
    for path in ("/translate", "/detect"):
        answer = client.request("POST", path, content=body, headers={"content-type": "application/json"})
        assert refused(answer)[0] == 400


def test_every_route_answers_in_the_shape_of_the_dialect(client: Client) -> None:
    for route in libretranslate.router.routes:
        assert refused(client.request("PATCH", route.path))[0] == 405  # type: ignore[attr-defined]


def test_languages(client: Client) -> None:
    assert client.request("GET", "/languages").json() == [
        {"code": "en", "name": "English", "targets": ["en", "fr"]},
        {"code": "fr", "name": "French", "targets": ["en", "fr"]},
    ]


def test_a_language_that_is_only_written_is_listed(tokenizer: Tokenizer) -> None:
    client = Client(started([model(tokenizer, EchoEngine(), directions=[("en", "fr")])]))
    listed = client.request("GET", "/languages").json()
    assert {each["code"]: each["targets"] for each in listed} == {"en": ["en", "fr"], "fr": ["fr"]}


def test_settings_and_health(client: Client) -> None:
    assert client.request("GET", "/frontend/settings").json() == {
        "charLimit": 100_000,
        "frontendTimeout": 500,
        "apiKeys": False,
        "keyRequired": False,
        "suggestions": False,
        "filesTranslation": False,
        "supportedFilesFormat": [],
        "language": {"source": {"code": "auto", "name": "Auto Detect"}, "target": {"code": "fr", "name": "French"}},
    }
    assert client.request("GET", "/health").json() == {"status": "ok"}


def test_a_server_that_stops_or_is_full_says_so(client: Client, engine: EchoEngine) -> None:
    engine.capacity = 0
    answer = ask(client)
    assert refused(answer)[0] == 429
    assert int(answer.headers["Retry-After"]) > 0
    client.translator.drain()
    assert refused(ask(client))[0] == 503
    assert refused(client.request("POST", "/detect", json={"q": "x"}))[0] == 503
    for path in ("/health", "/frontend/settings"):
        answer = client.request("GET", path)
        assert refused(answer)[0] == 503
        assert int(answer.headers["Retry-After"]) > 0


def test_keys(tokenizer: Tokenizer, tmp_path) -> None:
    key, line = access.new("anna")
    file = tmp_path / "keys"
    file.write_text(line)
    client = Client(started([model(tokenizer, EchoEngine())], keys_file=str(file)))
    with_key = FINE | {"api_key": key}
    for options in ({"json": with_key}, {"data": with_key}, {"json": FINE, "params": {"api_key": key}}):
        assert client.request("POST", "/translate", **options).status_code == 200
    headers = {"Authorization": f"Bearer {key}"}
    assert client.request("POST", "/detect", json={"q": "x"}, headers=headers).status_code == 200
    for wrong in ({}, {"api_key": "wrong"}, {"api_key": 5}, {"api_key": ""}, {"api_key": None}):
        assert refused(ask(client, **wrong))[0] == 403
        assert refused(client.request("POST", "/detect", json={"q": "x"} | wrong))[0] == 403
    found = client.request("GET", "/frontend/settings").json()
    assert (found["apiKeys"], found["keyRequired"]) == (True, True)
    assert client.request("GET", "/languages").status_code == 200
