"""From SIGTERM to the end: first no new work, then no work, then no server."""

import asyncio
import logging
import signal
import threading
from types import FrameType

from service.core import Translator

logger = logging.getLogger("attentive")


class Drain:
    """Stands in front of the server's own handler of SIGTERM.

    That one stops accepting connections at once, and whoever connects before the load balancer has noticed hangs. So
    readiness goes first, new work is refused in words, and the server's handler runs when what had begun is done, but
    not before ``seconds`` are over. A second SIGTERM goes straight to the server's handler.
    """

    def __init__(self, translator: Translator, seconds: float) -> None:
        self.translator = translator
        self.seconds = seconds
        self.task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Call it in the event loop. Only a process's main thread can handle signals; elsewhere this does nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        server = signal.getsignal(signal.SIGTERM)

        def handle(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, server)
            loop.call_soon_threadsafe(begin)

        def begin() -> None:
            self.task = loop.create_task(self.run())

        signal.signal(signal.SIGTERM, handle)

    async def run(self) -> None:
        """Drain, then raise SIGTERM again, for the server."""
        logger.info("draining: no new work")
        self.translator.drain()
        await asyncio.sleep(self.seconds)
        await self.translator.idle.wait()
        signal.raise_signal(signal.SIGTERM)
