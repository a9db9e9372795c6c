"""From the event loop to the engines and back, with no more than a window of one request's sentences under way."""

import asyncio
from collections.abc import Sequence

from service import errors
from service.engine import Hypothesis, Job, Overloaded
from service.registry import Model

RETRY_S = 0.05
"""Seconds between two attempts of a request that has begun and finds the queue full."""


class Dispatch:
    """The sentences of one request. Use it once: ``await Dispatch(work, window).run()``."""

    def __init__(self, work: Sequence[tuple[Model, Job]], window: int) -> None:
        self.work = work
        self.window = window
        self.sent = 0
        self.pending: dict[asyncio.Future[list[Hypothesis]], int] = {}
        self.finished: asyncio.Queue[asyncio.Future[list[Hypothesis]]] = asyncio.Queue()
        self.results: dict[int, list[Hypothesis]] = {}

    async def run(self) -> list[list[Hypothesis]]:
        """Hypotheses in the order of the work.

        Raises :class:`service.errors.Overloaded` at once if the first window does not fit into the queues; a request
        that has begun waits for its turn instead. The first sentence that fails fails the request. However it ends,
        cancelled too, nothing of it is left in the engines.
        """
        try:
            self._begin()
            while self.pending or self.sent < len(self.work):
                self._refill()
                if self.pending:
                    future = await self.finished.get()
                    self.results[self.pending.pop(future)] = future.result()
                else:
                    await asyncio.sleep(RETRY_S)
        finally:
            for future in self.pending:
                future.cancel()
        return [self.results[index] for index in range(len(self.work))]

    def _begin(self) -> None:
        """Submit the first window, all or nothing for each model."""
        first = self.work[: self.window]
        for model in dict.fromkeys(model for model, _ in first):
            indexes = [index for index, (wanted, _) in enumerate(first) if wanted is model]
            try:
                futures = model.engine.submit_all([first[index][1] for index in indexes])
            except Overloaded as error:
                raise errors.Overloaded("too many sentences are waiting; try again soon") from error
            for index, future in zip(indexes, futures, strict=True):
                self._watch(index, asyncio.wrap_future(future))
        self.sent = len(first)

    def _refill(self) -> None:
        while self.sent < len(self.work) and len(self.pending) < self.window:
            model, job = self.work[self.sent]
            try:
                future = model.engine.submit(job)
            except Overloaded:
                return
            self._watch(self.sent, asyncio.wrap_future(future))
            self.sent += 1

    def _watch(self, index: int, future: asyncio.Future[list[Hypothesis]]) -> None:
        self.pending[future] = index
        future.add_done_callback(self.finished.put_nowait)
