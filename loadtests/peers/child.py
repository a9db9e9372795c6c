"""A system in a process of its own: some libraries read their settings once, when they are loaded."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from loadtests.peers import Search, System, Timed, Translation

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0
"""Seconds in which a process has to end when nothing more is asked of it."""


class ChildError(Exception):
    """The process ended before it was told to; what it had to say is on the standard error."""


class Child(System):
    """Passes every call on. Times are taken on the other side, so that the pipe costs nothing.

    It starts at once, on the cores that the calling thread has, and is ready with the first answer.
    """

    def __init__(
        self,
        name: str,
        precision: str,
        cores: int,
        setup: str,
        build: Callable[[], System],
        environment: Mapping[str, str],
    ) -> None:
        """``build`` is called there, with ``environment`` set before anything is imported; it has to be picklable.

        Raises :class:`ChildError`.
        """
        super().__init__(precision, cores, setup)
        self.name = name
        self._pipe, theirs = Pipe()
        # Not multiprocessing's spawn: it imports the caller's main module, seconds of torch for each child.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **environment},
            cwd=ROOT,
        )
        theirs.close()
        with self._alive():
            self._pipe.send(build)

    def translate(self, sources: Sequence[Sequence[int]], search: Search) -> list[Translation]:
        """Raises :class:`ChildError`."""
        return self._ask("translate", sources, search)

    def timed(self, batches: Sequence[Sequence[Sequence[int]]], search: Search) -> Timed:
        """Raises :class:`ChildError`."""
        return self._ask("timed", batches, search)

    def _ask(self, method: str, *arguments: Any) -> Any:
        with self._alive():
            self._pipe.send((method, arguments))
            return self._pipe.recv()

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError):
            raise ChildError(f"{self.name} ({self.setup}) ended with code {self._process.wait(PATIENCE)}") from None

    def close(self) -> None:
        """The closed pipe tells the process to end."""
        self._pipe.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(pipe: Connection) -> None:
    """Build the system that comes first, then answer until the other side has gone."""
    system = pipe.recv()()
    with suppress(EOFError):
        while True:
            method, arguments = pipe.recv()
            pipe.send(getattr(system, method)(*arguments))
    system.close()


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
