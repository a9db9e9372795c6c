"""The error of the client, and where it comes from: the server's refusals, and connections that fail."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from pydantic import TypeAdapter, ValidationError

from .replies import ErrorDetail, ErrorReply, PlainErrorReply

REFUSAL: TypeAdapter[ErrorReply | PlainErrorReply] = TypeAdapter(ErrorReply | PlainErrorReply)


class AttentiveError(Exception):
    """A translation that did not come about.

    ``code`` is the server's, as ``overloaded``, or one of the client's own: ``unreachable`` (no connection),
    ``interrupted`` (it broke, or took longer than ``timeout``), ``unexpected_reply`` (not from a server like this one),
    ``refused`` (by :meth:`Client.detect`, where the server names no code), ``invalid_key`` (it cannot be sent).
    ``status`` is None where no HTTP reply told it, ``retry_after`` counts seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        field: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.field = field
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        named = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.message} [{self.code}]{named}"


class CommandError(Exception):
    """What was typed at the command line cannot be done; the message says why."""


def unexpected(response: httpx.Response) -> AttentiveError:
    return AttentiveError(
        f"{response.url} answered with status {response.status_code}, but not as a translation server does",
        code="unexpected_reply",
        status=response.status_code,
    )


def refusal(response: httpx.Response) -> AttentiveError:
    """The error that a reply with a status other than 200 stands for."""
    try:
        error = REFUSAL.validate_json(response.content).error
    except ValidationError:
        return unexpected(response)
    detail = ErrorDetail(code="refused", message=error) if isinstance(error, str) else error
    return AttentiveError(
        detail.message,
        code=detail.code,
        status=response.status_code,
        field=detail.field,
        request_id=detail.request_id,
        retry_after=retry_after(response),
    )


def retry_after(response: httpx.Response) -> float | None:
    """Seconds the server asks to wait, if it does; it never names a date."""
    with suppress(KeyError, ValueError):
        return max(0.0, float(response.headers["Retry-After"]))
    return None


@contextmanager
def connection(url: str) -> Iterator[None]:
    """Within, what httpx raises for a connection becomes :class:`AttentiveError`."""
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:  # the last for a name like "a..b"
        raise AttentiveError(f"{url} is not the address of a server: {error}", code="unreachable") from error
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise AttentiveError(f"cannot reach {url}: {str(error) or 'no answer'}", code="unreachable") from error
    except httpx.TimeoutException as error:
        raise AttentiveError(f"{url} took too long to answer", code="interrupted") from error
    except httpx.RequestError as error:
        reason = str(error) or type(error).__name__
        raise AttentiveError(f"the connection to {url} broke: {reason}", code="interrupted") from error
