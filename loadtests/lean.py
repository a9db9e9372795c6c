"""An HTTP client that takes little of the processor that it shares with the server it measures."""

import asyncio
import json
import time
from collections import deque
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"
RESTED = 1.0
"""Seconds without a request after which a server may close a connection at the moment of the next one."""


class Answer(NamedTuple):
    """Times are in seconds."""

    status: int
    """0: the connection was lost."""
    took: float
    """From when the request was due."""
    late: float
    """By which it was sent after it was due."""
    retry_after: str = ""
    body: str = ""


class Connection(asyncio.Protocol):
    """Keep-alive; one request at a time, whose whole answer goes to the client."""

    def __init__(self, client: "Client") -> None:
        self.client = client
        self.received = b""
        self.expected = 0
        self.exchange: Exchange | None = None
        self.idle_since: float | None = None
        self.rested = False
        """Whether it was idle for so long before this request that the server may have been closing it."""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.expected:
            head, end, _ = self.received.partition(HEAD_END)
            if end:
                self.expected = len(head) + len(end) + int(header(head, b"content-length") or 0)
        if self.expected and len(self.received) >= self.expected:
            exchange, answer = self.exchange, self.received
            self.exchange, self.received, self.expected = None, b"", 0
            self.idle_since = time.perf_counter()
            self.client.idle.append(self)
            if exchange:
                exchange.finish(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """A request that met the end of a rested connection is sent again; any other was lost by the server."""
        if self.exchange is None:
            if self in self.client.idle:
                self.client.idle.remove(self)
        elif self.rested and not self.received:
            self.client.open(self.exchange)
        else:
            self.exchange.fail()

    def send(self, exchange: "Exchange") -> None:
        self.exchange = exchange
        exchange.sent = time.perf_counter()
        self.rested = self.idle_since is not None and exchange.sent - self.idle_since >= RESTED
        self.transport.write(exchange.request)


class Exchange:
    """A request on its way."""

    def __init__(self, request: bytes, due: float) -> None:
        self.request, self.due = request, due
        self.sent = due
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def finish(self, received: bytes) -> None:
        took = time.perf_counter() - self.due
        head, _, body = received.partition(HEAD_END)
        status = int(head.split(b" ", 2)[1])
        retry = header(head, b"retry-after") if status in (429, 503) else b""
        self.future.set_result(Answer(status, took, self.sent - self.due, retry.decode(), body.decode()))

    def fail(self) -> None:
        if not self.future.done():
            self.future.set_result(Answer(0, time.perf_counter() - self.due, self.sent - self.due))


class Client:
    """As many connections as there are requests under way; the one used last is used first."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.idle: deque[Connection] = deque()
        self.opening: set[asyncio.Task[None]] = set()

    def request(self, path: str, body: Any) -> bytes:
        """A POST of JSON."""
        content = json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", f"Host: {self.host}:{self.port}", "Content-Type: application/json"]
        return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content

    def ask(self, request: bytes, due: float) -> "asyncio.Future[Answer]":
        """Send it now; it was ``due`` at that ``time.perf_counter()``."""
        exchange = Exchange(request, due)
        if self.idle:
            self.idle.pop().send(exchange)
        else:
            self.open(exchange)
        return exchange.future

    def open(self, exchange: Exchange) -> None:
        task = asyncio.get_running_loop().create_task(self._open(exchange))
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def _open(self, exchange: Exchange) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        except OSError:
            exchange.fail()
        else:
            connection.send(exchange)

    def close(self) -> None:
        for connection in self.idle:
            connection.transport.close()


def header(head: bytes, name: bytes) -> bytes:
    """Value of a header, whose name is in lower case; empty where there is none."""
    _, found, rest = head.lower().partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else b""
