"""What has been translated lately need not be translated again: a bounded memory of sentences."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import NamedTuple
from weakref import WeakKeyDictionary

from cachetools import LRUCache

from service import metrics
from service.engine import Hypothesis, Job
from service.registry import Model

Key = tuple[Hashable, ...]

of_result = attrgetter(*(field.name for field in fields(Job) if field.name != "deadline"))
"""All of a job that its result depends on: a field added to it counts at once."""

ENTRY_BYTES = 1400
HYPOTHESIS_BYTES = 500
NUMBER_BYTES = 36
"""Of an entry without its numbers, of a hypothesis without its numbers, and of an integer in a list."""


class Entry(NamedTuple):
    hypotheses: list[Hypothesis]
    size: int
    """Bytes, about."""


class Cache:
    """Hypotheses of sentences, up to ``size`` bytes; the least recently used are forgotten first. 0 keeps nothing.

    For one event loop. What it gives out is shared: nobody may change it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._entries: LRUCache[Key, Entry] = LRUCache(size, getsizeof=lambda entry: entry.size)
        self._contents: WeakKeyDictionary[Model, bytes] = WeakKeyDictionary()

    @property
    def used(self) -> int:
        """Bytes, about."""
        return int(self._entries.currsize)

    def get(self, model: Model, job: Job) -> list[Hypothesis] | None:
        if not self.size:
            return None
        entry = self._entries.get(self._key(model, job))
        metrics.CACHE.labels("miss" if entry is None else "hit").inc()
        return None if entry is None else entry.hypotheses

    def put(self, model: Model, job: Job, hypotheses: list[Hypothesis]) -> None:
        numbers = len(job.source_ids) + len(job.prefix) + sum(len(each.token_ids) for each in hypotheses)
        arrays = sum(each.attention.nbytes for each in hypotheses if each.attention is not None)
        size = ENTRY_BYTES + len(hypotheses) * HYPOTHESIS_BYTES + numbers * NUMBER_BYTES + arrays
        if size <= self.size:
            self._entries[self._key(model, job)] = Entry(hypotheses, size)

    def _key(self, model: Model, job: Job) -> Key:
        values = (tuple(value) if isinstance(value, Sequence) else value for value in of_result(job))
        return (self._content(model), *values)

    def _content(self, model: Model) -> bytes:
        """What a model is made of, by the checksums in its manifest: a changed package is another one, whatever its
        name and version say.
        """
        content = self._contents.get(model)
        if content is None:
            described = f"{model.manifest.model_dump_json()} {model.engine.precision} {model.engine.provider}"
            content = self._contents[model] = hashlib.sha256(described.encode()).digest()
        return content
