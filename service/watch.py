"""What the loops of an engine do, counted beside them at little cost."""

from collections import defaultdict
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter
from weakref import WeakKeyDictionary

from service import metrics
from service.engine import Event, Hypothesis

Sentence = Future[list[Hypothesis]]


@dataclass
class Tally:
    """Of one loop; no other thread writes to it."""

    steps: int = 0
    rows: int = 0
    seconds: float = 0.0


class Watch:
    """The trace of an engine.

    A step takes some hundred microseconds, so it is only added up here; :meth:`flush` tells the metrics.
    """

    def __init__(self, model: str = "") -> None:
        self.model = model
        self.tallies: defaultdict[int, Tally] = defaultdict(Tally)
        self.told = Tally()
        self.joined: WeakKeyDictionary[Sentence, float] = WeakKeyDictionary()
        """When sentences that somebody waits for got a slot."""
        self.encode_seconds = metrics.ENCODE_SECONDS.labels(model)

    def __call__(self, event: Event) -> None:
        if event.kind == "step":
            tally = self.tallies[event.loop]
            tally.steps += 1
            tally.rows += event.rows
            tally.seconds += event.end - event.start
        elif event.kind == "encode":
            self.encode_seconds.observe(event.end - event.start)
        elif event.future is not None:
            self.joined[event.future] = event.start

    def finished(self, sentence: Sentence, submitted: float) -> float:
        """Count a sentence that has just been translated. Returns when it got its slot; ``time.perf_counter()``."""
        joined = max(submitted, self.joined.get(sentence, submitted))
        metrics.QUEUE_SECONDS.labels(self.model).observe(joined - submitted)
        metrics.DECODE_SECONDS.labels(self.model).observe(perf_counter() - joined)
        return joined

    def flush(self) -> None:
        """Tell the metrics what the loops have done since the last time."""
        tallies = list(self.tallies.values())
        now = Tally(*(sum(getattr(each, name) for each in tallies) for name in ("steps", "rows", "seconds")))
        metrics.STEPS.labels(self.model).inc(now.steps - self.told.steps)
        metrics.STEP_ROWS.labels(self.model).inc(now.rows - self.told.rows)
        metrics.STEP_SECONDS.labels(self.model).inc(now.seconds - self.told.seconds)
        self.told = now
