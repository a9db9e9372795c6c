"""The command as a user calls it, in a process of its own: Locust patches the standard library for gevent."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.loadtests.stub import right

ROOT = Path(__file__).parents[2]
SLOW_SECONDS = 1.5


class Outcome(NamedTuple):
    code: int
    printed: str
    directory: Path

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.directory / "loadtest.json").read_text())


def broken(_body: dict[str, Any]) -> tuple[int, Any]:
    return 500, {"error": {"code": "internal"}}


def silent(_body: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"translations": []}


def slow(body: dict[str, Any]) -> tuple[int, Any]:
    """Half as fast as a user asks: the third request is due after two seconds and answered after four and a half."""
    time.sleep(SLOW_SECONDS)
    return right(body)


@pytest.fixture(scope="module")
def outcomes(stub_server, tmp_path_factory) -> dict[str, Outcome]:
    """All cases at once, because nearly all of their time is start-up."""
    with ExitStack() as stack:
        url = stack.enter_context(stub_server())
        cases = {
            "right": ["--url", url, "--p95", "5000"],
            "impossible": ["--url", url, "--p95", "0.001"],
            "broken": ["--url", stack.enter_context(stub_server(broken))],
            "slow": ["--url", stack.enter_context(stub_server(slow)), "--users", "1", "--duration", "5"],
            "silent": ["--url", stack.enter_context(stub_server(silent))],
            "unready": ["--url", stack.enter_context(stub_server(ready=503))],
        }
        started = {}
        for name, arguments in cases.items():
            directory = tmp_path_factory.mktemp(name)
            command = [sys.executable, "-m", "loadtests.run", "--users", "4", "--duration", "3", *arguments]
            process = subprocess.Popen(
                [*command, "--output", str(directory)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            started[name] = stack.enter_context(process), directory
        printed = {name: process.communicate(timeout=60)[0].decode() for name, (process, _) in started.items()}
        return {
            name: Outcome(process.returncode, printed[name], directory)
            for name, (process, directory) in started.items()
        }


def test_right_replies_in_time_pass(outcomes):
    outcome = outcomes["right"]
    assert outcome.code == 0, outcome.printed
    assert "p50" in outcome.printed
    assert "p95" in outcome.printed
    assert "requests/s" in outcome.printed


def test_html_csv_and_json_are_written(outcomes):
    directory, report = outcomes["right"].directory, outcomes["right"].report
    assert "<html" in (directory / "loadtest.html").read_text().lower()
    assert "stub sentence" in (directory / "loadtest_stats.csv").read_text()
    assert report["passed"] is True
    assert report["errors"] == {}
    assert report["total"]["requests"] == sum(row["requests"] for row in report["by_kind"].values()) >= 4
    assert 0 < report["total"]["p50_ms"] <= report["total"]["p95_ms"] <= report["total"]["p99_ms"] < 5000
    assert report["offered_per_s"] == 4
    assert 0 < report["achieved_per_s"] < 10
    assert report["client"]["machine"]["cores"] > 0
    assert report["client"]["versions"]["locust"]


def test_latency_counts_from_when_a_request_was_due(outcomes):
    total = outcomes["slow"].report["total"]
    assert total["p50_ms"] >= 1000 * SLOW_SECONDS
    assert total["p99_ms"] >= 1000 * SLOW_SECONDS + 400


def test_what_was_due_before_the_end_and_never_sent_is_counted(outcomes):
    """The slow server is asked every one and a half seconds by a user who asks once a second, for five seconds."""
    outcome = outcomes["slow"]
    assert outcome.report["unsent"] >= 1
    assert outcome.report["total"]["requests"] >= 4
    assert "due and could not be sent before the end" in " ".join(outcome.printed.split())


def test_an_impossible_limit_fails(outcomes):
    outcome = outcomes["impossible"]
    assert outcome.code == 1
    assert outcome.report["errors"] == {}
    assert "p95 over 0.001 ms" in outcome.printed


def test_errors_fail_and_are_counted_by_kind(outcomes):
    outcome = outcomes["broken"]
    assert outcome.code == 1
    assert outcome.report["errors"] == {"status 500": outcome.report["total"]["failures"]}
    sent = outcome.report["total"]["requests"] - outcome.report["unsent"]
    assert outcome.report["total"]["failures"] == sent > 0
    assert "status 500" in outcome.printed


def test_a_wrong_reply_is_a_failure(outcomes):
    outcome = outcomes["silent"]
    assert outcome.code == 1
    assert list(outcome.report["errors"]) == ["wrong reply: wrong number of translations"]


def test_a_server_that_is_not_ready_is_not_loaded(outcomes):
    outcome = outcomes["unready"]
    assert outcome.code == 2
    assert "/readyz" in outcome.printed
    assert not (outcome.directory / "loadtest.json").exists()
