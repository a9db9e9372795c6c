"""Engines that are closed again, and what they answer."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from export.package import Package
from service.engine import Engine, Hypothesis, Job

WAIT = 60
"""Seconds after which a test has hung."""


@contextmanager
def running(package: Package, **settings: Any) -> Iterator[Engine]:
    """A started engine; fp32, 8 slots and one loop unless the settings say otherwise."""
    known: dict[str, Any] = {"precision": "fp32", "slots": 8, "threads": 1}
    engine = Engine(package, **known | settings)
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def results(futures: "Sequence[Future[list[Hypothesis]]]") -> list[list[Hypothesis]]:
    return [future.result(WAIT) for future in futures]


def translate(engine: Engine, jobs: Sequence[Job]) -> list[list[Hypothesis]]:
    """All at once."""
    return results(engine.submit_all(jobs))


def translate_alone(engine: Engine, jobs: Sequence[Job]) -> list[list[Hypothesis]]:
    """Each when the one before is done."""
    return [engine.submit(job).result(WAIT) for job in jobs]
