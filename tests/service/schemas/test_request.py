from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service.api.deepl import DeepLQuery
from service.api.libretranslate import LibreTranslateQuery
from service.schemas.request import TranslateRequest
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, started

FINE = {"text": "the cat", "source": "en", "target": "fr"}
ONE = [
    {"text": [1]},
    {"text": ["a", None]},
    {"glossary": {"cat": 1}},
    {"glossary": {"cat": " "}},
    {"typo": 1},
    {"text": [1], "glossary": {"cat": 1}, "typo": 1},
]


def many(wrong: dict[str, Any]) -> dict[str, Any]:
    """The same with a thousand wrong values in place of each."""
    more: dict[str, Any] = {}
    for name, value in wrong.items():
        if isinstance(value, list):
            more[name] = value + value[-1:] * 999
        elif isinstance(value, dict):
            more[name] = value | {f"cat{number}": value["cat"] for number in range(999)}
        else:
            more |= {name: value} | {f"typo{number}": value for number in range(999)}
    return more


def count(schema: type[BaseModel], body: dict[str, Any]) -> int:
    """Errors, of which a union has one for each of its types."""
    with pytest.raises(ValidationError) as caught:
        schema.model_validate(body)
    return caught.value.error_count()


@pytest.mark.parametrize("wrong", ONE)
def test_much_that_is_wrong_makes_no_more_errors_than_one(wrong: dict[str, Any]) -> None:
    assert count(TranslateRequest, FINE | many(wrong)) == count(TranslateRequest, FINE | wrong)


@pytest.mark.parametrize(
    ("schema", "fine", "name"),
    [
        (DeepLQuery, {"target_lang": "FR"}, "text"),
        (LibreTranslateQuery, {"source": "en", "target": "fr"}, "q"),
    ],
)
def test_nor_does_it_in_a_dialect(schema: type[BaseModel], fine: dict[str, Any], name: str) -> None:
    assert count(schema, fine | {name: [1] * 1000}) == count(schema, fine | {name: [1]})


@pytest.mark.parametrize("wrong", ONE)
def test_it_is_answered_like_one(tokenizer: Tokenizer, wrong: dict[str, Any]) -> None:
    client = Client(started([model(tokenizer, EchoEngine())]))
    for path in ("/v1/translate", "/v1/translate/stream"):
        one, more = (answer(client, path, FINE | body) for body in (wrong, many(wrong)))
        assert one == more
        assert one["code"] == "invalid_request"


def answer(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    error: dict[str, Any] = client.request("POST", path, json=body).json()["error"]
    return error | {"request_id": None}
