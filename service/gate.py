"""Which requests are let in, and those that are: how many, until when, and that they end when the server does."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from service import errors, metrics
from service.glossaries import check_terms
from service.schemas.request import TranslateRequest
from service.settings import Settings

START_S = 5.0
"""Seconds that a request waits for a server that is starting: one that follows a dead one is soon there."""


class Gate:
    """Open while ``warm``, and not any more from :meth:`drain` on. ``idle`` is set while no request is inside.

    A request that comes while the server is ``starting`` waits for a moment.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.warm = False
        """There are models, and they have translated something."""
        self.in_flight = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._started = asyncio.Event()
        self._started.set()
        self._draining = False
        self._cut = False
        self._deadlines: set[asyncio.Timeout] = set()

    @property
    def ready(self) -> bool:
        return self.warm and not self._draining

    @asynccontextmanager
    async def starting(self) -> AsyncGenerator[None, None]:
        self._started.clear()
        try:
            yield
        finally:
            self._started.set()

    def drain(self) -> None:
        """Refuse new work; what has begun goes on."""
        self._draining = True

    def cut(self) -> None:
        """Refuse what is under way."""
        self._cut = True
        now = asyncio.get_running_loop().time()
        for deadline in self._deadlines:
            deadline.reschedule(now)

    def check_running(self) -> None:
        """Raises :class:`service.errors.Unavailable` while the server is stopping."""
        if self._draining:
            raise errors.Unavailable("the server is stopping")

    @asynccontextmanager
    async def inside(self, request: TranslateRequest) -> AsyncGenerator[float, None]:
        """Let a request in and count it; its deadline, a ``time.monotonic()``.

        Raises :class:`service.errors.Unavailable` and what :func:`check_limits` does.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await self._started.wait()
        self.check_running()
        if not self.warm:
            raise errors.Unavailable("the models are not ready yet")
        check_limits(request, self.settings)
        timeout = self.settings.request_timeout_s
        if request.timeout_ms is not None:
            timeout = min(timeout, request.timeout_ms / 1000)
        self._count(1)
        try:
            yield time.monotonic() + timeout
        finally:
            self._count(-1)

    @asynccontextmanager
    async def until(self, deadline: float) -> AsyncGenerator[None, None]:
        """Raises :class:`service.errors.Timeout` at the deadline, :class:`service.errors.Unavailable` when cut."""
        try:
            async with asyncio.timeout(0 if self._cut else deadline - time.monotonic()) as limit:
                self._deadlines.add(limit)
                try:
                    yield
                finally:
                    self._deadlines.discard(limit)
        except TimeoutError as error:
            if self._cut:
                raise errors.Unavailable("the server is stopping") from error
            raise errors.from_exception(error) from error

    def _count(self, change: int) -> None:
        self.in_flight += change
        metrics.IN_FLIGHT.set(self.in_flight)
        if self.in_flight:
            self.idle.clear()
        else:
            self.idle.set()


def check_text(text: str, limits: Settings, field: str) -> None:
    """Raises :class:`service.errors.TooLarge`, which names the field."""
    if len(text) > limits.max_text_chars:
        raise errors.TooLarge(f"a text has at most {limits.max_text_chars} characters", field=field)


def check_limits(request: TranslateRequest, limits: Settings) -> None:
    """Raises :class:`service.errors.InvalidRequest` or :class:`service.errors.TooLarge`, which name the field."""
    for field, beam_size in (("beam_size", request.beam_size), ("alternatives", request.alternatives + 1)):
        if beam_size > limits.max_beam_size:
            reason = f"{field}: the widest beam of this server is {limits.max_beam_size}"
            raise errors.InvalidRequest(reason, field=field)
    if len(request.texts) > limits.max_texts:
        raise errors.TooLarge(f"a request takes at most {limits.max_texts} texts", field="text")
    for index, text in enumerate(request.texts):
        check_text(text, limits, "text" if isinstance(request.text, str) else f"text[{index}]")
    check_terms(request.glossary or {}, limits, "glossary")
