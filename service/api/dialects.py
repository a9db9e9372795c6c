"""What the dialects share: parameters as JSON, as a form or in the query string, codes of languages, descriptions."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import parse_qsl

from fastapi import APIRouter
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service import access, errors
from service.access import Caller
from service.schemas.reply import LanguageInfo, Reply
from service.schemas.request import MAX_BEAM, Strings

M = TypeVar("M", bound="Parameters")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FLAGS = {"0": False, "1": True, "false": False, "true": True}
COUNTS = {str(number): number for number in range(MAX_BEAM)}
WARNINGS = "Those of the native API, as that a translation was cut; only where there are any"
"""What the APIs themselves do not have: their clients pass over it."""
REFUSALS = {
    400: "The request is wrong, or no model has the two languages",
    403: "The key is missing or wrong",
    404: "There is no such glossary, or not for the key",
    408: "The body did not come in time",
    413: "The body, the list or a text is too large",
    429: "Too much at once: see Retry-After",
    503: "Starting or stopping: see Retry-After",
    504: "The deadline passed",
}


class Parameters(BaseModel):
    """What a dialect has and this server does not know is passed over, so that no client breaks over it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    key_name: ClassVar[str]
    """The parameter that has the API key, for clients that send it in no header."""


def _number(value: object) -> object:
    """JSON has one kind of number: 4.0 is an integer to it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Texts = Annotated[str | Strings, Field(description="One text, or a list of them; the reply has the same order")]
Code = Annotated[str, Field(max_length=16, pattern=r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$")]
Flag = Annotated[
    bool,
    BeforeValidator(lambda value: FLAGS.get(value.lower(), value) if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": list(FLAGS)}]}),
]
Alternatives = Annotated[
    int,
    Field(ge=0, lt=MAX_BEAM),
    BeforeValidator(lambda value: COUNTS.get(value, value) if isinstance(value, str) else _number(value)),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_BEAM - 1}, {"enum": list(COUNTS)}]}),
]


async def read(request: Request, model: type[M]) -> tuple[M, Caller]:
    """The parameters of a request, of which those of the body come before those of the query string, and who asks.

    Raises :class:`service.errors.InvalidJSON` for what cannot be read, :class:`service.errors.InvalidRequest` for
    parameters that do not fit ``model``, and what :func:`service.access.check` raises.
    """
    try:
        given = _by_name(_pairs(request.scope["query_string"].decode())) | await _body(request)
    except (ValueError, RecursionError, HTTPException) as error:
        raise errors.InvalidJSON("the request is neither JSON nor a form, or its text is not UTF-8") from error
    key = given.get(model.key_name)
    caller = access.check(request, key if isinstance(key, str) else None)
    try:
        return model.model_validate(given), caller
    except ValidationError as error:
        raise errors.from_exception(error) from error


async def _body(request: Request) -> dict[str, Any]:
    """Raises ``ValueError``, ``RecursionError`` or ``HTTPException`` for what cannot be read."""
    body = await request.body()
    text = body.decode()
    content_type, options = parse_options_header(request.headers.get("content-type"))
    kind = content_type.decode("latin-1")
    if not text:
        return {}
    if kind == URLENCODED:
        return _by_name(_pairs(text))
    if kind == MULTIPART:
        # Python has codecs that take hours; the length of the body has a limit of its own.
        if options.get(b"charset", b"utf-8").lower() != b"utf-8":
            raise ValueError(MULTIPART)
        async with request.form(max_files=0, max_fields=len(body), max_part_size=len(body)) as form:
            return _by_name((name, value) for name, value in form.multi_items() if isinstance(value, str))
    if kind != "application/json" and not kind.endswith("+json"):
        raise ValueError(kind)
    content = json.loads(text)
    if not isinstance(content, dict):
        raise errors.InvalidRequest("the body is not a JSON object")
    return content


def _pairs(text: str) -> list[tuple[str, str]]:
    return parse_qsl(text, keep_blank_values=True, errors="strict")


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What is there more than once becomes a list."""
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def base_language(code: str, languages: Sequence[LanguageInfo]) -> str:
    """The served language that a code stands for: itself, or what comes before its region, as ``en`` for EN-GB."""
    code = code.lower().replace("_", "-")
    return code if code in all_languages(languages) else code.partition("-")[0]


def all_languages(languages: Sequence[LanguageInfo]) -> list[str]:
    """Sources and targets, in alphabetical order."""
    return sorted({code for language in languages for code in (language.code, *language.targets)})


def in_body(model: type[Parameters], **example: Any) -> dict[str, Any]:
    """For the description of a route that :func:`read` reads its parameters for, mostly from the body."""
    schema = model.model_json_schema()
    form = schema | {"properties": {name: _in_form(field) for name, field in schema["properties"].items()}}
    schemas = {"application/json": schema, URLENCODED: form, MULTIPART: form}
    content = {kind: {"schema": described, "example": example} for kind, described in schemas.items()}
    return {"requestBody": {"required": "required" in schema, "content": content}}


def in_query(model: type[Parameters]) -> dict[str, Any]:
    """The same, where they are in the query string."""
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": _in_form(field)}
            for name, field in schema["properties"].items()
        ]
    }


def _in_form(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field without what a form has no way to say: null and the empty list."""
    kept = {name: value for name, value in field.items() if (name, value) != ("default", None)}
    if "anyOf" in field:
        kept["anyOf"] = [
            option | {"minItems": 1} if option.get("type") == "array" else option
            for option in field["anyOf"]
            if option.get("type") != "null"
        ]
    if "enum" in field:
        kept["enum"] = [value for value in field["enum"] if value not in (None, [])]
    return kept


def refusals(model: type[Reply], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the description of a route: its errors, in the shape of its dialect."""
    return {status: {"description": REFUSALS[status], "model": model} for status in statuses}


def get_and_post(
    router: APIRouter, path: str, model: type[Parameters], example: dict[str, Any], **options: Any
) -> Callable[[Endpoint], Endpoint]:
    """A decorator: :func:`read` finds the endpoint's parameters in the query string of a GET, or the body of a POST."""

    def add(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(path, endpoint, methods=["GET"], openapi_extra=in_query(model), **options)
        router.add_api_route(path, endpoint, methods=["POST"], openapi_extra=in_body(model, **example), **options)
        return endpoint

    return add
