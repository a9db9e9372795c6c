"""Requests and replies as they travel: what both clients share. Nothing is sent here."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypedDict, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from .failure import AttentiveError, refusal, retry_after, unexpected
from .replies import Detection, ErrorReply, LanguagesReply, ModelsReply, Reply, Sentence, TranslateReply, Translation

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:3000"
TIMEOUT_S = 70.0
"""A little longer than the server gives itself."""
CONNECT_S = 10.0
RETRIES = 3
LONGEST_WAIT_S = 30.0
"""A server that asks to wait longer than this is not asked again."""
BUSY = (429, 503)


class XmlOptions(TypedDict, total=False):
    """What the elements are for, by name, as in the server's ``XmlOptions``."""

    ignore_tags: list[str]
    splitting_tags: list[str]
    non_splitting_tags: list[str]
    outline_detection: bool


class Options(TypedDict, total=False):
    """What a request may say besides its text and its target language, as in the server's ``TranslateRequest``."""

    source: str | None
    model: str | None
    beam_size: int
    alternatives: int
    attention: Literal["none", "alignment", "weights"]
    tokens: Literal["words", "subwords"]
    length_penalty: float
    no_repeat_ngram_size: int
    min_length: int
    max_length: int | None
    target_prefix: str | None
    split_sentences: Literal["default", "newlines", "punctuation", "none"]
    timeout_ms: int | None
    format: Literal["text", "html", "xml"]
    xml: XmlOptions | None
    glossary: dict[str, str] | None


class SentenceEvent(Reply):
    """A finished sentence of the text with that ``index`` in the request."""

    index: int
    sentence: Sentence


class TranslationEvent(Reply):
    """The text with that ``index`` is done; all its sentences came before."""

    index: int
    translation: Translation


Event = SentenceEvent | TranslationEvent


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its reply is read."""

    path: str
    read: Callable[[bytes], T]
    body: Any = None

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        if self.body is None:
            return http.build_request("GET", self.path)
        # In ASCII any string can be sent: the server replaces what is no character, and says so.
        content = json.dumps(self.body).encode("ascii")
        return http.build_request("POST", self.path, content=content, headers={"Content-Type": "application/json"})

    def result(self, response: httpx.Response) -> T:
        """Raises :class:`AttentiveError` for whatever is not the reply to this request."""
        if response.status_code != httpx.codes.OK:
            raise refusal(response)
        try:
            return self.read(response.content)
        except ValidationError as error:
            raise unexpected(response) from error


def authorization(api_key: str | None) -> dict[str, str]:
    """The header for a key, none for an empty one; white space around it, as a file's last line break, is none of it.

    Raises :class:`AttentiveError` for what no key has, and does not quote it.
    """
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise AttentiveError("the API key has control characters, or others than those of ASCII", code="invalid_key")
    return {"Authorization": f"Bearer {key}"} if key else {}


def translate(text: str | Sequence[str], target: str, options: Options) -> Call[TranslateReply]:
    return Call("/v1/translate", TranslateReply.model_validate_json, {"text": text, "target": target, **options})


def stream(text: str | Sequence[str], target: str, options: Options) -> Call[bytes]:
    """Its reply is for an :class:`EventReader`."""
    return Call("/v1/translate/stream", bytes, {"text": text, "target": target, **options})


def models() -> Call[ModelsReply]:
    return Call("/v1/models", ModelsReply.model_validate_json)


def languages() -> Call[LanguagesReply]:
    return Call("/v1/languages", LanguagesReply.model_validate_json)


def detect(text: str) -> Call[list[Detection]]:
    return Call("/detect", TypeAdapter(list[Detection]).validate_json, {"q": text})


def unlisted(text: str | list[str], reply: TranslateReply) -> Translation | list[Translation]:
    """One translation for one text, a list for a list."""
    return reply.translations[0] if isinstance(text, str) else reply.translations


def pause(response: httpx.Response, left: int) -> float | None:
    """Seconds until the request is sent again, ``left`` more times at most; None: this reply counts."""
    if response.status_code not in BUSY or left <= 0:
        return None
    wait = retry_after(response)
    return wait if wait is not None and wait <= LONGEST_WAIT_S else None


class EventReader:
    """Events of a reply that comes line by line. Raises :class:`AttentiveError` for one that has none."""

    def __init__(self, response: httpx.Response) -> None:
        if response.status_code != httpx.codes.OK:
            raise refusal(response)
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise unexpected(response)
        self.response = response
        self.name = ""
        self.data = ""
        self.done = False

    def feed(self, line: str) -> Iterator[Event]:
        """The event that ``line`` completes, if it does. Raises :class:`AttentiveError` for one that tells of an error.

        The server writes the data of an event as JSON in one line.
        """
        field, _, value = line.partition(": ")
        if field == "event":
            self.name = value
        elif field == "data":
            self.data = value
        elif not line and self.data:
            try:
                yield from self._event()
            except ValidationError as error:
                raise unexpected(self.response) from error
            self.name = self.data = ""

    def close(self) -> None:
        """To be called at the end of the reply. Raises :class:`AttentiveError` where it came too early."""
        if not self.done:
            raise AttentiveError("the connection broke in the middle of the translation", code="interrupted")

    def _event(self) -> Iterator[Event]:
        match self.name:
            case "sentence":
                yield SentenceEvent.model_validate_json(self.data)
            case "translation":
                yield TranslationEvent.model_validate_json(self.data)
            case "error":
                detail = ErrorReply.model_validate_json(self.data).error
                raise AttentiveError(detail.message, code=detail.code, field=detail.field, request_id=detail.request_id)
            case "done":
                self.done = True
