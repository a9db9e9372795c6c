"""Back-pressure: work that would have to wait too long is refused when it arrives, not when it has waited."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import errors, metrics
from service.boundary import identify
from service.engine import Job

WINDOW_S = 0.5
"""Seconds of work that make one measurement of the rate."""
WEIGHT = 0.3
"""Of the latest measurement in the average rate."""
REQUEST_WEIGHT = 0.1
"""Of the latest request in the average work of a request."""
COUNTED = frozenset({"/v1/translate", "/v2/translate", "/translate"})
PATHS = COUNTED | {"/v1/translate/stream", "/translate_batch"}
"""Routes that translate. A stream is answered before it has its result, and a batch is several requests: these count
themselves.
"""
NOBODY = b"0" * 32
"""The id in an answer that is written before there is a request."""


class Admission:
    """Refuses where what is under way would take longer than ``objective`` seconds; 0 refuses nothing.

    Work is counted in rows and source sub-words. A request that is not with the engines, though its body is there and
    its result is not, counts as much as the average one: where the event loop is what is slow, requests wait there. One
    that waits for its caller, to send or to read, is no work. How much work is done in a second is measured while at
    least ``full`` rows and such requests are under way: with fewer, decoding is slower than it could be. A measurement
    that is faster than the average counts always. Before the first measurement nothing is refused. One event loop, one
    admission: all packages share the processors.
    """

    def __init__(self, objective: float, full: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.objective, self.full, self.clock = objective, full, clock
        self.requests = 0
        """That are there, have no result yet and are not with the engines."""
        self.rows = 0
        self.work = 0
        """With the engines."""
        self.average = 0.0
        """Work of a request."""
        self.turned_away: Counter[str] = Counter()
        """Requests at the door since the last :meth:`flush`, by path."""
        self.rate: float | None = None
        """Work done in a second."""
        self._restart()

    @property
    def wait(self) -> float:
        """Seconds until what is under way is done, as far as is known."""
        return (self.work + max(self.requests, 0) * self.average) / self.rate if self.rate else 0.0

    @property
    def full_up(self) -> bool:
        """Whatever came now would wait too long."""
        return 0 < self.objective < self.wait

    def check(self, deadline: float | None = None) -> None:
        """Raises :class:`service.errors.Overloaded` if work that comes now would wait too long, or in vain: until after
        its ``deadline``.
        """
        wait = self.wait
        in_vain = deadline is not None and self.clock() + wait > deadline
        if self.full_up or (self.objective and wait and in_vain):
            raise overloaded(wait)

    def few(self, rows: int) -> bool:
        """So few of one request that the others hardly notice."""
        return not self.objective or rows < self.full

    def room(self, rows: int) -> bool:
        """Whether a request that has ``rows`` with the engines may hand over more. Beyond a few it may only while the
        wait is half of what it may be: a document must not keep everybody out until it is done.
        """
        return self.few(rows) or self.wait < self.objective / 2

    def flush(self) -> None:
        """Tell the metrics who was turned away since the last time."""
        for path, count in self.turned_away.items():
            metrics.REFUSED.labels(errors.Overloaded.code).inc(count)
            metrics.REQUESTS.labels(path, str(errors.Overloaded.status)).inc(count)
        self.turned_away.clear()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """From when the body of a request is there until its result is."""
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def engaged(self, jobs: Sequence[Job] | None) -> Iterator[None]:
        """While a request is with the engines, which begins with these jobs; None: it goes on."""
        self.requests -= 1
        if jobs is not None:
            self.average += REQUEST_WEIGHT * (sum(map(cost, jobs)) - self.average)
        try:
            yield
        finally:
            self.requests += 1

    def begin(self, job: Job) -> None:
        """A job is handed to an engine."""
        if not self.rows:
            self._restart()
        self.rows += job.beam_size
        self.work += cost(job)

    def end(self, job: Job, *, done: bool) -> None:
        """It has left the engine, translated or not."""
        self._full &= self.rows + self.requests >= self.full
        self.rows -= job.beam_size
        self.work -= cost(job)
        self._done += cost(job) if done else 0
        seconds = self.clock() - self._since
        if seconds >= WINDOW_S:
            self._measure(self._done / seconds)
            self._restart()

    def _measure(self, rate: float) -> None:
        if self.rate is None:
            self.rate = rate if self._full and rate else None
        elif self._full or rate > self.rate:
            self.rate += WEIGHT * (rate - self.rate)

    def _restart(self) -> None:
        self._since = self.clock()
        self._done = 0
        self._full = True


def cost(job: Job) -> int:
    return job.beam_size * len(job.source_ids)


def seconds(wait: float) -> int:
    """After which to come back."""
    return max(1, math.ceil(wait))


def overloaded(wait: float) -> errors.Overloaded:
    return errors.Overloaded("too much is waiting; try again soon", retry_after=seconds(wait))


class Door:
    """ASGI middleware, the outermost of all: under overload most requests come no further, and what they cost is taken
    from the others. Nothing is read but the path and the id, and the answer is written beforehand; they are counted in
    the metrics, but not logged.
    """

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self.app, self.admission = app, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (path := scope["path"]) not in PATHS:
            return await self.app(scope, receive, send)
        if self.admission.full_up:
            self.admission.turned_away[path] += 1
            return await self._refuse(path, identify(scope["headers"]).encode(), send)
        if path in COUNTED:
            return await self._count(scope, receive, send)
        return await self.app(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as counted:

            async def receive_and_count() -> Message:
                message = await receive()
                if message["type"] == "http.request" and not message.get("more_body", False):
                    counted.enter_context(self.admission.inside())
                return message

            async def send_result(message: Message) -> None:
                counted.close()
                await send(message)

            await self.app(scope, receive_and_count, send_result)

    async def _refuse(self, path: str, request_id: bytes, send: Send) -> None:
        status, headers, body = refusal(path, seconds(self.admission.wait))
        body = body.replace(NOBODY, request_id)
        headers = [*headers, (b"content-length", b"%d" % len(body)), (b"x-request-id", request_id)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@lru_cache(maxsize=256)
def refusal(path: str, retry_after: int) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers without the length, and body of an answer to :data:`NOBODY`."""
    answer = errors.response(overloaded(retry_after), NOBODY.decode(), path)
    return answer.status_code, [each for each in answer.raw_headers if each[0] != b"content-length"], bytes(answer.body)
