"""How long do short sentences wait for long ones? Continuous batching beside static batches of the same engine.

``python -m loadtests.arrivals [--package DIRECTORY] [--rounds 5] [--sentences 2000] SET.en-fr.tsv``

Sentences of mixed length arrive at random (Poisson), whether or not earlier ones are answered, and latency counts from
when a sentence was due. *continuous* hands each to the engine when it arrives. *static* hands over up to ``BATCH``
waiting ones, the oldest first, whenever the batch before is done, and answers none before all of the batch are done.
Both meet the same arrivals, with one decode loop and ``BATCH`` slots, at a rate that both keep up with: a share of the
smaller of what they reach when everything is there at once. The static batch is a good one, since the engine drops its
padding and the rows that are finished.
"""

import json
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from export.package import Package
from loadtests.engines import PATIENCE, Output, Packages, Precision, Sentence, on_one_core, opened
from loadtests.machine import describe
from loadtests.peers import BATCH
from loadtests.report import PERCENTILES
from loadtests.samples import read_files
from loadtests.sets import SOURCES
from service.engine import Hypothesis, Job

SHORT = 8
"""A sentence with fewer words is short."""
PILOT = 512
"""Sentences that are there at once to find out what a way of batching can do."""
QUEUE = 2**16
"""Arrivals are never refused: what is measured is how long they wait."""
SAME = 0.05
"""Largest difference between two throughputs that are called the same."""
CONTINUOUS, STATIC = "continuous", "static"
GROUPS = {"short": range(SHORT), "long": range(SHORT, sys.maxsize), "all": range(sys.maxsize)}
"""Numbers of words."""

Submit = Callable[[Sequence[Job]], "list[Future[list[Hypothesis]]]"]


class Arrival(NamedTuple):
    at: float
    """Seconds after the start at which it is due."""
    sentence: Sentence


class Answer(NamedTuple):
    number: int
    time: float
    """Of ``time.perf_counter``."""
    tokens: int | None
    """Sub-words of the translation; None for a failure."""


@dataclass(frozen=True)
class Sample:
    """One way of batching through one sequence of arrivals."""

    seconds: float
    """From the start to the last answer."""
    words: list[int]
    latencies: list[float]
    """Seconds of each sentence, beside its number of words; a failure has a latency too."""
    tokens: int
    errors: int

    @property
    def rate(self) -> float:
        """Sentences per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: int, group: str = "all") -> float:
        """Milliseconds; of a group of ``GROUPS`` that somebody belongs to."""
        chosen = [each for words, each in zip(self.words, self.latencies, strict=True) if words in GROUPS[group]]
        return 1000 * float(np.percentile(chosen, percent))


class Inbox:
    """Answers with the time at which the engine gave them, taken in its own thread."""

    def __init__(self) -> None:
        self._answers: SimpleQueue[Answer] = SimpleQueue()

    def expect(self, number: int, future: "Future[list[Hypothesis]]") -> None:
        def arrived(done: "Future[list[Hypothesis]]") -> None:
            now = time.perf_counter()
            tokens = None if done.cancelled() or done.exception() else len(done.result()[0].token_ids)
            self._answers.put(Answer(number, now, tokens))

        future.add_done_callback(arrived)

    def take(self, count: int) -> list[Answer]:
        """Wait for ``count`` answers. Raises ``queue.Empty`` where one does not come."""
        return [self._answers.get(timeout=PATIENCE) for _ in range(count)]


def wait_until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left)


def continuous(submit: Submit, arrivals: Sequence[Arrival]) -> Sample:
    """Hand over each sentence when it is due."""
    inbox, start = Inbox(), time.perf_counter()
    for number, arrival in enumerate(arrivals):
        wait_until(start + arrival.at)
        (future,) = submit([Job(arrival.sentence.source_ids)])
        inbox.expect(number, future)
    return collect(arrivals, inbox.take(len(arrivals)), start)


def static(submit: Submit, arrivals: Sequence[Arrival]) -> Sample:
    """Hand over what waits, up to a full batch, when the batch before is done; answer a batch as a whole."""
    due = [arrival.at for arrival in arrivals]
    answers: list[Answer] = []
    inbox, start = Inbox(), time.perf_counter()
    while (first := len(answers)) < len(arrivals):
        wait_until(start + due[first])
        waiting = max(first + 1, bisect_right(due, time.perf_counter() - start))
        batch = range(first, min(first + BATCH, waiting))
        for number, future in zip(batch, submit([Job(arrivals[i].sentence.source_ids) for i in batch]), strict=True):
            inbox.expect(number, future)
        done = inbox.take(len(batch))
        end = max(answer.time for answer in done)
        answers += [answer._replace(time=end) for answer in done]
    return collect(arrivals, answers, start)


WAYS = {CONTINUOUS: continuous, STATIC: static}


def collect(arrivals: Sequence[Arrival], answers: Sequence[Answer], start: float) -> Sample:
    return Sample(
        seconds=max(answer.time for answer in answers) - start,
        words=[arrivals[answer.number].sentence.words for answer in answers],
        latencies=[answer.time - start - arrivals[answer.number].at for answer in answers],
        tokens=sum(answer.tokens or 0 for answer in answers),
        errors=sum(answer.tokens is None for answer in answers),
    )


def poisson(sentences: Sequence[Sentence], count: int, rate: float, seed: int) -> list[Arrival]:
    """``count`` arrivals, ``rate`` a second on average, of random sentences: the same ones at any rate."""
    random = np.random.default_rng(seed)
    chosen = random.integers(len(sentences), size=count).tolist()
    due = (random.exponential(size=count).cumsum() / rate).tolist()
    return [Arrival(at, sentences[i]) for at, i in zip(due, chosen, strict=True)]


@dataclass(frozen=True)
class Plan:
    """How much is measured, and at which rate."""

    rounds: int
    sentences: int
    """In each round, for each way of batching."""
    share: float
    """Of the smaller of the two capacities."""
    rate: float | None
    """Sentences per second instead of a share."""
    limit: float
    seed: int


def measure(package: Package, precision: str, sentences: Sequence[Sentence], plan: Plan) -> dict[str, Any]:
    """One package: a pilot, then every round both ways, every second round in the other order."""
    with on_one_core(package, precision=precision, slots=BATCH, queue_size=QUEUE) as engine:
        submit = engine.submit_all
        pilot = [Arrival(0.0, sentence) for _, sentence in poisson(sentences, PILOT, 1.0, plan.seed)]
        for way in WAYS.values():
            way(submit, pilot[:BATCH])
        capacity = {name: way(submit, pilot).rate for name, way in WAYS.items()}
        rate = plan.rate or plan.share * min(capacity.values())
        samples: dict[str, list[Sample]] = {name: [] for name in WAYS}
        for number in range(plan.rounds):
            arrivals = poisson(sentences, plan.sentences, rate, plan.seed + number)
            if not any(arrival.sentence.words < SHORT for arrival in arrivals):
                raise ValueError(f"no sentence of a round has under {SHORT} words: more are needed")
            for name in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
                samples[name].append(WAYS[name](submit, arrivals))
    return {
        "model": package.manifest.name,
        "version": package.manifest.version,
        "precision": precision,
        "capacity_per_s": {name: round(value, 1) for name, value in capacity.items()},
        "offered_per_s": round(rate, 1),
    } | judge(samples, plan.limit)


def judge(samples: dict[str, list[Sample]], limit: float) -> dict[str, Any]:
    """Figures of both ways, and whether the 95th percentile of short sentences is under the limit.

    Nothing has passed where a sentence failed or the throughputs are not the same.
    """
    ways = {name: figures(rounds) for name, rounds in samples.items()}
    ours, theirs = ways[CONTINUOUS], ways[STATIC]
    ratio = ours["short"]["p95_ms"] / theirs["short"]["p95_ms"]
    pairs = zip(samples[CONTINUOUS], samples[STATIC], strict=True)
    same = abs(ours["achieved_per_s"] / theirs["achieved_per_s"] - 1) <= SAME
    return {
        "ways": ways,
        "ratio_p95_short": round(ratio, 3),
        "ratio_p95_short_of_rounds": [
            round(a.percentile(95, "short") / b.percentile(95, "short"), 3) for a, b in pairs
        ],
        "same_throughput": same,
        "passed": ratio <= limit and same and not ours["errors"] + theirs["errors"],
    }


def figures(rounds: Sequence[Sample]) -> dict[str, Any]:
    """Medians over the rounds; errors of all. A group that is in none of the rounds is left out."""
    found: dict[str, Any] = {
        "achieved_per_s": round(median(sample.rate for sample in rounds), 2),
        "tokens_per_s": round(median(sample.tokens / sample.seconds for sample in rounds), 1),
        "errors": sum(sample.errors for sample in rounds),
    }
    for group, lengths in GROUPS.items():
        those = [sample for sample in rounds if any(words in lengths for words in sample.words)]
        if those:
            points = [(percent, median(each.percentile(percent, group) for each in those)) for percent in PERCENTILES]
            found[group] = {f"p{percent}_ms": round(point, 2) for percent, point in points}
    return found


def table(row: dict[str, Any]) -> Table:
    """A line for each way of batching and group of sentences."""
    title = f"{row['model']} {row['precision']}: {row['offered_per_s']} sentences/s arrive; milliseconds"
    shown = Table("", "sentences/s", "tokens/s", "", *(f"p{p}" for p in PERCENTILES), title=title, box=SIMPLE_HEAD)
    for column in shown.columns[1:]:
        column.justify = "right"
    for way, found in row["ways"].items():
        cells = [way, f"{found['achieved_per_s']:.1f}", f"{found['tokens_per_s']:.0f}"]
        for group in filter(found.get, GROUPS):
            shown.add_row(*cells, group, *(f"{point:.1f}" for point in found[group].values()))
            cells = [""] * len(cells)
    return shown


def main(
    sets: Annotated[list[Path], typer.Argument(metavar="SET...", help=SOURCES)],
    package: Packages = None,
    precision: Precision = "int8",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    sentences: Annotated[int, typer.Option(min=1, help="that arrive in each round")] = 2000,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="of what static batches can do")] = 0.7,
    rate: Annotated[float | None, typer.Option(min=0.01, help="sentences a second instead of a share")] = None,
    limit: Annotated[float, typer.Option(help="p95 of short sentences, over that with static batches")] = 0.5,
    seed: Annotated[int, typer.Option(help="same seed, same arrivals")] = 1,
    output: Output = Path("reports"),
) -> None:
    """Exits with 1 where short sentences wait too long, one failed, or the throughputs are not the same."""
    console = Console()
    where = describe("onnxruntime", "numpy", "sentencepiece")
    plan = Plan(rounds, sentences, share, rate, limit, seed)
    packages = opened(package, precision)
    chosen = read_files(packages, sets)
    try:
        rows = [measure(each, precision, found, plan) for each, found in zip(packages, chosen, strict=True)]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    settings = {"rounds": rounds, "sentences": sentences, "slots": BATCH, "short_words": SHORT, "seed": seed}
    output.mkdir(parents=True, exist_ok=True)
    report = where | settings | {"limit": limit, "rows": rows}
    (output / "arrivals.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for row in rows:
        note = "" if row["same_throughput"] else ", but not at the same throughput"
        console.print(table(row))
        console.print(f"{row['model']}: p95 of short sentences {row['ratio_p95_short']} of static batches{note}")
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
