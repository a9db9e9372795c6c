"""A server that answers in the shape of the real one, right or wrong, without translating anything."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODELS = [{"name": "stub", "directions": [["en", "fr"], ["fr", "en"]]}]
SENTENCE = {"source_tokens": [{}, {}], "target_tokens": [{}], "weights": [[0.25, 0.75]]}

Answer = Callable[[dict[str, Any]], tuple[int, Any]]
"""JSON of a translation request -> status and JSON of the reply."""


def right(body: dict[str, Any]) -> tuple[int, Any]:
    texts = body["text"] if isinstance(body["text"], list) else [body["text"]]
    return 200, {"translations": [{"text": "mot", "sentences": [SENTENCE]} for _ in texts]}


@contextmanager
def stub(
    answer: Answer = right,
    *,
    ready: int = 200,
    models: list[Any] = MODELS,
    metrics: Callable[[], str] = str,
) -> Iterator[str]:
    """Base address of a server that runs in a thread of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/metrics":
                self.send_bytes(200, metrics().encode())
            else:
                self.send(ready if self.path == "/readyz" else 200, {"models": models})

        def do_POST(self):
            self.send(*answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def send(self, status: int, content: Any):
            self.send_bytes(status, json.dumps(content).encode())

        def send_bytes(self, status: int, body: bytes):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any):
            """Nothing: the test's output is enough."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
