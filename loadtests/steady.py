"""Does a server stay what it is? Half an hour of arrivals at four fifths of its capacity.

``python -m loadtests.steady [--minutes 30] [--share 0.8] [--output reports]``

The capacity is what a closed loop of clients gets answered. Then requests arrive at random (Poisson), and time counts
from when a request was due. Memory is that of the supervisor and its workers together, read every second. It must stay
where it was at the end of the first minutes, in which caches and the runtime's memory fill. Every reply is looked at.
Refusals (429) are counted apart from errors: at this rate some arrivals come so close together that the last of them
would wait longer than the server's latency objective.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests.disruption import supervisor
from loadtests.lean import Answer
from loadtests.machine import describe
from loadtests.overload import PATIENCE, Traffic, capacity, points, traffic_to
from loadtests.server import ServerError, started
from loadtests.traffic import Question, problem

NAME = "steady"
GROWTH_PERCENT = 3.0
"""That memory may have grown after the first minutes."""
CHUNK = 100
"""Requests that are written together, shortly before they are due."""
PERCENTILES = (50, 95, 97, 99)


@dataclass
class Tally:
    """What became of the requests that were due in some minutes."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)
    """Seconds, of replies."""
    late: list[float] = field(default_factory=list)
    """Seconds, of the generator."""
    memory: list[float] = field(default_factory=list)
    """Megabytes."""

    def add(self, question: Question, answer: Answer) -> None:
        self.statuses[str(answer.status) if answer.status else "connection lost"] += 1
        self.late.append(answer.late)
        if answer.status == 200:
            self.took.append(answer.took)
            if found := problem(question, answer.body):
                self.wrong[found] += 1

    def row(self) -> dict[str, Any]:
        return {
            "replies": self.statuses["200"],
            "refused": self.statuses["429"],
            "errors": self.statuses.total() - self.statuses["200"] - self.statuses["429"] + self.wrong.total(),
            "reply_ms": points(self.took, PERCENTILES),
            "memory_mb": round(median(self.memory), 1),
        }


def together(tallies: Iterable[Tally]) -> Tally:
    """One tally of them all."""
    whole = Tally()
    for tally in tallies:
        whole.statuses += tally.statuses
        whole.wrong += tally.wrong
        for name in ("took", "late", "memory"):
            getattr(whole, name).extend(getattr(tally, name))
    return whole


def arrivals(traffic: Traffic, rate: float, seconds: float) -> Iterator[tuple[float, Question, bytes]]:
    """When a request is due, in seconds from the start, and what it is."""
    random = np.random.default_rng(traffic.seed)
    due, number = 0.0, 0
    while True:
        number += 1
        for question, request in traffic.questions(CHUNK, number):
            due += random.exponential(1 / rate)
            if due >= seconds:
                return
            yield due, question, request


async def arrive(
    traffic: Traffic, rate: float, seconds: float, memory: Callable[[], float], tell: Callable[[float], None]
) -> list[Tally]:
    """One tally for each minute. ``memory`` gives megabytes, ``tell`` is told the seconds that have passed."""
    tallies = [Tally() for _ in range(int(np.ceil(seconds / 60)))]
    start = time.perf_counter()
    under_way: set[asyncio.Future[Answer]] = set()

    async def watch() -> None:
        while (passed := time.perf_counter() - start) < seconds:
            tallies[int(passed / 60)].memory.append(memory())
            tell(passed)
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    for at, question, request in arrivals(traffic, rate, seconds):
        if (early := start + at - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        future = traffic.client.ask(request, start + at)
        under_way.add(future)

        def finished(done: asyncio.Future[Answer], at: float = at, question: Question = question) -> None:
            under_way.discard(done)
            tallies[int(at / 60)].add(question, done.result())

        future.add_done_callback(finished)
    await watching
    if under_way:
        await asyncio.wait(under_way, timeout=PATIENCE)
        await asyncio.sleep(0)  # the last callbacks
    if under_way:
        tallies[-1].statuses["no answer"] += len(under_way)
    return tallies


def judge(tallies: list[Tally], settle: int) -> dict[str, Any]:
    """Figures of the whole, and what was missed, in words. ``settle``: minutes in which memory may still grow."""
    reference = median(tallies[settle - 1].memory)
    after = [median(tally.memory) for tally in tallies[settle:]]
    growth = {"last": after[-1], "largest": max(after)}
    memory = {"reference_mb": round(reference, 1), "last_mb": round(after[-1], 1)}
    memory |= {f"{name}_growth_percent": round(100 * (mb / reference - 1), 2) for name, mb in growth.items()}
    whole = together(tallies)
    missed = [f"{count} of status {status}" for status, count in whole.statuses.items() if status not in ("200", "429")]
    missed += [f"{count} replies: {what}" for what, count in whole.wrong.items()]
    if memory["largest_growth_percent"] > GROWTH_PERCENT:
        missed.append(f"memory grew by {memory['largest_growth_percent']} %")
    return {
        "statuses": dict(sorted(whole.statuses.items())),
        "wrong": dict(whole.wrong),
        "reply_ms": points(whole.took, PERCENTILES),
        "generator_late_ms": points(whole.late, PERCENTILES),
        "memory": memory,
        "missed": missed,
        "passed": not missed,
    }


def windows(tallies: list[Tally], minutes: int) -> list[dict[str, Any]]:
    """A row for each ``minutes``."""
    groups = [tallies[first : first + minutes] for first in range(0, len(tallies), minutes)]
    ends = accumulate(map(len, groups))
    return [{"to_minute": end} | together(group).row() for end, group in zip(ends, groups, strict=True)]


def table(report: dict[str, Any]) -> Table:
    """A line for each window."""
    title = f"{report['offered_per_s']:g} requests/s, {report['share']:.0%} of the capacity; milliseconds"
    names = ["to minute", "replies", "refused", "errors", *(f"p{each}" for each in PERCENTILES), "MB"]
    shown = Table(*names, title=title, box=SIMPLE_HEAD)
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in report["rows"]:
        counts = (row[name] for name in ("to_minute", "replies", "refused", "errors"))
        shown.add_row(*map(str, counts), *(f"{each:g}" for each in row["reply_ms"].values()), f"{row['memory_mb']:g}")
    return shown


async def measure(
    traffic: Traffic, clients: int, share: float, minutes: int, settle: int, memory: Callable[[], float]
) -> dict[str, Any]:
    await capacity(traffic, clients, 3)
    reached = await capacity(traffic, clients, 12)
    with Progress() as progress:
        bar = progress.add_task("minutes", total=minutes)
        tallies = await arrive(
            traffic, share * reached, 60 * minutes, memory, lambda seconds: progress.update(bar, completed=seconds / 60)
        )
    traffic.client.close()
    figures = {"capacity_per_s": round(reached, 1), "share": share, "offered_per_s": round(share * reached, 1)}
    return figures | {"minutes": minutes, "settle": settle, "rows": windows(tallies, settle)} | judge(tallies, settle)


def main(
    minutes: Annotated[int, typer.Option(min=2, help="of arrivals")] = 30,
    settle: Annotated[int, typer.Option(min=1, help="minutes after which memory must not grow")] = 5,
    share: Annotated[float, typer.Option(min=0.01, help="of the capacity that arrives")] = 0.8,
    clients: Annotated[int, typer.Option(min=1, help="that find out the capacity")] = 32,
    seed: Annotated[int, typer.Option(help="same seed, same requests")] = 1,
    output: Annotated[Path, typer.Option(help="directory of the report")] = Path("reports"),
) -> None:
    """Exits with 1 where the server does not stay what it is, with 2 without a server."""
    if settle >= minutes:
        raise typer.BadParameter("--settle must be less than --minutes")
    console = Console()
    try:
        with started(output / f"{NAME}.server.log") as server:
            parent = supervisor(server)

            def memory() -> float:
                return sum(each.memory_info().rss for each in (parent, *parent.children(recursive=True))) / 1e6

            report = uvloop.run(measure(traffic_to(server.url, seed), clients, share, minutes, settle, memory))
    except ServerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from None
    report |= {"seed": seed, "machine": describe("bentoml", "uvicorn", "onnxruntime", "numpy")}
    (output / f"{NAME}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(table(report))
    for line in report["missed"]:
        console.print(f"missed: {line}", markup=False)
    grown = report["memory"]["largest_growth_percent"]
    console.print(f"memory {grown:+.2f} % after minute {settle}; written to {output}/{NAME}.json", markup=False)
    if not report["passed"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
