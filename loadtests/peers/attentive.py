"""This project's engine, as the service uses it."""

from collections.abc import Sequence

from export.package import Package
from loadtests.peers import BATCH, Search, System, Translation
from service.engine import Engine, Job

QUEUE = 2**16
"""A whole evaluation set is submitted at once; the queue's limit is not what is measured."""


class Attentive(System):
    """One decode loop per core, ``BATCH`` sentences in each whatever the beam.

    The engine sees everything that waits. It gains from that what its scheduler makes of it, in either order.
    """

    name = "attentive"

    def __init__(self, package: Package, precision: str, cores: int) -> None:
        super().__init__(precision, cores)
        self.package = package
        self._engines: dict[int, Engine] = {}

    def _engine(self, beam_size: int) -> Engine:
        """The engine with slots for this beam, started on first use."""
        if beam_size not in self._engines:
            slots = BATCH * beam_size
            engine = Engine(self.package, precision=self.precision, slots=slots, queue_size=QUEUE, threads=self.cores)
            engine.start()
            self._engines[beam_size] = engine
        return self._engines[beam_size]

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        jobs = [
            Job(
                list(source),
                search.beam_size,
                attention=search.attention,
                max_length=search.max_length,
                repetition_guard=False,  # the peers have none, and all must do the same work
            )
            for source in sources
        ]
        best = [future.result()[0] for future in self._engine(search.beam_size).submit_all(jobs)]
        return [Translation(each.token_ids, each.attention) for each in best]

    def close(self) -> None:
        for engine in self._engines.values():
            engine.close()
