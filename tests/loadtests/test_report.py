import json

import pytest
from rich.console import Console

from loadtests.report import Recorder, row, table


def recorder(limit: float | None = None) -> Recorder:
    return Recorder({"p95_limit_ms": limit}, [{"name": "stub"}], offered=2.0)


@pytest.mark.parametrize(("limit", "passed"), [(None, True), (96.0, True), (94.0, False)])
def test_the_limit_is_on_the_exact_percentile(limit, passed):
    figures = recorder(limit)
    for latency in range(1, 101):
        figures.record(name="stub sentence", response_time=float(latency))
    report = figures.report()
    assert report["total"]["p95_ms"] == pytest.approx(95.05, abs=0.06)
    assert report["passed"] is passed


def test_one_error_fails_and_has_its_kind():
    figures = recorder()
    figures.record(name="a", response_time=1.0)
    figures.record(name="b", response_time=2.0, exception=ValueError("status 500"))
    report = figures.report()
    assert report["passed"] is False
    assert report["errors"] == {"status 500": 1}
    assert report["by_kind"]["a"]["failures"] == 0
    assert report["by_kind"]["b"]["failures"] == report["total"]["failures"] == 1


def test_what_was_due_and_never_sent_counts_with_its_wait():
    figures = recorder(limit=1000)
    for _ in range(9):
        figures.record(name="a", response_time=1.0)
    figures.unsent(name="a", waited=5000.0)
    figures.started = figures.ended - 3
    report = figures.report()
    assert report["passed"] is False
    assert (report["unsent"], report["total"]["requests"], report["achieved_per_s"]) == (1, 10, 3.0)
    assert report["total"]["p99_ms"] > 1000


def test_nothing_but_what_was_never_sent_fails():
    figures = recorder()
    figures.unsent(name="a", waited=5000.0)
    assert figures.report()["passed"] is False


def test_a_fault_of_the_load_test_fails():
    figures = recorder()
    figures.record(name="a", response_time=1.0)
    figures.crash(exception=KeyError("text"))
    assert figures.report()["passed"] is False


def test_no_answer_fails():
    report = recorder().report()
    assert report["passed"] is False
    assert report["achieved_per_s"] == 0
    assert report["total"] == {"requests": 0, "failures": 0}


def test_percentiles():
    assert row([1.0, 2.0, 3.0], 1) == {
        "requests": 3,
        "failures": 1,
        "p50_ms": 2.0,
        "p95_ms": 2.9,
        "p97_ms": 2.9,
        "p99_ms": 3.0,
    }


def test_the_report_is_json_and_a_table():
    figures = recorder()
    figures.record(name="stub list", response_time=12.34)
    report = json.loads(json.dumps(figures.report()))
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table(report))
    text = capture.get()
    assert "stub list" in text
    assert text.count("12.3") == 6
    assert "offered 2" in text
