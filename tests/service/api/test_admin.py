from pathlib import Path

import pytest

from service import serving
from service.access import new
from service.registry import Opened
from service.text.tokens import Tokenizer
from tests.service.fakes import Client, EchoEngine, model, started

ROUTE = "/v1/models/reload"


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Keys of an admin and of somebody else, and the file that has them."""
    admin, user = new("ops", admin=True), new("app")
    (tmp_path / "keys").write_text(f"{admin[1]}\n{user[1]}\n")
    return {"admin": admin[0], "user": user[0], "file": str(tmp_path / "keys")}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_an_admin_is_told_what_became_of_each_package(tokenizer: Tokenizer, keys, monkeypatch) -> None:
    before = model(tokenizer, EchoEngine())
    client = Client(started([before], keys_file=keys["file"]))
    after = model(tokenizer, EchoEngine(), version="2")
    opened = [
        Opened("a", "loaded", after, before),
        Opened("b", "failed", None, None, "b/manifest.json: No such file or directory"),
        Opened("c", "removed", None, before),
    ]
    monkeypatch.setattr(serving, "open_packages", lambda _settings, _models: opened)
    answer = client.request("POST", ROUTE, headers=bearer(keys["admin"]))
    assert answer.status_code == 200
    assert answer.json() == {
        "packages": [
            {"package": "a", "outcome": "loaded", "serving": "echo 2", "error": None},
            {
                "package": "b",
                "outcome": "failed",
                "serving": None,
                "error": "b/manifest.json: No such file or directory",
            },
            {"package": "c", "outcome": "removed", "serving": None, "error": None},
        ],
        "keys": {"outcome": "loaded", "error": None},
    }
    models = client.request("GET", "/v1/models", headers=bearer(keys["user"])).json()["models"]
    assert [found["version"] for found in models] == ["2"]


def test_keys_are_read_again_and_a_file_that_is_none_is_told(tokenizer: Tokenizer, keys) -> None:
    client = Client(started([model(tokenizer, EchoEngine())], keys_file=keys["file"]))
    admin = new("other", admin=True)
    Path(keys["file"]).write_text(admin[1])
    assert client.request("POST", ROUTE, headers=bearer(keys["admin"])).json()["keys"]["outcome"] == "loaded"
    for gone in (keys["admin"], keys["user"]):
        assert client.request("GET", "/v1/models", headers=bearer(gone)).status_code == 401
    Path(keys["file"]).write_text("admin")
    report = client.request("POST", ROUTE, headers=bearer(admin[0])).json()["keys"]
    assert report["outcome"] == "failed"
    assert f"{keys['file']}:1" in report["error"]
    assert client.request("GET", "/v1/models", headers=bearer(admin[0])).status_code == 200


@pytest.mark.parametrize("who", ["user", "", "stranger"])
def test_nobody_else_may(tokenizer: Tokenizer, keys, who: str) -> None:
    client = Client(started([model(tokenizer, EchoEngine())], keys_file=keys["file"]))
    headers = bearer(keys.get(who, who)) if who else {}
    answer = client.request("POST", ROUTE, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


def test_without_keys_there_is_no_admin(client: Client) -> None:
    answer = client.request("POST", ROUTE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")


def test_a_stopping_server_reloads_nothing(tokenizer: Tokenizer, keys) -> None:
    translator = started([model(tokenizer, EchoEngine())], keys_file=keys["file"])
    translator.drain()
    answer = Client(translator).request("POST", ROUTE, headers=bearer(keys["admin"]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
