import json
from typing import Any, Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client import AttentiveError, Client, documents
from service.client.documents import LEAST_CHARS, PIECE_CHARS, cut


@given(st.text(st.sampled_from('ab .!\n\r\u2028"é'), max_size=300), st.integers(1, 40))
def test_pieces_are_the_text_and_not_too_long(text: str, longest: int) -> None:
    pieces = [*cut(text, longest)]
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= longest for piece in pieces) or pieces == [""]


@pytest.mark.parametrize(
    ("text", "longest", "pieces"),
    [
        ("ab\ncd\nef", 7, ["ab\ncd\n", "ef"]),
        ("ab\r\ncd. ef\r\n", 10, ["ab\r\n", "cd. ef\r\n"]),
        ("Ab cd. Ef gh ij", 11, ["Ab cd. ", "Ef gh ij"]),
        ('"Ab." "Cd." ef gh', 13, ['"Ab." "Cd." ', "ef gh"]),
        ("ab cd  ef", 8, ["ab cd  ", "ef"]),
        ("日本。日本", 4, ["日本。", "日本"]),
        ("abcdef", 4, ["abcd", "ef"]),
        ("abcd", 4, ["abcd"]),
    ],
)
def test_where_a_text_is_cut(text: str, longest: int, pieces: list[str]) -> None:
    assert [*cut(text, longest)] == pieces


def client(asked: list[dict[str, Any]], source: str = "en", largest: int = 10**9) -> Client:
    """Of a server that shouts, and says which language it would have detected."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        asked.append(body)
        text = body["text"]
        if len(text) > largest:
            error = {"code": "too_large", "message": "too large", "field": "text", "request_id": "r"}
            return httpx.Response(413, json={"error": error})
        span = {"text": text, "start": 0, "end": len(text)}
        sentences = [{"source": span, "target": span, "score": 0}] if text.strip() else []
        found = {"text": text.upper(), "source": body.get("source", source), "target": body["target"], "score": 0}
        found |= {"truncated": False, "warnings": [], "alternatives": [], "sentences": sentences}
        return httpx.Response(200, json={"model": "loud", "translations": [found]})

    return Client(transport=httpx.MockTransport(answer))


def translate(connected: Client, text: str, **options: object) -> str:
    found = [*documents.translate(connected, text, "fr", options)]  # type: ignore[arg-type]
    assert "".join(piece for piece, _ in found) == text
    return "".join(reply.translations[0].text for _, reply in found)


@pytest.mark.parametrize("length", [0, 1, PIECE_CHARS - 1, PIECE_CHARS, PIECE_CHARS + 1, 5 * PIECE_CHARS])
def test_a_text_of_any_length_comes_back_in_order(length: int) -> None:
    text = "".join(f"Line {number}.\r\n\n" for number in range(length // 10 + 1))[:length]
    asked: list[dict[str, Any]] = []
    assert translate(client(asked), text) == text.upper()
    assert len(asked) >= max(1, -(-length // PIECE_CHARS))


def test_what_is_too_much_for_the_server_goes_in_smaller_pieces() -> None:
    text = "".join(f"Line {number}.\n" for number in range(300))
    asked: list[dict[str, Any]] = []
    assert translate(client(asked, largest=500), text) == text.upper()
    assert len(asked) < 30


def test_a_server_that_takes_nothing_is_not_asked_for_ever() -> None:
    asked: list[dict[str, Any]] = []
    with pytest.raises(AttentiveError, match="too large"):
        translate(client(asked, largest=LEAST_CHARS // 10), "x" * PIECE_CHARS)
    assert len(asked) < 20


def test_a_document_has_one_language_that_of_its_first_sentences() -> None:
    asked: list[dict[str, Any]] = []
    text = "\n" * PIECE_CHARS + ("ab. " * PIECE_CHARS)
    translate(client(asked), text)
    assert [body.get("source") for body in asked] == [None, None, "en", "en", "en"]


def test_a_text_in_the_target_language_fixes_no_language() -> None:
    asked: list[dict[str, Any]] = []
    translate(client(asked, source="fr"), "ab. " * PIECE_CHARS)
    assert {body.get("source") for body in asked} == {None}


def test_a_language_that_is_given_stays() -> None:
    asked: list[dict[str, Any]] = []
    translate(client(asked, source="de"), "ab. " * PIECE_CHARS, source="en", beam_size=2)
    assert {(body["source"], body["beam_size"]) for body in asked} == {("en", 2)}


@pytest.mark.parametrize("format_name", ["html", "xml"])
def test_a_page_stays_whole(format_name: Literal["html", "xml"]) -> None:
    asked: list[dict[str, Any]] = []
    page = "<p>" * PIECE_CHARS
    assert translate(client(asked), page, format=format_name) == page.upper()
    assert len(asked) == 1
    with pytest.raises(AttentiveError, match="too large"):
        translate(client(asked, largest=100), page, format=format_name)
