"""The real server in a process of its own, on a free port."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from loadtests.server import free_port, wait

ROOT = Path(__file__).parent.parent
READY_SECONDS = 120.0


class Server:
    def __init__(self, url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.url, self.process, self.log = url, process, log

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def serve(
    home: Path, *, target: str = "service.service:Attentive", cwd: Path = ROOT, **settings: object
) -> Iterator[Server]:
    """``bentoml serve`` until the end of the block, ready at its beginning; ``settings`` without their prefix."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTENTIVE_")}
    environment |= {"ATTENTIVE_CACHE_BYTES": "0"}  # what is asked for twice is to be translated twice
    environment |= {f"ATTENTIVE_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "bentoml", "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    log = home / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait(f"http://127.0.0.1:{port}", process, log, READY_SECONDS)
        yield Server(f"http://127.0.0.1:{port}", process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(condition, seconds: float = 30.0) -> None:
    """Wait for something that another process brings about. Raises ``TimeoutError``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)
