"""What an operator relies on, at the real server: logs, traces, reloading, workers that die, stopping."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from loadtests.server import free_port
from service.access import new
from tests.served import ROOT, Server, serve, until

MARKER = "Xylophonquux"
FINE = {"text": "Hello.", "target": "fr", "source": "en"}


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    """An admin's, and its line."""
    return new("ops", admin=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, key: tuple[str, str]) -> Iterator[Server]:
    """With all that can be set, and a collector that is not there."""
    path = tmp_path_factory.mktemp("operated")
    (path / "keys").write_text(key[1])
    models = shutil.copytree(ROOT / "models" / "trained", path / "models")
    shutil.rmtree(models / "bahdanau-en-fr-de")
    settings: dict[str, object] = {
        "models_dir": models,
        "keys_file": path / "keys",
        "log_format": "json",
        "otlp_endpoint": f"http://127.0.0.1:{free_port()}",
        "drain_s": 0.5,
        "drain": 1,
    }
    with serve(path / "home", **settings) as server:  # type: ignore[arg-type]
        yield server


@pytest.fixture(scope="module")
def client(server: Server, key: tuple[str, str]) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key[0]}"}
    with httpx.Client(base_url=server.url, timeout=60, headers=headers) as client:
        yield client


def log(server: Server) -> list[dict]:
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def asked(server: Server) -> list[dict]:
    return [line for line in log(server) if line["message"] == "request"]


def workers(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [each for each in children if each.status() != psutil.STATUS_ZOMBIE and "worker" in " ".join(each.cmdline())]


def test_every_line_is_json_and_none_has_the_text(server: Server, client: httpx.Client) -> None:
    for body in (
        FINE | {"text": f"{MARKER} is far away."},
        FINE | {"text": MARKER, "target": MARKER[:5]},
        FINE | {"text": MARKER, "beam_size": MARKER},
        FINE | {MARKER: MARKER},
    ):
        client.post("/v1/translate", json=body)
    client.post("/translate_batch", json={"items": [MARKER]})
    client.post("/translate_batch", json={"items": [{"text": MARKER, "target": "fr"}]})
    client.post("/v1/translate", content=f'{{"text": "{MARKER}'.encode())
    client.get(f"/{MARKER}", params={MARKER: MARKER})
    # A line is written after the answer.
    until(lambda: len(asked(server)) == 8)
    requests = asked(server)
    assert {line["status"] for line in requests} >= {200, 400, 404, 422}
    assert {line["route"] for line in requests} == {"/v1/translate", "/translate_batch", "unmatched"}
    assert all(len(line["trace_id"]) == 32 for line in requests)
    assert MARKER not in server.log.read_text()
    assert MARKER not in client.get("/metrics").text


def test_a_misspelt_setting_is_told(server: Server) -> None:
    [line] = [line for line in log(server) if line["message"].startswith("no settings")]
    assert (line["level"], line["message"]) == ("warning", "no settings of this server: ATTENTIVE_DRAIN")


def test_packages_are_swapped_while_clients_are_served(server: Server, client: httpx.Client) -> None:
    models = server.log.parent.parent / "models"
    shutil.copytree(ROOT / "models" / "trained" / "bahdanau-en-fr-de", models / "bahdanau-en-fr-de")
    (models / "bahdanau-en-fr-de" / "weights.int8.bin").write_bytes(b"cut")
    texts = [f"I have {number} cats in the garden." for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.post, "/v1/translate", json=FINE | {"text": text}) for text in texts]
        first = client.post("/v1/models/reload").json()["packages"]
        shutil.rmtree(models / "bahdanau-en-fr-de")
        shutil.copytree(ROOT / "models" / "trained" / "bahdanau-en-fr-de", models / "bahdanau-en-fr-de")
        second = client.post("/v1/models/reload").json()["packages"]
        assert [each.result().status_code for each in asked] == [200] * len(texts)
    assert [(each["package"], each["outcome"]) for each in first] == [
        ("bahdanau-en-fr-de", "failed"),
        ("transformer-en-fr-de", "unchanged"),
    ]
    assert str(models / "bahdanau-en-fr-de" / "weights.int8.bin") in first[0]["error"]
    assert [each["outcome"] for each in second] == ["loaded", "unchanged"]
    assert len(client.get("/v1/models").json()["models"]) == 2
    outcomes = [line for line in client.get("/metrics").text.splitlines() if line.startswith("attentive_reloads_total")]
    assert any('outcome="failed"' in line for line in outcomes)


def test_a_worker_that_dies_is_replaced_at_once(server: Server, client: httpx.Client) -> None:
    [worker] = workers(server)
    worker.kill()
    began = time.monotonic()
    until(lambda: worker.pid not in [each.pid for each in workers(server)])
    until(lambda: bool(workers(server)))
    # Without a word from the system the supervisor would have looked within ten seconds.
    assert time.monotonic() - began < 3
    answer = httpx.post(f"{server.url}/v1/translate", json=FINE, headers=client.headers, timeout=60)
    assert answer.status_code == 200
    assert "attentive_in_flight 0.0" in httpx.get(f"{server.url}/metrics").text


def test_a_signal_to_every_process_stops_the_server_well(server: Server, client: httpx.Client) -> None:
    """As systemd does it; with traces that cannot be sent."""
    body = FINE | {"text": ["The children are playing in the garden behind the old house."] * 64, "beam_size": 8}
    [worker] = workers(server)
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(client.post, "/v1/translate", json=body)
        until(lambda: "attentive_in_flight 1.0" in httpx.get(f"{server.url}/metrics").text or begun.done())
        for process in (worker.pid, server.process.pid):
            os.kill(process, signal.SIGTERM)
        assert begun.result().status_code == 200
    assert server.process.wait(30) == 0
    assert not worker.is_running()


def test_what_is_not_done_at_the_deadline_is_refused_in_words(tmp_path: Path) -> None:
    body = {"text": ["I have a cat and a dog. " * 20] * 100, "target": "fr", "source": "en", "beam_size": 8}
    with serve(tmp_path, drain_s=0, drain_deadline_s=0.5, cache_bytes=0) as server, server.client() as client:
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(client.post, "/v1/translate", json=body)
            until(lambda: "attentive_in_flight 1.0" in httpx.get(f"{server.url}/metrics").text)
            server.process.terminate()
            answer = begun.result()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert server.process.wait(30) == 0
