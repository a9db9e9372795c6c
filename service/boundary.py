"""The outermost layer of every request: its id, the limits on its body, its metrics, and the last catch for errors."""

import asyncio
import re
import time
from collections.abc import Iterable
from random import getrandbits

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors, metrics
from service.logs import Record, recording
from service.settings import Settings
from service.tracing import Tracing

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
"""What is taken over from the caller's X-Request-ID; anything else is replaced."""
FOREIGN = frozenset({"/livez", "/readyz", "/translate_batch"})
"""BentoML's own routes, which do not tell their names."""
CLIENT_GONE = 499
"""Nobody reads this status; it is what the metrics count."""


class Boundary:
    """ASGI middleware. Where it is there twice, around BentoML and within, only the outer one acts."""

    def __init__(self, app: ASGIApp, settings: Settings, tracing: Tracing | None = None) -> None:
        self.app = app
        self.settings = settings
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "request_id" in scope.setdefault("state", {}):
            return await self.app(scope, receive, send)
        request_id = scope["state"]["request_id"] = identify(scope["headers"])
        record, status = Record(request_id), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            else:
                record.bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            if not scope["path"].isprintable():
                # With a line break at its end it is still a route's for Starlette, but not for who guards the route.
                raise errors.NotFound("a path has no control characters")
            body = await _read(scope, receive, self.settings)
            record.bytes_in = len(body)
            with recording(record):
                await self.app(scope, _replay(body, receive), send_with_id)
        except ClientDisconnect:
            await Response(status_code=CLIENT_GONE)(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - the last catch
            failure = errors.from_exception(error)
            if isinstance(failure, errors.Internal):
                errors.log_unexpected(error, request_id)
            if not status:
                metrics.REFUSED.labels(failure.code).inc()
                answer = errors.response(failure, request_id, scope["path"])
                await answer(scope, receive, send_with_id)
        finally:
            route = _route(scope)
            metrics.REQUESTS.labels(route, str(status)).inc()
            metrics.REQUEST_SECONDS.labels(route).observe(time.perf_counter() - record.start)
            record.answered(scope["method"], route, status)
            if self.tracing is not None:
                self.tracing.trace(record, Headers(scope=scope))
            record.log()


def _route(scope: Scope) -> str:
    """A route's template: of those there is a limited number."""
    found = getattr(scope.get("route"), "path", "")
    return found or (scope["path"] if scope["path"] in FOREIGN else "unmatched")


def identify(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own id, where it is fit to be logged; else a new one."""
    given = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
    return given if REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"


async def _read(scope: Scope, receive: Receive, settings: Settings) -> bytes:
    """The whole body. Raises :class:`service.errors.TooLarge` as soon as it is known to be over the limit, and
    :class:`service.errors.BodyTimeout` where it is not there in time.
    """
    try:
        async with asyncio.timeout(settings.body_timeout_s):
            return await _receive(scope, receive, settings.max_body_bytes)
    except TimeoutError as error:
        raise errors.BodyTimeout(f"a body is sent within {settings.body_timeout_s:g} seconds") from error


async def _receive(scope: Scope, receive: Receive, limit: int) -> bytes:
    too_large = errors.TooLarge(f"a body has at most {limit} bytes")
    announced = Headers(scope=scope).get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise too_large
        more = message.get("more_body", False)
    return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever the server has to tell, as that the client is gone."""
    unread = True

    async def replay() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
