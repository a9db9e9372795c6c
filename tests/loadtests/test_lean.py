import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from loadtests import lean
from loadtests.lean import Answer, Client, header

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def ask(handle: Handle, count: int = 1, late: float = 0.0) -> tuple[list[Answer], list[bytes]]:
    """Answers to successive requests, and what a server that handles a connection so has received."""
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def read() -> bytes:
            head = await reader.readuntil(b"\r\n\r\n")
            received.append(head + await reader.readexactly(int(header(head, b"content-length"))))
            return received[-1]

        try:
            await handle_with(read, writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    handle_with: Callable[..., Awaitable[None]] = handle

    async def scenario() -> list[Answer]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            request = client.request("/path", {"text": "é"})
            answers = []
            for _ in range(count):
                answers.append(await asyncio.wait_for(client.ask(request, time.perf_counter() - late), 30))
                await asyncio.sleep(0.01)
            client.close()
            return answers

    return asyncio.run(scenario()), received


async def keep_alive(read, writer) -> None:
    while True:
        await read()
        writer.write(OK)


def test_a_request_and_its_answer():
    answers, received = ask(keep_alive, count=3, late=0.5)
    assert [(answer.status, answer.body, answer.retry_after) for answer in answers] == [(200, "hello", "")] * 3
    assert all(answer.took >= answer.late >= 0.5 for answer in answers)
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /path HTTP/1.1\r\n")
    assert body == b'{"text": "\\u00e9"}'
    assert received == received[:1] * 3


def test_an_answer_in_pieces():
    async def slowly(read, writer) -> None:
        await read()
        for byte in OK:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    answers, _ = ask(slowly)
    assert (answers[0].status, answers[0].body) == (200, "hello")


def test_when_to_come_back():
    async def refuse(read, writer) -> None:
        await read()
        writer.write(b"HTTP/1.1 429 Too Many\r\nretry-after: 7\r\nContent-Length: 0\r\n\r\n")

    answers, _ = ask(refuse)
    assert (answers[0].status, answers[0].retry_after) == (429, "7")


def test_a_connection_that_is_lost_is_an_answer_too():
    async def break_off(read, writer) -> None:
        await read()
        writer.write(OK[:-1])

    async def never(read, writer) -> None:
        await read()

    for handle in (break_off, never):
        answers, received = ask(handle)
        assert answers[0].status == 0
        assert len(received) == 1


@pytest.mark.parametrize(("rested", "statuses", "requests"), [(0.0, [200, 200], 3), (1000.0, [200, 0], 2)])
def test_only_a_request_on_a_rested_connection_is_sent_again(monkeypatch, rested, statuses, requests):
    """A server may close a connection that has been idle; one that was just in use breaks with its worker."""
    monkeypatch.setattr(lean, "RESTED", rested)
    connections = 0

    async def close_after_one(read, writer) -> None:
        nonlocal connections
        connections += 1
        await read()
        writer.write(OK)
        if connections == 1:
            await read()  # and no answer, as if it had closed just before

    answers, received = ask(close_after_one, count=2)
    assert [answer.status for answer in answers] == statuses
    assert (connections, len(received)) == (requests - 1, requests)


def test_nobody_there():
    async def scenario() -> Answer:
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}")
        return await asyncio.wait_for(client.ask(client.request("/", {}), time.perf_counter()), 30)

    assert asyncio.run(scenario()).status == 0
