"""What clients notice of a server that is stopped, and of a worker that is killed.

``python -m loadtests.disruption [--requests 100] [--kills 2] [--clients 16] [--seconds 6] [--output reports]``

*Stop*: so many requests are under way, each of many sentences, when the server is told to stop. How many are answered,
and as they were before? Requests that come later are to be refused in words.

*Kill*: clients ask one after the other without end, each over its own connection, and nobody tries again. A worker is
killed, as the kernel does for want of memory. How many requests were lost, how many refused, and how long was it until
the next one was answered? It is done to the server as it is and, since that is the other way, to one with two workers,
whose memory and throughput are measured as well. A worker that is killed within ten seconds of another is replaced at
the supervisor's next regular look, so it shows how long that takes where nobody tells the supervisor.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import httpx
import psutil
import typer
from rich.console import Console

from loadtests.disruption_report import judge, stop_line, table
from loadtests.machine import describe
from loadtests.server import Started, metric, started
from loadtests.traffic import SENTENCES, read_sentences

NAME = "disruption"
ENVIRONMENT = {
    "ATTENTIVE_CACHE_BYTES": "0",
    "ATTENTIVE_LATENCY_OBJECTIVE_MS": "0",
    "ATTENTIVE_RATE_LIMIT": "",
    "ATTENTIVE_KEYS_FILE": "",
}
"""Nothing is answered from memory, and nothing refused for being too much: that is measured elsewhere."""
TWO_WORKERS = "loadtests.two_workers:Attentive"
WORKER = "_bentoml_impl.worker.service"
FIRST, FIRST_SENTENCES, FIRST_BEAM = 4, 60, 8
"""Requests that the others have to wait for, their sentences and beam: so all can come before one is answered."""
REQUEST_SENTENCES = 20
"""Of each request under way when the server is stopped."""
REGULAR_S = 11.0
"""Seconds between two kills: more than between two looks of BentoML's supervisor for dead workers."""
PATIENCE = 60.0
POLL = 0.01


def body(text: str | Sequence[str]) -> dict[str, Any]:
    return {"text": text, "source": "en", "target": "fr"}


def supervisor(server: Started) -> psutil.Process:
    """The parent of the workers."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    parent = next(each for each in found if WORKER in each.cmdline()).parent()
    assert parent is not None
    return parent


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def workers(parent: psutil.Process) -> list[psutil.Process]:
    return [each for each in parent.children() if alive(each) and WORKER in each.cmdline()]


async def until(condition: Callable[[], bool], poll: float = POLL) -> float:
    """Wait for something that another process brings about; when that was."""
    deadline = time.perf_counter() + PATIENCE
    while not condition():
        if time.perf_counter() > deadline:
            raise TimeoutError
        await asyncio.sleep(poll)
    return time.perf_counter()


@asynccontextmanager
async def clients(server: Started, count: int) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, limits=limits) as client:
        yield client


async def stop(server: Started, requests: int) -> dict[str, Any]:
    """Stop a server while ``requests`` are under way."""
    sentences = read_sentences(SENTENCES)["en"]
    texts = [[sentences[(n + k) % len(sentences)] for k in range(REQUEST_SENTENCES)] for n in range(requests)]
    parent = supervisor(server)
    async with clients(server, FIRST + requests) as client, clients(server, 1) as other:

        async def ask(text: list[str], **options: int) -> list[str] | str:
            try:
                reply = await client.post("/v1/translate", json=body(text) | options)
            except httpx.TransportError as error:
                return type(error).__name__
            if reply.status_code != 200:
                return str(reply.status_code)
            return [each["text"] for each in reply.json()["translations"]]

        expected, first = [await ask(text) for text in texts], list(sentences[:FIRST_SENTENCES])
        before = [asyncio.create_task(ask(first, beam_size=FIRST_BEAM)) for _ in range(FIRST)]
        await asyncio.sleep(POLL)
        asked = [asyncio.create_task(ask(text)) for text in texts]
        under_way = 0.0
        while under_way < requests and not any(task.done() for task in asked):
            under_way = await metric(other, "attentive_in_flight") - sum(not task.done() for task in before)
        told = time.perf_counter()
        parent.terminate()
        refused = await later(other)
        answers = await asyncio.gather(*asked)
        await asyncio.gather(*before)
        answered = time.perf_counter() - told
    code = await asyncio.to_thread(server.process.wait, PATIENCE)
    outcomes = Counter(
        "right" if a == e else a if isinstance(a, str) else "wrong" for a, e in zip(answers, expected, strict=True)
    )
    return {
        "requests": requests,
        "sentences_each": REQUEST_SENTENCES,
        "under_way": int(under_way),
        "outcomes": dict(outcomes),
        "later": refused,
        "answered_s": round(answered, 2),
        "stopped_s": round(time.perf_counter() - told, 2),
        "exit_code": code,
    }


async def later(client: httpx.AsyncClient) -> dict[str, Any]:
    """What a request gets that comes when the server no longer says that it is ready."""
    while (await client.get("/readyz")).status_code == 200:
        pass
    reply = await client.post("/v1/translate", json=body("Hello."))
    return {"status": reply.status_code, "retry_after": reply.headers.get("Retry-After")}


class Answer(NamedTuple):
    """Times are ``time.perf_counter()``."""

    asked: float
    answered: float
    outcome: str
    """Status, or ``lost``."""


@dataclass
class Load:
    """Clients that ask without end."""

    answers: list[Answer] = field(default_factory=list)
    under_way: int = 0
    ended: bool = False

    async def client(self, server: Started, number: int) -> None:
        sentences = read_sentences(SENTENCES)["en"]
        async with clients(server, 1) as client:
            while not self.ended:
                number += 1
                asked = time.perf_counter()
                self.under_way += 1
                try:
                    reply = await client.post("/v1/translate", json=body(sentences[number % len(sentences)]))
                    outcome = str(reply.status_code)
                except httpx.TransportError:
                    outcome = "lost"
                self.under_way -= 1
                self.answers.append(Answer(asked, time.perf_counter(), outcome))
                if outcome != "200":
                    await asyncio.sleep(POLL)


@asynccontextmanager
async def load(server: Started, count: int) -> AsyncIterator[Load]:
    asking = Load()
    tasks = [asyncio.create_task(asking.client(server, 7 * number)) for number in range(count)]
    try:
        yield asking
    finally:
        asking.ended = True
        await asyncio.gather(*tasks)


async def kill(parent: psutil.Process, asking: Load) -> dict[str, Any]:
    """Kill one worker; returns a second after a request was answered that was not asked before the worker was gone."""
    before = workers(parent)
    victim, at = before[0], time.perf_counter()
    under_way, first = asking.under_way, len(asking.answers)
    victim.kill()
    # Its connections are closed when its last thread has ended, not when it is dead to others.
    gone = await until(lambda: not psutil.pid_exists(victim.pid))
    spawned = await until(lambda: len(workers(parent)) == len(before), poll=0.05)

    def good() -> list[Answer]:
        return [answer for answer in asking.answers[first:] if answer.outcome == "200" and answer.asked > gone]

    await until(lambda: bool(good()))
    served = good()[0].answered
    await asyncio.sleep(1.0)
    answers = asking.answers[first:]
    return {
        "under_way": under_way,
        "lost": sum(answer.outcome == "lost" for answer in answers),
        "lost_later": sum(answer.outcome == "lost" and answer.asked > gone for answer in answers),
        "refused": sum(answer.outcome not in ("200", "lost") for answer in answers),
        "spawned_s": round(spawned - at, 4),
        "served_s": round(served - at, 2),
        "longest_s": round(max(answer.answered - answer.asked for answer in good()), 2),
    }


async def throughput(server: Started, count: int, seconds: float) -> float:
    """Replies in a second."""
    async with load(server, count) as asking:
        await asyncio.sleep(seconds / 4)
        first, began = len(asking.answers), time.perf_counter()
        await asyncio.sleep(seconds)
        good = [answer for answer in asking.answers[first:] if answer.outcome == "200"]
        return len(good) / (time.perf_counter() - began)


async def variant(server: Started, kills: int, count: int, seconds: float) -> dict[str, Any]:
    """Throughput and memory of a server, and what kills do to it. What workers share of memory counts once."""
    parent = supervisor(server)
    rate = await throughput(server, count, seconds)
    memory = sum(each.memory_full_info().pss for each in workers(parent)) / 1e6
    rounds, next_kill = [], time.perf_counter() + 1.0
    async with load(server, count) as asking:
        for _ in range(kills):
            await asyncio.sleep(max(0.0, next_kill - time.perf_counter()))
            next_kill = time.perf_counter() + REGULAR_S
            rounds.append(await kill(parent, asking))
        again = await kill(parent, asking)
    times = [each["served_s"] for each in rounds]
    return {
        "workers": len(workers(parent)),
        "replies_per_s": round(rate, 1),
        "memory_mb": round(memory),
        "served_s": {"median": median(times), "worst": max(times)},
        "kills": rounds,
        "killed_again": again,
    }


def main(
    requests: Annotated[int, typer.Option(min=1, help="under way when the server is stopped")] = 100,
    kills: Annotated[int, typer.Option(min=1, help="of a worker, of each variant")] = 2,
    count: Annotated[int, typer.Option("--clients", min=1, help="that ask without end")] = 16,
    seconds: Annotated[float, typer.Option(min=1, help="of the throughput")] = 6.0,
    output: Annotated[Path, typer.Option()] = Path("reports"),
) -> None:
    """Exits with 1 where an answer was lost that should not have been, or a worker was away for too long."""
    console, log = Console(), output / f"{NAME}.server.log"
    variants = []
    for service in (None, TWO_WORKERS):
        with started(log, environment=ENVIRONMENT, service=service) as server:
            variants.append(asyncio.run(variant(server, kills, count, seconds)))
    with started(log, environment=ENVIRONMENT) as server:
        stopped = asyncio.run(stop(server, requests))
    report = describe("bentoml", "onnxruntime") | {"clients": count, "stop": stopped, "variants": variants}
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{NAME}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(table(report))
    console.print(stop_line(stopped))
    if wrong := judge(report):
        console.print("\n".join(wrong), style="bold red")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
