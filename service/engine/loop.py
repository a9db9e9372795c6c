"""A decode loop: between two decoder steps finished rows leave and waiting sentences join."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from service.engine.job import LOOP_LOOK
from service.engine.search import NEVER, Moves, Results, Search, choose_alike
from service.engine.session import GROUP_TOKENS, Stepped, Stepper
from service.engine.slots import Slots
from service.engine.task import Event, Finished, Ready, Task

if TYPE_CHECKING:
    from service.engine.scheduler import Engine

logger = logging.getLogger(__name__)

LENGTH_SPREAD = 1.3
"""Longest over shortest source of a group that is encoded together, so that little of it is padding."""
SWEEP = 0.01
"""Seconds between two looks for sentences that nobody waits for any more."""
RECOVER = 1.0
"""Seconds between two attempts of a loop that failed to begin anew."""


class Loop(Thread):
    """One decode loop with its own slots; loops share the queue and the session."""

    def __init__(self, engine: "Engine", number: int) -> None:
        super().__init__(name=f"decode-{engine.package.manifest.name}-{number}", daemon=True)
        self.engine, self.number = engine, number
        self.manifest = engine.package.manifest
        self.reset()

    def reset(self) -> None:
        self.slots = Slots(self.manifest, self.engine.session.graphs, self.engine.slots)
        self.stepper = Stepper(self.engine.session, self.slots)
        self.owners: list[Task] = []
        """Task of each row in use."""
        self.searching: list[Task] = []
        self.attending = 0
        """Rows whose attention is wanted."""
        self.ready: deque[Ready] = deque()
        self.stop = np.zeros(self.engine.slots, np.int32)
        """Position beyond which a plain row has ended, or must be looked at."""
        self.swept = 0.0

    def run(self) -> None:
        if self.engine.nice and sys.platform == "linux":
            # 0 is this thread; what is further behind already stays there.
            os.setpriority(os.PRIO_PROCESS, 0, max(self.engine.nice, os.getpriority(os.PRIO_PROCESS, 0)))
        while True:
            tasks = self.engine.take(self)
            if tasks is None:
                return
            try:
                if tasks:
                    self.encode(tasks)
                self.admit()
                if self.owners:
                    self.step()
            except Exception as error:
                logger.exception("decode loop failed; its sentences fail with it")
                for task in [*self.owners, *(ready.task for ready in self.ready), *tasks]:
                    if not task.future.done():
                        task.fail(error)
                self.recover()

    def recover(self) -> None:
        """Begin anew, as soon as there is memory for it: the lack of it may be what failed."""
        while True:
            try:
                return self.reset()
            except Exception:
                logger.exception("decode loop cannot begin anew yet")
                time.sleep(RECOVER)

    def trace(self, kind: Literal["encode", "step", "join", "leave"], start: float, rows: int, **more: Any) -> None:
        if self.engine.trace is not None:
            self.engine.trace(Event(kind, self.number, start, time.perf_counter(), rows, **more))

    def encode(self, tasks: list[Task]) -> None:
        """Encode tasks in groups of similar length; they are ready in the order in which they came."""
        groups: list[list[Task]] = []
        for task in sorted(tasks, key=lambda task: len(task.job.source_ids)):
            length = len(task.job.source_ids)
            if not (groups and self.alike(groups[-1], length)):
                groups.append([])
            groups[-1].append(task)
        ready = [each for group in groups for each in self.encode_group(group)]
        self.ready.extend(sorted(ready, key=lambda each: each.task.number))

    @staticmethod
    def alike(group: list[Task], length: int) -> bool:
        """May a source that is longer than those of a group be encoded with them?"""
        shortest, padded = len(group[0].job.source_ids), (len(group) + 1) * length
        return length <= LENGTH_SPREAD * shortest and padded <= GROUP_TOKENS

    def encode_group(self, group: list[Task]) -> list[Ready]:
        """Encode tasks together; one that cannot be encoded fails by itself."""
        start = time.perf_counter()
        try:
            encoded = self.engine.session.encode([task.job.source_ids for task in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to one sentence
            if len(group) == 1:
                group[0].fail(error)
                return []
            return [ready for task in group for ready in self.encode_group([task])]
        self.trace("encode", start, len(group), tokens=int(encoded.lengths.sum()))
        return [Ready(task, encoded, row) for row, task in enumerate(group)]

    def admit(self) -> None:
        """Give slots to encoded sentences while there are enough."""
        while self.ready and self.ready[0].task.job.beam_size <= self.slots.capacity - self.slots.active:
            task, encoded, row = self.ready[0]  # until it has slots: a failure must find it somewhere
            if task.abandoned(time.monotonic()):
                self.ready.popleft()
                continue
            start, job = time.perf_counter(), task.job
            task.slots = self.slots.join(encoded, row, job.beam_size)
            self.owners += [task] * job.beam_size
            self.ready.popleft()
            self.attending += job.attention * job.beam_size
            task.results = Results(job, self.manifest, self.slots)
            if job.plain:
                self.stop[task.slots] = task.results.calm
            else:
                self.stop[task.slots] = NEVER
                task.search = Search(task.results, task.slots)
                self.searching.append(task)
            about = {"slot": task.slots[0], "task": task.number, "tokens": len(job.source_ids), "future": task.future}
            self.trace("join", start, job.beam_size, **about)

    def step(self) -> None:
        """Advance every row by one token; finished and abandoned tasks leave."""
        self.sweep()
        if not self.owners:
            return
        start, slots, rows = time.perf_counter(), self.slots, self.slots.active
        top_k = max(task.search.top_k for task in self.searching if task.search) if self.searching else 1
        result = self.stepper.run(top_k, attention=self.attending > 0)
        before = slots.log_prob[:rows].copy() if self.searching else None
        slots.record(result.ids, result.scores, result.attention)
        finished = self.plain(self.stopped(), result.scores)
        if before is not None:
            finished += self.search(result, before)
        self.trace("step", start, rows)
        for task, hypotheses in finished:
            task.finish(hypotheses)
            self.leave(task)

    def stopped(self) -> list[int]:
        """Slots of rows that have ended or whose position has to be looked at."""
        slots, used = self.slots, self.slots.used
        stopped = (slots.token[used] == self.manifest.special.eos) | (slots.position[used] > self.stop[used])
        if slots.active == 1:
            return [0] if stopped else []
        return np.flatnonzero(stopped).tolist()

    def plain(self, stopped: Sequence[int], scores: np.ndarray) -> list[Finished]:
        """Those of the rows that have ended, are as long as they may be, or have become loops; ``scores [B, K]``."""
        finished = []
        for slot in stopped:
            task, steps = self.owners[slot], int(self.slots.position[slot])
            if task.search is not None:
                continue
            ended, over = bool(self.slots.token[slot] == self.manifest.special.eos), steps > task.results.longest
            if ended or over or task.results.looping(slot, steps):
                log_prob = float(self.slots.log_prob[slot])
                if over and not ended:
                    log_prob -= float(scores[slot, 0])
                finished.append((task, [task.results.hypothesis(slot, steps, log_prob, ended=ended)]))
            else:
                self.stop[slot] = min(task.results.longest, steps + LOOP_LOOK)
        return finished

    def search(self, result: Stepped, before: np.ndarray) -> list[Finished]:
        """Advance the tasks that are not plain; ``before [B]`` are the log-probabilities before the step."""
        searches = [task.search for task in self.searching if task.search]
        moves: list[Moves] = []
        alike: dict[int, list[Search]] = {}
        for search in searches:
            if search.conditional:
                rows = search.slots
                moves.append(search.choose(before[rows], result.ids[rows], result.scores[rows]))
            else:
                alike.setdefault(search.job.beam_size, []).append(search)
        moves += [choose_alike(group, before, result.ids, result.scores) for group in alike.values()]
        origins, copies, *placed = map(np.concatenate, zip(*moves, strict=True))
        if len(copies):
            self.slots.copy(origins, copies)
        self.slots.replace(*placed)
        ended = [task for task in self.searching if task.search and task.search.settle()]
        return [(task, task.search.result()) for task in ended if task.search]

    def sweep(self) -> None:
        """Now and then drop the tasks that nobody waits for."""
        now = time.monotonic()
        if now - self.swept < SWEEP:
            return
        self.swept = now
        for task in dict.fromkeys(self.owners):
            if task.abandoned(now):
                self.leave(task)

    def leave(self, task: Task) -> None:
        """Free a task's slots; rows that are moved into them keep their tasks."""
        start, steps = time.perf_counter(), int(self.slots.position[task.slots[0]])
        first = task.slots[0]
        for slot in sorted(task.slots, reverse=True):
            moved = self.slots.leave(slot)
            owner = self.owners.pop()
            if moved != slot:
                self.owners[slot] = owner
                owner.slots[owner.slots.index(moved)] = slot
                self.stop[slot] = self.stop[moved]
        self.attending -= task.job.attention * task.job.beam_size
        if task.search is not None:
            self.searching.remove(task)
        self.trace("leave", start, task.job.beam_size, slot=first, task=task.number, tokens=steps)
