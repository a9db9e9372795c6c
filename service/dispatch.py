"""From the event loop to the engines and back, with no more than a window of one request's sentences under way."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from service.admission import Admission, overloaded
from service.cache import Cache
from service.engine import Hypothesis, Job, Overloaded
from service.registry import Model
from service.watch import Sentence

TURN_S = 0.005
"""Seconds that a request may do something with its results while others wait."""
RETRY_S = 0.05
"""Seconds between two attempts of a request that has begun and finds the queue full."""


class Dispatch:
    """The sentences of one request. Use it once: ``await Dispatch(work, window).run()``, or :meth:`results`.

    What is in the ``cache`` is not translated again; what is not is subject to ``admission``. Requests share both. What
    has ``begun`` is part of a request that has been admitted.
    """

    def __init__(
        self,
        work: Sequence[tuple[Model, Job]],
        window: int,
        cache: Cache | None = None,
        admission: Admission | None = None,
        *,
        begun: bool = False,
    ) -> None:
        self.work = work
        self.window = window
        self.cache = cache or Cache(0)
        self.admission = admission or Admission(0, 0)
        self.begun = begun
        self.unsent: deque[int] = deque()
        self.turn = time.perf_counter()
        self.pending: dict[asyncio.Future[list[Hypothesis]], int] = {}
        self.submitted: dict[asyncio.Future[list[Hypothesis]], tuple[Sentence, float]] = {}
        self.joined: float | None = None
        """When the first of its sentences that are finished got a slot; ``time.perf_counter()``."""
        self.finished: asyncio.Queue[asyncio.Future[list[Hypothesis]]] = asyncio.Queue()

    async def run(self) -> list[list[Hypothesis]]:
        """Hypotheses in the order of the work. Raises what :meth:`results` raises."""
        async with aclosing(self.results()) as results:
            found = {index: hypotheses async for index, hypotheses in results}
        return [found[index] for index in range(len(self.work))]

    async def results(self) -> AsyncGenerator[tuple[int, list[Hypothesis]], None]:
        """Index into the work and hypotheses of each sentence as it is finished: in no order.

        Raises :class:`service.errors.Overloaded` at once if the first of them are not admitted or do not fit into the
        queues; a request that has begun waits for its turn instead. The first sentence that fails fails the request.
        However it ends, cancelled too, nothing of it is left in the engines; leave it early only through
        ``contextlib.aclosing``.
        """
        known: dict[int, list[Hypothesis]] = {}
        self.turn = time.perf_counter()
        for index, (model, job) in enumerate(self.work):
            if (hypotheses := self.cache.get(model, job)) is None:
                self.unsent.append(index)
            else:
                known[index] = hypotheses
            await self._give_way()
        first = [] if self.begun else self._first()
        with self.admission.engaged(None if self.begun else [self.work[index][1] for index in first]):
            try:
                self._begin(first)
                for index, hypotheses in known.items():
                    yield index, hypotheses
                    await self._give_way()
                while self.pending or self.unsent:
                    self._refill()
                    if self.pending:
                        future = await self._next()
                        yield self._take(future), future.result()
                    else:
                        await asyncio.sleep(RETRY_S)
            finally:
                for future, index in self.pending.items():
                    future.cancel()
                    self.admission.end(self.work[index][1], done=False)

    async def _next(self) -> asyncio.Future[list[Hypothesis]]:
        if not self.finished.empty():
            await self._give_way()
            return self.finished.get_nowait()
        future = await self.finished.get()
        self.turn = time.perf_counter()
        return future

    async def _give_way(self) -> None:
        """Much may be in the cache, results may be there all at once, and other requests wait for their turn. But each
        turn is a wait.
        """
        if time.perf_counter() - self.turn > TURN_S:
            await asyncio.sleep(0)
            self.turn = time.perf_counter()

    def _first(self) -> list[int]:
        """Indexes of what is submitted first: a window, or a few where others are to have room."""
        first: list[int] = []
        rows = 0
        while self.unsent and len(first) < self.window and self.admission.few(rows):
            first.append(self.unsent.popleft())
            rows += self.work[first[-1]][1].beam_size
        return first

    def _begin(self, first: Sequence[int]) -> None:
        """Submit these, all or nothing for each model."""
        if first:
            self.admission.check(self.work[first[0]][1].deadline)
        for model in dict.fromkeys(self.work[index][0] for index in first):
            indexes = [index for index in first if self.work[index][0] is model]
            try:
                futures = model.engine.submit_all([self.work[index][1] for index in indexes])
            except Overloaded as error:
                raise overloaded(self.admission.wait) from error
            for index, future in zip(indexes, futures, strict=True):
                self._watch(index, future)

    def _refill(self) -> None:
        while self.unsent and len(self.pending) < self.window:
            model, job = self.work[self.unsent[0]]
            if not self.admission.room(len(self.pending) * job.beam_size):
                return
            try:
                future = model.engine.submit(job)
            except Overloaded:
                return
            self._watch(self.unsent.popleft(), future)

    def _watch(self, index: int, sentence: Sentence) -> None:
        future = asyncio.wrap_future(sentence)
        self.pending[future] = index
        self.submitted[future] = sentence, time.perf_counter()
        self.admission.begin(self.work[index][1])
        future.add_done_callback(self.finished.put_nowait)

    def _take(self, future: asyncio.Future[list[Hypothesis]]) -> int:
        """Index of a sentence that is finished, well or not."""
        index = self.pending.pop(future)
        sentence, submitted = self.submitted.pop(future)
        model, job = self.work[index]
        done = not future.cancelled() and future.exception() is None
        self.admission.end(job, done=done)
        if done:
            joined = model.watch.finished(sentence, submitted)
            self.joined = min(joined, self.joined or joined)
            self.cache.put(model, job, future.result())
        return index
