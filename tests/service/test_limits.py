"""Every limit at its edge: the last that is served, the first that is refused."""

import json
from typing import Any

import httpx
import pytest

from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, started

LIMITS = {
    "max_body_bytes": 500,
    "max_texts": 3,
    "max_text_chars": 20,
    "max_beam_size": 4,
    "max_sentences": 4,
    "max_attention_cells": 18,
}


@pytest.fixture
def limited(tokenizer: Tokenizer) -> Client:
    return Client(started([model(tokenizer, EchoEngine())], **LIMITS))


def padded(size: int) -> bytes:
    """A request of that many bytes."""
    return json.dumps({"text": "the cat", "source": "en", "target": "fr"}).encode().ljust(size)


def code(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["field"]


@pytest.mark.parametrize("announced", [True, False])
def test_body_bytes(limited: Client, announced: bool) -> None:
    def send(size: int) -> httpx.Response:
        async def chunks():
            yield padded(size)

        content = padded(size) if announced else chunks()
        headers = {"Content-Type": "application/json"}
        return limited.request("POST", "/v1/translate", content=content, headers=headers)

    assert send(500).status_code == 200
    assert code(send(501)) == (413, "too_large", None)


def test_texts(limited: Client) -> None:
    assert len(limited.translate(text=["the cat"] * 3).json()["translations"]) == 3
    assert code(limited.translate(text=["the cat"] * 4)) == (413, "too_large", "text")


def test_characters_of_a_text_whose_language_is_asked_for(limited: Client) -> None:
    assert limited.request("POST", "/detect", json={"q": "é" * 20}).status_code == 200
    refused = limited.request("POST", "/detect", json={"q": "é" * 21})
    assert (refused.status_code, refused.json()) == (413, {"error": "a text has at most 20 characters"})


@pytest.mark.parametrize("sentence", ["a.", "1."])
def test_sentences(limited: Client, sentence: str) -> None:
    """Of all texts together, and those without anything to translate too."""
    for form, between in (("text", "\n"), ("html", "<p>")):
        pair = between.join([sentence] * 2)
        for texts in ([between.join([pair, pair])], [pair, pair]):
            assert limited.translate(text=texts, format=form).status_code == 200
            answer = limited.translate(text=[*texts, sentence], format=form)
            assert code(answer) == (413, "too_large", "text")


def test_parts_of_a_sentence_that_are_translated_apart_count(limited: Client) -> None:
    assert limited.translate(text="a\U0001f600a\U0001f600a\U0001f600a").status_code == 200
    assert code(limited.translate(text="a\U0001f600a\U0001f600a\U0001f600a\U0001f600a")) == (413, "too_large", "text")


def test_cells_of_all_matrices(limited: Client) -> None:
    """Three words have nine, and those of all texts count together."""
    for texts in (["the cat a", "the cat a"], ["the cat a\nthe cat a"]):
        assert limited.translate(text=texts, attention="weights").status_code == 200
        assert code(limited.translate(text=[*texts, "a"], attention="weights")) == (413, "too_large", "text")
        assert limited.translate(text=[*texts, "a"], attention="alignment").status_code == 200


def test_cells_are_those_of_the_tokens_that_are_asked_for(limited: Client, tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode(["xyzzy"])[0]) ** 2 > 18
    assert limited.translate(text="xyzzy", attention="weights").status_code == 200
    answer = limited.translate(text="xyzzy", attention="weights", tokens="subwords")
    assert code(answer) == (413, "too_large", "text")


def test_cells_that_a_page_needs(limited: Client) -> None:
    assert limited.translate(text="a b c<p>a b c", format="html").status_code == 200
    assert code(limited.translate(text=["a b c<p>a b c", "a"], format="html")) == (413, "too_large", "text")


def test_a_stream_ends_where_there_are_no_cells_left(limited: Client) -> None:
    body = {"text": ["the cat a", "the cat a", "a"], "source": "en", "target": "fr", "attention": "weights"}
    lines = limited.request("POST", "/v1/translate/stream", json=body).text.splitlines()
    events = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert events == ["sentence", "translation"] * 2 + ["error"]
    assert '"code":"too_large"' in lines[-2] + lines[-1]


@pytest.mark.parametrize("letter", ["a", "é", "🙂"])
def test_characters_are_code_points(limited: Client, letter: str) -> None:
    assert limited.translate(text=letter * 20).status_code == 200
    assert code(limited.translate(text=letter * 21)) == (413, "too_large", "text")
    assert code(limited.translate(text=["a", letter * 21])) == (413, "too_large", "text[1]")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"beam_size": 4}, None),
        ({"beam_size": 5}, "beam_size"),
        ({"alternatives": 3}, None),
        ({"alternatives": 4}, "alternatives"),
        ({"beam_size": 4, "alternatives": 3}, None),
    ],
)
def test_beam(limited: Client, options: dict[str, Any], field: str | None) -> None:
    answer = limited.translate(text="the cat", **options)
    if field is None:
        assert answer.status_code == 200
    else:
        assert code(answer) == (422, "invalid_request", field)
