"""The two clients, one that waits and one for asyncio. All they know of the server is in :mod:`.wire`."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from . import wire
from .failure import connection
from .replies import Detection, LanguageInfo, ModelInfo, Translation

T = TypeVar("T")


def _settings(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    limits = httpx.Timeout(timeout, connect=min(timeout, wire.CONNECT_S))
    return {"base_url": url, "headers": wire.authorization(api_key), "timeout": limits}


class Client:
    """Translations from the server at ``url``, over connections that are kept: use it in ``with``, or close it.

    ``timeout`` is in seconds, for each wait. A server that is too busy is asked up to ``retries`` times again, when it
    says. Whatever goes wrong is an :class:`AttentiveError`.
    """

    def __init__(
        self,
        url: str = wire.DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout: float = wire.TIMEOUT_S,
        retries: int = wire.RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self.retries = retries
        with connection(url):
            self._http = httpx.Client(**_settings(url, api_key, timeout), transport=transport)

    @overload
    def translate(self, text: str, target: str, **options: Unpack[wire.Options]) -> Translation: ...
    @overload
    def translate(self, text: list[str], target: str, **options: Unpack[wire.Options]) -> list[Translation]: ...
    def translate(
        self, text: str | list[str], target: str, **options: Unpack[wire.Options]
    ) -> Translation | list[Translation]:
        """One translation for a text, a list in the same order for a list."""
        return wire.unlisted(text, self.ask(wire.translate(text, target, options)))

    def stream(
        self, text: str | list[str], target: str, **options: Unpack[wire.Options]
    ) -> Generator[wire.Event, None, None]:
        """Sentences in order as they are finished, and each text after its last sentence.

        Closing the generator tells the server to stop.
        """
        response = self._send(wire.stream(text, target, options), stream=True)
        with connection(self.url), closing(response):
            events = wire.EventReader(response)
            for line in response.iter_lines():
                yield from events.feed(line)
            events.close()

    def models(self) -> list[ModelInfo]:
        return self.ask(wire.models()).models

    def languages(self) -> list[LanguageInfo]:
        return self.ask(wire.languages()).languages

    def detect(self, text: str) -> list[Detection]:
        """Languages that ``text`` may be in, the likeliest first."""
        return self.ask(wire.detect(text))

    def ask(self, call: wire.Call[T]) -> T:
        """The whole reply to a call from :mod:`.wire`."""
        return call.result(self._send(call))

    def _send(self, call: wire.Call[T], *, stream: bool = False) -> httpx.Response:
        with connection(self.url):
            request = call.request(self._http)
            left = self.retries
            while True:
                response = self._http.send(request, stream=stream)
                if response.status_code != httpx.codes.OK:
                    response.read()
                pause = wire.pause(response, left)
                if pause is None:
                    return response
                time.sleep(pause)
                left -= 1

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio: use it in ``async with``, or ``await`` its :meth:`close`."""

    def __init__(
        self,
        url: str = wire.DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout: float = wire.TIMEOUT_S,
        retries: int = wire.RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self.retries = retries
        with connection(url):
            self._http = httpx.AsyncClient(**_settings(url, api_key, timeout), transport=transport)

    @overload
    async def translate(self, text: str, target: str, **options: Unpack[wire.Options]) -> Translation: ...
    @overload
    async def translate(self, text: list[str], target: str, **options: Unpack[wire.Options]) -> list[Translation]: ...
    async def translate(
        self, text: str | list[str], target: str, **options: Unpack[wire.Options]
    ) -> Translation | list[Translation]:
        """One translation for a text, a list in the same order for a list."""
        return wire.unlisted(text, await self.ask(wire.translate(text, target, options)))

    async def stream(
        self, text: str | list[str], target: str, **options: Unpack[wire.Options]
    ) -> AsyncGenerator[wire.Event, None]:
        """Sentences in order as they are finished, and each text after its last sentence.

        Closing the generator tells the server to stop: leave it early only through ``contextlib.aclosing``.
        """
        response = await self._send(wire.stream(text, target, options), stream=True)
        with connection(self.url):
            async with aclosing(response):
                events = wire.EventReader(response)
                async for line in response.aiter_lines():
                    for event in events.feed(line):
                        yield event
                events.close()

    async def models(self) -> list[ModelInfo]:
        return (await self.ask(wire.models())).models

    async def languages(self) -> list[LanguageInfo]:
        return (await self.ask(wire.languages())).languages

    async def detect(self, text: str) -> list[Detection]:
        """Languages that ``text`` may be in, the likeliest first."""
        return await self.ask(wire.detect(text))

    async def ask(self, call: wire.Call[T]) -> T:
        """The whole reply to a call from :mod:`.wire`."""
        return call.result(await self._send(call))

    async def _send(self, call: wire.Call[T], *, stream: bool = False) -> httpx.Response:
        with connection(self.url):
            request = call.request(self._http)
            left = self.retries
            while True:
                response = await self._http.send(request, stream=stream)
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                pause = wire.pause(response, left)
                if pause is None:
                    return response
                await asyncio.sleep(pause)
                left -= 1

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
