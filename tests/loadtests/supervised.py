"""A supervisor with a worker, in the shape of the real ones: started as ``supervised.py PORT HELD``.

A request takes ``HELD`` seconds. The worker is replaced when it dies, and stops as the real one does: no longer ready,
new work refused, what has begun answered.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

WORKER = "_bentoml_impl.worker.service"


def supervise(port: str, held: str) -> None:
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=200)
    command = [sys.executable, __file__, WORKER, str(listener.fileno()), held]
    stopping = []
    worker: list[subprocess.Popen[bytes]] = []

    def stop(*_: object) -> None:
        stopping.append(True)
        worker[-1].terminate()

    signal.signal(signal.SIGTERM, stop)
    while not stopping:
        worker.append(subprocess.Popen(command, pass_fds=[listener.fileno()]))
        worker[-1].wait()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seconds = 0.0
    draining = threading.Event()
    under_way: set[int] = set()  # noqa: RUF012 - of the process
    numbers = count()

    def do_GET(self):
        if self.path == "/metrics":
            self.send(200, f"attentive_in_flight {float(len(self.under_way))}\n")
        else:
            self.send(503 if self.draining.is_set() else 200, "")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.draining.is_set():
            self.send(503, "{}", retry_after="5")
            return
        number = next(self.numbers)
        self.under_way.add(number)
        time.sleep(self.seconds)
        texts = body["text"] if isinstance(body["text"], list) else [body["text"]]
        self.send(200, json.dumps({"translations": [{"text": text.upper()} for text in texts]}))
        self.under_way.discard(number)

    def send(self, status: int, content: str, retry_after: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content.encode())))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def end() -> None:
    time.sleep(0.2)
    while Handler.under_way:
        time.sleep(0.01)
    time.sleep(0.1)
    os._exit(0)


def drain(*_: object) -> None:
    Handler.draining.set()
    threading.Thread(target=end).start()


def work(descriptor: str, held: str) -> None:
    Handler.seconds = float(held)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.daemon_threads = True
    server.socket = socket.socket(fileno=int(descriptor))
    signal.signal(signal.SIGTERM, drain)
    server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    if sys.argv[1] == WORKER:
        work(*sys.argv[2:])
    else:
        supervise(*sys.argv[1:])
