"""Systems that run the same weights behind one call, so that they can be timed side by side."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

BATCH = 32
"""Sentences that a system may decode side by side on each of its threads."""


@dataclass(frozen=True)
class Search:
    """How to decode: the same for every system."""

    beam_size: int = 1
    attention: bool = False
    max_length: int = 128
    """Most sub-words of a target, without EOS: a number, since not every system can have a limit for each sentence."""


class Translation(NamedTuple):
    """The best hypothesis of one sentence."""

    token_ids: list[int]
    """Without EOS, at most ``Search.max_length``."""
    attention: Any
    """``[target tokens, source tokens]`` or more rows, as the system gives it; None where it was not asked for."""


class Timed(NamedTuple):
    """What it took to translate some batches, one after the other."""

    seconds: list[float]
    """Of each batch."""
    tokens: int
    """Sub-words of all translations, without EOS."""


class System(ABC):
    """Weights loaded into one library, on a fixed number of cores."""

    name: str

    def __init__(self, precision: str, cores: int, setup: str = "") -> None:
        """``setup``: how the cores are used, where a library leaves a choice."""
        self.precision, self.cores, self.setup = precision, cores, setup

    @abstractmethod
    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        """Ids of tag, sub-words and EOS, taken up in the order given -> a translation for each, in the same order."""

    def timed(self, batches: Sequence[Sequence[Sequence[int]]], search: Search) -> Timed:
        """Translate one batch after the other; the clock is read where the library runs."""
        seconds, tokens = [], 0
        for batch in batches:
            started = time.perf_counter()
            found = self.translate(batch, search)
            seconds.append(time.perf_counter() - started)
            tokens += sum(len(translation.token_ids) for translation in found)
        return Timed(seconds, tokens)

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back threads and memory; not usable afterwards."""


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """Keep the calling thread, and those it starts meanwhile, on ``cores`` cores. Needs Linux.

    A thread keeps the cores it was started on, so a system has to be built as well as used in here.
    Raises ``ValueError`` where fewer are free for this process.
    """
    before = os.sched_getaffinity(0)
    if not 1 <= cores <= len(before):
        raise ValueError(f"{cores} cores are asked for, {len(before)} are there")
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
