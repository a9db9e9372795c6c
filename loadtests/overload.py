"""What a server does with more than it can do: arrivals at 1, 2, 4 and 8 times its capacity.

``python -m loadtests.overload [--url URL] [--seconds 12] [--rounds 3] [--clients 32] [--output reports]``

The capacity is what a closed loop of clients gets answered. Then requests arrive at random (Poisson), whether or not
earlier ones are answered, and time counts from when a request was due: a generator that is late makes the server look
worse, never better. Its own lateness and share of a processor are reported. *Goodput* is replies within a second. After
each load single requests ask, one after the other, whether the server is itself again. It has no cache of translations.
All rates take turns, several rounds long: what else goes on in the machine then meets all of them.
"""

import asyncio
import json
import operator
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Annotated, Any

import httpx
import numpy as np
import typer
import uvloop
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtests.lean import Answer, Client
from loadtests.machine import describe
from loadtests.server import ServerError, served
from loadtests.traffic import SENTENCES, Model, Question, Sentences, ask, problem, read_models, read_sentences

NAME = "overload"
FACTORS = (1, 2, 4, 8)
IN_TIME = 1.0
"""Seconds after which a reply is of no use any more."""
ROUND, ROUNDS = 9, 5
"""Different single requests that show the latency of an idle server, and how often each is made."""
PAUSE = 0.02
"""Seconds between two of them."""
BACK_OFF = 0.1
"""Seconds that a client of the closed loop waits after a refusal."""
PREPARED = 20_000
"""Different requests of the closed loop, after which the same come again."""
WARM_UP = 0.25
"""Share of the closed loop that is not counted."""
SETTLE, WATCH = 1.0, 3.0
"""Seconds after the end of a load in which the server must be itself again, and in which it is watched."""
KEPT, REFUSED_MS, SLOWER = 0.9, 20.0, 1.25
"""What must hold: share of the best goodput at the highest rate, median of refusals, idle latency over that before."""
PATIENCE = 90.0


@dataclass(frozen=True)
class Traffic:
    """Where the requests go, and what they are made of."""

    client: Client
    models: Sequence[Model]
    sentences: Sentences
    seed: int

    def questions(self, count: int, seed: int) -> list[tuple[Question, bytes]]:
        random = Random(f"{self.seed}.{seed}")
        asked = [ask(random, self.models, self.sentences) for _ in range(count)]
        return [(question, self.client.request("/v1/translate", question.body)) for question in asked]

    def probes(self) -> list[bytes]:
        """Single sentences, the same each time."""
        asked = [request for question, request in self.questions(20 * ROUND, 0) if "sentence" in question.name]
        return asked[:ROUND]


@dataclass
class Load:
    """What became of the arrivals at one rate, in a round or in all."""

    factor: float
    rate: float
    seconds: float
    questions: list[Question]
    answers: list[Answer | None]
    """None: not answered within ``PATIENCE``."""
    cpu: float
    """Of the generator: its share of one processor."""
    after: list[list[tuple[float, Answer]]] = field(default_factory=list)
    """Of each round: seconds since the end of the load, and a single request of that moment."""

    def __add__(self, other: "Load") -> "Load":
        """Both rounds."""
        seconds = self.seconds + other.seconds
        cpu = (self.cpu * self.seconds + other.cpu * other.seconds) / seconds
        questions, answers = self.questions + other.questions, self.answers + other.answers
        return Load(self.factor, self.rate, seconds, questions, answers, cpu, self.after + other.after)

    def row(self, idle_ms: float) -> dict[str, Any]:
        answered = [answer for answer in self.answers if answer is not None]
        good = [answer for answer in answered if answer.status == 200]
        refused = [answer for answer in answered if answer.status == 429]
        statuses = Counter(str(answer.status) if answer.status else "connection lost" for answer in answered)
        statuses["no answer"] = len(self.answers) - len(answered)
        wrong = Counter(
            found
            for question, answer in zip(self.questions, self.answers, strict=True)
            if answer is not None and answer.status == 200 and (found := problem(question, answer.body))
        )
        settled = [answer for each in self.after for at, answer in each if at >= SETTLE]
        normal = [normal_after(each, SLOWER * idle_ms) for each in self.after]
        return {
            "factor": self.factor,
            "offered_per_s": round(self.rate, 1),
            "arrivals": len(self.answers),
            "goodput_per_s": round(sum(answer.took <= IN_TIME for answer in good) / self.seconds, 1),
            "replies_per_s": round(len(good) / self.seconds, 1),
            "reply_ms": points(answer.took for answer in good),
            "refused": len(refused),
            "refused_ms": points(answer.took for answer in refused),
            "without_retry_after": sum(not answer.retry_after.isdecimal() for answer in refused),
            "statuses": dict(sorted(statuses.items())),
            "server_errors": sum(answer.status >= 500 for answer in answered),
            "unanswered": statuses["no answer"] + statuses["connection lost"],
            "wrong": dict(wrong),
            "idle_ms_after_1_s": points(answer.took for answer in settled),
            "normal_after_s": None if None in normal else max(filter(None, normal), default=0.0),
            "generator": {"late_ms": points(answer.late for answer in answered), "cpu": round(self.cpu, 3)},
        }


def points(seconds: Iterable[float], names: Sequence[int] = (50, 95, 99)) -> dict[str, float]:
    """Percentiles in milliseconds; none of nothing."""
    values = [1000 * value for value in seconds]
    return {f"p{name}": round(float(np.percentile(values, name)), 2) for name in names} if values else {}


def normal_after(probes: Sequence[tuple[float, Answer]], limit_ms: float) -> float | None:
    """Seconds after which a single request, and the median of a round from it on, took at most ``limit_ms``."""
    for first in range(len(probes) - ROUND + 1):
        group = [answer for _, answer in probes[first : first + ROUND]]
        middle = points(each.took for each in group)["p50"]
        if all(each.status == 200 for each in group) and max(middle, 1000 * group[0].took) <= limit_ms:
            return round(probes[first][0], 2)
    return None


async def probe(client: Client, requests: Sequence[bytes], until: Callable[[int], bool]) -> list[tuple[float, Answer]]:
    """Single requests, one after the other, for as long as ``until`` of their number is false."""
    start = time.perf_counter()
    found: list[tuple[float, Answer]] = []
    while not until(len(found)):
        at = time.perf_counter()
        found.append((at - start, await client.ask(requests[len(found) % len(requests)], at)))
        await asyncio.sleep(PAUSE)
    return found


async def capacity(traffic: Traffic, clients: int, seconds: float) -> float:
    """Replies in a second that ``clients`` get who ask again as soon as they are answered."""
    requests = cycle(traffic.questions(PREPARED, 1))
    start = time.perf_counter()
    counted = start + WARM_UP * seconds
    end = start + seconds
    done = 0

    async def user() -> None:
        nonlocal done
        while (now := time.perf_counter()) < end:
            answer = await traffic.client.ask(next(requests)[1], now)
            if answer.status != 200:
                await asyncio.sleep(BACK_OFF)
            done += answer.status == 200 and counted <= time.perf_counter() < end

    await asyncio.gather(*(user() for _ in range(clients)))
    return done / (end - counted)


async def load(traffic: Traffic, factor: float, reached: float, seconds: float, number: int = 0) -> Load:
    """Arrivals for ``seconds`` at ``factor`` times the rate that was ``reached``, then single requests for ``WATCH``
    seconds. Each ``number`` is another draw.
    """
    rate, probes = factor * reached, traffic.probes()
    random = np.random.default_rng([traffic.seed, int(1000 * factor), number])
    due = random.exponential(1 / rate, int(2 * rate * seconds) + 100).cumsum()
    due = due[due < seconds]
    asked = traffic.questions(len(due), 1 + int(1000 * factor) + number)
    used = time.process_time()
    start = time.perf_counter()
    answers = []
    for at, (_, request) in zip(due.tolist(), asked, strict=True):
        if (early := start + at - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        answers.append(traffic.client.ask(request, start + at))
    await asyncio.sleep(max(0.0, start + seconds - time.perf_counter()))
    cpu = (time.process_time() - used) / (time.perf_counter() - start)
    end = time.perf_counter() + WATCH
    after = await probe(traffic.client, probes, lambda _: time.perf_counter() > end)
    await asyncio.wait(answers, timeout=PATIENCE)
    return Load(
        factor,
        rate,
        seconds,
        [question for question, _ in asked],
        [answer.result() if answer.done() else None for answer in answers],
        cpu,
        [after],
    )


def traffic_to(url: str, seed: int) -> Traffic:
    """For all models that a server has."""
    sentences = read_sentences(SENTENCES)
    return Traffic(Client(url), read_models(httpx.get(f"{url}/v1/models").json(), sentences), sentences, seed)


async def measure(traffic: Traffic, clients: int, seconds: float, rounds: int) -> dict[str, Any]:
    """All rates, one after the other, in each round."""
    probes = traffic.probes()
    await capacity(traffic, clients, seconds / 4)
    idle = points(answer.took for _, answer in await probe(traffic.client, probes, lambda n: n == ROUND * ROUNDS))
    reached = await capacity(traffic, clients, seconds)
    loads = [[await load(traffic, factor, reached, seconds, number) for factor in FACTORS] for number in range(rounds)]
    rows = [reduce(operator.add, same).row(idle["p50"]) for same in zip(*loads, strict=True)]
    traffic.client.close()
    figures = {"capacity_per_s": round(reached, 1), "rounds": rounds, "clients": clients, "idle_ms": idle}
    return figures | {"rows": rows} | judge(rows)


def judge(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What was missed, in words."""
    best = max(row["goodput_per_s"] for row in rows)
    kept = rows[-1]["goodput_per_s"] / best if best else 0.0
    missed = [] if kept >= KEPT else [f"goodput at {rows[-1]['factor']:g} times the capacity is {kept:.0%} of the best"]
    for row in rows:
        name = f"at {row['factor']:g} times the capacity"
        if row["refused_ms"].get("p50", 0) >= REFUSED_MS:
            missed.append(f"{name} a refusal takes {row['refused_ms']['p50']:g} ms")
        kinds = ("without_retry_after", "server_errors", "unanswered", "wrong")
        missed += [f"{name} {what.replace('_', ' ')}: {row[what]}" for what in kinds if row[what]]
        if row["normal_after_s"] is None or row["normal_after_s"] > SETTLE:
            missed.append(f"{name} idle latency is back to normal after {row['normal_after_s']} s")
    return {"goodput_kept": round(kept, 3), "missed": missed, "passed": not missed}


def table(report: dict[str, Any]) -> Table:
    """A line for each rate."""
    names = ["times", "offered/s", "goodput/s", "reply p50", "p95", "refused", "p50", "5xx", "normal after", "late p99"]
    title = f"capacity {report['capacity_per_s']:g} requests/s, idle {report['idle_ms']['p50']:g} ms; milliseconds"
    shown = Table(*names, title=title, box=SIMPLE_HEAD)
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in report["rows"]:
        reply, refused, late = row["reply_ms"], row["refused_ms"], row["generator"]["late_ms"]
        figures = [row["factor"], row["offered_per_s"], row["goodput_per_s"], reply.get("p50"), reply.get("p95")]
        figures += [row["refused"], refused.get("p50"), row["server_errors"], row["normal_after_s"], late.get("p99")]
        shown.add_row(*("-" if figure is None else f"{figure:g}" for figure in figures))
    return shown


def main(
    url: Annotated[str | None, typer.Option(help="running server; without it one is started and stopped")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="of arrivals at each rate")] = 12,
    rounds: Annotated[int, typer.Option(min=1, help="in each of which all rates have their turn")] = 3,
    clients: Annotated[int, typer.Option(min=1, help="that find out the capacity")] = 32,
    seed: Annotated[int, typer.Option(help="same seed, same requests")] = 1,
    output: Annotated[Path, typer.Option(help="directory of the report")] = Path("reports"),
) -> None:
    """Exits with 1 where the server does not keep what is promised, with 2 without a server."""
    console = Console()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with served(url, output / f"{NAME}.server.log") as base:
            report = uvloop.run(measure(traffic_to(base, seed), clients, seconds, rounds))
    except ServerError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(2) from None
    report |= {"seconds": seconds, "seed": seed, "machine": describe("bentoml", "uvicorn", "onnxruntime", "numpy")}
    (output / f"{NAME}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(table(report))
    for line in report["missed"]:
        console.print(f"missed: {line}", markup=False)
    console.print(f"goodput kept {report['goodput_kept']:.0%}; written to {output}/{NAME}.json", markup=False)
    if not report["passed"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
