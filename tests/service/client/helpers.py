"""Servers for a client, and both clients behind one function."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from service.client import AsyncClient, Client


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """The address at which ``app`` answers until the end of the block, from a thread of its own."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    ready = threading.Event()
    startup = server.startup

    async def tell(*args: Any, **options: Any) -> None:
        await startup(*args, **options)
        ready.set()

    server.startup = tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(30)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


class Scripted(httpx.MockTransport):
    """Answers with the replies it was given, one after the other; ``requests`` are those it was asked."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        super().__init__(self.answer)
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)


Ask = Callable[..., Any]
"""``ask(url, "translate", "a", "fr", **options)``: what a client's method returns; of a stream, the list of its events.
What else the client is to be made with is in ``client``.
"""


def ask_sync(url: str, method: str, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
    with Client(url, **client or {}) as connected:
        result = getattr(connected, method)(*args, **options)
        return list(result) if method == "stream" else result


def ask_async(url: str, method: str, *args: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
    async def work() -> Any:
        async with AsyncClient(url, **client or {}) as connected:
            result = getattr(connected, method)(*args, **options)
            return [event async for event in result] if method == "stream" else await result

    return asyncio.run(work())
