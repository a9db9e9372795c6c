"""The client's types say what the server's schemas say."""

from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter

from service.api.libretranslate import LibreTranslateDetection, LibreTranslateError
from service.client import replies, wire
from service.schemas import reply
from service.schemas.request import TranslateRequest, XmlOptions

TYPES = [found for found in vars(replies).values() if isinstance(found, type) and issubclass(found, BaseModel)] + [
    wire.SentenceEvent,
    wire.TranslationEvent,
]

FOREIGN = {replies.Detection: LibreTranslateDetection, replies.PlainErrorReply: LibreTranslateError}


@pytest.mark.parametrize("ours", [found for found in TYPES if found not in (BaseModel, replies.Reply)])
def test_every_reply_has_the_fields_that_are_sent(ours: type[BaseModel]) -> None:
    theirs: Any = FOREIGN.get(ours) or getattr(reply, ours.__name__)
    assert [*ours.model_fields] == [*theirs.model_fields]
    for name, field in ours.model_fields.items():
        # Of the same names, as the server's `Span` is another class than the client's.
        sent = theirs.model_fields[name].annotation
        sent = list[list[float]] | None if sent == reply.Matrix | None else sent
        assert str(field.annotation).replace(replies.__name__, "") == str(sent).replace(reply.__name__, "")


def test_options_are_those_of_a_request() -> None:
    hints = get_type_hints(wire.Options)
    theirs = TranslateRequest.model_json_schema()["properties"]
    assert set(hints) == set(theirs) - {"text", "target"}
    assert set(get_type_hints(wire.XmlOptions)) == set(XmlOptions.model_fields)
    ours = {name: TypeAdapter(kind).json_schema() for name, kind in hints.items() if name != "xml"}
    assert {name: option.get("enum") for name, option in ours.items()} == {
        name: theirs[name].get("enum") for name in ours
    }
