"""Continuous batching: between two decoder steps finished rows leave and waiting sentences join."""

import logging
import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread

from export.package import Package
from service.engine.search import Hypothesis, Job, Search
from service.engine.session import Session
from service.engine.slots import Slots

logger = logging.getLogger(__name__)

ENCODE_TOKENS = 2048
"""Source tokens encoded between two steps at most: rows already decoding wait for them."""
LENGTH_SPREAD = 1.5
"""Longest over shortest source of a group that is encoded together, so that little of it is padding."""


class Overloaded(Exception):  # noqa: N818 - the state it reports is no error of the program
    """The queue is full."""


@dataclass
class Task:
    """A job on its way: waiting, then decoding in ``slots``."""

    job: Job
    future: "Future[list[Hypothesis]]"
    search: Search
    slots: list[int] = field(default_factory=list)

    def abandoned(self, now: float) -> bool:
        """True when nobody wants the result any more; a passed deadline is told to the future."""
        if self.future.cancelled():
            return True
        if self.job.deadline is not None and now > self.job.deadline:
            self.fail(TimeoutError("deadline passed"))
            return True
        return False

    def finish(self) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self.search.result())

    def fail(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Loop(Thread):
    """One decode loop with its own slots; loops share the queue and the session."""

    def __init__(self, engine: "Engine", number: int) -> None:
        super().__init__(name=f"decode-{engine.package.manifest.name}-{number}", daemon=True)
        self.engine = engine
        self.slots = Slots(engine.package.manifest, engine.slots)
        self.tasks: list[Task] = []

    def run(self) -> None:
        while True:
            tasks = self.engine.take(self.slots.capacity - self.slots.active, wait=not self.tasks)
            if tasks is None:
                return
            try:
                self.admit(tasks)
                if self.tasks:
                    self.step()
            except Exception as error:
                logger.exception("decode loop failed; its sentences fail with it")
                for task in {id(task): task for task in (*self.tasks, *tasks)}.values():
                    if not task.future.done():
                        task.fail(error)
                self.tasks, self.slots = [], Slots(self.engine.package.manifest, self.engine.slots)

    def admit(self, tasks: list[Task]) -> None:
        """Encode new tasks in groups of similar length and give them their slots."""
        tasks = sorted(tasks, key=lambda task: len(task.job.source_ids))
        while tasks:
            shortest = len(tasks[0].job.source_ids)
            group = [task for task in tasks if len(task.job.source_ids) <= LENGTH_SPREAD * shortest]
            tasks = tasks[len(group) :]
            self.enter(group)

    def enter(self, group: list[Task]) -> None:
        """Encode a group and put it beside the rows in use; one that cannot be encoded fails by itself."""
        try:
            encoded = self.engine.session.encode([task.job.source_ids for task in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to one sentence
            if len(group) == 1:
                group[0].fail(error)
            else:
                for task in group:
                    self.enter([task])
            return
        self.slots.fit(source=int(encoded.lengths.max()))
        for row, task in enumerate(group):
            task.slots = self.slots.join(encoded, row, task.search.rows)
            self.tasks.append(task)

    def step(self) -> None:
        """Advance every row by one token; finished and abandoned tasks leave."""
        now = time.monotonic()
        for task in [task for task in self.tasks if task.abandoned(now)]:
            self.leave(task)
        if not self.tasks:
            return
        slots, active = self.slots, self.slots.active
        slots.fit()
        result = self.engine.session.step(
            slots.token[:active],
            slots.position[:active],
            slots.tensors(),
            top_k=max(task.search.top_k for task in self.tasks),
            attention=any(task.job.attention for task in self.tasks),
        )
        slots.write(result.states)
        ended = []
        for task in self.tasks:
            rows = task.slots
            attention = result.attention[rows] if task.job.attention and result.attention is not None else None
            move = task.search.advance(result.ids[rows], result.scores[rows], attention)
            if move is None:
                ended.append(task)
            else:
                slots.reorder(rows, [rows[parent] for parent in move.parents])
                slots.token[rows] = move.tokens
        for task in ended:
            self.leave(task)
            task.finish()

    def leave(self, task: Task) -> None:
        """Free a task's slots; rows that are moved into them keep their tasks."""
        self.tasks.remove(task)
        for slot in sorted(task.slots, reverse=True):
            moved = self.slots.leave(slot)
            if moved != slot:
                owner = next(other for other in self.tasks if moved in other.slots)
                owner.slots[owner.slots.index(moved)] = slot


class Engine:
    """Translates the sentences of one package; safe to call from any thread.

    ``slots`` rows are decoded at a time in each of ``threads`` loops, ``queue_size`` sentences may wait.
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
    ) -> None:
        self.package, self.precision, self.provider = package, precision, provider
        self.slots, self.queue_size = slots, queue_size
        self.session = Session(package, precision, provider)
        self._queue: deque[Task] = deque()
        self._changed = Condition()
        self._closed = False
        self._loops = [Loop(self, number) for number in range(threads or os.cpu_count() or 1)]

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

    @property
    def queued(self) -> int:
        return len(self._queue)

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
        tasks = [Task(job, Future(), Search(job, self.package.manifest)) for job in jobs]
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            if len(self._queue) + len(tasks) > self.queue_size:
                raise Overloaded(f"{len(self._queue)} of {self.queue_size} sentences are waiting already")
            self._queue.extend(tasks)
            self._changed.notify_all()
        return [task.future for task in tasks]

    def _validate(self, job: Job) -> None:
        longest = self.package.manifest.max_length
        if not 1 <= len(job.source_ids) <= longest:
            raise ValueError(f"a source has 1 to {longest} sub-words, not {len(job.source_ids)}")
        if not 1 <= job.beam_size <= self.slots:
            raise ValueError(f"beam_size is 1 to {self.slots}, not {job.beam_size}")
        if not 1 <= job.n_best <= job.beam_size:
            raise ValueError(f"n_best is 1 to beam_size, not {job.n_best}")
        if job.max_length is not None and job.max_length < 1:
            raise ValueError(f"max_length is at least 1, not {job.max_length}")

    def take(self, rows: int, wait: bool) -> list[Task] | None:
        """For a loop: the next tasks that fit into ``rows`` and the token budget; None when all is done."""
        with self._changed:
            while wait and not self._queue and not self._closed:
                self._changed.wait()
            if wait and not self._queue:
                return None
            taken: list[Task] = []
            tokens, now = 0, time.monotonic()
            while self._queue and self._queue[0].search.rows <= rows and tokens < ENCODE_TOKENS:
                task = self._queue.popleft()
                if not task.abandoned(now):
                    taken.append(task)
                    rows -= task.search.rows
                    tokens += len(task.job.source_ids)
            return taken
