"""What can go wrong, and how it is answered: the one place that knows status codes.

::

    ServiceError
    ├── InvalidJSON         400  invalid_json
    ├── Unauthorized        401  unauthorized         WWW-Authenticate
    ├── NotFound            404  not_found            no such route
    ├── UnknownModel        404  unknown_model
    ├── UnknownDirection    404  unknown_direction
    ├── UnknownGlossary     404  unknown_glossary
    ├── MethodNotAllowed    405  method_not_allowed
    ├── BodyTimeout         408  body_timeout         Connection: close
    ├── TooLarge            413  too_large
    ├── InvalidRequest      422  invalid_request
    ├── RateLimited         429  rate_limited         Retry-After
    ├── Overloaded          429  overloaded           Retry-After
    ├── Internal            500  internal
    ├── Unavailable         503  unavailable          Retry-After
    └── Timeout             504  timeout

Everything else that is raised becomes one of these in :func:`from_exception`.
The routes of DeepL and of LibreTranslate answer in their own shapes: see :func:`response`.
"""

# ruff: noqa: N818 - they are named like their codes

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

logger = logging.getLogger("attentive")

MAX_MESSAGE = 300
"""Code points of a message: it may quote the request, which may be long."""

DEEPL_PREFIXES = ("/v2/", "/v3/")
LIBRETRANSLATE_PATHS = frozenset({"/translate", "/detect", "/languages", "/frontend/settings", "/health"})
DIALECT_STATUS = {"unauthorized": 403, "unknown_model": 400, "unknown_direction": 400, "invalid_request": 400}
"""Where the status that clients of DeepL and LibreTranslate expect is another: both know the same."""


class ServiceError(Exception):
    """A refusal with a status, a code and, where one is at fault, a field of the request."""

    status = 500
    code = "internal"
    retry_after: int | None = None
    """Seconds."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.retry_after = retry_after


class InvalidJSON(ServiceError):
    status, code = 400, "invalid_json"


class Unauthorized(ServiceError):
    status, code = 401, "unauthorized"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class NotFound(ServiceError):
    status, code = 404, "not_found"


class UnknownModel(ServiceError):
    status, code = 404, "unknown_model"


class UnknownDirection(ServiceError):
    status, code = 404, "unknown_direction"


class UnknownGlossary(ServiceError):
    status, code = 404, "unknown_glossary"


class MethodNotAllowed(ServiceError):
    status, code = 405, "method_not_allowed"


class BodyTimeout(ServiceError):
    status, code = 408, "body_timeout"

    def __init__(self, message: str) -> None:
        # What may still come is no request.
        super().__init__(message, headers={"Connection": "close"})


class TooLarge(ServiceError):
    status, code = 413, "too_large"


class InvalidRequest(ServiceError):
    status, code = 422, "invalid_request"


class RateLimited(ServiceError):
    status, code, retry_after = 429, "rate_limited", 1


class Overloaded(ServiceError):
    status, code, retry_after = 429, "overloaded", 1


class Internal(ServiceError):
    status, code = 500, "internal"


class Unavailable(ServiceError):
    status, code, retry_after = 503, "unavailable", 5


class Timeout(ServiceError):
    status, code = 504, "timeout"


def from_exception(error: Exception) -> ServiceError:  # noqa: PLR0911 - a table
    """The refusal that answers ``error``; :class:`Internal` for what nobody foresaw."""
    match error:
        case ServiceError():
            return error
        case RequestValidationError() if isinstance(error.body, bytes) and error.body:
            return InvalidJSON("the body is not JSON sent as application/json")
        case RequestValidationError() | ValidationError():
            return _from_validation(error.errors())
        case HTTPException(status_code=404):
            return NotFound("no such route")
        case HTTPException(status_code=405):
            return MethodNotAllowed("this route does not have that method", headers=error.headers)
        case HTTPException(status_code=400):
            return InvalidJSON("the body is not JSON")
        case TimeoutError():
            return Timeout("the deadline passed before the translation was done")
        case _:
            return Internal("unexpected error; the server's log has it under this request_id")


def _from_validation(problems: Sequence[Any]) -> ServiceError:
    """Name the deepest problem: where a union fails, that is in the branch the caller meant."""
    if any(problem["type"] == "json_invalid" for problem in problems):
        return InvalidJSON("the body is not JSON")
    problem = max(problems, key=lambda found: len(found["loc"]))
    loc = [part for part in problem["loc"] if part != "body"]
    if not loc:
        if problem["type"] == "missing":
            return InvalidJSON("the body is empty")
        return InvalidRequest("the body is not a JSON object")
    # Past the field's name there are indexes into lists, and the names of a union's branches, which say nothing.
    field = str(loc[0]) + "".join(f"[{part}]" for part in loc[1:] if isinstance(part, int))
    return InvalidRequest(f"{field}: {problem['msg']}", field=field)


def body(error: ServiceError, request_id: str | None) -> dict[str, Any]:
    """The error's JSON body, with text that UTF-8 can carry."""
    return {
        "code": error.code,
        "message": _printable(error.message),
        "field": None if error.field is None else _printable(error.field),
        "request_id": request_id,
    }


def response(error: ServiceError, request_id: str, path: str) -> JSONResponse:
    """In the shape that callers of ``path`` know."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    status, content = error.status, body(error, request_id)
    if path.startswith(DEEPL_PREFIXES):
        status = DIALECT_STATUS.get(error.code, status)
        content = {"message": content["message"], "detail": error.code}
    elif path in LIBRETRANSLATE_PATHS:
        status = DIALECT_STATUS.get(error.code, status)
        content = {"error": content["message"]}
    else:
        content = {"error": content}
    return JSONResponse(content, status_code=status, headers=headers)


def log_unexpected(error: Exception, request_id: str) -> None:
    """Log where ``error`` came from. Its message is left out: it may quote the text of the request."""
    trace = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request %s failed: %s\n%s", request_id, type(error).__name__, trace)


def without_input(record: logging.LogRecord) -> bool:
    """A filter for BentoML's log of its native endpoint: a validation error there quotes the request."""
    if record.exc_info and isinstance(record.exc_info[1], ValidationError):
        record.exc_info = None
    return True


def _printable(text: str) -> str:
    return text[:MAX_MESSAGE].encode("utf-8", "replace").decode("utf-8")
