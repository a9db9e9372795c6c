"""The beginning and the end of a worker: replaced at once when it dies, and from SIGTERM on first no new work, then no
work, then no server.
"""

import asyncio
import logging
import math
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil
from circus.arbiter import Arbiter
from circus.exc import ConflictError
from circus.sighandler import SysHandler
from prometheus_client.multiprocess import mark_process_dead
from tornado.ioloop import IOLoop

from service.core import Translator

logger = logging.getLogger("attentive")

REGULAR_LOOK_S = 10.0
"""Seconds between two looks of BentoML's supervisor."""


class Drain:
    """Stands in front of the server's own handler of SIGTERM.

    That one stops accepting connections at once, and whoever connects before the load balancer has noticed hangs. So
    readiness goes first, new work is refused in words, and the server's handler runs when what had begun is done, but
    not before ``seconds`` are over. What is still not done ``deadline`` seconds after the signal is refused then.
    Further signals change nothing: a service manager may send one to each process, and the supervisor hands its own on.
    """

    def __init__(self, translator: Translator, seconds: float, deadline: float) -> None:
        self.translator = translator
        self.seconds = seconds
        self.deadline = max(seconds, deadline)
        self.task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Call it in the event loop. Only a process's main thread can handle signals; elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        server = signal.getsignal(signal.SIGTERM)

        def handle(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(begin)

        def begin() -> None:
            if self.task is None:
                self.task = loop.create_task(self.run())
                self.task.add_done_callback(end)

        def end(_task: asyncio.Task[None]) -> None:
            signal.signal(signal.SIGTERM, server)
            signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGTERM, handle)

    async def run(self) -> None:
        """Returns when nothing is under way any more."""
        logger.info("draining: no new work")
        self.translator.drain()
        await asyncio.sleep(self.seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.deadline - self.seconds):
                await self.translator.gate.idle.wait()
        if self.translator.gate.in_flight:
            logger.warning("draining: %d requests are refused at the deadline", self.translator.gate.in_flight)
            self.translator.gate.cut()
            await self.translator.gate.idle.wait()


def replace_dead_workers_at_once() -> None:
    """Call it in the supervisor, before it starts a worker.

    BentoML's supervisor looks for dead workers every ten seconds. From here on it also looks when the system tells it
    that one has died; but not twice within those ten seconds, so that a worker that cannot even start is not started
    without end. Connections made meanwhile wait in the socket, which the supervisor holds.
    """
    latest = -math.inf

    def look(_number: int, _frame: FrameType | None) -> None:
        nonlocal latest
        supervisor = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if isinstance(supervisor, SysHandler) and time.monotonic() - latest > REGULAR_LOOK_S:
            latest = time.monotonic()
            loop: IOLoop = supervisor.controller.loop
            loop.add_callback_from_signal(_replace, supervisor.controller.arbiter)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, look)


async def _replace(arbiter: Arbiter) -> None:
    # Where there is a conflict it starts or stops, or looks already.
    with suppress(ConflictError):
        await arbiter.manage_watchers()


def forget_dead_workers() -> None:
    """Take what dead workers counted as under way out of the metrics that all workers share."""
    if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        for file in Path(directory).glob("gauge_live*_*.db"):
            pid = file.stem.rpartition("_")[2]
            if not psutil.pid_exists(int(pid)):
                mark_process_dead(pid)
