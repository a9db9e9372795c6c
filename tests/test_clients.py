"""Clients of DeepL and LibreTranslate as they are published, at this server; BentoML's are in ``test_served.py``."""

import json
import re
import threading
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import deepl
import pytest
import uvicorn
from deep_translator import DeeplTranslator, LibreTranslator, constants
from deep_translator.exceptions import AuthorizationException, ServerException
from deepl.api_data import MultilingualGlossaryDictionaryEntries
from libretranslatepy import LibreTranslateAPI

from service import access
from service.app import create_app
from service.text.tokens import Tokenizer
from tests.served import ROOT, Server, until
from tests.service.fakes import EchoEngine, model, started, train

ENGLISH = "The children are playing in the garden."
FRENCH = "Les enfants jouent dans le jardin."
POINTED = re.findall(r"^\| `[\w-]+` \| `(.+http://127.+)` \|$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
"""How the README points each client at a server."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train(tmp_path_factory.mktemp("tokenizer"))


@contextmanager
def guarded(tokenizer: Tokenizer, **settings: Any) -> Iterator[str]:
    """The address of a server in a thread, which repeats what it is given."""
    translator = started([model(tokenizer, EchoEngine())], **settings)
    server = uvicorn.Server(
        uvicorn.Config(create_app(translator, translator.settings), host="127.0.0.1", port=0, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def keys(tmp_path) -> tuple[str, str]:
    """A key, and the file that has it."""
    key, line = access.new("anna")
    (tmp_path / "keys").write_text(line)
    return key, str(tmp_path / "keys")


@pytest.fixture
def official(server: Server) -> Iterator[deepl.DeepLClient]:
    client = deepl.DeepLClient("any", server_url=server.url)
    yield client
    client.close()


def one(found: deepl.TextResult | list[deepl.TextResult]) -> deepl.TextResult:
    assert isinstance(found, deepl.TextResult)
    return found


def test_deepl_translates(official: deepl.DeepLClient) -> None:
    single = one(official.translate_text(ENGLISH, target_lang="FR"))
    assert "enfants" in single.text
    assert (single.detected_source_lang, single.billed_characters) == ("EN", len(ENGLISH))
    several = official.translate_text([FRENCH, ""], source_lang="FR", target_lang="EN-GB")
    assert isinstance(several, list)
    assert "children" in several[0].text.lower()
    assert several[1].text == ""


def test_deepl_options(official: deepl.DeepLClient) -> None:
    text = "The children are\nplaying. It is late."
    options: dict[str, Any] = {"source_lang": "EN", "target_lang": "FR"}
    apart, together, whole = (
        one(official.translate_text(text, split_sentences=mode, **options)).text
        for mode in (deepl.SplitSentences.ALL, deepl.SplitSentences.NO_NEWLINES, deepl.SplitSentences.OFF)
    )
    assert "\n" in apart
    assert "\n" not in together + whole
    plain = official.translate_text(text, **options)
    accepted = official.translate_text(
        text,
        context="A garden in spring.",
        preserve_formatting=True,
        formality=deepl.Formality.PREFER_MORE,
        model_type="prefer_quality_optimized",
        outline_detection=False,
        extra_body_parameters={"enable_beta_languages": True},
        **options,
    )
    assert one(accepted).text == one(plain).text == apart


def test_deepl_html(official: deepl.DeepLClient) -> None:
    found = one(official.translate_text(f"<p>{ENGLISH}</p>", tag_handling="html", target_lang="FR")).text
    assert found.startswith("<p>")
    assert found.endswith("</p>")
    assert "enfants" in found


def test_deepl_xml(official: deepl.DeepLClient) -> None:
    text = f"<doc><title>{ENGLISH}</title><par>Press <key>OK</key> to <b>save</b> the file.</par></doc>"
    options: dict[str, Any] = {"splitting_tags": ["title", "par"], "outline_detection": False, "ignore_tags": "key"}
    found = one(official.translate_text(text, tag_handling="xml", source_lang="EN", target_lang="FR", **options)).text
    assert [found.count(tag) for tag in ("<doc><title>", "</title><par>", "<key>OK</key>", "<b>", "</par></doc>")] == [
        1
    ] * 5
    assert "enfants" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_lang": "JA"}, "no model translates"),
        ({"target_lang": "FR", "formality": deepl.Formality.LESS}, "formality"),
        ({"target_lang": "FR", "tag_handling": "xml"}, "not well-formed"),
        ({"target_lang": "FR", "ignore_tags": "x"}, "ignore_tags"),
        ({"target_lang": "FR", "source_lang": "EN", "glossary": "3/5"}, "glossary_id"),
        ({"target_lang": "FR", "custom_instructions": ["Be brief."]}, "custom_instructions"),
    ],
)
def test_deepl_reads_refusals(official: deepl.DeepLClient, options: dict[str, Any], message: str) -> None:
    with pytest.raises(deepl.DeepLException, match=message) as caught:
        official.translate_text(f"{ENGLISH} <3", **options)
    assert caught.value.http_status_code == 400


def test_deepl_glossaries(official: deepl.DeepLClient) -> None:
    terms = {"garden": "potager", "children": "gamins"}
    glossary = official.create_glossary("Outdoors", "EN", "FR", terms)
    assert (glossary.ready, glossary.entry_count, glossary.source_lang, glossary.target_lang) == (True, 2, "EN", "FR")
    assert glossary.creation_time <= datetime.now(UTC)
    found = official.translate_text_with_glossary(ENGLISH, glossary)
    assert "gamins" in one(found).text
    assert "potager" in one(found).text
    assert official.get_glossary(glossary.glossary_id).name == "Outdoors"
    assert official.get_glossary_entries(glossary) == terms
    assert glossary.glossary_id in [each.glossary_id for each in official.list_glossaries()]
    official.delete_glossary(glossary)
    with pytest.raises(deepl.GlossaryNotFoundException, match="no such glossary"):
        official.get_glossary_entries(glossary)
    with pytest.raises(deepl.DeepLException, match="no such glossary"):
        official.translate_text(ENGLISH, source_lang="EN", target_lang="FR", glossary=glossary)
    pairs = {(each.source_lang, each.target_lang) for each in official.get_glossary_languages()}
    assert {("en", "fr"), ("fr", "de")} <= pairs


def test_deepl_glossaries_of_several_languages(official: deepl.DeepLClient) -> None:
    dictionary = MultilingualGlossaryDictionaryEntries
    there, back = dictionary("EN", "FR", {"garden": "potager"}), dictionary("FR", "EN-GB", {"jardin": "backyard"})
    glossary = official.create_multilingual_glossary("Both ways", [there, back])
    found = one(official.translate_text(FRENCH, source_lang="FR", target_lang="EN-GB", glossary=glossary))
    assert "backyard" in found.text
    more = official.update_multilingual_glossary_dictionary(glossary, dictionary("EN", "FR", {"children": "gamins"}))
    assert [each.entry_count for each in more.dictionaries] == [2, 1]
    official.replace_multilingual_glossary_dictionary(glossary, dictionary("EN", "FR", {"play": "jouer"}))
    (written,) = official.get_multilingual_glossary_entries(glossary, "EN", "FR").dictionaries
    assert str(written.entries) == "play\tjouer"  # the client hands on the text that it is typed as a dictionary
    official.delete_multilingual_glossary_dictionary(glossary, source_lang="EN", target_lang="FR")
    renamed = official.update_multilingual_glossary_name(glossary, "One way")
    assert (renamed.name, [each.source_lang for each in renamed.dictionaries]) == ("One way", ["FR"])
    assert renamed.glossary_id in [each.glossary_id for each in official.list_multilingual_glossaries()]
    official.delete_multilingual_glossary(glossary)
    with pytest.raises(deepl.GlossaryNotFoundException):
        official.get_multilingual_glossary(glossary.glossary_id)


def test_deepl_lists(official: deepl.DeepLClient) -> None:
    assert [(each.code, each.name) for each in official.get_source_languages()] == [
        ("DE", "German"),
        ("EN", "English"),
        ("FR", "French"),
    ]
    targets = official.get_target_languages()
    assert [each.code for each in targets] == ["DE", "EN-GB", "EN-US", "FR"]
    assert not any(each.supports_formality for each in targets)


def test_deepl_usage(official: deepl.DeepLClient) -> None:
    before = official.get_usage().character.count
    official.translate_text(ENGLISH, target_lang="FR")
    usage = official.get_usage()
    assert before is not None
    assert usage.character.count == before + len(ENGLISH)
    assert not usage.any_limit_reached


def test_deepl_keys_and_rates(tokenizer: Tokenizer, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepl.http_client, "max_network_retries", 0)
    key, file = keys
    with guarded(tokenizer, keys_file=file, rate_limit="2/day") as url:
        with pytest.raises(deepl.AuthorizationException, match="unauthorized"):
            deepl.DeepLClient("wrong", server_url=url).translate_text(ENGLISH, target_lang="FR")
        client = deepl.DeepLClient(key, server_url=url)
        assert one(client.translate_text("the cat", target_lang="FR")).text == "the cat"
        assert client.get_usage().character.count == 7
        with pytest.raises(deepl.TooManyRequestsException, match="rate_limited"):
            client.get_usage()


def test_libretranslatepy(server: Server) -> None:
    client = LibreTranslateAPI(server.url)
    assert "enfants" in client.translate(ENGLISH, "en", "fr")
    assert "children" in client.translate(FRENCH, "auto", "en").lower()
    assert client.translate("", "en", "fr") == ""
    best, *_ = client.detect(FRENCH)
    assert best["language"] == "fr"
    assert best["confidence"] > 90
    targets = {each["code"]: sorted(each["targets"]) for each in client.languages()}
    assert targets == {code: ["de", "en", "fr"] for code in ("de", "en", "fr")}
    assert client.translate(FRENCH, "fr", "fr") == FRENCH


def test_libretranslatepy_reads_refusals(tokenizer: Tokenizer, keys: tuple[str, str]) -> None:
    key, file = keys
    with guarded(tokenizer, keys_file=file) as url:
        client = LibreTranslateAPI(url, api_key=key)
        assert client.translate("the cat", "en", "fr") == "the cat"
        assert len(client.languages()) == 2
        for language, status, user in (("xx", 400, client), ("fr", 403, LibreTranslateAPI(url))):
            with pytest.raises(urllib.error.HTTPError) as caught:
                user.translate("the cat", "en", language)
            with caught.value as answer:
                assert set(json.loads(answer.read())) == {"error"}
            assert caught.value.code == status


def test_deep_translator_as_a_client_of_libretranslate(server: Server) -> None:
    client = LibreTranslator(source="en", target="fr", api_key="any", custom_url=f"{server.url}/")
    assert "enfants" in client.translate(ENGLISH)
    assert len(client.translate_batch([ENGLISH, "Good morning."])) == 2


def test_deep_translator_as_a_client_of_deepl(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(constants.BASE_URLS, "DEEPL_FREE", server.url + "/{version}/")
    client = DeeplTranslator(source="en", target="fr", api_key="any")
    assert "enfants" in client.translate(ENGLISH)
    assert len(client.translate_batch([ENGLISH, "Good morning."])) == 2


def test_deep_translator_reads_refusals(
    tokenizer: Tokenizer, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, file = keys
    with guarded(tokenizer, keys_file=file) as url:
        monkeypatch.setitem(constants.BASE_URLS, "DEEPL_FREE", url + "/{version}/")
        for client in (LibreTranslator, DeeplTranslator):
            options = {"custom_url": f"{url}/"} if client is LibreTranslator else {}
            assert client("en", "fr", api_key=key, **options).translate("the cat") == "the cat"
            with pytest.raises(AuthorizationException):
                client("en", "fr", api_key="wrong", **options).translate("the cat")
            with pytest.raises(ServerException):
                client("en", "de", api_key=key, **options).translate("the cat")


@pytest.mark.parametrize("call", POINTED)
def test_clients_are_pointed_here_as_the_readme_says(
    tokenizer: Tokenizer, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(constants.BASE_URLS, "LIBRE_FREE", "http://127.0.0.1:1/")
    names = {"deepl": deepl, "key": "any", "LibreTranslateAPI": LibreTranslateAPI, "LibreTranslator": LibreTranslator}
    with guarded(tokenizer) as url:
        client = eval(call.replace("http://127.0.0.1:3000", url), names)
        match client:
            case deepl.Translator():
                assert one(client.translate_text("the cat", target_lang="FR")).text == "the cat"
            case LibreTranslateAPI():
                assert client.translate("the cat", "en", "fr") == "the cat"
            case _:
                assert client.translate("the cat") == "the cat"


def test_the_readme_points_every_client() -> None:
    assert len(POINTED) == 3


def test_texts_in_query_strings_are_not_logged(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = "Quuxberg"
    monkeypatch.setitem(constants.BASE_URLS, "DEEPL_FREE", server.url + "/{version}/")
    DeeplTranslator("en", "fr", api_key="any").translate(f"{marker} is far away.")
    LibreTranslator("en", "fr", api_key="any", custom_url=f"{server.url}/").translate(f"{marker} is far away.")
    assert marker not in server.log.read_text()
