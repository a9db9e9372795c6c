"""A server to measure: one that runs already, or one of our own for as long as it is needed."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import httpx

from loadtests.machine import ROOT

READY_SECONDS = 300.0
"""How long a server may take until it is ready; the first start sets up its environment."""
STOP_SECONDS = 60.0
POLL_SECONDS = 0.1
EXISTS = 0
"""The signal that only asks whether there is anybody to receive it."""
LOG_LINES = 20
NO_CACHE = MappingProxyType({"ATTENTIVE_CACHE_BYTES": "0"})
"""What is measured is translating, not remembering."""


class ServerError(Exception):
    """There is no server to measure; the message says why."""


class Started(NamedTuple):
    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def served(
    url: str | None,
    log: Path,
    ready_seconds: float = READY_SECONDS,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """Base address of a server that is ready: ``url``, or without one that of ``make serve`` on a free port
    with ``environment`` added to this process's, and no cache of translations unless these ask for one.

    Raises ``ServerError``. A server that was started here writes to ``log`` and is stopped at the end, come what may.
    """
    if url is None:
        with started(log, ready_seconds, environment) as server:
            yield server.url
        return
    url = url.rstrip("/")
    if not ready(url):
        raise ServerError(f"{url}/readyz does not answer with 200")
    yield url


@contextmanager
def started(
    log: Path,
    ready_seconds: float = READY_SECONDS,
    environment: Mapping[str, str] = MappingProxyType({}),
    service: str | None = None,
) -> Iterator[Started]:
    """A server of our own, see :func:`served`; ``service``: another one than that of the project."""
    port = free_port()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *("make", "--no-print-directory", "serve", "HOST=127.0.0.1", f"PORT={port}"),
                *([f"SERVICE={service}"] if service else []),
            ],
            cwd=ROOT,
            env={**NO_CACHE, **os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be stopped with it
        )
    try:
        wait(f"http://127.0.0.1:{port}", process, log, ready_seconds)
        yield Started(f"http://127.0.0.1:{port}", process)
    finally:
        stop(process)


def environments(precisions: Sequence[str] | None, models_dir: Path | None) -> list[dict[str, str]]:
    """Settings of the servers to measure one after the other: one for each precision, or the server's own.

    They refuse nothing because it would have to wait: these measurements need every answer, however late.
    """
    models = {} if models_dir is None else {"ATTENTIVE_MODELS_DIR": str(models_dir.resolve())}
    common = models | {"ATTENTIVE_LATENCY_OBJECTIVE_MS": "0"}
    return [common | {"ATTENTIVE_PRECISION": precision} for precision in precisions or ()] or [common]


async def metric(client: httpx.AsyncClient, sample: str) -> float:
    """What the server counts under a name with its labels, as in ``/metrics``; 0 where it has not begun to."""
    lines = (await client.get("/metrics")).raise_for_status().text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{sample} "))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Until ``url`` is ready. Raises ``ServerError`` with the end of ``log`` if that does not come about."""
    deadline = time.monotonic() + seconds
    while not ready(url):
        ended = process.poll() is not None
        if ended or time.monotonic() > deadline:
            what = "ended before it was ready" if ended else f"was not ready after {seconds:g} s"
            tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
            raise ServerError("\n".join([f"the server {what}; the end of {log}:", *tail]))
        time.sleep(POLL_SECONDS)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process group to end, and make it if it does not; returns when the last member is gone."""
    deadline = time.monotonic() + STOP_SECONDS
    number: int = signal.SIGTERM
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, number)
            process.poll()  # a child that has ended is a member of its group until somebody asks for its exit status
            time.sleep(POLL_SECONDS)
            number = signal.SIGKILL if time.monotonic() > deadline else EXISTS
