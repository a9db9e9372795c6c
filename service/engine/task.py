"""A sentence on its way through the engine."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from service.engine.job import Hypothesis, Job
from service.engine.search import Results, Search
from service.engine.slots import Encoded


class Event(NamedTuple):
    """What a decode loop did, for a trace."""

    kind: Literal["encode", "step", "join", "leave"]
    loop: int
    start: float
    """``time.perf_counter()`` seconds"""
    end: float
    rows: int
    """Of the group that was encoded, of the step, or of the sentence that joins or leaves."""
    slot: int = -1
    """The first one of a sentence."""
    task: int = -1
    """Running number of a sentence."""
    tokens: int = 0
    """Of the sources that were encoded or that join; of the target that leaves."""
    future: "Future[list[Hypothesis]] | None" = None
    """Of the sentence that joins."""


@dataclass(eq=False)
class Task:
    """A job on its way: waiting, encoded, then decoding in ``slots``."""

    job: Job
    future: "Future[list[Hypothesis]]"
    number: int
    slots: list[int] = field(default_factory=list)
    results: Results = field(init=False)
    search: Search | None = None
    """Of a job that is not plain; the loop takes the best token of plain ones for all rows at once."""

    def abandoned(self, now: float) -> bool:
        """True when nobody wants the result any more; the future is told why, once: such a task is dropped."""
        if self.future.cancelled():
            self.future.set_running_or_notify_cancel()  # tells those who wait for several
            return True
        if self.job.deadline is not None and now > self.job.deadline:
            self.fail(TimeoutError("deadline passed"))
            return True
        return False

    def finish(self, result: list[Hypothesis]) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


Finished = tuple[Task, list[Hypothesis]]


class Ready(NamedTuple):
    """An encoded sentence that waits for slots."""

    task: Task
    encoded: Encoded
    row: int
