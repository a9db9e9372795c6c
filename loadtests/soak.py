"""Does memory grow? Resident memory of an engine while it translates very many sentences of random length.

``python -m loadtests.soak [--package DIRECTORY] [--sentences 200000] [--reference 20000]``

Sources are random sub-words: their lengths are spread like those of text, one in a hundred is as long as allowed. Most
searches are greedy, some have a beam, some give attention, and one in a hundred may end where it likes; the others are
cut after a few sub-words, so that there is time for many. Each package runs in a process of its own, with as many
decode loops as the service has, and its queue is never empty. What Python has not yet collected is collected before
memory is read: that it will go is known, what stays is the question.
"""

import gc
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from random import Random
from threading import Condition
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from export.package import Package
from loadtests.engines import PATIENCE, Output, Packages, Precision, opened, running
from loadtests.machine import describe
from service.engine import Hypothesis, Job
from service.text.tokens import Tokenizer

SHORTEST = 3
"""Tag, one sub-word, EOS."""
TYPICAL, SPREAD = 22, 0.6
"""Median length of a source, and deviation of its logarithm: about what news has."""
RARE = 0.01
"""Share of sources of the longest length, and of targets that may end where they like."""
BEAM, ATTENTION = 0.1, 0.1
"""Shares of sentences."""
LARGEST_BEAM = 5
STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Plan:
    """How much is translated; ``sentences`` and ``reference`` are multiples of ``every``, that is one of ``wave``."""

    sentences: int
    reference: int
    """Sentences after which memory is what it should stay."""
    every: int
    """Sentences from one reading of memory to the next."""
    wave: int
    """Sentences that are submitted together; one to two waves are under way at any time."""
    max_length: int
    """Of most targets."""
    seed: int


class Tally:
    """Counts answers and keeps none of them."""

    def __init__(self) -> None:
        self.done = 0
        self.errors: Counter[str] = Counter()
        self._wanted = 0
        self._changed = Condition()

    def __call__(self, future: "Future[list[Hypothesis]]") -> None:
        error = future.exception()
        with self._changed:
            self.done += 1
            if error is not None:
                self.errors[repr(error)] += 1
            if self.done >= self._wanted:
                self._changed.notify_all()

    def wait(self, count: int) -> None:
        """Until there are ``count`` answers. Raises ``TimeoutError`` where they do not come."""
        with self._changed:
            self._wanted = count
            if not self._changed.wait_for(lambda: self.done >= count, PATIENCE):
                raise TimeoutError(f"{count - self.done} of {count} sentences were not answered")


def jobs(package: Package, plan: Plan) -> Iterator[Job]:
    """Sentences without end; the seed decides."""
    random, manifest = Random(plan.seed), package.manifest
    vocabulary = range(Tokenizer(package.tokenizer_path).model.get_piece_size())
    control = {*manifest.special.model_dump().values(), *manifest.tags.values()}
    ordinary = [token for token in vocabulary if token not in control]
    tags, longest = list(manifest.tags.values()), manifest.max_length
    while True:
        length = round(random.lognormvariate(math.log(TYPICAL), SPREAD))
        length = longest if random.random() < RARE else min(max(length, SHORTEST), longest)
        beam_size = random.randint(2, LARGEST_BEAM) if random.random() < BEAM else 1
        yield Job(
            [random.choice(tags), *random.choices(ordinary, k=length - 2), manifest.special.eos],
            beam_size=beam_size,
            n_best=random.randint(1, beam_size),
            attention=random.random() < ATTENTION,
            max_length=None if random.random() < RARE else random.randint(1, plan.max_length),
        )


def resident() -> float:
    """Megabytes of this process that are in memory. Needs Linux."""
    return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def soak(path: Path, precision: str, plan: Plan) -> dict[str, Any]:
    """Translate ``plan.sentences`` and one wave more, so that the last reading too is one of an engine at work."""
    package, tally, started = Package.open(path), Tally(), time.monotonic()
    source = jobs(package, plan)
    checkpoints: list[dict[str, float]] = []
    lowest = plan.wave
    columns = *Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    with running(package, precision=precision) as engine, Progress(*columns) as progress:
        task = progress.add_task(package.manifest.name, total=plan.sentences)
        for done in range(0, plan.sentences + 1, plan.wave):
            for future in engine.submit_all([next(source) for _ in range(plan.wave)]):
                future.add_done_callback(tally)
            tally.wait(done)
            lowest = min(lowest, engine.queued)
            progress.update(task, completed=done)
            if done and done % plan.every == 0:
                gc.collect()
                checkpoints.append({"sentences": done, "rss_mb": round(resident(), 2)})
        seconds = time.monotonic() - started
    return {
        "model": package.manifest.name,
        "version": package.manifest.version,
        "precision": precision,
        "seconds": round(seconds, 1),
        "lowest_queue": lowest,
        "errors": dict(tally.errors),
        "checkpoints": checkpoints,
    }


def judge(row: dict[str, Any], reference: int, limit: float) -> dict[str, Any]:
    """Growth in percent, at the end and at its largest, of what was resident after ``reference`` sentences."""
    later = [point["rss_mb"] for point in row["checkpoints"] if point["sentences"] >= reference]
    growth = [100 * (each - later[0]) / later[0] for each in later]
    return row | {
        "reference_mb": later[0],
        "last_mb": later[-1],
        "growth_percent": round(growth[-1], 2),
        "largest_growth_percent": round(max(growth), 2),
        "passed": growth[-1] <= limit and not row["errors"],
    }


def table(rows: Sequence[dict[str, Any]], reference: int) -> Table:
    """A line for each reading, a column for each package."""
    shown = Table(box=SIMPLE_HEAD)
    shown.add_column("resident MB after", justify="right")
    for row in rows:
        shown.add_column(f"{row['model']} {row['precision']}", justify="right", overflow="fold")
    for points in zip(*(row["checkpoints"] for row in rows), strict=True):
        growth = [point["rss_mb"] / row["reference_mb"] - 1 for point, row in zip(points, rows, strict=True)]
        cells = [f"{point['rss_mb']:.1f} ({each:+.1%})" for point, each in zip(points, growth, strict=True)]
        count = points[0]["sentences"]
        shown.add_row(f"{count:,}", *cells, style="bold" if count == reference else None)
    return shown


def main(
    package: Packages = None,
    precision: Precision = "int8",
    sentences: Annotated[int, typer.Option(min=1)] = 200_000,
    reference: Annotated[int, typer.Option(min=1, help="sentences after which memory must not grow")] = 20_000,
    every: Annotated[int, typer.Option(min=1, help="sentences between two readings")] = 10_000,
    wave: Annotated[int, typer.Option(min=1, max=2048, help="sentences submitted together")] = 1000,
    max_length: Annotated[int, typer.Option(min=1, help="sub-words of most targets")] = 12,
    limit: Annotated[float, typer.Option(help="largest growth, in percent")] = 3.0,
    seed: Annotated[int, typer.Option(help="same seed, same sentences")] = 1,
    output: Output = Path("reports"),
) -> None:
    """Exits with 1 where memory has grown by more than the limit, or a sentence failed."""
    if every % wave or sentences % every or reference % every or reference > sentences:
        raise typer.BadParameter("--sentences and --reference must be multiples of --every, that of --wave")
    console = Console()
    plan = Plan(sentences, reference, every, wave, max_length, seed)
    rows = []
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as fresh:
        for each in opened(package, precision):
            row = fresh.submit(soak, each.path, precision, plan).result()
            rows.append(judge(row, reference, limit))
    settings = {"reference": reference, "wave": wave, "max_length": max_length, "seed": seed}
    output.mkdir(parents=True, exist_ok=True)
    report = describe("onnxruntime", "numpy") | settings | {"limit_percent": limit, "rows": rows}
    (output / "soak.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(table(rows, reference))
    for row in rows:
        failed = f", {sum(row['errors'].values())} sentences failed" if row["errors"] else ""
        console.print(f"{row['model']}: {row['growth_percent']:+.2f} % in {row['seconds']:.0f} s{failed}")
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
