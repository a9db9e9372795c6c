import socket
import sys
from pathlib import Path

import httpx
import pytest

from loadtests import server
from loadtests.server import ServerError, served


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch) -> Path:
    """Stands in for the repository: its ``make serve`` is what the test writes there."""
    monkeypatch.setattr(server, "ROOT", tmp_path)
    return tmp_path


def test_a_running_server_is_used_as_it_is(stub_server, tmp_path):
    with stub_server() as url, served(f"{url}/", tmp_path / "log") as base:
        assert base == url
    assert not (tmp_path / "log").exists()


def test_a_server_that_is_not_ready_is_refused(stub_server, tmp_path):
    with stub_server(ready=503) as url, pytest.raises(ServerError, match="readyz"), served(url, tmp_path / "log"):
        pytest.fail("there is nothing to measure")


def test_a_server_of_our_own_is_started_and_stopped(checkout):
    (checkout / "readyz").write_text("yes")
    (checkout / "Makefile").write_text(
        f"serve:\n\t@echo starting $$ATTENTIVE_CACHE_BYTES; {sys.executable} -m http.server --bind $(HOST) $(PORT)\n"
    )
    with served(None, checkout / "reports" / "log") as base:
        assert httpx.get(f"{base}/readyz").text == "yes"
        port = httpx.URL(base).port
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", port)) != 0
    assert "starting 0" in (checkout / "reports" / "log").read_text()


def test_it_is_stopped_when_the_measurement_fails(checkout):
    (checkout / "readyz").write_text("yes")
    (checkout / "Makefile").write_text(f"serve:\n\t@{sys.executable} -m http.server --bind $(HOST) $(PORT)\n")
    with pytest.raises(ZeroDivisionError), served(None, checkout / "log") as base:
        raise ZeroDivisionError
    with pytest.raises(httpx.ConnectError):
        httpx.get(base)


def test_a_server_that_ends_early_shows_the_end_of_its_log(checkout):
    (checkout / "Makefile").write_text("serve:\n\t@echo no package; exit 3\n")
    with pytest.raises(ServerError, match=r"(?s)ended before it was ready.*no package"), served(None, checkout / "log"):
        pytest.fail("there is nothing to measure")


def test_a_server_that_is_never_ready_is_given_up(checkout):
    (checkout / "Makefile").write_text(f"serve:\n\t@{sys.executable} -m http.server --bind $(HOST) $(PORT)\n")
    with pytest.raises(ServerError, match=r"not ready after 0\.5 s"), served(None, checkout / "log", 0.5):
        pytest.fail("there is nothing to measure")
