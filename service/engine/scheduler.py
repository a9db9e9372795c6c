"""Continuous batching: one queue for each package, emptied by decode loops that share a session."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Condition

from loky import cpu_count

from export.package import Package
from service.engine.job import MAX_LENGTH_PENALTY, Hypothesis, Job
from service.engine.loop import Loop
from service.engine.session import Session
from service.engine.task import Event, Task

ENCODE_TOKENS = 1024
"""Source tokens that a loop takes between two steps at most: rows already decoding wait for them."""


class Overloaded(Exception):  # noqa: N818 - the state it reports is no error of the program
    """The queue is full."""


class Engine:
    """Translates the sentences of one package; safe to call from any thread.

    ``slots`` rows are decoded at a time in each of ``threads`` loops, by default one for each core that may be used.
    ``queue_size`` sentences may wait. ``trace`` is told what the loops do, by the loops themselves: it must be quick.
    ``nice`` puts the loops behind the other threads of the process, where the system knows priorities of threads.
    ``profile`` is the session's.
    Raises ``ValueError`` for an execution provider that is not there and ``KeyError`` for an unknown precision.
    """

    def __init__(
        self,
        package: Package,
        *,
        precision: str = "int8",
        provider: str = "CPUExecutionProvider",
        slots: int = 32,
        queue_size: int = 4096,
        threads: int | None = None,
        nice: int = 0,
        trace: Callable[[Event], None] | None = None,
        profile: Path | None = None,
    ) -> None:
        self.package, self.precision, self.provider = package, precision, provider
        self.slots, self.queue_size, self.nice, self.trace = slots, queue_size, nice, trace
        self.session = Session(package, precision, provider, profile)
        self._weights_bytes = (package.path / self.session.graphs.weights.name).stat().st_size
        self._queue: deque[Task] = deque()
        self._submitted = 0
        self._changed = Condition()
        self._closed = False
        self._loops = [Loop(self, number) for number in range(threads or cpu_count())]
        self.session.reserve(len(self._loops))

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def close(self) -> None:
        """Finish what was submitted, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for loop in self._loops:
            if loop.is_alive():
                loop.join()
        # Loops and engine have each other: freed together by nobody but the garbage collector, which may not look here.
        self._loops = []

    @property
    def memory_bytes(self) -> int:
        """Of the weights, and of the states of all rows."""
        return self._weights_bytes + sum(loop.slots.bytes for loop in self._loops)

    @property
    def queued(self) -> int:
        return len(self._queue) + sum(len(loop.ready) for loop in self._loops)

    @property
    def active(self) -> int:
        """Rows being decoded."""
        return sum(loop.slots.active for loop in self._loops)

    def submit(self, job: Job) -> "Future[list[Hypothesis]]":
        """See :meth:`submit_all`."""
        return self.submit_all([job])[0]

    def submit_all(self, jobs: Sequence[Job]) -> "list[Future[list[Hypothesis]]]":
        """Queue all jobs or none. A future gives the hypotheses, best first, or fails with ``TimeoutError``.

        Raises :class:`Overloaded` if they do not all fit, ``ValueError`` for a job that can never be decoded and
        ``RuntimeError`` once the engine is closed.
        """
        for job in jobs:
            self._validate(job)
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            if self.queued + len(jobs) > self.queue_size:
                raise Overloaded(f"{self.queued} of {self.queue_size} sentences are waiting already")
            tasks = [Task(job, Future(), number) for number, job in enumerate(jobs, self._submitted)]
            self._submitted += len(jobs)
            self._queue.extend(tasks)
            self._changed.notify_all()
        return [task.future for task in tasks]

    def _validate(self, job: Job) -> None:
        longest, special = self.package.manifest.max_length, self.package.manifest.special
        if not 1 <= len(job.source_ids) <= longest:
            raise ValueError(f"a source has 1 to {longest} sub-words, not {len(job.source_ids)}")
        if not 1 <= job.beam_size <= self.slots:
            raise ValueError(f"beam_size is 1 to {self.slots}, not {job.beam_size}")
        if not 1 <= job.n_best <= job.beam_size:
            raise ValueError(f"n_best is 1 to beam_size, not {job.n_best}")
        if job.max_length is not None and job.max_length < 1:
            raise ValueError(f"max_length is at least 1, not {job.max_length}")
        limit = job.longest(self.package.manifest)
        if not 0 <= job.min_length <= limit:
            raise ValueError(f"min_length is 0 to {limit}, not {job.min_length}")
        if job.no_repeat_ngram < 0:
            raise ValueError(f"no_repeat_ngram is at least 0, not {job.no_repeat_ngram}")
        if not 0 <= job.length_penalty <= MAX_LENGTH_PENALTY:  # so that NaN is refused too
            raise ValueError(f"length_penalty is 0 to {MAX_LENGTH_PENALTY}, not {job.length_penalty}")
        if len(job.prefix) > limit or special.eos in job.prefix:
            raise ValueError(f"a prefix has at most {limit} sub-words and no EOS")

    def take(self, loop: Loop) -> list[Task] | None:
        """The next tasks for a loop, within its free slots and the token budget; None when all is done.

        Where more wait than all loops have slots for, a loop with few of its own free encodes ahead: larger groups of
        more similar length. It leaves enough for the others, so that all are done at about the same time.
        """
        idle = not loop.owners and not loop.ready
        if not idle and (loop.ready or not self._queue):
            return []
        with self._changed:
            while idle and not self._queue and not self._closed:
                self._changed.wait()
            if idle and not self._queue:
                return None
            rows = loop.slots.capacity - loop.slots.active
            if not rows:
                return []
            beyond = len(self._queue) - sum(each.slots.capacity - each.slots.active for each in self._loops)
            if beyond > 0 and 2 * rows < loop.slots.capacity:
                rows += min(loop.slots.capacity, beyond // (2 * len(self._loops)))
            taken: list[Task] = []
            tokens, now = 0, time.monotonic()
            while self._queue and self._queue[0].job.beam_size <= rows and tokens < ENCODE_TOKENS:
                task = self._queue.popleft()
                if not task.abandoned(now):
                    taken.append(task)
                    rows -= task.job.beam_size
                    tokens += len(task.job.source_ids)
            return taken
