"""Keys, rates and back-pressure before the real server, over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from export.package import Package
from service import access
from tests.packages import sentences
from tests.served import Server, serve, until

OPEN = ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json"]


@pytest.fixture(scope="module")
def key() -> tuple[str, str]:
    return access.new("alice")


@pytest.fixture(scope="module")
def server(
    key: tuple[str, str], transformer_package: Package, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """With a key, and so strict that whatever waits is too much."""
    home: Path = tmp_path_factory.mktemp("bentoml")
    (home / "keys").write_text(key[1], encoding="utf-8")
    models = transformer_package.path.parent
    options: dict[str, Any] = {"slots": 8, "threads": 1, "latency_objective_ms": 1}
    with serve(home, models_dir=models, keys_file=home / "keys", **options) as server:
        yield server


def body(texts: list[str]) -> dict[str, object]:
    return {"text": texts, "source": "en", "target": "fr", "beam_size": 8}


def test_nothing_that_is_closed_opens_without_a_key(server: Server, key: tuple[str, str]) -> None:
    closed = [("/v1/translate", body(["ba"]), 401), ("/translate_batch", {"items": [body(["ba"])]}, 401)]
    closed += [("/v2/translate", {"text": ["ba"], "target_lang": "FR"}, 403)]
    closed += [("/translate", {"q": "ba", "source": "en", "target": "fr"}, 403)]
    with server.client() as client:
        for path, content, status in closed:
            assert client.post(path, json=content).status_code == status, path
        for path in ("/translate_batch%0A", "/translate_batch/", "//translate_batch"):
            assert client.post(path, json={"items": [body(["ba"])]}).status_code in (401, 404, 405), path
        assert all(client.get(path).status_code == 200 for path in OPEN)
        allowed = {"Authorization": f"Bearer {key[0]}"}
        assert client.post("/v1/translate", json=body(["ba"]), headers=allowed).status_code == 200
        item = {"text": "ba", "source": "en", "target": "fr"}
        assert client.post("/translate_batch", json={"items": [item]}, headers=allowed).json()[0]["translation"]
        assert key[0] not in client.get("/metrics").text
    assert key[0] not in server.log.read_text()


def test_overload_is_refused_at_the_door(server: Server, key: tuple[str, str]) -> None:
    headers = {"Authorization": f"Bearer {key[0]}", "X-Request-ID": "late"}
    refusals: list[httpx.Response] = []

    def refused(client: httpx.Client) -> bool:
        answer = client.post("/v1/translate", json=body(["ba"]), headers=headers)
        refusals.extend([answer] if answer.status_code == 429 else [])
        return bool(refusals)

    def patient(client: httpx.Client) -> httpx.Response:
        """It may itself come too late."""
        while (answer := client.post("/v1/translate", json=body(sentences(128)), headers=headers)).status_code == 429:
            pass
        return answer

    with server.client() as busy, server.client() as late, ThreadPoolExecutor(1) as pool:
        assert patient(busy).status_code == 200  # the rate is known from here on
        many = pool.submit(patient, busy)
        until(lambda: refused(late) or many.done())
        assert many.result().status_code == 200
    assert refusals[0].json()["error"] | {"message": ""} == {
        "code": "overloaded",
        "message": "",
        "field": None,
        "request_id": "late",
    }
    assert int(refusals[0].headers["Retry-After"]) >= 1
    assert refusals[0].headers["X-Request-ID"] == "late"


@pytest.mark.parametrize(("trusted", "separate"), [("", False), ("127.0.0.1", True)])
def test_forwarded_addresses_are_believed_of_those_who_are_trusted(
    transformer_package: Package, tmp_path: Path, trusted: str, separate: bool
) -> None:
    models = transformer_package.path.parent
    options: dict[str, Any] = {"models_dir": models, "rate_limit": "1/day", "trusted_proxies": trusted}
    with serve(tmp_path, **options) as server, server.client() as client:
        codes = [
            client.get("/v1/models", headers={"X-Forwarded-For": address}).status_code
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.2")
        ]
    assert codes == [200, 200 if separate else 429, 429]
