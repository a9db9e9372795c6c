import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from loadtests.server import free_port, wait
from service.client import Client, SentenceEvent, cli, launch, listen
from service.client.failure import CommandError
from tests.served import ROOT, until


def test_it_starts_what_make_serve_starts() -> None:
    made = subprocess.run(
        ["make", "-n", "serve", "HOST=here", "PORT=7", "GRACE=9", "KEEP_ALIVE=8"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    started = " ".join(launch.command("here", 7, 9, 8)[2:])
    assert started in " ".join(made.stdout.replace("\\\n", " ").split())


def test_without_options_it_is_what_make_serve_starts_without_any(monkeypatch: pytest.MonkeyPatch) -> None:
    made = subprocess.run(["make", "-n", "serve"], cwd=ROOT, capture_output=True, text=True, check=True)
    started: list[list[str]] = []
    monkeypatch.setattr("os.execve", lambda program, command, environment: started.append(command))
    CliRunner().invoke(cli.app, ["serve"])
    assert " ".join(started[0][2:]) in " ".join(made.stdout.replace("\\\n", " ").split())


def test_a_port_that_is_taken_is_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would empty the metrics of the server that has it."""
    monkeypatch.setattr("os.execve", lambda *_: pytest.fail("a second server was started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(cli.app, ["serve", "--port", port])
        assert result.exit_code == 2
        assert f"cannot listen on port {port} of 127.0.0.1" in result.stderr
        command = [sys.executable, "-m", "service.client.listen", "127.0.0.1", port]
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (made.returncode, made.stderr) == (1, result.stderr)
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.mark.parametrize(("host", "port"), [("localhost", 3000), ("192.0.2.1", 3000), ("127.0.0.1", 70_000)])
def test_an_address_that_is_none_of_this_machine_is_named(host: str, port: int) -> None:
    with pytest.raises(CommandError, match=host):
        listen.check(host, port)


def test_make_serve_looks_at_the_port_before_it_starts() -> None:
    command = ["make", "-n", "serve", "HOST=here", "PORT=7"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "service.client.listen here 7\n" in made.stdout.partition("bentoml serve")[0]


def test_each_port_has_a_home_and_the_settings_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTENTIVE_THREADS", "3")
    monkeypatch.setenv("BENTOML_HOME", "/elsewhere")
    environment = launch.environment(Path("/here"), 7)
    assert environment["BENTOML_HOME"] == "/here/.bentoml/7"
    assert environment["ATTENTIVE_THREADS"] == "3"
    assert f"GLIBC_TUNABLES ?= {environment['GLIBC_TUNABLES']}" in (ROOT / "Makefile").read_text()


def test_the_checkout_is_found_from_the_file_or_the_current_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch.checkout() == ROOT
    monkeypatch.setattr(launch, "__file__", str(tmp_path / "a" / "b" / "launch.py"))
    with pytest.raises(CommandError, match="checkout"):
        launch.checkout()
    monkeypatch.chdir(ROOT)
    assert launch.checkout() == ROOT


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bentoml" else name)
    result = CliRunner().invoke(cli.app, ["serve"])
    assert result.exit_code == 2
    assert "needs bentoml" in result.stderr
    assert "run `make serve`" in result.stderr
    [extras] = re.findall(rf"pip install '{re.escape(str(ROOT))}\[(.+)\]'", result.stderr)
    assert {*extras.split(",")} == {"client", "serve", "cpu"}


def in_flight(url: str) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("attentive_in_flight"))


def test_it_serves_and_translates(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "service.client"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    log = tmp_path / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "serve", "--port", str(port)], cwd=tmp_path, env=environment, stdout=file, stderr=file
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait(url, process, log, 120)
        lines = "I drink milk.\n\n  The house is big. It is late.\n"
        options = ["--target", "fr", "--url", url, "--attention", "--picture", str(tmp_path / "seen.png")]
        done = subprocess.run(
            [*command, "translate", *options],
            input=lines.encode(),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=True,
        )
        french = done.stdout.decode()
        assert french.count("\n") == 3
        assert "lait" in french.splitlines()[0]
        assert french.splitlines()[2].startswith("  ")
        assert "█" in done.stderr.decode()
        assert (tmp_path / "seen.png").stat().st_size > 1000
        assert {model["architecture"] for model in httpx.get(f"{url}/v1/models").json()["models"]} == {
            "bahdanau",
            "transformer",
        }
        sentences = " ".join(f"The {n} children are playing in the garden of the house." for n in range(1500))
        with Client(url) as client:
            events = client.stream(sentences, "fr", beam_size=8)
            assert isinstance(next(events), SentenceEvent)
            assert in_flight(url) == 1
            events.close()
            until(lambda: in_flight(url) == 0)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        shutil.rmtree(ROOT / ".bentoml" / str(port))


def test_the_importer_is_started_with_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("os.execve", lambda program, command, environment: started.append((command, environment)))
    CliRunner().invoke(cli.app, ["import", "here", "--name", "en-pt", "--help"])
    [(command, environment)] = started
    assert command[1:] == ["-m", "export.importer", "here", "--name", "en-pt", "--help"]
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)


def test_what_the_importer_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    result = CliRunner().invoke(cli.app, ["import", "here", "--name", "en-pt"])
    assert result.exit_code == 2
    assert "importing needs torch: pip install" in result.stderr
